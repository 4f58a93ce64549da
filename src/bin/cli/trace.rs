//! `trace`, and what `--trace` prints: a waterfall of who was asked, and where the time went.

use std::io::IsTerminal;

use clap::Subcommand;
use dynkv::api::{Role, Span, SpanOutcome, Trace, Why};
use dynkv::client::{Client, ClientError};
use dynkv::types::NodeId;
use serde::Serialize;

use super::context::Context;
use super::exit::{Exit, Failure};
use super::output::{Columns, Format, Out};
use super::record::HintRecord;
use super::{get, put};

/// Say what becomes of a get or a put, step by step.
///
/// The same as `get --trace` and `put --trace`, but in a pipe it prints tables instead of the bare value. Times are milliseconds
/// from the request's arrival at the node that coordinates it. QUEUE and STORE are the replica's own; NETWORK is the rest of the
/// time until its answer was taken up: both ways, and the coordinator's queue.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
EXAMPLES
  dynkv-cli trace get cart:7
  dynkv-cli trace put cart:7 '{\"apples\": 2}' -w all
  dynkv-cli trace get cart:7 -r all -o json | jq .trace.spans")]
pub struct Args {
    #[command(subcommand)]
    request: Request,
}

#[derive(Debug, Subcommand)]
enum Request {
    Get(get::Args),
    Put(put::Args),
}

pub async fn run(context: &Context, args: Args) -> Result<Exit, Failure> {
    match args.request {
        Request::Get(args) => get::run(context, args.traced()).await,
        Request::Put(args) => put::run(context, args.traced()).await,
    }
}

/// A trace with the nodes' names, times in microseconds.
#[derive(Debug, Serialize)]
pub struct TraceRecord {
    coordinator: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    handed_on: Option<HandedOnRecord>,
    queued_us: u64,
    store_us: Option<u64>,
    written_us: Option<u64>,
    synced_us: Option<u64>,
    answered_us: u64,
    spans: Vec<SpanRecord>,
    hints: Vec<HintRecord>,
}

#[derive(Debug, Serialize)]
struct HandedOnRecord {
    by: String,
    queued_us: u64,
    sent_us: u64,
    answered_us: u64,
}

#[derive(Debug, Serialize)]
struct SpanRecord {
    node: String,
    slot: u8,
    role: Role,
    why: Why,
    asked_us: u64,
    again_us: Vec<u64>,
    answered_us: Option<u64>,
    network_us: Option<u64>,
    queue_us: Option<u64>,
    store_us: Option<u64>,
    late: bool,
    outcome: Option<SpanOutcome>,
    hint_for: Option<String>,
}

impl TraceRecord {
    pub fn new(client: &Client, trace: &Trace) -> TraceRecord {
        TraceRecord::named(|node| client.name_of(node), trace)
    }

    fn named(name: impl Fn(NodeId) -> String, trace: &Trace) -> TraceRecord {
        let span = |span: &Span| SpanRecord {
            node: name(span.node),
            slot: span.slot,
            role: span.role,
            why: span.why,
            asked_us: span.asked_us,
            again_us: span.again_us.clone(),
            answered_us: span.answered_us,
            network_us: span.network_us(),
            queue_us: span.timing.map(|timing| timing.queue_us),
            store_us: span.timing.map(|timing| timing.store_us),
            late: span.is_late(),
            outcome: span.outcome.clone(),
            hint_for: span.hint_for.map(&name),
        };
        TraceRecord {
            coordinator: name(trace.coordinator),
            handed_on: trace.handed_on.map(|on| HandedOnRecord {
                by: name(on.by),
                queued_us: on.queued_us,
                sent_us: on.sent_us,
                answered_us: on.answered_us,
            }),
            queued_us: trace.queued_us,
            store_us: trace.store_us,
            written_us: trace.written_us,
            synced_us: trace.synced_us,
            answered_us: trace.answered_us,
            spans: trace.spans.iter().map(span).collect(),
            hints: trace
                .hints
                .iter()
                .map(|hint| HintRecord { holder: name(hint.holder), target: name(hint.target) })
                .collect(),
        }
    }

