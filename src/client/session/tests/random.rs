//! What holds whatever happens, in whatever order.

use proptest::prelude::*;

use super::*;

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
