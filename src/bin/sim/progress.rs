//! How far the runs have come, on stderr.

use std::io::IsTerminal as _;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use super::tally::Tally;

/// Between two lines where no bar can be drawn.
const INTERVAL: Duration = Duration::from_secs(5);

/// A bar on a terminal, a line now and then elsewhere.
pub struct Progress {
    started: Instant,
    printed: Instant,
    total: u64,
    bar: Option<ProgressBar>,
}

impl Progress {
    pub fn new(total: u64) -> Progress {
        let now = Instant::now();
        let style = ProgressStyle::with_template("{bar:30} {pos}/{len} seeds, {msg}, {eta} left");
        let style = style.expect("the template is well-formed");
        let bar = std::io::stderr().is_terminal().then(|| ProgressBar::new(total).with_style(style));
        Progress { started: now, printed: now, total, bar }
    }

    /// Wall time since the start.
    pub fn wall(&self) -> Duration {
        self.started.elapsed()
    }

    /// Shows it, not too often.
    pub fn show(&mut self, tally: &Tally) {
        let message = || {
            let (hours, times) = (hours(tally.elapsed), times_real(tally.elapsed, self.wall()));
            format!("{hours:.2} virtual hours, {times:.0} times real time, {} violations", tally.violations.len())
        };
        match &self.bar {
            Some(bar) => {
                bar.set_position(tally.seeds);
                bar.set_message(message());
            }
            None if self.printed.elapsed() >= INTERVAL => {
                eprintln!("{}/{} seeds, {}", tally.seeds, self.total, message());
                self.printed = Instant::now();
            }
            None => {}
        }
    }

    /// A line above the bar.
    pub fn note(&self, line: &str) {
        match &self.bar {
            Some(bar) => bar.println(line),
            None => eprintln!("{line}"),
        }
    }

    /// Takes the bar away.
    pub fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

pub fn hours(time: Duration) -> f64 {
    time.as_secs_f64() / 3600.0
}

/// How much faster than real time.
pub fn times_real(elapsed: Duration, wall: Duration) -> f64 {
    elapsed.as_secs_f64() / wall.as_secs_f64().max(1e-6)
}
