mod random;

use super::*;
use crate::api::{GetReply, Reply};

fn ms(millis: u64) -> Time {
    Time::from_micros(millis * 1000)
}

fn ask(attempt: u32, target: u16) -> Effect {
    Effect::Ask { attempt: Attempt(attempt), target: Target(target), again: false }
}

/// After a refusal for want of room.
fn ask_again(attempt: u32, target: u16) -> Effect {
    Effect::Ask { attempt: Attempt(attempt), target: Target(target), again: true }
}

fn refused(target: u16, error: ApiError) -> Effect {
    Effect::Answer(Outcome::Refused { target: Target(target), error })
}

fn no_answer(asked: &[u16]) -> Effect {
    Effect::Answer(Outcome::NoAnswer { asked: asked.iter().map(|&target| Target(target)).collect() })
}

fn success() -> Response {
    Response::plain(Reply::Get(GetReply::default()))
}

fn answered(target: u16) -> Effect {
    Effect::Answer(Outcome::Answered { target: Target(target), response: success() })
}

fn loss(reason: &str) -> Loss {
    Loss { reason: reason.into(), auth: false }
}

fn indeterminate(acks: u8) -> ApiError {
    ApiError::Indeterminate { acks, w: 3, detail: String::new() }
}

fn not_ready() -> ApiError {
    ApiError::NotReady { reason: "draining".into() }
}

/// A session and the effects since the last look.
struct Run {
    session: Session,
}

impl Run {
    fn new(write: bool, targets: u16) -> (Run, Vec<Effect>) {
        let targets = (0..targets).map(Target).collect();
        let mut session = Session::new(ms(0), Patience::default(), write, targets, 7);
        let mut effects = Vec::new();
        session.start(ms(0), &mut effects);
        (Run { session }, effects)
    }

    fn at(&mut self, millis: u64, input: Input) -> Vec<Effect> {
        let mut effects = Vec::new();
        self.session.handle(ms(millis), input, &mut effects);
        effects
    }

    fn sent(&mut self, attempt: u32) {
        self.sent_at(0, attempt);
    }

    fn sent_at(&mut self, millis: u64, attempt: u32) {
        assert_eq!(self.at(millis, Input::Sent { attempt: Attempt(attempt) }), []);
    }

    fn answer(&mut self, millis: u64, attempt: u32, response: Response) -> Vec<Effect> {
        self.at(millis, Input::Answered { attempt: Attempt(attempt), response })
    }

    fn refuse(&mut self, millis: u64, attempt: u32, error: ApiError) -> Vec<Effect> {
        self.answer(millis, attempt, Response::error(error))
    }

    fn lose(&mut self, millis: u64, attempt: u32) -> Vec<Effect> {
        self.lose_for(millis, attempt, "closed")
    }

    fn lose_for(&mut self, millis: u64, attempt: u32, reason: &str) -> Vec<Effect> {
        self.at(millis, Input::Lost { attempt: Attempt(attempt), loss: loss(reason) })
    }

    /// Wakes it at its own timer.
    fn wake(&mut self) -> Vec<Effect> {
        let due = self.session.poll_timeout().expect("an unanswered session has a timer");
        self.at(due.as_micros().div_ceil(1000), Input::Timeout)
    }
}

#[test]
fn the_first_target_answers() {
    let (mut run, effects) = Run::new(false, 3);
    assert_eq!(effects, [ask(0, 0)]);
    assert_eq!(run.answer(2, 0, success()), [answered(0)]);
    assert_eq!(run.session.poll_timeout(), None);
    assert_eq!(run.answer(3, 0, success()), [], "a second answer changes nothing");
}

