//! The exchange, carried out: its commands become requests, reads and transfers, and what comes back goes to it.

use std::collections::BTreeSet;

use super::entry::{AskEntry, Entry, Work};
use super::scrub::see_to_rotten;
use super::transfer::For;
use super::{Shard, ShardCounters, request_id};
use crate::antientropy::{
    Comparison, Exchange, ExchangeCommand, ExchangeFailure, PeerItem, PeerPage, Step, Transferred,
};
use crate::api::{Rebuilding, RepairOrder, RepairStatus, RunningRepair};
use crate::message::{
    Compare, Compared, ExchangeAnswer, ExchangeRequest, Items, OtherItem, PeerRequest, Refusal, Sums, TreeKey,
    TreeVerdict, Want,
};
use crate::node::effects::{Effects, ItemPurpose, ItemQuery, Output, TreePurpose, TreeQuery, TreeReply};
use crate::ring::Slot;
use crate::storage::OpFailure;
use crate::storage::merkle::{ItemPage, SumsSpec, TreeId};
use crate::types::{NodeId, Now, RingVersion, Time};

/// A peer that was asked for objects answers once they are with this node: it may take the time of two requests.
const WANT_TIMEOUTS: u32 = 2;

impl Shard {
    pub(super) fn exchange_timeout(&self) -> Option<Time> {
        let machines = [self.exchange.poll_timeout(), self.scrub.poll_timeout(), self.reaper.poll_timeout()];
        machines.into_iter().flatten().chain(self.load_at).min()
    }

    /// Lets the exchange act, and carries out what it says.
    pub(super) fn exchange(
        &mut self,
        now: Now,
        fx: &mut Effects,
        act: impl FnOnce(&mut Exchange, &mut Vec<ExchangeCommand>),
    ) {
        let mut commands = Vec::new();
        act(&mut self.exchange, &mut commands);
        for command in commands {
            self.carry_out(now, command, fx);
        }
    }

    /// It acts only once the ring is known, and this node with it.
    fn ring(&self) -> RingVersion {
        self.serving_view().expect("an exchange begins when it is told the ring").version()
    }

    fn carry_out(&mut self, now: Now, command: ExchangeCommand, fx: &mut Effects) {
        match command {
            ExchangeCommand::Compare { step, peer, trees } => {
                let purpose = TreePurpose::Compare { step, peer, trees: trees.clone() };
                fx.tree_queries.push((purpose, TreeQuery::Roots(trees)));
            }
            ExchangeCommand::OwnSums { step, spec } => {
                fx.tree_queries.push((TreePurpose::Own(step), TreeQuery::Sums(spec)));
            }
            ExchangeCommand::PeerSums { step, peer, spec: SumsSpec { tree, leaves, of } } => {
                let sums = Sums { ring: self.ring(), tree, leaves, of };
                self.inquire(now, step, peer, ExchangeRequest::Sums(sums), Vec::new(), fx);
            }
            ExchangeCommand::OwnItems { step, tree, leaves, of, after, limit } => {
                let query = ItemQuery { tree, leaves, of, after, until: None, limit: limit as usize };
                fx.item_reads.push((ItemPurpose::Own(step), query));
            }
            ExchangeCommand::PeerItems { step, peer, tree, leaves, of, after, until, known, limit } => {
                let of = of.into_iter().map(|leaf| u16::try_from(leaf).expect("two bytes number all leaves")).collect();
                let (after, until) = (after.as_ref().map(TreeKey::of), until.as_ref().map(TreeKey::of));
                let items = Items { ring: self.ring(), tree, leaves, of, after, until, known, limit };
                self.inquire(now, step, peer, ExchangeRequest::Items(items), Vec::new(), fx);
            }
            ExchangeCommand::Want { step, peer, tree, keys } => {
                let keys = keys.iter().map(TreeKey::of).collect();
                let want = Want { ring: self.ring(), tree, keys };
                self.inquire(now, step, peer, ExchangeRequest::Want(want), Vec::new(), fx);
            }
            ExchangeCommand::Push { step, peer, keys, .. } => self.transfer(now, peer, For::Own(step), keys, fx),
            ExchangeCommand::Agreed { tree, peer } => self.on_agreed(now, tree, peer, fx),
        }
    }

