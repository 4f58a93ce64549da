//! What nodes lost, and when: the only excuse for a write that is gone.

use std::collections::BTreeMap;

use super::history::{Holder, KeyId};

/// The last loss of each kind, as the index of its event.
#[derive(Debug, Default)]
pub(super) struct Losses {
    wiped: BTreeMap<u16, usize>,
    power_lost: BTreeMap<u16, usize>,
    damaged: BTreeMap<(u16, KeyId), usize>,
}

impl Losses {
    pub(super) fn on_wiped(&mut self, node: u16, event: usize) {
        self.wiped.insert(node, event);
    }

    pub(super) fn on_power_lost(&mut self, node: u16, event: usize) {
        self.power_lost.insert(node, event);
    }

    pub(super) fn on_damaged(&mut self, node: u16, key: KeyId, event: usize) {
        self.damaged.insert((node, key), event);
    }

    /// Whether `holder` lost what it may have held of `key` after the event `since`.
    pub(super) fn excuse(&self, holder: Holder, key: KeyId, since: usize) -> bool {
        let after = |event: Option<&usize>| event.is_some_and(|event| *event > since);
        after(self.wiped.get(&holder.node))
            || after(self.damaged.get(&(holder.node, key)))
            || !holder.synced && after(self.power_lost.get(&holder.node))
    }
}
