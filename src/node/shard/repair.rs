//! Read repair (Dynamo, section 5): primaries that a read has found behind are sent what it has found.

use std::sync::Arc;

use super::entry::{Entry, Work};
use super::{Shard, UNTRACKED, may_change, request_id};
use crate::message::{PeerRequest, Reason, Refusal, Replicate};
use crate::node::effects::{Effects, Output, Purpose};
use crate::quorum::Repair;
use crate::ring::Slot;
use crate::storage::{Op, OpFailure, Outcome, Task};
use crate::types::{NodeId, Now};

impl Shard {
    /// Sends what a read has found to those who are behind it; this node merges its own share.
    pub(super) fn repair(&mut self, now: Now, entry: u64, repair: Repair, fx: &mut Effects) {
        let Repair { mut object, round, to, sync, again } = repair;
        if mutant!(RepairKeepsOne) {
            object = Arc::new(object.with_first_sibling());
        }
        if again {
            self.counters.resent += to.len() as u64;
        } else {
            self.counters.repairs_blocking += u64::from(sync);
            self.counters.repairs_sent += to.len() as u64;
        }
        let mut refused = false;
        let Some(Entry { work: Work::Get(get), .. }) = self.entries.get(&entry) else { return };
        let is_unwilling = self.read_only.is_some() || !self.is_joined(get.place.address.partition);
        let is_behind = sync && self.is_behind_with_syncs();
        for (slot, node) in to {
            if node == self.node && (is_unwilling || is_behind) {
                let Some(Entry { work: Work::Get(get), .. }) = self.entries.get_mut(&entry) else { return };
                get.machine.on_unrepaired(slot, node, !is_unwilling);
                refused = true;
                continue;
            }
            let Some(Entry { work: Work::Get(get), .. }) = self.entries.get(&entry) else { return };
            if node == self.node {
                let op = Op::Merge { object: object.clone(), round, hints: Vec::new() };
                fx.tasks.push(Task { purpose: Purpose::Repair { entry, sync }, key: get.place.key.clone(), op });
                continue;
            }
            let replicate = Replicate {
                to: get.place.address.clone(),
                reason: Reason::Repair,
                hint_for: None,
                sync,
                round,
                trace: false,
                object: object.clone(),
            };
            let id = request_id(if sync { entry } else { UNTRACKED }, slot);
            fx.after_written.push(Output::Request { node, id, request: PeerRequest::Replicate(replicate) });
        }
        // Without this node's share there may be too few.
        if refused && sync {
            self.drive_get(now, entry, fx);
        }
    }

    /// This node's own share is in the batch. A disk that takes no writes costs the read nothing, unless it waits for that.
    pub(super) fn on_repaired_here(
        &mut self,
        now: Now,
        entry: u64,
        sync: bool,
        result: Result<Outcome, OpFailure>,
        fx: &mut Effects,
    ) {
        match result {
            Ok(Outcome::Merged { incoming }) => {
                self.memory.learn(now.time, &incoming);
                if sync {
                    fx.sync = true;
                    self.unwritten.repairs.push(entry);
                }
            }
            // This node has met a round since; what the others have found is too old.
            Ok(Outcome::Fenced { .. }) if sync => self.on_own_repair_failed(now, entry, false, fx),
            Ok(Outcome::Fenced { .. }) => {}
            Ok(_) => unreachable!("a merge ends in Merged or Fenced"),
            Err(failure) if sync => {
                self.on_own_repair_failed(now, entry, matches!(failure, OpFailure::Overloaded), fx);
            }
            Err(_) => {}
        }
    }

    pub(super) fn on_own_repair_failed(&mut self, now: Now, entry: u64, again: bool, fx: &mut Effects) {
        let node = self.node;
        let Some(Entry { work: Work::Get(get), .. }) = self.entries.get_mut(&entry) else { return };
        let Some(own) = get.place.own else { return };
        get.machine.on_unrepaired(own, node, again);
        self.drive_get(now, entry, fx);
    }

    /// This node's own shares are on its disk.
    pub(super) fn on_repairs_durable(&mut self, now: Now, repairs: Vec<u64>, fx: &mut Effects) {
        let node = self.node;
        for entry in repairs {
            let Some(Entry { work: Work::Get(get), .. }) = self.entries.get_mut(&entry) else { continue };
            let Some(own) = get.place.own else { continue };
            get.machine.on_durable(own, node);
            self.drive_get(now, entry, fx);
        }
    }

    /// A primary has merged what a read waits for, and has it on its disk; or it has not.
    pub(super) fn on_repaired(
        &mut self,
        now: Now,
        entry: u64,
        slot: Slot,
        from: NodeId,
        outcome: Result<bool, Refusal>,
        fx: &mut Effects,
    ) {
        let Some(Entry { work: Work::Get(get), .. }) = self.entries.get_mut(&entry) else { return };
        match outcome {
            Ok(true) => get.machine.on_durable(slot, from),
            Ok(false) => {}
            Err(Refusal::Fenced(round)) => {
                let purpose = Purpose::RefreshRepair { entry, slot, holder: from };
                fx.tasks.push(Task { purpose, key: get.place.key.clone(), op: Op::Adopt { round } });
                return;
            }
            Err(refusal) => get.machine.on_unrepaired(slot, from, may_change(&refusal)),
        }
        self.drive_get(now, entry, fx);
    }

    /// A primary has met a round that the result is older than. It is sent what this node holds now, if the result is in that:
    /// the result itself may have been reaped since.
    pub(super) fn on_repair_refreshed(
        &mut self,
        now: Now,
        entry: u64,
        slot: Slot,
        holder: NodeId,
        result: Result<Outcome, OpFailure>,
        fx: &mut Effects,
    ) {
        let Some(Entry { work: Work::Get(get), .. }) = self.entries.get_mut(&entry) else { return };
        let Some(wanted) = get.machine.withheld() else { return };
        match result {
            Ok(Outcome::Read { object: Some(object), round }) if object.merges_to_self(wanted) => {
                let replicate = Replicate {
                    to: get.place.address.clone(),
                    reason: Reason::Repair,
                    hint_for: None,
                    sync: true,
                    round,
                    trace: false,
                    object,
                };
                let (id, request) = (request_id(entry, slot), PeerRequest::Replicate(replicate));
                fx.after_written.push(Output::Request { node: holder, id, request });
            }
            _ => {
                get.machine.on_unrepaired(slot, holder, false);
                self.drive_get(now, entry, fx);
            }
        }
    }
}
