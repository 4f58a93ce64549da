//! What is printed about a run.

use std::fmt::Write as _;
use std::time::Duration;

use dynkv::sim::oracle::Findings;
use serde_json::{Map, Value, json};

use super::effect::{Counts, Effect};
use super::scenario::Scenario;
use super::tally::{Gap, Latency, Share, Tally};
use super::verdict::Check;

/// All that there is to say.
pub struct Report {
    /// The scenario's name.
    pub name: String,
    /// What clients draw from.
    pub seed: u64,
    /// What was checked.
    pub checks: Vec<Check>,
    /// How clients fared, where there was a load.
    pub clients: Option<Clients>,
    /// What faults did.
    pub effects: Counts,
    /// From the first process to the last check.
    pub took: Duration,
}

/// How clients fared.
pub struct Clients {
    /// What the oracle found.
    pub findings: Option<Findings>,
    /// Of all requests.
    pub success: Share,
    /// Of those from the moment of detection on.
    pub detected: Share,
    /// Without a success.
    pub gap: Gap,
    /// Before, during and after the faults.
    pub phases: [(&'static str, Latency); 3],
}

impl Clients {
    /// As the load's tally and the oracle tell.
    pub fn new(scenario: &Scenario, tally: &Tally, findings: Option<Findings>, detected: Duration) -> Clients {
        let (from, until) = scenario.under_fault();
        let latency = |from, until| tally.latency(from, until);
        Clients {
            findings,
            success: tally.success(Duration::ZERO),
            detected: tally.success(detected),
            gap: tally.longest_gap(),
            phases: [
                ("before", latency(Duration::ZERO, from)),
                ("faults", latency(from, until)),
                ("after", latency(until, Duration::MAX)),
            ],
        }
    }

    fn text(&self, mut line: impl FnMut(String)) {
        let Clients { findings, success, detected, gap, phases } = self;
        if let Some(Findings { acked, refused, unknown, .. }) = findings {
            line(format!("  writes      {acked} acked, {refused} refused, {unknown} unknown"));
        }
        line(format!("  operations  {}, {} failed", success.all, success.all - success.ok));
        let percent = |share: &Share| share.ratio() * 100.0;
        line(format!("  success     {:.3} % in all, {:.3} % from detection on", percent(success), percent(detected)));
        let (length, from) = (gap.length.as_secs_f64(), gap.from.as_secs_f64());
        line(format!("  longest gap {length:.2} s (client {}, from {from:.1} s on)", gap.client));
        for (phase, Latency { count, p50, p99, max }) in phases {
            let [p50, p99, max] = [p50, p99, max].map(|time| time.as_secs_f64() * 1000.0);
            line(format!("  {phase:11} {count} ok, p50 {p50:.1} ms, p99 {p99:.1} ms, max {max:.0} ms"));
        }
    }

    fn json(&self) -> Map<String, Value> {
        let millis = |time: &Duration| time.as_secs_f64() * 1000.0;
        let share = |share: &Share| json!({"ok": share.ok, "all": share.all, "ratio": share.ratio()});
        let phase = |(name, latency): &(&str, Latency)| {
            let Latency { count, p50, p99, max } = latency;
            let value = json!({"ok": count, "p50_ms": millis(p50), "p99_ms": millis(p99), "max_ms": millis(max)});
            ((*name).to_owned(), value)
        };
        let writes = self.findings.map(|Findings { acked, acked_under_fault, refused, unknown, .. }| {
            json!({"acked": acked, "acked_under_fault": acked_under_fault, "refused": refused, "unknown": unknown})
        });
        let fields = [
            ("writes", writes.into()),
            ("success", share(&self.success)),
            ("success_from_detection", share(&self.detected)),
            ("longest_gap_ms", millis(&self.gap.length).into()),
            ("phases", Value::Object(self.phases.iter().map(phase).collect())),
        ];
        fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
    }
}

impl Report {
    /// Whether every promise was kept.
    pub fn is_green(&self) -> bool {
        self.checks.iter().all(|check| check.kept)
    }

    /// For people.
    pub fn text(&self) -> String {
        let Report { name, seed, checks, clients, effects, took } = self;
        let mut text = String::new();
        let mut line = |line: String| {
            text.push_str(&line);
            text.push('\n');
        };
        line(format!("{name} (seed {seed}), {:.0} s", took.as_secs_f64()));
        if let Some(clients) = clients {
            clients.text(&mut line);
        }
        for (effect, count) in Effect::ALL.iter().zip(effects).filter(|(_, count)| **count > 0) {
            line(format!("  effect      {count} {}", effect.name()));
        }
        for Check { name, kept, seen } in checks {
            line(format!("  {}  {name}: {seen}", if *kept { "ok    " } else { "FAILED" }));
        }
        let _ = writeln!(text, "{name}: {}", if self.is_green() { "OK" } else { "FAILED" });
        text
    }

    /// For programs.
    pub fn json(&self) -> Value {
        let effects =
            Effect::ALL.iter().zip(self.effects).map(|(effect, count)| (effect.name().to_owned(), count.into()));
        let check = |Check { name, kept, seen }: &Check| json!({"name": name, "ok": kept, "seen": seen});
        let mut document = json!({
            "schema": 1,
            "scenario": self.name,
            "seed": self.seed,
            "ok": self.is_green(),
            "took_s": self.took.as_secs_f64(),
            "effects": effects.collect::<Map<_, _>>(),
            "checks": self.checks.iter().map(check).collect::<Vec<_>>(),
        });
        if let (Some(clients), Value::Object(fields)) = (&self.clients, &mut document) {
            fields.extend(clients.json());
        }
        document
    }
}