    /// For people; with bars, as wide as a terminal is at least.
    fn lines(&self, bars: bool) -> Vec<String> {
        let mut lines = vec![self.summary()];
        if let Some(on) = &self.handed_on {
            let HandedOnRecord { by, queued_us, sent_us, answered_us } = on;
            let [queued, sent, answered] = [*queued_us, *sent_us, *answered_us].map(ms);
            lines.push(format!("handed on by {by}: queued {queued}, sent on {sent}, answered {answered} ms"));
        }
        let mut headings =
            vec!["NODE", "SLOT", "ROLE", "WHY", "ASKED", "ANSWERED", "NETWORK", "QUEUE", "STORE", "OUTCOME"];
        let scale = format!("0..{} ms", ms(self.answered_us));
        if bars {
            headings.insert(4, &scale);
        }
        let numbers: Vec<usize> = (4..9).map(|column| column + usize::from(bars)).collect();
        let mut columns = Columns::new(&headings).right(&numbers);
        for span in &self.spans {
            let time = |us: Option<u64>| us.map_or_else(|| "-".to_owned(), ms);
            let mut row = vec![
                span.node.clone(),
                span.slot.to_string(),
                word(&span.role),
                word(&span.why),
                ms(span.asked_us),
                if span.late { "late".to_owned() } else { time(span.answered_us) },
                time(span.network_us),
                time(span.queue_us),
                time(span.store_us),
                span.outcome(),
            ];
            if bars {
                row.insert(4, span.bar(self.answered_us));
            }
            columns.row(row);
        }
        lines.extend(columns.lines());
        lines.extend(self.hints.iter().map(|hint| format!("hint      on {} for {}", hint.holder, hint.target)));
        lines
    }

    fn summary(&self) -> String {
        let phases = [("store", self.store_us), ("written", self.written_us), ("synced", self.synced_us)];
        let phases = phases.iter().filter_map(|(name, us)| us.map(|us| format!("{name} {}, ", ms(us))));
        let (queued, answered) = (ms(self.queued_us), ms(self.answered_us));
        let phases: String = phases.collect();
        format!("trace     {}: queued {queued}, {phases}answered {answered} ms", self.coordinator)
    }
}

/// Cells of a bar.
const WIDTH: u64 = 32;

impl SpanRecord {
    /// From the question to the answer, or to the right edge: `-` on the way, `q` in the replica's queue, `=` in its store, `>`
    /// where the client was answered without it. What was spent on the way is shown half before and half after.
    fn bar(&self, whole_us: u64) -> String {
        let cell = |us: u64| us.min(whole_us) * WIDTH / whole_us.max(1);
        let from = cell(self.asked_us).min(WIDTH - 1);
        let to = self.answered_us.map_or(WIDTH, cell).clamp(from + 1, WIDTH);
        let half = self.network_us.unwrap_or(0) / 2;
        let queue = cell(self.asked_us + half);
        let store = cell(self.asked_us + half + self.queue_us.unwrap_or(0));
        let back = cell(self.answered_us.unwrap_or(whole_us).saturating_sub(half));
        let symbol = |at: u64| match at {
            at if at < from || at >= to => '.',
            at if self.answered_us.is_none() && at + 1 == WIDTH => '>',
            _ if self.answered_us.is_none() => '-',
            _ if self.network_us.is_none() => '=',
            at if at < queue || at > back => '-',
            at if at < store => 'q',
            at if at < back || from + 1 == to => '=',
            _ => '-',
        };
        (0..WIDTH).map(symbol).collect()
    }

    fn outcome(&self) -> String {
        let outcome = match &self.outcome {
            None if self.why == Why::Repair => "sent".to_owned(),
            None => "no answer yet".to_owned(),
            Some(SpanOutcome::Counted) => "counted".to_owned(),
            Some(SpanOutcome::SameDigest) => "same digest".to_owned(),
            Some(SpanOutcome::Heard) => "heard, not counted".to_owned(),
            Some(SpanOutcome::Refused { reason }) => format!("refused: {reason}"),
        };
        let again = match self.again_us.len() {
            0 => String::new(),
            1 => "; asked again".to_owned(),
            times => format!("; asked again {times} times"),
        };
        let hint = self.hint_for.as_ref().map_or_else(String::new, |target| format!("; hint for {target}"));
        format!("{outcome}{again}{hint}")
    }
}

