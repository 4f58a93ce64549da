//! One request, run in its caller's task: the session decides, this carries out.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use tokio::time::sleep_until;

use super::connection::{Asked, Connection};
use super::error::ClientError;
use super::hub::Hub;
use super::mailbox::{Mailbox, Ticket};
use super::routing::Routing;
use super::session::{Attempt, Effect, Input, Outcome, Patience, Session, Target};
use crate::api::{Reply, Request, Response, Trace};
use crate::types::Time;

/// A request's result, and how it came about.
pub(super) struct Called {
    pub(super) reply: Reply,
    pub(super) values: Vec<bytes::Bytes>,
    /// Whom the answer came from, for people.
    pub(super) from: String,
    pub(super) elapsed: Duration,
    pub(super) attempts: u32,
    /// If it was asked for.
    pub(super) trace: Option<Box<Trace>>,
}

/// One call under way. Dropping it takes back what waits for answers; what was sent may still be carried out.
struct Call<'a> {
    hub: &'a Hub,
    routing: Arc<Routing>,
    session: Session,
    request: Arc<Request>,
    mailbox: Arc<Mailbox>,
    sent: Vec<(Attempt, Target, Arc<Connection>, u64)>,
    effects: Vec<Effect>,
    inputs: Vec<Input>,
    /// What the nodes that were asked in vain have told of it.
    traces: Vec<(Target, Box<Trace>)>,
}

/// Asks `targets`, best first, until one answers or the time is over.
pub(super) async fn call(
    hub: &Hub,
    routing: Arc<Routing>,
    targets: Vec<Target>,
    request: Request,
) -> Result<Called, ClientError> {
    let start = hub.network.now();
    let timeout = hub.config.request_timeout;
    let permit = tokio::time::timeout(timeout, hub.permits.acquire()).await;
    let _permit = permit.map_err(|_| ClientError::Busy { timeout })?.expect("the client's permits are never closed");

    let now = hub.network.now();
    let patience = Patience {
        request_timeout: timeout.saturating_sub(now.since(start)),
        attempt_timeout: hub.config.attempt_timeout,
    };
    let session = Session::new(now, patience, request.is_write(), targets, hub.seed());
    let mut call = Call {
        hub,
        routing,
        session,
        request: Arc::new(request),
        mailbox: Arc::default(),
        sent: Vec::with_capacity(1),
        effects: Vec::with_capacity(1),
        inputs: Vec::new(),
        traces: Vec::new(),
    };
    let outcome = call.run(now).await;
    let attempts = call.session.attempts();
    call.outcome(outcome, hub.network.now().since(start), attempts)
}

impl Call<'_> {
    async fn run(&mut self, now: Time) -> Outcome {
        self.session.start(now, &mut self.effects);
        let mut timer = pin!(sleep_until(self.hub.network.instant(self.session.deadline())));
        loop {
            if let Some(outcome) = self.carry_out() {
                return outcome;
            }
            let due = self.session.poll_timeout().expect("it has not answered");
            let due = self.hub.network.instant(due);
            if timer.deadline() != due {
                timer.as_mut().reset(due);
            }
            let mut inputs = std::mem::take(&mut self.inputs);
            poll_fn(|cx| {
                if self.mailbox.poll_take(cx, &mut inputs).is_ready() {
                    return Poll::Ready(());
                }
                timer.as_mut().poll(cx)
            })
            .await;
            let now = self.hub.network.now();
            if inputs.is_empty() {
                self.on_timeout(now);
            }
            for input in inputs.drain(..) {
                self.keep_trace(&input);
                self.session.handle(now, input, &mut self.effects);
            }
            self.inputs = inputs;
        }
    }

    /// The session forgets the traces of failures.
    fn keep_trace(&mut self, input: &Input) {
        let Input::Answered { attempt, response } = input else { return };
        let Some(trace) = response.trace.as_ref().filter(|_| response.result.is_err()) else { return };
        let target = self.sent.iter().find(|(sent, ..)| sent == attempt).map(|(_, target, ..)| *target);
        self.traces.extend(target.map(|target| (target, trace.clone())));
    }

    /// An attempt that made the session ask another node speaks against its own.
    fn on_timeout(&mut self, now: Time) {
        self.session.handle(now, Input::Timeout, &mut self.effects);
        if self.effects.iter().any(|effect| matches!(effect, Effect::Ask { again: false, .. }))
            && let Some((_, target, ..)) = self.sent.last()
        {
            self.routing.peer(*target).mark_slow(now);
        }
    }

    /// Sends what the session wants sent; the outcome once there is one.
    fn carry_out(&mut self) -> Option<Outcome> {
        let mut next = 0;
        // telling the session that something was sent may add effects
        while let Some(effect) = self.effects.get(next) {
            next += 1;
            match effect {
                Effect::Ask { attempt, target, again } => {
                    let (attempt, target, again) = (*attempt, *target, *again);
                    self.ask(attempt, target, again);
                }
                Effect::Answer(_) => break,
            }
        }
        let last = self.effects.drain(..next).next_back();
        match last {
            Some(Effect::Answer(outcome)) => Some(outcome),
            _ => None,
        }
    }

    fn ask(&mut self, attempt: Attempt, target: Target, again: bool) {
        let now = self.hub.network.now();
        if again && !self.hub.retries.take(now) {
            return self.session.handle(now, Input::Withheld { attempt }, &mut self.effects);
        }
        let ticket = Ticket::new(&self.mailbox, attempt);
        let until = self.session.server_deadline();
        if let Asked::Sent(connection, id) = self.routing.peer(target).ask(now, &self.request, until, ticket) {
            self.sent.push((attempt, target, connection, id));
            self.session.handle(now, Input::Sent { attempt }, &mut self.effects);
        }
    }

    fn outcome(&mut self, outcome: Outcome, elapsed: Duration, attempts: u32) -> Result<Called, ClientError> {
        let traces = std::mem::take(&mut self.traces);
        let label = |target: &Target| self.routing.label(*target);
        match outcome {
            Outcome::Answered { target, response: Response { result: Ok(reply), values, trace } } => {
                self.hub.retries.earn();
                Ok(Called { reply, values, from: label(&target), elapsed, attempts, trace })
            }
            Outcome::Answered { target, response: Response { result: Err(error), trace, .. } } => {
                Err(ClientError::Refused { node: label(&target), error, trace })
            }
            Outcome::Refused { target, error } => {
                let told = traces.into_iter().rfind(|(of, _)| *of == target);
                Err(ClientError::Refused { node: label(&target), error, trace: told.map(|(_, trace)| trace) })
            }
            Outcome::NoAnswer { asked } => {
                let (timeout, asked) = (self.hub.config.request_timeout, asked.iter().map(label).collect());
                Err(match &*self.request {
                    Request::Put(_) => ClientError::Indeterminate { timeout, asked },
                    _ => ClientError::Timeout { timeout, asked },
                })
            }
            // the time was over before the call had its place
            Outcome::Unreachable { tried } if tried.is_empty() => {
                Err(ClientError::Busy { timeout: self.hub.config.request_timeout })
            }
            Outcome::Unreachable { tried } => {
                let auth = !tried.is_empty() && tried.iter().all(|(_, loss)| loss.auth);
                let tried = tried.iter().map(|(target, loss)| format!("{}: {}", label(target), loss.reason)).collect();
                Err(if auth { ClientError::Auth { tried } } else { ClientError::Unreachable { tried } })
            }
        }
    }
}

impl Drop for Call<'_> {
    fn drop(&mut self) {
        for (_, _, connection, id) in self.sent.drain(..) {
            connection.forget(id);
        }
    }
}
