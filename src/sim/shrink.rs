//! Cuts a schedule that fails down to the part that matters: delta debugging ("Simplifying and Isolating Failure-Inducing
//! Input", Zeller & Hildebrandt, 2002; the complements of `ddmin`), over what a schedule is made of.

#[cfg(test)]
mod tests;

use std::time::Duration;

use super::schedule::{Buggify, ClusterPlan, Schedule};

/// Fewest nodes of a cluster.
const FEWEST_NODES: usize = 3;
/// Behind the last event of a shortened run, and what is left of a gap between two.
const MOMENT: Duration = Duration::from_millis(1);
/// Gaps and faults shorter than this stay as they are.
const SHORT: Duration = Duration::from_millis(20);
/// How closely the end of a run is looked for: the span in halves of halves.
const HALVINGS: u32 = 8;

/// A smaller schedule that still fails, `schedule` itself if none was found.
///
/// `fails` runs a candidate and says whether the same thing still goes wrong; it is called `budget` times at most.
/// `schedule` is taken to fail and is not tried. What comes back is `schedule` or a candidate that failed.
pub fn shrink(schedule: &Schedule, budget: usize, fails: &mut dyn FnMut(&Schedule) -> bool) -> Schedule {
    let mut shrinker = Shrinker { best: schedule.clone(), budget, fails };
    loop {
        let before = shrinker.best.clone();
        shrinker.end_sooner();
        shrinker.drop_faults();
        shrinker.drop_operations();
        shrinker.simplify_cluster();
        shrinker.trim_span();
        shrinker.shorten_faults();
        shrinker.close_gaps();
        if shrinker.budget == 0 || shrinker.best == before {
            return shrinker.best;
        }
    }
}

/// The smallest schedule so far, and what may still be tried. Every accepted candidate is smaller in some way and larger
/// in none, so that it comes to an end without a budget too.
struct Shrinker<'a> {
    best: Schedule,
    budget: usize,
    fails: &'a mut dyn FnMut(&Schedule) -> bool,
}

