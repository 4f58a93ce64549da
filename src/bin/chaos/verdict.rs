//! What a run is held to.

use std::time::Duration;

use dynkv::sim::oracle::{Findings, History, Sufficiency, Verdict, judge};

use super::scenario::{Scenario, Strike};
use super::settle::Settled;
use super::tally::Tally;

/// Replicas are identical, and hints delivered, this soon after the last fault.
pub const SETTLED_WITHIN: Duration = Duration::from_secs(30);
/// A load that goes on for so long without a fault has something reaped: what reaping excuses is excused for a reason.
const REAPS_WITHIN: Duration = Duration::from_secs(5);
/// Acknowledged writes that a run has to hold at least.
const ENOUGH_ACKED: u64 = 200;

/// One thing that a run is held to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// What is promised.
    pub name: &'static str,
    /// Whether it was kept.
    pub kept: bool,
    /// What was seen.
    pub seen: String,
}

impl Check {
    /// See the fields.
    pub fn new(name: &'static str, kept: bool, seen: String) -> Check {
        Check { name, kept, seen }
    }
}

/// What a run is judged by.
pub struct Evidence<'a> {
    /// What was to happen.
    pub scenario: &'a Scenario,
    /// What clients were told.
    pub history: &'a History,
    /// The names of the history's keys.
    pub keys: &'a [String],
    /// Strikes without an effect.
    pub idle: &'a [String],
    /// Answers that nobody should be given.
    pub dishonest: &'a [String],
    /// How clients fared.
    pub tally: &'a Tally,
    /// From when failures count as detected, from the beginning of the load.
    pub detected: Duration,
    /// When the strikes really ended, from the beginning of the load.
    pub returns: &'a [Duration],
    /// How the cluster healed.
    pub settled: &'a Settled,
    /// Tombstones that nodes deleted for good, by what they say.
    pub reaped: u64,
}

/// All checks, and what the oracle found in the history if that breaks no promise.
pub fn check(evidence: &Evidence<'_>) -> (Vec<Check>, Option<Findings>) {
    let (mut checks, findings) = ask_oracle(evidence);
    let idle = evidence.idle;
    let effect = if idle.is_empty() {
        format!("all {} had", evidence.scenario.strikes.len())
    } else {
        format!("NO EFFECT: {}", idle.join("; "))
    };
    checks.push(Check::new("faults had an effect", idle.is_empty(), effect));
    let (_, healed) = evidence.scenario.under_fault();
    if evidence.scenario.load.saturating_sub(healed) >= REAPS_WITHIN {
        let reaped = evidence.reaped;
        checks.push(Check::new("tombstones were reaped", reaped > 0, reaped.to_string()));
    }
    let dishonest = evidence.dishonest;
    let answers =
        dishonest.first().map_or_else(|| "no other".to_owned(), |first| format!("{}: {first}", dishonest.len()));
    checks.push(Check::new("answers fit requests", dishonest.is_empty(), answers));
    checks.extend(check_availability(evidence));
    checks.extend(check_healing(evidence.settled));
    (checks, findings)
}

fn ask_oracle(evidence: &Evidence<'_>) -> (Vec<Check>, Option<Findings>) {
    let under_fault_percent = evidence.scenario.promises.under_fault_percent;
    let (promises, enough) = ("no promise of the data broken", "enough happened");
    match judge(evidence.history, Sufficiency { acked: ENOUGH_ACKED, under_fault_percent }) {
        Verdict::Ok(findings) => {
            let seen = format!(
                "{} writes acknowledged, {} of them during a fault",
                findings.acked, findings.acked_under_fault
            );
            let kept =
                Check::new(promises, true, format!("{} reads and {} keys judged", findings.reads, evidence.keys.len()));
            (vec![kept, Check::new(enough, true, seen)], Some(findings))
        }
        Verdict::Insufficient { reason, findings } => (vec![Check::new(enough, false, reason)], Some(findings)),
        Verdict::Violation { invariant, key, evidence: seen, .. } => {
            let name = evidence.keys.get(key.0 as usize).map_or("?", |name| name.as_str());
            let seen = format!("VIOLATION of {invariant} at {name}: {seen}");
            (vec![Check::new(promises, false, seen)], None)
        }
    }
}

