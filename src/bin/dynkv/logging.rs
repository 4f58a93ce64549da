//! The log: to standard error, for people on a terminal and for machines elsewhere.

use std::io::{self, IsTerminal};

use dynkv::config::{LogConfig, LogFormat, LogLevel};
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::reload::{self, Handle};
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer as _, Registry, fmt};

/// Changes the level while the node runs.
#[derive(Clone)]
pub struct LogLevels(Handle<Targets, Registry>);

impl LogLevels {
    /// From now on.
    pub fn set(&self, level: LogLevel) {
        // fails only when the subscriber is gone, and with it the log
        let _ = self.0.reload(targets(level));
    }
}

/// Starts logging, and makes a panic end the process: half a node is worse than none.
pub fn start(config: &LogConfig) -> LogLevels {
    let (filter, handle) = reload::Layer::new(targets(config.level));
    let is_terminal = io::stderr().is_terminal();
    let json = match config.format {
        LogFormat::Auto => !is_terminal,
        LogFormat::Text => false,
        LogFormat::Json => true,
    };
    let colours = is_terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let lines = if json {
        fmt::layer().json().flatten_event(true).with_writer(io::stderr).boxed()
    } else {
        fmt::layer().with_ansi(colours).with_writer(io::stderr).boxed()
    };
    tracing_subscriber::registry().with(filter).with(lines).init();
    abort_on_panic();
    LogLevels(handle)
}

/// Our own events at `level`, those of the libraries only when they are graver than news.
fn targets(level: LogLevel) -> Targets {
    let (own, others) = match level {
        LogLevel::Error => (LevelFilter::ERROR, LevelFilter::ERROR),
        LogLevel::Warn => (LevelFilter::WARN, LevelFilter::WARN),
        LogLevel::Info => (LevelFilter::INFO, LevelFilter::WARN),
        LogLevel::Debug => (LevelFilter::DEBUG, LevelFilter::INFO),
        LogLevel::Trace => (LevelFilter::TRACE, LevelFilter::TRACE),
    };
    Targets::new().with_default(others).with_target("dynkv", own)
}

fn abort_on_panic() {
    let print = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        print(info);
        tracing::error!(panic = %info, "a broken invariant: ending");
        std::process::abort();
    }));
}