impl Shrinker<'_> {
    /// Keeps the candidate if it fails as well.
    fn keep(&mut self, candidate: Schedule) -> bool {
        if self.budget == 0 || candidate == self.best {
            return false;
        }
        self.budget -= 1;
        let failed = (self.fails)(&candidate);
        if failed {
            self.best = candidate;
        }
        failed
    }

    /// Keeps the change if it fails as well.
    fn change(&mut self, change: impl FnOnce(&mut Schedule)) -> bool {
        let mut candidate = self.best.clone();
        change(&mut candidate);
        self.keep(candidate)
    }

    /// Nothing behind a failure matters, and a short run is soon tried: the first and cheapest cut.
    fn end_sooner(&mut self) {
        let mut passes = Duration::ZERO;
        for _ in 0..HALVINGS {
            let end = passes + (self.best.span.saturating_sub(passes)) / 2;
            let ended = self.change(|schedule| {
                schedule.span = end;
                schedule.faults.retain(|event| event.at < end);
                schedule.operations.retain(|operation| operation.at < end);
            });
            if !ended {
                passes = end;
            }
        }
    }

    fn drop_faults(&mut self) {
        self.drop_chunks(|schedule| &mut schedule.faults);
    }

    fn drop_operations(&mut self) {
        self.drop_chunks(|schedule| &mut schedule.operations);
    }

    /// All at once, then halves, down to single items; from the end, where less depends on an item.
    fn drop_chunks<T: Clone>(&mut self, list: fn(&mut Schedule) -> &mut Vec<T>) {
        let mut chunk = list(&mut self.best).len();
        while chunk > 0 && self.budget > 0 {
            let mut end = list(&mut self.best).len();
            while end > 0 {
                let start = end.saturating_sub(chunk);
                self.change(|schedule| drop(list(schedule).drain(start..end)));
                end = start;
            }
            // what was dropped counts: chunks stay a part of what is left
            chunk = (chunk / 2).min(list(&mut self.best).len());
        }
    }

    fn simplify_cluster(&mut self) {
        if !self.change(|schedule| keep_nodes(&mut schedule.cluster, FEWEST_NODES)) {
            while self.best.cluster.shards.len() > FEWEST_NODES {
                let fewer = self.best.cluster.shards.len() - 1;
                if !self.change(|schedule| keep_nodes(&mut schedule.cluster, fewer)) {
                    break;
                }
            }
        }
        if !self.change(|schedule| schedule.cluster.shards.fill(1)) {
            for node in 0..self.best.cluster.shards.len() {
                self.change(|schedule| schedule.cluster.shards[node] = 1);
            }
        }
        self.fewer_clients();
        if !self.change(|schedule| schedule.cluster.buggify = Buggify::default()) {
            self.change(|schedule| schedule.cluster.buggify.batch = None);
            self.change(|schedule| schedule.cluster.buggify.withhold = 0.0);
            self.change(|schedule| schedule.cluster.buggify.misroute = 0.0);
            self.change(|schedule| schedule.cluster.buggify.release_us = 0);
        }
        self.change(|schedule| schedule.cluster.miss_probability = 0.0);
        self.change(|schedule| schedule.cluster.drift_ppm.fill(0));
        self.change(|schedule| schedule.cluster.birth_kills = 0);
        self.change(|schedule| schedule.cluster.last_blackout = false);
    }

    /// Clients without an operation go; then two become one, where that still fails.
    fn fewer_clients(&mut self) {
        self.change(|schedule| {
            let mut busy: Vec<u8> = schedule.operations.iter().map(|operation| operation.client).collect();
            busy.sort_unstable();
            busy.dedup();
            for operation in &mut schedule.operations {
                let place = busy.iter().position(|client| *client == operation.client);
                let place = place.expect("every client of an operation is in the list");
                operation.client = u8::try_from(place).expect("no more clients than before");
            }
            schedule.cluster.clients = u8::try_from(busy.len().max(1)).expect("no more clients than before");
        });
        while self.best.cluster.clients > 1 {
            let last = self.best.cluster.clients - 1;
            let merged = self.change(|schedule| {
                schedule.cluster.clients = last;
                let of_last = schedule.operations.iter_mut().filter(|operation| operation.client >= last);
                of_last.for_each(|operation| operation.client = last - 1);
            });
            if !merged {
                break;
            }
        }
    }

    /// Healing begins right behind the last event, or else behind the last fault.
    fn trim_span(&mut self) {
        let Schedule { faults, operations, span, .. } = &self.best;
        let begun = faults.iter().map(|event| event.at).chain(operations.iter().map(|operation| operation.at));
        let begun = begun.max().unwrap_or_default() + MOMENT;
        let healed = faults.iter().map(|event| event.at + event.lasts).max().unwrap_or_default() + MOMENT;
        let (begun, healed) = (begun.min(*span), healed.max(begun).min(*span));
        if !self.change(|schedule| schedule.span = begun) {
            self.change(|schedule| schedule.span = healed);
        }
    }

    fn shorten_faults(&mut self) {
        for index in 0..self.best.faults.len() {
            for part in [16, 4, 2] {
                while self.best.faults[index].lasts > SHORT
                    && self.change(|schedule| schedule.faults[index].lasts /= part)
                {}
            }
        }
    }

    /// Events move earlier, all gaps at once if that still fails, and keep their order.
    fn close_gaps(&mut self) {
        if self.change(|schedule| move_events(schedule, |_, _| MOMENT)) {
            return;
        }
        let mut from = 0;
        while from < times(&self.best).len() && self.budget > 0 {
            for part in [0, 4, 2] {
                let closed = self.change(|schedule| {
                    move_events(schedule, |index, gap| match (index == from, part) {
                        (false, _) => gap,
                        (true, 0) => MOMENT,
                        (true, part) => gap / part,
                    });
                });
                if closed {
                    break;
                }
            }
            from += 1;
        }
    }
}

/// The first ones stay.
fn keep_nodes(cluster: &mut ClusterPlan, nodes: usize) {
    cluster.shards.truncate(nodes);
    cluster.drift_ppm.truncate(nodes);
}

/// When something happens, each time once, in order.
fn times(schedule: &Schedule) -> Vec<Duration> {
    let faults = schedule.faults.iter().map(|event| event.at);
    let mut times: Vec<Duration> = faults.chain(schedule.operations.iter().map(|operation| operation.at)).collect();
    times.sort_unstable();
    times.dedup();
    times
}

/// Gives the gap before each time, by its place and its length, a new length; what is short stays.
fn move_events(schedule: &mut Schedule, gap: impl Fn(usize, Duration) -> Duration) {
    let before = times(schedule);
    let (mut last, mut moved) = (Duration::ZERO, Vec::with_capacity(before.len()));
    let mut now = Duration::ZERO;
    for (index, time) in before.iter().enumerate() {
        let length = *time - last;
        now += if length > SHORT { gap(index, length) } else { length };
        moved.push(now);
        last = *time;
    }
    let new = |at: Duration| moved[before.binary_search(&at).expect("every event's time is in the list")];
    schedule.faults.iter_mut().for_each(|event| event.at = new(event.at));
    schedule.operations.iter_mut().for_each(|operation| operation.at = new(operation.at));
    schedule.span = schedule.span.saturating_sub(last - now);
}
