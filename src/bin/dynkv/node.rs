//! `dynkv`: one node in the foreground.

use std::time::Duration;

use anyhow::{Context as _, Result};
use dynkv::config::Loaded;
use dynkv::server::{self, MARK_DIR, Setup, Signal};
use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tracing::{error, info, warn};

use super::SourceArgs;
use super::config::read;
use super::logging::{self, LogLevels};

/// For threads that are still at the disk when the node has stopped.
const LAST_WAIT: Duration = Duration::from_secs(1);

pub fn run(sources: SourceArgs) -> Result<()> {
    let loaded = read(&sources)?;
    let levels = logging::start(&loaded.config.log);
    let signals = watch_signals(sources, levels)?;
    let runtime = runtime(loaded.config.node.threads)?;
    let ended = runtime.block_on(serve(loaded, signals));
    if let Err(err) = &ended {
        error!(err = format!("{err:#}"), "ending");
    }
    // A thread that hangs on the disk is not waited for: the stop was not clean then, and has said so.
    runtime.shutdown_timeout(LAST_WAIT);
    ended
}

/// Runs the shards, carries their frames, and does all else that does not wait for the disk.
fn runtime(threads: u16) -> Result<Runtime> {
    Builder::new_multi_thread()
        .worker_threads(threads.into())
        .thread_name("shards+network")
        .enable_all()
        .build()
        .context("starting the runtime")
}

async fn serve(loaded: Loaded, signals: mpsc::Receiver<Signal>) -> Result<()> {
    let Loaded { config, origins } = loaded;
    let opening = config.clone();
    let engine = tokio::task::spawn_blocking(move || server::open_engine(&opening)).await??;
    let setup = Setup { config, origins, engine, mark_dir: MARK_DIR.into() };
    server::run(setup, signals, |_| {}).await?;
    Ok(())
}

/// The first SIGTERM or SIGINT drains and stops, the second ends the process at once. On a thread and a runtime of its own: all
/// others may be held up by a disk that hangs.
fn watch_signals(sources: SourceArgs, levels: LogLevels) -> Result<mpsc::Receiver<Signal>> {
    let (sender, receiver) = mpsc::channel(8);
    let runtime = Builder::new_current_thread().enable_io().build().context("starting the runtime for signals")?;
    let entered = runtime.enter();
    let listen = |kind| signal(kind).context("listening for signals");
    let mut terminate = listen(SignalKind::terminate())?;
    let mut interrupt = listen(SignalKind::interrupt())?;
    let mut hang_up = listen(SignalKind::hangup())?;
    drop(entered);
    let watch = async move {
        let mut stopping = false;
        loop {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
                _ = hang_up.recv() => {
                    let (sources, levels, sender) = (sources.clone(), levels.clone(), sender.clone());
                    // Not here: a second signal to stop does not wait for the disk.
                    tokio::task::spawn_blocking(move || {
                        match read(&sources) {
                            Ok(loaded) => levels.set(loaded.config.log.level),
                            Err(err) => error!(err = format!("{err:#}"), "the old log level stays"),
                        }
                        // full: a reload is waiting already
                        let _ = sender.try_send(Signal::Reload);
                    });
                    continue;
                }
            }
            if stopping {
                warn!("told to stop twice: ending at once");
                std::process::exit(1);
            }
            stopping = true;
            info!("told to stop: draining; once more to end at once");
            // closed: the node is ending already
            let _ = sender.send(Signal::Stop).await;
        }
    };
    let thread = std::thread::Builder::new().name("signals".to_owned());
    thread.spawn(move || runtime.block_on(watch)).context("starting the thread for signals")?;
    Ok(receiver)
}