fn check_availability(evidence: &Evidence<'_>) -> Vec<Check> {
    let Evidence { scenario, tally, detected, returns, .. } = evidence;
    let promises = &scenario.promises;
    let mut checks = Vec::new();
    if let Some(least) = promises.success {
        let share = tally.success(*detected);
        let seen = format!("{:.3} % of {} from {:.1} s on", share.ratio() * 100.0, share.all, detected.as_secs_f64());
        checks.push(Check::new("success >= 99.9 % once detected", share.ratio() >= least, seen));
    }
    if let Some(most) = promises.gap {
        let gap = tally.longest_gap();
        let seen = format!("{:.2?} of client {} from {:.1} s on", gap.length, gap.client, gap.from.as_secs_f64());
        checks.push(Check::new("no client without success for over 1 s", gap.length <= most, seen));
    }
    if let Some(most) = promises.served_again {
        let waits: Vec<Option<Duration>> = returns.iter().map(|at| tally.first_success(*at)).collect();
        let kept = waits.iter().all(|wait| wait.is_some_and(|wait| wait <= most));
        let wait = |wait: &Option<Duration>| wait.map_or("never".to_owned(), |wait| format!("{wait:.2?}"));
        let seen = waits.iter().map(wait).collect::<Vec<_>>().join(", ");
        checks.push(Check::new("served again within 3 s", kept, seen));
    }
    checks
}

fn check_healing(settled: &Settled) -> Vec<Check> {
    let Settled { whole, drained, hints, identical, differing, examples } = settled;
    let after = |time: &Option<Duration>| time.map(|time| format!("after {:.1} s", time.as_secs_f64()));
    let in_time = |time: &Option<Duration>| time.is_some_and(|time| time <= SETTLED_WITHIN);
    let not_whole = || "not within the limit".to_owned();
    let left = || format!("not all nodes say that they keep none, {hints} hints are left");
    let differ = || format!("{differing} keys differ, such as {}", examples.join("; "));
    vec![
        Check::new("all nodes serve and see each other", in_time(whole), after(whole).unwrap_or_else(not_whole)),
        Check::new("hints delivered within 30 s", in_time(drained), after(drained).unwrap_or_else(left)),
        Check::new("replicas identical within 30 s", in_time(identical), after(identical).unwrap_or_else(differ)),
    ]
}

