use proptest::prelude::*;

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
        self.at(millis, Input::Lost { attempt: Attempt(attempt), loss: loss("closed") })
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
    assert_eq!(run.refuse(4900, 1, indeterminate(1)), [ask(2, 2)].map(|_| refused(0, indeterminate(2))));
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
    let (_, effects) = Run::new(true, 0);
    assert_eq!(effects, [Effect::Answer(Outcome::Unreachable { tried: vec![] })]);
}

#[test]
fn a_full_queue_pauses_and_is_not_a_send() {
    let (mut run, _) = Run::new(true, 1);
    assert_eq!(run.at(0, Input::Full { attempt: Attempt(0) }), []);
    assert_eq!(run.wake(), [ask_again(1, 0)]);
    assert_eq!(run.at(5000, Input::Full { attempt: Attempt(1) }), [refused(0, ApiError::Overloaded)]);
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

#[test]
fn servers_are_told_less_than_is_left() {
    let session = Session::new(ms(1000), Patience::default(), false, vec![], 0);
    assert_eq!((session.server_deadline(), session.deadline()), (ms(5700), ms(6000)));
    let hasty = Patience { request_timeout: Duration::from_millis(200), ..Patience::default() };
    let session = Session::new(ms(0), hasty, false, vec![], 0);
    assert_eq!(session.server_deadline(), ms(180));
}

/// What the world does next to the attempt that an index picks.
#[derive(Clone, Debug)]
enum Step {
    Pass(u64),
    Sent(usize),
    Succeed(usize),
    Refuse(usize, u8),
    Lose(usize),
    Full(usize),
    Stray(u32),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (0..900_u64).prop_map(Step::Pass),
        (0..8_usize).prop_map(Step::Sent),
        (0..32_usize).prop_map(Step::Succeed),
        (0..8_usize, 0..6_u8).prop_map(|(pick, kind)| Step::Refuse(pick, kind)),
        (0..8_usize).prop_map(Step::Lose),
        (0..8_usize).prop_map(Step::Full),
        (0..40_u32).prop_map(Step::Stray),
    ]
}

fn refusal(kind: u8) -> ApiError {
    match kind {
        0 => not_ready(),
        1 => ApiError::Overloaded,
        2 => ApiError::Expired,
        3 => indeterminate(kind),
        4 => ApiError::ReadOnly { reason: "full".into() },
        _ => ApiError::TooManySiblings { count: 51, max: 50 },
    }
}

/// A node that refuses at once: each session asks a bounded number of times until its deadline, and a thousand that were
/// refused in one moment do not come back in one.
#[test]
fn a_storm_of_refusals_is_spread_and_asks_little() {
    let mut asks: Vec<Vec<u64>> = vec![Vec::new(); 21];
    for seed in 0..1000 {
        let mut session = Session::new(ms(0), Patience::default(), true, (0..3).map(Target).collect(), seed);
        let (mut now, mut effects) = (ms(0), Vec::new());
        session.start(now, &mut effects);
        let mut count = 0;
        loop {
            match effects.pop() {
                Some(Effect::Ask { attempt, .. }) => {
                    asks[count].push(now.as_micros());
                    count += 1;
                    let refusal = Input::Answered { attempt, response: Response::error(ApiError::Overloaded) };
                    let refusal = if seed % 2 == 0 { refusal } else { Input::Full { attempt } };
                    session.handle(now, refusal, &mut effects);
                }
                Some(Effect::Answer(_)) => break,
                None => {
                    now = session.poll_timeout().unwrap();
                    session.handle(now, Input::Timeout, &mut effects);
                }
            }
        }
        assert!((8..=20).contains(&count), "{count} attempts in five seconds");
    }
    for (attempt, mut times) in asks.into_iter().enumerate().skip(1).take(7) {
        times.sort_unstable();
        let chunks = times.chunk_by(|a, b| a / 1000 == b / 1000);
        let most = chunks.map(<[u64]>::len).max().unwrap();
        let pause_ms = 10 << attempt;
        assert!(most <= 1000 * 4 / pause_ms + 8, "attempt {attempt}: {most} of {} in one millisecond", times.len());
    }
}

proptest! {
    /// Whatever happens in whatever order: one answer, not after the deadline, no target asked twice at once, and a write
    /// that may have been taken is never called refused or unreachable.
    #[test]
    fn exactly_one_answer_by_the_deadline(
        targets in 0..9_u16,
        write: bool,
        seed: u64,
        steps in prop::collection::vec(step(), 0..60),
    ) {
        let mut session = Session::new(ms(0), Patience::default(), write, (0..targets).map(Target).collect(), seed);
        let (mut now, mut answers, mut taken) = (ms(0), Vec::new(), false);
        let mut open: Vec<(Attempt, Target, bool)> = Vec::new();
        let mut effects = Vec::new();
        session.start(now, &mut effects);
        let mut steps = steps.into_iter();
        for _ in 0..2000 {
            for effect in effects.drain(..) {
                match effect {
                    Effect::Ask { attempt, target, .. } => {
                        prop_assert!(answers.is_empty() && open.iter().all(|(_, busy, _)| *busy != target));
                        open.push((attempt, target, false));
                    }
                    Effect::Answer(outcome) => answers.push((now, outcome)),
                }
            }
            let Some(due) = session.poll_timeout() else { break };
            let input = match steps.next() {
                Some(Step::Pass(millis)) if now + Duration::from_millis(millis) < due => {
                    now = now + Duration::from_millis(millis);
                    continue;
                }
                None | Some(Step::Pass(_)) => { now = now.max(due); Input::Timeout }
                Some(Step::Stray(attempt)) if !open.iter().any(|(known, ..)| known.0 == attempt) => {
                    Input::Answered { attempt: Attempt(attempt), response: success() }
                }
                Some(Step::Stray(_)) => continue,
                Some(step) => {
                    let (Step::Sent(pick) | Step::Succeed(pick) | Step::Refuse(pick, _) | Step::Lose(pick) | Step::Full(pick))
                        = step else { continue };
                    let Some(&(attempt, target, sent)) = open.get(pick) else { continue };
                    if matches!(step, Step::Sent(_)) {
                        open[pick].2 = true;
                        Input::Sent { attempt }
                    } else {
                        if sent && matches!(step, Step::Lose(_) | Step::Refuse(_, 3)) { taken = true }
                        open.retain(|(known, ..)| *known != attempt);
                        let _ = target;
                        match step {
                            Step::Succeed(_) => Input::Answered { attempt, response: success() },
                            Step::Refuse(_, kind) => Input::Answered { attempt, response: Response::error(refusal(kind)) },
                            Step::Full(_) => Input::Full { attempt },
                            _ => Input::Lost { attempt, loss: loss("closed") },
                        }
                    }
                }
            };
            session.handle(now, input, &mut effects);
        }
        prop_assert_eq!(answers.len(), 1);
        let (at, outcome) = &answers[0];
        prop_assert!(*at <= session.deadline());
        taken |= open.iter().any(|(_, _, sent)| *sent);
        if write && taken {
            let honest = matches!(
                outcome,
                Outcome::Answered { .. } | Outcome::NoAnswer { .. } | Outcome::Refused { error: ApiError::Indeterminate { .. }, .. }
            );
            prop_assert!(honest, "{:?}", outcome);
        }
    }
}