#[test]
fn a_slow_attempt_is_joined_by_another_and_its_late_success_counts() {
    let (mut run, _) = Run::new(true, 3);
    run.sent(0);
    assert_eq!(run.session.poll_timeout(), Some(ms(300)));
    assert_eq!(run.at(300, Input::Timeout), [ask(1, 1)]);
    run.sent_at(301, 1);
    assert_eq!(run.session.poll_timeout(), Some(ms(601)));
    assert_eq!(run.answer(350, 0, success()), [answered(0)]);
}

#[test]
fn a_node_that_is_still_being_dialed_is_waited_for_less() {
    let (mut run, _) = Run::new(false, 2);
    assert_eq!(run.session.poll_timeout(), Some(ms(100)));
    assert_eq!(run.at(100, Input::Timeout), [ask(1, 1)]);
    run.sent_at(101, 0);
    assert_eq!(run.session.poll_timeout(), Some(ms(200)), "only the newest attempt is waited for");
    assert_eq!(run.answer(150, 0, success()), [answered(0)]);
}

#[test]
fn further_attempts_wait_longer_and_no_target_is_asked_twice_at_once() {
    let (mut run, _) = Run::new(false, 4);
    run.sent(0);
    assert_eq!(run.at(300, Input::Timeout), [ask(1, 1)]);
    run.sent_at(300, 1);
    assert_eq!(run.at(600, Input::Timeout), [ask(2, 2)]);
    run.sent_at(600, 2);
    assert_eq!(run.at(900, Input::Timeout), [ask(3, 3)]);
    run.sent_at(900, 3);
    assert_eq!(run.session.poll_timeout(), Some(ms(1500)));
    assert_eq!(run.at(1500, Input::Timeout), [], "all four are working on it");
    assert_eq!(run.session.poll_timeout(), Some(ms(5000)));
    assert_eq!(run.lose(2000, 1), [ask(4, 1)], "one is free again");
}

#[test]
fn a_wait_that_would_end_after_the_deadline_ends_at_it() {
    let (mut run, _) = Run::new(false, 9);
    run.sent(0);
    for (attempt, at) in [(1, 300), (2, 600), (3, 900), (4, 1500), (5, 2700)] {
        assert_eq!(run.at(at, Input::Timeout), [ask(attempt, attempt as u16)]);
        run.sent_at(at, attempt);
    }
    assert_eq!(run.session.poll_timeout(), Some(ms(5000)), "and not 5100");
    assert_eq!(run.at(5000, Input::Timeout), [no_answer(&[0, 1, 2, 3, 4, 5])]);
}

#[test]
fn a_lost_connection_goes_elsewhere_at_once_and_pauses_after_a_full_turn() {
    let (mut run, _) = Run::new(false, 2);
    assert_eq!(run.lose(1, 0), [ask(1, 1)]);
    assert_eq!(run.lose(2, 1), []);
    let due = run.session.poll_timeout().unwrap();
    assert!((ms(12)..=ms(32)).contains(&due), "{due:?}");
    assert_eq!(run.wake(), [ask(2, 0)]);
}

#[test]
fn not_ready_goes_elsewhere_and_overloaded_pauses() {
    let (mut run, _) = Run::new(true, 3);
    assert_eq!(run.refuse(1, 0, not_ready()), [ask(1, 1)]);
    assert_eq!(run.refuse(2, 1, ApiError::Overloaded), []);
    assert_eq!(run.wake(), [ask_again(2, 2)]);
    assert_eq!(run.refuse(50, 2, ApiError::Expired), []);
    assert_eq!(run.wake(), [ask(3, 0)]);
    assert_eq!(run.answer(400, 3, success()), [answered(0)]);
}

#[test]
fn pauses_grow_and_differ() {
    let pauses = |seed| {
        let mut session = Session::new(ms(0), Patience::default(), false, vec![Target(0)], seed);
        (0..8).map(|_| session.next_pause().as_millis()).collect::<Vec<_>>()
    };
    let (one, other) = (pauses(1), pauses(2));
    assert_ne!(one, other);
    for (step, pause) in one.into_iter().enumerate() {
        let length = (20_u128 << step).min(640);
        assert!((length / 2..=length * 3 / 2).contains(&pause), "{pause} of {length}");
    }
}