/// Prints a trace behind a result; where only bytes are wanted, on stderr.
pub fn print(client: &Client, trace: Option<&Trace>, format: Format, out: &mut Out) -> Result<(), Failure> {
    let Some(trace) = trace else { return Ok(()) };
    let record = TraceRecord::new(client, trace);
    match format {
        Format::Json | Format::Jsonl => {}
        Format::Raw => record.lines(std::io::stderr().is_terminal()).iter().for_each(|line| eprintln!("{line}")),
        Format::Table | Format::Wide => {
            for line in record.lines(std::io::stdout().is_terminal()) {
                out.line(line)?;
            }
        }
    }
    Ok(())
}

#[derive(Serialize)]
struct Failed<'a> {
    key: &'a str,
    error: String,
    trace: TraceRecord,
}

/// Prints the trace of what failed, if there is one.
pub fn print_failed(
    client: &Client,
    key: &str,
    error: &ClientError,
    format: Format,
    out: &mut Out,
) -> Result<(), Failure> {
    let Some(trace) = error.trace() else { return Ok(()) };
    if format.is_json() {
        out.json(format, &Failed { key, error: error.to_string(), trace: TraceRecord::new(client, trace) })?;
    }
    print(client, Some(trace), format, out)?;
    out.flush()
}

/// A name as JSON has it.
fn word<T: Serialize>(value: &T) -> String {
    let json = serde_json::to_string(value).expect("it is a name");
    json.trim_matches('"').to_owned()
}

/// Milliseconds, to the hundredth below ten.
fn ms(us: u64) -> String {
    let ms = us as f64 / 1000.0;
    if ms < 10.0 { format!("{ms:.2}") } else { format!("{ms:.1}") }
}

#[cfg(test)]
mod tests {
    use dynkv::api::{HandedOn, HintKept, Timing};

    use super::*;

    fn span(node: &str, slot: u8, why: Why, asked_us: u64, answered_us: Option<u64>) -> SpanRecord {
        SpanRecord {
            node: node.into(),
            slot,
            role: Role::Primary,
            why,
            asked_us,
            again_us: vec![],
            answered_us,
            network_us: None,
            queue_us: None,
            store_us: None,
            late: answered_us.is_none(),
            outcome: answered_us.map(|_| SpanOutcome::Counted),
            hint_for: None,
        }
    }

    fn record() -> TraceRecord {
        let own = SpanRecord { role: Role::Own, ..span("n1", 0, Why::First, 0, Some(1000)) };
        let times = (Some(1000), Some(500), Some(1500));
        let (network_us, queue_us, store_us) = times;
        let other = SpanRecord { network_us, queue_us, store_us, ..span("n2", 1, Why::First, 1000, Some(4000)) };
        let hint_for = Some("n3".to_owned());
        let stand_in = SpanRecord { hint_for, role: Role::StandIn, ..span("n4", 2, Why::StandIn, 2000, None) };
        TraceRecord {
            coordinator: "n1".into(),
            handed_on: None,
            queued_us: 20,
            store_us: Some(50),
            written_us: Some(200),
            synced_us: Some(1000),
            answered_us: 4000,
            spans: vec![own, other, stand_in],
            hints: vec![HintRecord { holder: "n1".into(), target: "n3".into() }],
        }
    }

    #[test]
    fn a_waterfall_shows_where_the_time_went() {
        assert_eq!(
            record().lines(true),
            [
                "trace     n1: queued 0.02, store 0.05, written 0.20, synced 1.00, answered 4.00 ms",
                "NODE  SLOT  ROLE      WHY       0..4.00 ms                        ASKED  ANSWERED  NETWORK  QUEUE  STORE  OUTCOME",
                "n1    0     self      first     ========........................   0.00      1.00        -      -      -  counted",
                "n2    1     primary   first     ........----qqqq============----   1.00      4.00     1.00   0.50   1.50  counted",
                "n4    2     stand-in  stand-in  ................--------------->   2.00      late        -      -      -  no answer yet; hint for n3",
                "hint      on n1 for n3",
            ]
        );
        assert_eq!(
            record().lines(false)[2],
            "n1    0     self      first      0.00      1.00        -      -      -  counted"
        );
    }

