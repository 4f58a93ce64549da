//! What nodes lost, and when: the only excuse for a write that is gone.

use std::collections::BTreeMap;

use super::history::{Holder, KeyId};
use crate::types::Time;

/// When the last loss of each kind took place.
#[derive(Debug, Default)]
pub(super) struct Losses {
    wiped: BTreeMap<u16, Time>,
    power_lost: BTreeMap<u16, Time>,
    damaged: BTreeMap<(u16, KeyId), Time>,
}

impl Losses {
    pub(super) fn on_wiped(&mut self, node: u16, at: Time) {
        self.wiped.insert(node, at);
    }

    pub(super) fn on_power_lost(&mut self, node: u16, at: Time) {
        self.power_lost.insert(node, at);
    }

    pub(super) fn on_damaged(&mut self, node: u16, key: KeyId, at: Time) {
        self.damaged.insert((node, key), at);
    }

    /// Whether any node lost what it had on its disk of `key` at `since` or later.
    pub(super) fn any_disk(&self, key: KeyId, since: Time) -> bool {
        let rotten = self.damaged.iter().filter(|((_, of), _)| *of == key).map(|(_, at)| at);
        self.wiped.values().chain(rotten).any(|at| *at >= since)
    }

    /// Whether any node lost anything of `key`, on its disk or on its way there, at `since` or later.
    pub(super) fn any(&self, key: KeyId, since: Time) -> bool {
        self.any_disk(key, since) || self.power_lost.values().any(|at| *at >= since)
    }

    /// Whether `holder`, or its heir, lost what it may have held of `key` at `since` or later. What an heir has taken over
    /// is on its disk.
    pub(super) fn excuse(&self, holder: Holder, key: KeyId, since: Time) -> bool {
        let heir = holder.heir.map(|node| Holder { node, synced: true, heir: None });
        heir.is_some_and(|heir| self.excuse(heir, key, since)) || self.has_lost(holder, key, since)
    }

    fn has_lost(&self, holder: Holder, key: KeyId, since: Time) -> bool {
        let after = |lost: Option<&Time>| lost.is_some_and(|lost| *lost >= since);
        after(self.wiped.get(&holder.node))
            || after(self.damaged.get(&(holder.node, key)))
            || !holder.synced && after(self.power_lost.get(&holder.node))
    }
}
