//! What this node would do with a request, told and not done.

use super::request::respond;
use super::{Shard, get};
use crate::api::{ApiError, Explain, ExplainReply, Reply, Response};
use crate::node::effects::{ClientRef, Effects};
use crate::quorum::{Candidate, Condition, ReadQuorum, WriteQuorum, explain_read, explain_write};
use crate::ring::Slot;
use crate::types::{NodeId, Now};

impl Shard {
    pub(super) fn explain(
        &self,
        now: Now,
        client: ClientRef,
        asked: &Explain,
        fx: &mut Effects,
    ) -> Result<(), ApiError> {
        let place = self.place(&asked.bucket, &asked.key)?;
        let n = u8::try_from(place.slots.len()).expect("a bucket has at most 16 replicas");
        let sloppy = self.config.sloppy && !asked.strict;
        let read = ReadQuorum::new(n, asked.r.unwrap_or(self.config.r), asked.pr)?;
        let w = asked.w.unwrap_or(self.config.w);
        let write = WriteQuorum::new(n, w, asked.pw, asked.dw, self.config.sync_by_default)?;
        let write = if sloppy { write } else { write.of_primaries() };
        let stand_ins = self.stand_ins_of(&place);
        let lacks = self.place_may_lack(&place);
        let primary = |slot: &Slot| self.candidate(place.slots[usize::from(slot.0)], Some(slot.0), lacks);
        let candidates = |order: &[Slot], most: usize| -> Vec<Candidate> {
            let primaries = order.iter().map(primary);
            primaries.chain(stand_ins.iter().take(most).map(|node| self.candidate(*node, None, lacks))).collect()
        };
        let mut order: Vec<Slot> = (0..n).map(Slot).collect();
        let candidates_in_order = candidates(&order, stand_ins.len());
        order.sort_by_cached_key(|slot| match place.slots[usize::from(slot.0)] {
            node if node == self.node => 0,
            node => 1 + self.reply_times.rank(now.time, node),
        });
        let reply = ExplainReply {
            node: self.node,
            coordinator: place.own.map(|_| self.node).or_else(|| self.coordinator_of(&place)).unwrap_or(self.node),
            token: place.token.0,
            partition: place.address.partition,
            n,
            r: (read.r(), read.pr()),
            w: (write.w(), write.pw(), write.dw()),
            read: explain_read(&candidates(&order, get::MOST_STAND_INS), read, sloppy),
            write: explain_write(&candidates_in_order, write),
            candidates: candidates_in_order,
        };
        respond(client, Response::plain(Reply::Explain(Box::new(reply))), fx);
        Ok(())
    }

    fn candidate(&self, node: NodeId, slot: Option<u8>, lacks: bool) -> Candidate {
        let own = node == self.node;
        let condition = match self.read_only {
            Some(_) if own => Condition::ReadOnly,
            None if own => Condition::Itself,
            _ if self.convicted.contains(&node) => Condition::Convicted,
            _ if !self.reachable.contains(&node) => Condition::NoLink,
            _ if self.peers.is_silent(node, self.time) => Condition::Silent,
            _ => Condition::Up,
        };
        Candidate { node, slot, condition, rebuilding: own && lacks }
    }
}
