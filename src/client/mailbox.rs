//! How what happens to a call's attempts reaches the task that waits for it.

use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};

use super::session::{Attempt, Input, Loss};
use crate::api::Response;

/// One call's inbox. It holds at most one input or two an attempt, and attempts are few.
#[derive(Debug, Default)]
pub(super) struct Mailbox {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    inputs: Vec<Input>,
    waker: Option<Waker>,
}

impl Mailbox {
    fn post(&self, input: Input) {
        let mut state = self.state();
        state.inputs.push(input);
        let waker = state.waker.take();
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Moves all that has come to `inputs`; pending if there is none.
    pub(super) fn poll_take(&self, cx: &mut Context<'_>, inputs: &mut Vec<Input>) -> Poll<()> {
        let mut state = self.state();
        if state.inputs.is_empty() {
            if !state.waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
                state.waker = Some(cx.waker().clone());
            }
            return Poll::Pending;
        }
        inputs.append(&mut state.inputs);
        Poll::Ready(())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no code panics while it holds a mailbox")
    }
}

/// An attempt's return address. Whoever holds it says exactly once how the attempt ended; dropping it says that it is lost.
#[derive(Debug)]
pub(super) struct Ticket {
    mailbox: Option<Arc<Mailbox>>,
    attempt: Attempt,
}

impl Ticket {
    pub(super) fn new(mailbox: &Arc<Mailbox>, attempt: Attempt) -> Ticket {
        Ticket { mailbox: Some(mailbox.clone()), attempt }
    }

    /// The call has gone: nobody reads what is posted.
    pub(super) fn is_abandoned(&self) -> bool {
        self.mailbox.as_ref().is_none_or(|mailbox| Arc::strong_count(mailbox) == 1)
    }

    /// The request, which had to wait, is on its way now.
    pub(super) fn sent(&self) {
        if let Some(mailbox) = &self.mailbox {
            mailbox.post(Input::Sent { attempt: self.attempt });
        }
    }

    pub(super) fn answer(self, response: Response) {
        let attempt = self.attempt;
        self.end(Input::Answered { attempt, response });
    }

    pub(super) fn lose(self, loss: Loss) {
        let attempt = self.attempt;
        self.end(Input::Lost { attempt, loss });
    }

    pub(super) fn full(self) {
        let attempt = self.attempt;
        self.end(Input::Full { attempt });
    }

    /// The call itself takes it back and hears nothing.
    pub(super) fn withdraw(mut self) {
        self.mailbox = None;
    }

    fn end(mut self, input: Input) {
        if let Some(mailbox) = self.mailbox.take() {
            mailbox.post(input);
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if let Some(mailbox) = self.mailbox.take() {
            let loss = Loss { reason: "the client is shutting down".into(), auth: false };
            mailbox.post(Input::Lost { attempt: self.attempt, loss });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::ApiError;

    fn taken(mailbox: &Mailbox) -> Vec<Input> {
        let mut inputs = Vec::new();
        let _ = mailbox.poll_take(&mut Context::from_waker(Waker::noop()), &mut inputs);
        inputs
    }

    #[test]
    fn what_is_posted_is_taken_once_in_order() {
        let mailbox = Arc::new(Mailbox::default());
        let ticket = Ticket::new(&mailbox, Attempt(3));
        ticket.sent();
        let response = Response::error(ApiError::Overloaded);
        ticket.answer(response.clone());
        let attempt = Attempt(3);
        assert_eq!(taken(&mailbox), [Input::Sent { attempt }, Input::Answered { attempt, response }]);
        assert_eq!(taken(&mailbox), []);
    }

    #[test]
    fn a_dropped_ticket_is_a_loss_and_a_withdrawn_one_is_nothing() {
        let mailbox = Arc::new(Mailbox::default());
        Ticket::new(&mailbox, Attempt(0)).withdraw();
        assert_eq!(taken(&mailbox), []);
        drop(Ticket::new(&mailbox, Attempt(1)));
        assert!(matches!(&taken(&mailbox)[..], [Input::Lost { attempt: Attempt(1), .. }]));
        let ticket = Ticket::new(&mailbox, Attempt(2));
        assert!(!ticket.is_abandoned());
        drop(mailbox);
        assert!(ticket.is_abandoned());
    }
}