#[test]
fn a_refusal_for_good_is_the_answer() {
    let error = ApiError::ValueTooLarge { len: 9, max: 8 };
    let (mut run, _) = Run::new(true, 3);
    assert_eq!(run.refuse(1, 0, error.clone()), [refused(0, error)]);
}

#[test]
fn the_best_evidence_is_reported() {
    let (mut run, _) = Run::new(true, 3);
    run.sent(0);
    assert_eq!(run.at(300, Input::Timeout), [ask(1, 1)]);
    run.sent_at(4894, 1);
    assert_eq!(run.refuse(4895, 0, indeterminate(2)), []);
    assert_eq!(run.refuse(4900, 1, indeterminate(1)), [refused(0, indeterminate(2))]);
}

#[test]
fn of_equal_evidence_the_first_is_reported() {
    let (mut run, _) = Run::new(true, 2);
    run.sent(0);
    assert_eq!(run.at(300, Input::Timeout), [ask(1, 1)]);
    assert_eq!(run.refuse(4850, 1, indeterminate(1)), []);
    assert_eq!(run.refuse(4900, 0, indeterminate(1)), [refused(1, indeterminate(1))]);
}

#[test]
fn evidence_is_bettered_by_a_later_success() {
    let (mut run, _) = Run::new(true, 2);
    run.sent(0);
    assert_eq!(run.refuse(500, 0, indeterminate(1)), []);
    assert_eq!(run.wake(), [ask(1, 1)]);
    assert_eq!(run.answer(700, 1, success()), [answered(1)]);
}

#[test]
fn silence_after_a_send_is_no_answer_and_names_who_may_have_it() {
    let (mut run, _) = Run::new(true, 3);
    run.sent(0);
    assert_eq!(run.at(300, Input::Timeout), [ask(1, 1)]);
    assert_eq!(run.at(600, Input::Timeout), [ask(2, 2)]);
    run.sent_at(600, 2);
    assert_eq!(run.at(5000, Input::Timeout), [no_answer(&[0, 2])]);
}

#[test]
fn who_may_have_it_is_named_once_and_in_order() {
    let (mut run, _) = Run::new(true, 2);
    run.sent(0);
    assert_eq!(run.at(300, Input::Timeout), [ask(1, 1)]);
    run.sent_at(300, 1);
    assert_eq!(run.lose(310, 1), [ask(2, 1)]);
    run.sent_at(310, 2);
    assert_eq!(run.at(5000, Input::Timeout), [no_answer(&[0, 1])]);
}

#[test]
fn the_failure_of_an_older_attempt_calls_nobody() {
    let (mut run, _) = Run::new(false, 3);
    run.sent(0);
    assert_eq!(run.at(300, Input::Timeout), [ask(1, 1)]);
    run.sent_at(301, 1);
    assert_eq!(run.lose(350, 0), []);
    assert_eq!(run.session.poll_timeout(), Some(ms(601)));
    assert_eq!(run.wake(), [ask(2, 2)]);
}

#[test]
fn with_no_time_for_another_attempt_it_ends_at_once() {
    let tried = |targets: &[u16]| targets.iter().map(|target| (Target(*target), loss("closed"))).collect();
    let (mut run, _) = Run::new(true, 2);
    assert_eq!(run.lose(4690, 0), [ask(1, 1)]);
    let (mut run, _) = Run::new(true, 2);
    assert_eq!(run.lose(4691, 0), [Effect::Answer(Outcome::Unreachable { tried: tried(&[0]) })]);
    // a pause takes 10 ms at least
    let (mut run, _) = Run::new(true, 2);
    assert_eq!(run.refuse(4690, 0, ApiError::Overloaded), [refused(0, ApiError::Overloaded)]);
}

