//! One request's way to an answer: whom to ask, when to ask another, when to give up. No clock, no socket.
//!
//! ```text
//!            +-- Ask ----> waiting for the newest attempt --(attempt timeout)--> Ask the next target
//! new -------+                 |  refused "elsewhere", lost --------------------> Ask the next target
//!                              |  refused "later", all targets failed --> pause -> Ask the next target
//!                              |  a result, or a refusal for good ------> Answer
//!                              +- the deadline, or no time for more ----> Answer with the best evidence
//! ```
//!
//! All attempts at a write carry one write id, so that asking another coordinator makes no second write. An attempt that
//! has timed out is still listened to: its late success counts. Exactly one [`Effect::Answer`] is given, not later than
//! the deadline if the driver wakes the session at [`Session::poll_timeout`].

use std::sync::Arc;
use std::time::Duration;

use crate::api::{ApiError, Response, Retry};
use crate::types::Time;

#[cfg(test)]
mod tests;

/// How long a request may take, and how long one node of many is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    /// From the call to the answer, all attempts included.
    pub request_timeout: Duration,
    /// How long the newest attempt is waited for before another node is asked too. Low: more than one node works on a
    /// slow request; high: a dead node costs a request this much.
    pub attempt_timeout: Duration,
}

impl Default for Patience {
    /// Five seconds in all, 300 ms an attempt (design figures of a request's life).
    fn default() -> Patience {
        Patience { request_timeout: Duration::from_secs(5), attempt_timeout: Duration::from_millis(300) }
    }
}

impl Patience {
    /// A node is told this much less than is left, so that its "k of W" arrives before the client gives up.
    fn margin(&self) -> Duration {
        LONGEST_MARGIN.min(self.request_timeout / 10)
    }
}

const LONGEST_MARGIN: Duration = Duration::from_millis(300);
/// With less than this left, a node could only answer that it ran out of time.
const LEAST_ATTEMPT: Duration = Duration::from_millis(10);
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_millis(640);
/// A request that still waits for a connection gets this part of the attempt timeout: another node may have one already.
const UNSENT_SHARE: u32 = 3;
/// So many attempts follow each other at the attempt timeout; each further one waits twice as long as the one before,
/// since what is slow everywhere is not cured by more of the same work.
const BRISK_ATTEMPTS: u32 = 3;

/// A node that may be asked: an index that the driver gives meaning to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Target(pub u16);

/// One attempt of a session, counted from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Attempt(pub u32);

/// Why an attempt will not be answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loss {
    /// What happened, for people.
    pub reason: Arc<str>,
    /// One end refused the other's certificate.
    pub auth: bool,
}

/// What the driver tells a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// The request has been handed to the node's connection: from here on the node may act on it.
    Sent {
        /// Which.
        attempt: Attempt,
    },
    /// The node answered.
    Answered {
        /// Which.
        attempt: Attempt,
        /// What.
        response: Response,
    },
    /// The connection was lost, or could not be made.
    Lost {
        /// Which.
        attempt: Attempt,
        /// Why.
        loss: Loss,
    },
    /// The client's own queue to the node is full; nothing was sent.
    Full {
        /// Which.
        attempt: Attempt,
    },
    /// The client makes no more retries at the moment. Said at once, before any other input, and the attempt was none.
    Withheld {
        /// Which.
        attempt: Attempt,
    },
    /// The time of [`Session::poll_timeout`] has come.
    Timeout,
}

/// What a session wants done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Send the request to this node, with what is left until [`Session::server_deadline`].
    Ask {
        /// What to call the answer.
        attempt: Attempt,
        /// Whom.
        target: Target,
        /// The last node had no room, or this client's queue to it: if the driver has no retry to spare, it sends nothing
        /// and says [`Input::Withheld`].
        again: bool,
    },
    /// The session is over.
    Answer(Outcome),
}