    /// Asks a peer; the answer goes to the exchange.
    fn inquire(
        &mut self,
        now: Now,
        step: Step,
        peer: NodeId,
        request: ExchangeRequest,
        trees: Vec<TreeId>,
        fx: &mut Effects,
    ) {
        let timeouts = if matches!(request, ExchangeRequest::Want(_)) { WANT_TIMEOUTS } else { 1 };
        let deadline = now.time + self.config.request_timeout * timeouts;
        let asked = AskEntry { step, peer, request, trees };
        let entry = self.enter_background(now, deadline, Work::Ask(Box::new(asked)));
        self.send_ask(entry, false, fx);
    }

    /// Sends a question, or sends it again.
    pub(super) fn send_ask(&mut self, entry: u64, again: bool, fx: &mut Effects) {
        let Some(Entry { work: Work::Ask(asked), .. }) = self.entries.get(&entry) else { return };
        self.counters.resent += u64::from(again);
        let request = PeerRequest::Exchange(asked.request.clone());
        fx.after_written.push(Output::Request { node: asked.peer, id: request_id(entry, Slot(0)), request });
    }

    /// A peer has answered a question of the exchange.
    pub(super) fn on_exchange_answer(
        &mut self,
        now: Now,
        entry: u64,
        from: NodeId,
        answer: ExchangeAnswer,
        fx: &mut Effects,
    ) {
        let Some(Entry { work: Work::Ask(asked), .. }) = self.entries.get(&entry) else { return };
        if asked.peer != from || !answers(&asked.request, &answer) {
            self.counters.stray_answers += 1;
            return;
        }
        let Some(Work::Ask(asked)) = self.end_background(entry) else { return };
        self.tell_exchange(now, *asked, answer, fx);
    }

    /// Nobody has answered in time.
    pub(super) fn on_ask_deadline(&mut self, now: Now, entry: u64, fx: &mut Effects) {
        let Some(Work::Ask(asked)) = self.end_background(entry) else { return };
        let step = asked.step;
        let failure = ExchangeFailure::Unanswered;
        self.exchange(now, fx, |exchange, out| match asked.request {
            ExchangeRequest::Compare(_) => exchange.on_compared(now, step, Err(failure), out),
            ExchangeRequest::Sums(_) => exchange.on_peer_sums(now, step, Err(failure), out),
            ExchangeRequest::Items(_) => exchange.on_peer_items(now, step, Err(failure), out),
            ExchangeRequest::Want(_) => exchange.on_wanted(now, step, Err(failure), out),
        });
    }

    fn tell_exchange(&mut self, now: Now, asked: AskEntry, answer: ExchangeAnswer, fx: &mut Effects) {
        let AskEntry { step, request, trees, .. } = asked;
        let partition = request.partition();
        self.exchange(now, fx, |exchange, out| match answer {
            ExchangeAnswer::Compared(compared) => {
                let compared = compared.map_err(|refusal| failure_of(&refusal));
                exchange.on_compared(
                    now,
                    step,
                    compared.and_then(|compared| verdicts(&request, &trees, compared)),
                    out,
                );
            }
            ExchangeAnswer::Summed(summed) => {
                let sums = summed.map(|summed| (summed.leaves, summed.sums)).map_err(|refusal| failure_of(&refusal));
                exchange.on_peer_sums(now, step, sums, out);
            }
            ExchangeAnswer::Itemized(page) => {
                let whole = |key: TreeKey| key.whole(partition);
                let item = |OtherItem { key, hash, versions }| PeerItem { key: whole(key), hash, versions };
                let page = page.map(|page| PeerPage {
                    same: page.same,
                    items: page.items.into_iter().map(item).collect(),
                    rotten: page.rotten,
                    next: page.next.map(whole),
                });
                exchange.on_peer_items(now, step, page.map_err(|refusal| failure_of(&refusal)), out);
            }
            ExchangeAnswer::Wanted(wanted) => {
                let done = wanted.map(|done| Transferred { sent: done.sent, failed: done.failed, bytes: done.bytes });
                exchange.on_wanted(now, step, done.map_err(|refusal| transfer_failure_of(&refusal)), out);
            }
        });
    }