#[test]
fn a_write_lost_on_the_way_stays_in_doubt_whatever_others_refuse() {
    let (mut run, _) = Run::new(true, 2);
    run.sent(0);
    assert_eq!(run.lose(10, 0), [ask(1, 1)]);
    run.sent_at(10, 1);
    assert_eq!(run.refuse(5000, 1, not_ready()), [no_answer(&[0])]);
    let (mut read, _) = Run::new(false, 2);
    read.sent(0);
    assert_eq!(read.lose(10, 0), [ask(1, 1)]);
    assert_eq!(read.refuse(5000, 1, not_ready()), [refused(1, not_ready())]);
}

#[test]
fn a_refusal_for_good_is_certain_only_if_no_other_node_may_have_the_write() {
    check_certain_only_without_doubt(ApiError::TooManySiblings { count: 50, max: 50 });
    // nodes need not have one net.max_value
    check_certain_only_without_doubt(ApiError::ValueTooLarge { len: 9, max: 8 });
    let error = ApiError::TooManySiblings { count: 50, max: 50 };
    // one that is still being dialed has nothing
    let (mut unsent, _) = Run::new(true, 2);
    assert_eq!(unsent.at(100, Input::Timeout), [ask(1, 1)]);
    assert_eq!(unsent.refuse(110, 1, error.clone()), [refused(1, error.clone())]);
    // a read changes nothing, whoever has it
    let (mut read, _) = Run::new(false, 2);
    read.sent(0);
    assert_eq!(read.at(300, Input::Timeout), [ask(1, 1)]);
    assert_eq!(read.refuse(310, 1, error.clone()), [refused(1, error.clone())]);
    // one that was lost on the way may have come
    let (mut lost, _) = Run::new(true, 2);
    lost.sent(0);
    assert_eq!(lost.lose(10, 0), [ask(1, 1)]);
    assert_eq!(lost.refuse(4950, 1, error.clone()), [no_answer(&[0])]);
    // some replicas have it
    let (mut some, _) = Run::new(true, 2);
    assert_eq!(some.refuse(1, 0, indeterminate(1)), []);
    assert_eq!(some.wake(), [ask(1, 1)]);
    assert_eq!(some.refuse(4950, 1, error), [refused(0, indeterminate(1))]);
}

#[track_caller]
fn check_certain_only_without_doubt(error: ApiError) {
    let (mut sure, _) = Run::new(true, 2);
    sure.sent(0);
    assert_eq!(sure.refuse(1, 0, error.clone()), [refused(0, error.clone())]);
    let (mut run, _) = Run::new(true, 2);
    run.sent(0);
    assert_eq!(run.at(300, Input::Timeout), [ask(1, 1)]);
    assert_eq!(run.refuse(310, 1, error.clone()), []);
    assert_eq!(run.answer(320, 0, success()), [answered(0)]);
    let (mut silent, _) = Run::new(true, 2);
    silent.sent(0);
    assert_eq!(silent.at(300, Input::Timeout), [ask(1, 1)]);
    assert_eq!(silent.refuse(4950, 1, error), []);
    assert_eq!(silent.at(5000, Input::Timeout), [no_answer(&[0])]);
}

#[test]
fn nothing_reached_is_unreachable() {
    let (mut run, _) = Run::new(true, 2);
    assert_eq!(run.lose(1, 0), [ask(1, 1)]);
    assert_eq!(
        run.at(5000, Input::Timeout),
        [Effect::Answer(Outcome::Unreachable {
            tried: vec![(Target(0), loss("closed")), (Target(1), loss("no connection in time"))]
        })]
    );
    let (mut run, _) = Run::new(true, 2);
    assert_eq!(run.lose(1, 0), [ask(1, 1)]);
    assert_eq!(run.lose(2, 1), []);
    assert_eq!(run.wake(), [ask(2, 0)]);
    assert_eq!(run.lose_for(60, 2, "refused"), [ask(3, 1)]);
    let last = vec![(Target(0), loss("refused")), (Target(1), loss("closed"))];
    assert_eq!(run.at(5000, Input::Timeout), [Effect::Answer(Outcome::Unreachable { tried: last })]);
    let (_, effects) = Run::new(true, 0);
    assert_eq!(effects, [Effect::Answer(Outcome::Unreachable { tried: vec![] })]);
}