/// From when a fault counts as detected: 5 s after it began, or when a status first showed a node as down.
pub fn detection(strikes: &[Strike], first_down: Option<Duration>) -> Duration {
    const AT_MOST: Duration = Duration::from_secs(5);
    let began = strikes.first().map_or(Duration::ZERO, |strike| strike.from);
    first_down.map_or(began + AT_MOST, |down| down.min(began + AT_MOST))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use dynkv::sim::oracle::{Conflict, Ending, Event, KeyId, Label, OpId, Shown};
    use dynkv::types::{Time, WriteId};

    use super::super::scenario::{Kind, Times};
    use super::super::tally::Done;
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn scenario(phase: Duration) -> Scenario {
        let times = Times { warm_up: phase, fault: phase, after: phase };
        Scenario::new(Kind::KillOne, times, 1).expect("it has a load")
    }

    /// Blind writes to one key, all acknowledged during a fault, one read, and all of them at the end.
    fn history(writes: u32) -> History {
        let (key, at) = (KeyId(0), Time::ZERO);
        let shown =
            |op: u32| Shown { write: WriteId(op.into()), label: Label((1, op.into())), body: Some(Bytes::new()) };
        let mut events = vec![(at, Event::FaultBegan)];
        for op in 1..=writes {
            let Shown { write, label, body } = shown(op);
            events.push((at, Event::Write { op: OpId(op), key, write, body, basis: None }));
            events.push((at, Event::Wrote { op: OpId(op), ending: Ending::Acked { label, by: Vec::new() } }));
        }
        let siblings: Vec<Shown> = (1..=writes).map(shown).collect();
        events.push((at, Event::FaultEnded));
        events.push((at, Event::Read { op: OpId(0), key, replicas: 0 }));
        events.push((at, Event::Answered { op: OpId(0), siblings: siblings.clone(), stood_in: 0 }));
        events.push((at, Event::Final { key, siblings }));
        History { keys: vec![Conflict::Siblings], replicas: 3, events, ..History::default() }
    }

    fn tally(failures: usize, pause: Duration) -> Tally {
        let step = Duration::from_millis(1);
        let one = |number: u32| Done {
            client: 0,
            began: step * number,
            ended: step * number,
            ok: number as usize >= failures,
        };
        Tally::new((0..1000).map(one).collect(), 1, SECOND + pause)
    }

    fn settled() -> Settled {
        Settled { whole: Some(SECOND), drained: Some(SECOND), identical: Some(SECOND), ..Settled::default() }
    }

    fn broken(change: impl FnOnce(&mut History, &mut Settled, &mut Vec<String>, &mut Tally)) -> Vec<&'static str> {
        broken_in(SECOND, 0, change)
    }

    /// The checks that fail of a run whose phases have this length, and that has so much reaped.
    fn broken_in(
        phase: Duration,
        reaped: u64,
        change: impl FnOnce(&mut History, &mut Settled, &mut Vec<String>, &mut Tally),
    ) -> Vec<&'static str> {
        let (mut history, mut settled, mut idle) = (history(200), settled(), Vec::new());
        let mut tally = tally(1, Duration::ZERO);
        change(&mut history, &mut settled, &mut idle, &mut tally);
        let evidence = Evidence {
            scenario: &scenario(phase),
            history: &history,
            keys: &["k".to_owned()],
            idle: &idle,
            dishonest: &[],
            tally: &tally,
            detected: Duration::ZERO,
            returns: &[],
            settled: &settled,
            reaped,
        };
        check(&evidence).0.into_iter().filter(|check| !check.kept).map(|check| check.name).collect()
    }

    #[test]
    fn each_promise_is_checked() {
        assert_eq!(broken(|_, _, _, _| {}), Vec::<&str>::new());
        let cases: [(&str, Vec<&str>); 8] = [
            ("few", broken(|history, _, _, _| *history = super::tests::history(199))),
            ("lost", broken(|history, _, _, _| assert!(super::super::sabotage::lose_write(history)))),
            ("idle", broken(|_, _, idle, _| idle.push("kill n2".to_owned()))),
            ("failures", broken(|_, _, _, tally| *tally = super::tests::tally(2, Duration::ZERO))),
            ("gap", broken(|_, _, _, tally| *tally = super::tests::tally(1, SECOND))),
            ("whole", broken(|_, settled, _, _| settled.whole = None)),
            ("hints", broken(|_, settled, _, _| settled.drained = None)),
            ("late", broken(|_, settled, _, _| settled.identical = Some(SETTLED_WITHIN + SECOND))),
        ];
        assert_eq!(broken_in(SECOND * 5, 1, |_, _, _, _| {}), Vec::<&str>::new());
        assert_eq!(broken_in(SECOND * 5, 0, |_, _, _, _| {}), ["tombstones were reaped"]);
        for (case, broken) in cases {
            assert_eq!(broken.len(), 1, "{case}: {broken:?}");
        }
    }

    #[test]
    fn a_failure_is_detected_when_it_shows_or_after_five_seconds() {
        let strikes = scenario(SECOND).strikes;
        assert_eq!(detection(&strikes, None), SECOND * 6);
        assert_eq!(detection(&strikes, Some(SECOND * 3)), SECOND * 3);
        assert_eq!(detection(&strikes, Some(SECOND * 9)), SECOND * 6);
    }
}