    #[test]
    fn bars_stay_within_their_width() {
        for whole in [0, 1, 7, 4000] {
            for (asked, answered) in [(0, Some(0)), (whole, Some(whole)), (whole, None), (9000, Some(9000)), (0, None)]
            {
                let mut span = span("n1", 0, Why::First, asked, answered);
                for network in [None, Some(0), Some(3), Some(9000)] {
                    (span.network_us, span.queue_us, span.store_us) = (network, Some(5), Some(9000));
                    assert_eq!(span.bar(whole).len() as u64, WIDTH);
                }
            }
        }
    }

    #[test]
    fn a_node_asks_itself_without_any_way_between() {
        for (asked, answered, from, to) in [(0, 1000, 0, 8), (0, 4000, 0, 32), (4000, 4000, 31, 32)] {
            let own = SpanRecord { role: Role::Own, ..span("n1", 0, Why::First, asked, Some(answered)) };
            let expected = [".".repeat(from), "=".repeat(to - from), ".".repeat(32 - to)].concat();
            assert_eq!(own.bar(4000), expected);
        }
    }

    #[test]
    fn a_record_says_what_the_trace_says_by_name() {
        let late = Span {
            node: NodeId(2),
            slot: 1,
            role: Role::Primary,
            why: Why::Hedge,
            asked_us: 100,
            again_us: vec![400],
            answered_us: None,
            timing: None,
            outcome: None,
            hint_for: Some(NodeId(3)),
        };
        let timing = Some(Timing { queue_us: 20, store_us: 50 });
        let counted = Some(SpanOutcome::Counted);
        let in_time = Span { node: NodeId(4), answered_us: Some(300), timing, outcome: counted, ..late.clone() };
        let handed_on = Some(HandedOn { by: NodeId(5), queued_us: 7, sent_us: 12_000, answered_us: 9_994 });
        let trace = Trace {
            coordinator: NodeId(1),
            handed_on,
            queued_us: 1,
            store_us: Some(2),
            written_us: Some(3),
            synced_us: Some(4),
            answered_us: 5,
            spans: vec![late, in_time],
            hints: vec![HintKept { holder: NodeId(1), target: NodeId(3) }],
        };
        let record = TraceRecord::named(|node| format!("n{}", node.0), &trace);
        let times = |span: &SpanRecord| (span.late, span.network_us, span.queue_us, span.store_us);
        let spans: Vec<_> = record.spans.iter().map(|span| (&*span.node, times(span))).collect();
        assert_eq!(spans, [("n2", (true, None, None, None)), ("n4", (false, Some(130), Some(20), Some(50)))]);
        let lines = record.lines(false);
        assert_eq!(lines[0], "trace     n1: queued 0.00, store 0.00, written 0.00, synced 0.00, answered 0.01 ms");
        assert_eq!(lines[1], "handed on by n5: queued 0.01, sent on 12.0, answered 9.99 ms");
        assert_eq!(lines[5], "hint      on n1 for n3");
    }

    #[track_caller]
    fn check_outcome(change: impl Fn(&mut SpanRecord), said: &str) {
        let mut span = SpanRecord { outcome: None, ..span("n1", 0, Why::First, 0, None) };
        change(&mut span);
        assert_eq!(span.outcome(), said);
    }

    #[test]
    fn an_outcome_is_said_in_words() {
        let refused = SpanOutcome::Refused { reason: "overloaded".into() };
        check_outcome(|_| {}, "no answer yet");
        // its answer is not waited for
        check_outcome(|span| span.why = Why::Repair, "sent");
        check_outcome(|span| span.outcome = Some(SpanOutcome::SameDigest), "same digest");
        check_outcome(|span| span.outcome = Some(SpanOutcome::Heard), "heard, not counted");
        check_outcome(|span| span.outcome = Some(refused.clone()), "refused: overloaded");
        check_outcome(|span| span.again_us = vec![1], "no answer yet; asked again");
        check_outcome(|span| span.again_us = vec![1, 2], "no answer yet; asked again 2 times");
    }
}
