//! Puts of keys that are not here: handed to a primary once; if that fails, coordinated here.

use super::entry::{Entry, ForwardEntry, Origin, Work};
use super::outcome::answer_put;
use super::put::Checked;
use super::{Shard, request_id};
use crate::api::{ApiError, Deadline, Receipt, Retry};
use crate::message::{Coordinate, PeerRequest};
use crate::node::effects::{Effects, Output};
use crate::ring::Slot;
use crate::types::{NodeId, Now, Time};

impl Shard {
    /// Hands a put to a primary.
    pub(super) fn forward(&mut self, now: Now, deadline: Time, forward: ForwardEntry, fx: &mut Effects) {
        self.counters.puts_forwarded += 1;
        let node = forward.to;
        let (ring, partition) = (forward.place.address.ring, forward.place.address.partition);
        let mut put = forward.put.clone();
        // The primary answers a little before this node takes the put back.
        put.header.deadline = Deadline::after(deadline.since(now.time), 0);
        let entry = self.begin(now, deadline, Work::Forward(Box::new(forward)));
        let request = PeerRequest::Coordinate(Coordinate { ring, partition, put });
        fx.after_written.push(Output::Request { node, id: request_id(entry, Slot(0)), request });
    }

    /// The primary has answered: its word is passed on, unless it did nothing and this node can.
    pub(super) fn on_coordinated(
        &mut self,
        now: Now,
        entry: u64,
        from: NodeId,
        outcome: Result<Receipt, ApiError>,
        fx: &mut Effects,
    ) {
        let Some(Entry { work: Work::Forward(forward), .. }) = self.entries.get(&entry) else { return };
        if forward.to != from {
            self.counters.stray_answers += 1;
            return;
        }
        match outcome {
            Err(error) if error.retry() == Retry::Elsewhere => self.take_back(now, entry, false, fx),
            outcome => {
                let origin = Origin::Client(forward.client);
                self.waiting -= 1;
                self.end(entry);
                answer_put(origin, outcome, fx);
            }
        }
    }

    /// The primary has refused, or (`silent`) has not answered in time: this node coordinates, with the same write id.
    pub(super) fn take_back(&mut self, now: Now, entry: u64, silent: bool, fx: &mut Effects) {
        let Some(Entry { work: Work::Forward(_), deadline, .. }) = self.entries.get(&entry) else { return };
        let deadline = *deadline;
        let Some(forward) = self.take_forward(entry) else { return };
        let ForwardEntry { client, to, place, put, context, machine, .. } = forward;
        let origin = Origin::Client(client);
        let checked = Checked { place, quorum: machine.quorum(), client: context };
        let w = checked.quorum.w();
        self.tracer.resume(entry);
        let coordinated = self.coordinate(now, origin, put, checked, deadline, fx);
        self.tracer.taken_up();
        let Err(error) = coordinated else { return };
        // What this node refuses, the silent one may have done.
        let error = if silent { self.in_doubt(to, w) } else { error };
        answer_put(origin, Err(error), fx);
    }

    pub(super) fn on_forward_deadline(&mut self, entry: u64, fx: &mut Effects) {
        let Some(ForwardEntry { client, to, machine, .. }) = self.take_forward(entry) else { return };
        let error = self.in_doubt(to, machine.quorum().w());
        answer_put(Origin::Client(client), Err(error), fx);
    }

    fn in_doubt(&mut self, silent: NodeId, w: u8) -> ApiError {
        self.counters.puts_indeterminate += 1;
        let detail = format!("{}, which was asked to coordinate, has not answered", self.name_of(silent));
        ApiError::Indeterminate { acks: 0, w, detail }
    }

    fn take_forward(&mut self, entry: u64) -> Option<ForwardEntry> {
        let Some(Entry { work: Work::Forward(_), .. }) = self.entries.get(&entry) else { return None };
        let Some(Work::Forward(forward)) = self.take_out(entry) else { return None };
        self.waiting -= 1;
        Some(*forward)
    }
}