    /// Own roots or sums have been looked up.
    pub(super) fn on_trees_told(&mut self, now: Now, purpose: TreePurpose, reply: TreeReply, fx: &mut Effects) {
        match (purpose, reply) {
            (TreePurpose::Compare { step, peer, trees }, TreeReply::Roots(roots)) => {
                let known: Vec<(TreeId, u128)> =
                    trees.iter().copied().zip(roots).filter_map(|(tree, root)| Some((tree, root?))).collect();
                if known.is_empty() {
                    let unknown = Err(ExchangeFailure::Unknown);
                    self.exchange(now, fx, |exchange, out| exchange.on_compared(now, step, unknown, out));
                    return;
                }
                let compare = Compare { ring: self.ring(), leaves: self.config.leaves(), trees: known };
                self.inquire(now, step, peer, ExchangeRequest::Compare(compare), trees, fx);
            }
            (TreePurpose::Own(step), TreeReply::Sums(sums)) => {
                self.exchange(now, fx, |exchange, out| exchange.on_own_sums(now, step, sums, out));
            }
            (TreePurpose::Compared { asker, trees }, TreeReply::Roots(roots)) => {
                self.answer_compare(asker, &trees, &roots, fx);
            }
            (TreePurpose::Summed { asker, leaves }, TreeReply::Sums(sums)) => {
                self.answer_sums(asker, leaves, sums, fx);
            }
            (purpose, reply) => unreachable!("{purpose:?} is not answered by {reply:?}"),
        }
    }

    /// Own keys have been read from the disk, for the exchange or for a peer.
    pub(super) fn on_items_read(
        &mut self,
        now: Now,
        purpose: ItemPurpose,
        page: Result<ItemPage, OpFailure>,
        fx: &mut Effects,
    ) {
        if let Ok(page) = &page {
            see_to_rotten(&page.rotten, fx);
        }
        match purpose {
            ItemPurpose::Own(step) => {
                self.exchange(now, fx, |exchange, out| exchange.on_own_items(now, step, page, out));
            }
            ItemPurpose::Peer { asker, known } => self.answer_items(asker, &known, page, fx),
        }
    }

    pub(super) fn on_exchange_timer(&mut self, now: Now, fx: &mut Effects) {
        self.tell_load(now, fx);
        self.exchange(now, fx, |exchange, out| exchange.on_timer(now, out));
        self.scrub(fx, |scrub, out| scrub.on_timer(now, out));
        self.reap(now, fx, |reaper, out| reaper.on_timer(now, out));
    }

    /// A client's request has its turn.
    pub(super) fn note_load(&mut self, now: Now, arrived: Time, fx: &mut Effects) {
        self.note_turn(now, arrived, now.time, fx);
    }

    /// A client's request that was there then has had its turn.
    pub(super) fn note_turn(&mut self, now: Now, arrived: Time, turn: Time, fx: &mut Effects) {
        if self.load.note(arrived, turn) {
            self.tell_load(now, fx);
        }
    }

    fn tell_load(&mut self, now: Now, fx: &mut Effects) {
        let (busy, again) = self.load.look(now.time);
        self.load_at = again;
        self.exchange(now, fx, |exchange, out| exchange.on_load(now, busy, out));
        self.scrub(fx, |scrub, out| scrub.on_load(now, busy, out));
        self.reap(now, fx, |reaper, out| reaper.on_load(now, busy, out));
    }

    pub(super) fn exchange_counters(&self, others: ShardCounters) -> ShardCounters {
        let done = self.exchange.counters();
        ShardCounters {
            trees_compared: done.compared,
            trees_differing: done.differing,
            trees_agreed: done.agreed,
            keys_differing: done.keys_differing,
            objects_exchanged: done.objects_sent + done.objects_wanted,
            objects_unexchanged: done.objects_failed,
            exchange_bytes: done.bytes,
            ..others
        }
    }

    /// An operator's order.
    pub(super) fn on_repair_order(&mut self, now: Now, order: RepairOrder, fx: &mut Effects) {
        self.counters.repair_orders += 1;
        self.exchange(now, fx, |exchange, out| match order {
            RepairOrder::Start { partition } => {
                let partitions = partition.map(|partition| BTreeSet::from([partition]));
                exchange.start(now, partitions.as_ref(), out);
            }
            RepairOrder::Pause => exchange.pause(now, out),
            RepairOrder::Resume => exchange.resume(now, out),
            RepairOrder::Scrub { .. } | RepairOrder::Reap { .. } => {}
        });
        self.scrub(fx, |scrub, out| match order {
            RepairOrder::Scrub { partition } => scrub.start(now, partition, out),
            RepairOrder::Pause => scrub.pause(),
            RepairOrder::Resume => scrub.resume(now, out),
            RepairOrder::Start { .. } | RepairOrder::Reap { .. } => {}
        });
        self.reap(now, fx, |reaper, out| match order {
            RepairOrder::Pause => reaper.pause(),
            RepairOrder::Resume => reaper.resume(now, out),
            RepairOrder::Reap { partition } => reaper.start(now, partition, out),
            RepairOrder::Start { .. } | RepairOrder::Scrub { .. } => {}
        });
    }