/// How a session ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// With what was asked for. Its result is `Ok`.
    Answered {
        /// By whom.
        target: Target,
        /// What.
        response: Response,
    },
    /// With a node's refusal, or its honest "k of W".
    Refused {
        /// By whom.
        target: Target,
        /// Why.
        error: ApiError,
    },
    /// Requests went out and nothing decisive came back. A write may still take effect.
    NoAnswer {
        /// Who may have the request.
        asked: Vec<Target>,
    },
    /// No node could be reached; the request left this process at no time.
    Unreachable {
        /// Who was tried, and how each one failed last.
        tried: Vec<(Target, Loss)>,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Open {
    attempt: Attempt,
    target: Target,
    sent: bool,
}

/// The state machine of one request; see the module.
///
/// Call [`Session::start`] once, then [`Session::handle`] with whatever happens and at the time of
/// [`Session::poll_timeout`], and carry out the effects in order, until one is [`Effect::Answer`].
#[derive(Debug)]
pub struct Session {
    patience: Patience,
    write: bool,
    targets: Vec<Target>,
    deadline: Time,
    seed: u64,
    cursor: usize,
    attempts: u32,
    open: Vec<Open>,
    /// When to ask the next target, be it for lack of an answer or after a pause.
    next_ask: Option<Time>,
    fast_failures: usize,
    pauses: u32,
    /// The last failure was one of room.
    crowded: bool,
    /// Who may have acted on a request and did not say so, once for each attempt.
    silent: Vec<Target>,
    evidence: Option<(Target, ApiError)>,
    refusal: Option<(Target, ApiError)>,
    losses: Vec<(Target, Loss)>,
    answered: bool,
}

impl Session {
    /// A request that may be asked of `targets`, best first, each named once. `write` says that a request whose fate is
    /// unknown may have changed something. The seed spreads pauses.
    pub fn new(now: Time, patience: Patience, write: bool, targets: Vec<Target>, seed: u64) -> Session {
        Session {
            patience,
            write,
            targets,
            deadline: now + patience.request_timeout,
            seed,
            cursor: 0,
            attempts: 0,
            open: Vec::with_capacity(1),
            next_ask: None,
            fast_failures: 0,
            pauses: 0,
            crowded: false,
            silent: Vec::new(),
            evidence: None,
            refusal: None,
            losses: Vec::new(),
            answered: false,
        }
    }

    /// Asks the first target.
    pub fn start(&mut self, now: Time, effects: &mut Vec<Effect>) {
        self.ask_next(now, effects);
        if self.targets.is_empty() {
            self.give_up(effects);
        }
    }

    /// When nodes are told to stop working on the request: shortly before [`Session::deadline`].
    pub fn server_deadline(&self) -> Time {
        let told = self.patience.request_timeout.saturating_sub(self.patience.margin());
        let started = self.deadline.as_micros().saturating_sub(micros(self.patience.request_timeout));
        Time::from_micros(started) + told
    }

    /// When the answer is due at the latest.
    pub fn deadline(&self) -> Time {
        self.deadline
    }

    /// Nodes asked so far, counting repetitions.
    pub fn attempts(&self) -> u32 {
        self.attempts
    }

    /// When to call [`Session::handle`] with [`Input::Timeout`]; `None` once it has answered.
    pub fn poll_timeout(&self) -> Option<Time> {
        (!self.answered).then(|| self.next_ask.map_or(self.deadline, |ask| ask.min(self.deadline)))
    }

    /// Takes one event. After the answer, and for attempts that are not open, it does nothing.
    pub fn handle(&mut self, now: Time, input: Input, effects: &mut Vec<Effect>) {
        if self.answered {
            return;
        }
        match input {
            Input::Timeout => {}
            Input::Sent { attempt } => {
                if let Some(open) = self.open.iter_mut().find(|open| open.attempt == attempt) {
                    open.sent = true;
                    if attempt.0 + 1 == self.attempts {
                        self.next_ask = Some(now + self.wait_for(attempt));
                    }
                }
            }
            Input::Answered { attempt, response } => {
                if let Some(open) = self.close(attempt) {
                    self.on_response(now, open, response, effects);
                }
            }
            Input::Lost { attempt, loss } => {
                if let Some(open) = self.close(attempt) {
                    self.on_lost(now, open, loss, effects);
                }
            }
            Input::Full { attempt } => {
                if let Some(open) = self.close(attempt) {
                    self.on_refused(now, open, Retry::Later, ApiError::Overloaded, effects);
                }
            }
            Input::Withheld { attempt } => {
                if let Some(open) = self.close(attempt) {
                    self.on_withheld(now, open);
                }
            }
        }
        if self.answered {
            return;
        }
        if now >= self.deadline {
            return self.give_up(effects);
        }
        if self.next_ask.is_some_and(|due| due <= now) {
            self.ask_next(now, effects);
        }
        if self.open.is_empty() && self.next_ask.is_none() {
            self.give_up(effects);
        }
    }

    fn close(&mut self, attempt: Attempt) -> Option<Open> {
        let index = self.open.iter().position(|open| open.attempt == attempt)?;
        Some(self.open.swap_remove(index))
    }

    fn on_response(&mut self, now: Time, open: Open, response: Response, effects: &mut Vec<Effect>) {
        let Err(error) = response.result else {
            return self.answer(Outcome::Answered { target: open.target, response }, effects);
        };
        match &error {
            ApiError::Indeterminate { acks, .. } | ApiError::ReadTimeout { replies: acks, .. } => {
                let best = self.evidence.as_ref().map(|(_, best)| confirmed(best));
                if best.is_none_or(|best| *acks > best) {
                    self.evidence = Some((open.target, error));
                }
                self.on_failed(now, open, Retry::Later, effects);
            }
            // it speaks for one node: another may have taken this very write (and made it one of too many siblings)
            _ if error.retry() == Retry::Never && self.in_doubt() => {
                self.on_refused(now, open, Retry::Later, error, effects);
            }
            _ => match error.retry() {
                Retry::Never => self.answer(Outcome::Refused { target: open.target, error }, effects),
                retry => self.on_refused(now, open, retry, error, effects),
            },
        }
    }

    fn on_refused(&mut self, now: Time, open: Open, retry: Retry, error: ApiError, effects: &mut Vec<Effect>) {
        // the failure of an attempt that is waited for no more is not why the next one is made
        if open.attempt.0 + 1 == self.attempts {
            self.crowded = error == ApiError::Overloaded;
        }
        self.refusal = Some((open.target, error));
        self.on_failed(now, open, retry, effects);
    }

    /// Nobody was asked: the next try is of the same target, under the same number, after a pause.
    fn on_withheld(&mut self, now: Time, open: Open) {
        debug_assert_eq!(open.attempt.0 + 1, self.attempts, "what is withheld is the newest");
        self.attempts -= 1;
        self.cursor = self.targets.iter().position(|target| *target == open.target).unwrap_or(0);
        self.crowded = true;
        let due = now + self.next_pause();
        self.next_ask = Some(due).filter(|due| self.is_time_left(*due));
    }

    fn on_lost(&mut self, now: Time, open: Open, loss: Loss, effects: &mut Vec<Effect>) {
        if open.sent {
            self.silent.push(open.target);
        }
        self.losses.retain(|(target, _)| *target != open.target);
        self.losses.push((open.target, loss));
        self.on_failed(now, open, Retry::Elsewhere, effects);
    }

    /// The attempt came to nothing: if it was the one waited for, another target is asked, at once or after a pause.
    fn on_failed(&mut self, now: Time, open: Open, retry: Retry, effects: &mut Vec<Effect>) {
        self.fast_failures += 1;
        let newest = open.attempt.0 + 1 == self.attempts;
        if !newest && self.next_ask.is_some() {
            return;
        }
        let all_failed = self.fast_failures.is_multiple_of(self.targets.len());
        if retry == Retry::Elsewhere && !all_failed {
            self.ask_next(now, effects);
        } else {
            let due = now + self.next_pause();
            self.next_ask = Some(due).filter(|due| self.is_time_left(*due));
        }
    }

    /// Asks the next target without an open attempt, if there is one and time for it.
    fn ask_next(&mut self, now: Time, effects: &mut Vec<Effect>) {
        self.next_ask = None;
        if !self.is_time_left(now) {
            return;
        }
        let count = self.targets.len();
        let free = |index: &usize| !self.open.iter().any(|open| open.target == self.targets[*index]);
        let Some(index) = (self.cursor..self.cursor + count).map(|step| step % count).find(free) else { return };
        let (attempt, target) = (Attempt(self.attempts), self.targets[index]);
        self.cursor = index + 1;
        self.attempts += 1;
        self.open.push(Open { attempt, target, sent: false });
        self.next_ask = Some(now + self.patience.attempt_timeout / UNSENT_SHARE);
        effects.push(Effect::Ask { attempt, target, again: std::mem::take(&mut self.crowded) });
    }

    /// Whether a node asked then could still do something.
    fn is_time_left(&self, then: Time) -> bool {
        then + LEAST_ATTEMPT <= self.server_deadline()
    }

    fn wait_for(&self, attempt: Attempt) -> Duration {
        let doublings = (attempt.0 + 1).saturating_sub(BRISK_ATTEMPTS).min(8);
        self.patience.attempt_timeout * (1 << doublings)
    }

    /// Twice as long each time, from half to one and a half of its length, so that clients do not come back in step.
    fn next_pause(&mut self) -> Duration {
        let length = (FIRST_PAUSE * (1 << self.pauses.min(8))).min(LONGEST_PAUSE);
        self.pauses += 1;
        self.seed = splitmix(self.seed);
        length / 2 + Duration::from_micros(self.seed % (micros(length) + 1))
    }

    /// Whether a node may have taken the write without having said so.
    fn in_doubt(&self) -> bool {
        self.write && (!self.silent.is_empty() || self.evidence.is_some() || self.open.iter().any(|open| open.sent))
    }

    /// The end without a result: what is known is said, and what is not known is not claimed.
    fn give_up(&mut self, effects: &mut Vec<Effect>) {
        let mut asked = std::mem::take(&mut self.silent);
        asked.extend(self.open.iter().filter(|open| open.sent).map(|open| open.target));
        asked.sort_unstable();
        asked.dedup();
        let outcome = match (self.evidence.take(), self.refusal.take()) {
            (Some((target, error)), _) => Outcome::Refused { target, error },
            // a refusal says that one node did nothing; a write that others may have is still in doubt
            (None, Some((target, error))) if asked.is_empty() || !self.write => Outcome::Refused { target, error },
            _ if !asked.is_empty() => Outcome::NoAnswer { asked },
            _ => Outcome::Unreachable { tried: self.tried() },
        };
        self.answer(outcome, effects);
    }

    fn tried(&mut self) -> Vec<(Target, Loss)> {
        let mut tried = std::mem::take(&mut self.losses);
        for open in &self.open {
            if !tried.iter().any(|(target, _)| *target == open.target) {
                tried.push((open.target, Loss { reason: "no connection in time".into(), auth: false }));
            }
        }
        tried.sort_by_key(|(target, _)| *target);
        tried
    }

    fn answer(&mut self, outcome: Outcome, effects: &mut Vec<Effect>) {
        self.answered = true;
        self.next_ask = None;
        self.open.clear();
        effects.push(Effect::Answer(outcome));
    }
}

fn confirmed(error: &ApiError) -> u8 {
    match error {
        ApiError::Indeterminate { acks, .. } => *acks,
        ApiError::ReadTimeout { replies, .. } => *replies,
        _ => 0,
    }
}

fn micros(span: Duration) -> u64 {
    u64::try_from(span.as_micros()).unwrap_or(u64::MAX)
}

/// One step of SplitMix64 (Steele, Lea, Flood, OOPSLA'14).
pub(super) fn splitmix(seed: u64) -> u64 {
    let mut z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