#[test]
fn a_full_queue_pauses_and_is_not_a_send() {
    let (mut run, _) = Run::new(true, 1);
    assert_eq!(run.at(0, Input::Full { attempt: Attempt(0) }), []);
    assert_eq!(run.wake(), [ask_again(1, 0)]);
    assert_eq!(run.at(5000, Input::Full { attempt: Attempt(1) }), [refused(0, ApiError::Overloaded)]);
    // a client that has much to do is not cured by sending it all elsewhere
    let (mut run, _) = Run::new(true, 2);
    assert_eq!(run.at(0, Input::Full { attempt: Attempt(0) }), []);
    assert_eq!(run.wake(), [ask_again(1, 1)]);
}

#[test]
fn only_the_attempt_after_a_refusal_for_want_of_room_is_a_retry() {
    let (mut run, _) = Run::new(true, 3);
    assert_eq!(run.refuse(1, 0, ApiError::Overloaded), []);
    assert_eq!(run.wake(), [ask_again(1, 1)]);
    assert_eq!(run.wake(), [ask(2, 2)]);
}

/// It was not asked, is not named as who refused, and is the one that is asked when there is a retry to spare.
#[test]
fn a_withheld_retry_was_none() {
    let (mut run, _) = Run::new(true, 2);
    assert_eq!(run.refuse(1, 0, ApiError::Overloaded), []);
    assert_eq!(run.wake(), [ask_again(1, 1)]);
    assert_eq!(run.at(30, Input::Withheld { attempt: Attempt(1) }), []);
    assert_eq!(run.session.attempts(), 1);
    assert_eq!(run.wake(), [ask_again(1, 1)]);
    assert_eq!(run.at(5000, Input::Withheld { attempt: Attempt(1) }), [refused(0, ApiError::Overloaded)]);
}

/// The node that was asked last is given up for its silence: asking another is no retry.
#[test]
fn a_late_refusal_does_not_make_a_retry_of_the_next_attempt() {
    let (mut run, _) = Run::new(true, 3);
    assert_eq!(run.at(0, Input::Sent { attempt: Attempt(0) }), []);
    assert_eq!(run.at(300, Input::Timeout), [ask(1, 1)]);
    assert_eq!(run.at(300, Input::Sent { attempt: Attempt(1) }), []);
    assert_eq!(run.refuse(400, 0, ApiError::Overloaded), []);
    assert_eq!(run.at(600, Input::Timeout), [ask(2, 2)]);
}

/// Nor does a late loss make anything else of one.
#[test]
fn a_late_loss_does_not_excuse_a_retry() {
    let (mut run, _) = Run::new(true, 3);
    run.sent(0);
    assert_eq!(run.at(300, Input::Timeout), [ask(1, 1)]);
    run.sent_at(300, 1);
    assert_eq!(run.refuse(310, 1, ApiError::Overloaded), []);
    assert_eq!(run.lose(311, 0), []);
    assert_eq!(run.wake(), [ask_again(2, 2)]);
}

#[test]
fn servers_are_told_less_than_is_left() {
    let session = Session::new(ms(1000), Patience::default(), false, vec![], 0);
    assert_eq!((session.server_deadline(), session.deadline()), (ms(5700), ms(6000)));
    let hasty = Patience { request_timeout: Duration::from_millis(200), ..Patience::default() };
    let session = Session::new(ms(0), hasty, false, vec![], 0);
    assert_eq!(session.server_deadline(), ms(180));
}