    /// How far it has come with comparing its trees with others'; `None` before the ring is known.
    pub fn repair_status(&self, now: Now) -> Option<RepairStatus> {
        self.serving_view()?;
        let status = self.exchange.status(now);
        let running = status.running.iter().map(|one| RunningRepair {
            partition: one.tree.partition,
            n: one.tree.n,
            peer: one.peer,
            keys_differing: one.keys_differing,
            bytes: one.bytes,
        });
        let (done, of) = status.round.as_ref().map_or((0, 0), |round| (round.done, round.of));
        Some(RepairStatus {
            paused: status.paused,
            waiting: status.waiting.map(|reason| reason.to_string()),
            running: running.collect(),
            due: status.due,
            compared: status.counters.compared,
            differing: status.counters.differing,
            keys_differing: status.counters.keys_differing,
            bytes: status.counters.bytes,
            done,
            of,
            eta_s: status.round.and_then(|round| round.eta).map(|eta| eta.as_secs()),
            rebuilding: self.rebuilt().map(|rebuilt| Rebuilding { done: rebuilt.done, of: rebuilt.of }),
            scrub: self.scrub_status(now),
        })
    }

    /// The disk takes no writes, or takes them again.
    pub(super) fn on_read_only(&mut self, now: Now, reason: Option<String>, fx: &mut Effects) {
        let is_read_only = reason.is_some();
        self.read_only = reason;
        self.exchange(now, fx, |exchange, out| exchange.set_read_only(now, is_read_only, out));
    }

    /// The ring has become known, or who this node is.
    pub(super) fn on_exchange_ring(&mut self, now: Now, fx: &mut Effects) {
        self.exchange.set_node(self.node);
        let Some(view) = self.serving_view().cloned() else { return };
        // What waits for rounds is not begun before that is known.
        self.see_to_joining(now, fx);
        self.exchange(now, fx, |exchange, out| exchange.on_ring(now, view, out));
        self.see_to_rebuilding(now, fx);
    }
}

/// Whether this is an answer to that.
fn answers(request: &ExchangeRequest, answer: &ExchangeAnswer) -> bool {
    matches!(
        (request, answer),
        (ExchangeRequest::Compare(_), ExchangeAnswer::Compared(_))
            | (ExchangeRequest::Sums(_), ExchangeAnswer::Summed(_))
            | (ExchangeRequest::Items(_), ExchangeAnswer::Itemized(_))
            | (ExchangeRequest::Want(_), ExchangeAnswer::Wanted(_))
    )
}

/// A verdict for each of `trees`, of which the peer was told those whose own root is known.
fn verdicts(request: &ExchangeRequest, trees: &[TreeId], compared: Compared) -> Result<Comparison, ExchangeFailure> {
    let ExchangeRequest::Compare(compare) = request else { return Err(ExchangeFailure::Malformed) };
    let Compared { shards, rebuilding, verdicts } = compared;
    if verdicts.len() != compare.trees.len() {
        return Err(ExchangeFailure::Malformed);
    }
    let mut told = compare.trees.iter().map(|(tree, _)| *tree).zip(verdicts).peekable();
    let verdict = |tree: &TreeId| told.next_if(|(of, _)| of == tree).map_or(TreeVerdict::Unknown, |(_, said)| said);
    Ok(Comparison { shards, rebuilding, verdicts: trees.iter().map(verdict).collect() })
}

/// What keeps a whole transfer from going on.
pub(super) fn transfer_failure_of(refusal: &Refusal) -> ExchangeFailure {
    match refusal {
        Refusal::ReadOnly | Refusal::NotReady => ExchangeFailure::ReadOnly,
        other => failure_of(other),
    }
}

fn failure_of(refusal: &Refusal) -> ExchangeFailure {
    match refusal {
        Refusal::Busy => ExchangeFailure::Busy,
        Refusal::Overloaded => ExchangeFailure::Overloaded,
        Refusal::Storage | Refusal::Newer => ExchangeFailure::Unreadable,
        Refusal::Ring(_) | Refusal::NotAReplica | Refusal::ReadOnly | Refusal::NotReady | Refusal::Fenced(_) => {
            ExchangeFailure::Refused
        }
    }
}
