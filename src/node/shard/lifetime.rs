//! A request's life in its shard: taken up, woken, answered, ended.

use super::Shard;
use super::entry::{Entry, Work};
use crate::node::effects::Effects;
use crate::types::{Now, Time};

/// Answered requests that may wait for stragglers, for each request that may wait for an answer.
const LINGERING_PER_INFLIGHT: usize = 4;
/// An attempt waits at most this many times as long as the first: two to the power of it.
const MAX_DOUBLINGS: u32 = 4;

impl Shard {
    /// Takes up a request that somebody waits for; it is woken when the time of its first attempt is over.
    pub(super) fn begin(&mut self, now: Now, deadline: Time, work: Work) -> u64 {
        self.begin_waking(deadline, now.time + self.config.attempt_timeout, work)
    }

    /// The same, with the moment at which something is to be done about it first.
    pub(super) fn begin_waking(&mut self, deadline: Time, wake: Time, work: Work) -> u64 {
        self.waiting += 1;
        self.enter_waking(deadline, wake, work)
    }

    /// Takes up work that nobody waits for.
    pub(super) fn enter(&mut self, now: Now, deadline: Time, work: Work) -> u64 {
        self.enter_waking(deadline, now.time + self.config.attempt_timeout, work)
    }

    /// Takes up work of the exchange, the reaper, or a new disk that asks for rounds.
    pub(super) fn enter_background(&mut self, now: Now, deadline: Time, work: Work) -> u64 {
        self.background += 1;
        self.exchanging += usize::from(work.is_of_exchange());
        self.enter(now, deadline, work)
    }

    /// Ends such work.
    pub(super) fn end_background(&mut self, entry: u64) -> Option<Work> {
        let work = self.take_out(entry)?;
        self.background -= 1;
        self.exchanging -= usize::from(work.is_of_exchange());
        Some(work)
    }

    fn enter_waking(&mut self, deadline: Time, wake: Time, work: Work) -> u64 {
        self.next_entry += 1;
        let entry = self.next_entry;
        let wake = wake.min(deadline);
        self.timers.insert((wake, entry));
        self.trace_entered(entry, &work);
        self.entries.insert(entry, Entry { work, deadline, wake: Some(wake), attempts: 0 });
        entry
    }

    /// Something is to be done about a request at this time, and not before; nothing without a time.
    pub(super) fn wake_at(&mut self, entry: u64, at: Option<Time>) {
        let Some(known) = self.entries.get_mut(&entry) else { return };
        if let Some(before) = std::mem::replace(&mut known.wake, at) {
            self.timers.remove(&(before, entry));
        }
        self.timers.extend(at.map(|at| (at, entry)));
    }

    /// Ends a request: nothing more is to come, or nothing more is waited for.
    pub(super) fn end(&mut self, entry: u64) {
        self.hint_for_missing(entry);
        match self.take_out(entry) {
            Some(Work::Put(put)) if self.writes.get(&put.write_id) == Some(&entry) => {
                self.writes.remove(&put.write_id);
            }
            Some(Work::Hint(_)) => self.handing_off -= 1,
            _ => {}
        }
    }

    /// Takes a request out, with its timer: it is heard of no more.
    pub(super) fn take_out(&mut self, entry: u64) -> Option<Work> {
        let Entry { work, wake, .. } = self.entries.remove(&entry)?;
        if let Some(wake) = wake {
            self.timers.remove(&(wake, entry));
        }
        self.peers.on_ended(entry);
        Some(work)
    }

    /// A request has been answered. It ends if all have been heard; else it lingers for the stragglers, within a bound.
    pub(super) fn answered(&mut self, entry: u64, finished: bool) {
        self.waiting -= 1;
        if finished {
            self.end(entry);
            return;
        }
        self.lingering.push_back(entry);
        while self.lingering.len() > self.config.max_inflight * LINGERING_PER_INFLIGHT {
            let oldest = self.lingering.pop_front().expect("the list is longer than its bound");
            let needed =
                matches!(self.entries.get(&oldest), Some(Entry { work: Work::Put(put), .. }) if put.is_needed());
            if !needed {
                self.end(oldest);
            }
        }
    }

    pub(super) fn handle_timer(&mut self, now: Now, fx: &mut Effects) {
        while let Some(&(due, entry)) = self.timers.first() {
            if due > now.time {
                break;
            }
            self.timers.pop_first();
            let Some(known) = self.entries.get_mut(&entry) else { continue };
            if known.deadline <= now.time {
                self.peers.on_timeout(entry, now.time, &mut self.rng);
                self.on_deadline(now, entry, fx);
                continue;
            }
            // What is slow is not cured by more of the same work.
            known.attempts += 1;
            let wait = self.config.attempt_timeout * (1 << known.attempts.min(MAX_DOUBLINGS));
            let wake = known.deadline.min(now.time + wait);
            known.wake = Some(wake);
            self.timers.insert((wake, entry));
            self.peers.on_timeout(entry, now.time, &mut self.rng);
            match &known.work {
                Work::Put(_) => self.on_put_attempt_timeout(entry, fx),
                Work::Get(_) => self.on_get_timer(now, entry, fx),
                Work::Where(_) => self.ask_where(entry, true, fx),
                Work::Scan(_) => self.send_ranges(entry, true, fx),
                Work::Forward(_) => self.take_back(now, entry, true, fx),
                // The next pass meets it again.
                Work::Hint(_) => {}
                // It is asked anew when its time is over.
                Work::Rounds(_) => {}
                Work::Member(_) => self.send_to_member(entry, true, fx),
                Work::Ask(_) => self.send_ask(entry, true, fx),
                Work::Transfer(_) => self.resend_transfer(now, entry, fx),
            }
        }
    }

    fn on_deadline(&mut self, now: Now, entry: u64, fx: &mut Effects) {
        match self.entries.get(&entry).map(|known| &known.work) {
            Some(Work::Put(_)) => return self.on_put_deadline(entry, fx),
            Some(Work::Get(_)) => self.on_get_deadline(entry, fx),
            Some(Work::Where(_)) => self.on_where_deadline(entry, fx),
            Some(Work::Scan(_)) => self.on_scan_deadline(entry, fx),
            Some(Work::Forward(_)) => self.on_forward_deadline(entry, fx),
            Some(Work::Hint(_)) => self.on_hint_deadline(now, entry, fx),
            Some(Work::Ask(_)) => return self.on_ask_deadline(now, entry, fx),
            Some(Work::Transfer(_)) => return self.on_transfer_deadline(now, entry, fx),
            Some(Work::Member(_)) => return self.on_member_deadline(now, entry, fx),
            Some(Work::Rounds(_)) => return self.on_rounds_deadline(now, entry, fx),
            None => {}
        }
        self.end(entry);
    }
}
