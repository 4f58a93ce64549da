//! The only place of this module that starts tasks: each has a name and is waited for.

use std::future::Future;

use tokio::runtime::Handle;
use tokio_util::task::TaskTracker;
use tracing::Instrument;

/// Starts tasks on one runtime and waits for them. A panic in a task ends the process (the binary's hook), so a task's
/// result is its side effects.
#[derive(Clone, Debug)]
pub struct Spawner {
    tracker: TaskTracker,
    runtime: Handle,
}

impl Spawner {
    /// Tracks tasks with `tracker`, on the runtime that this is called from.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn new(tracker: TaskTracker) -> Spawner {
        Spawner { tracker, runtime: Handle::current() }
    }

    /// Starts `task`, its log events carrying `name`.
    pub fn spawn(&self, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        self.tracker.spawn_on(task.instrument(tracing::debug_span!("task", name)), &self.runtime);
    }

    /// Waits until every task has ended; those that run on links end with the links.
    pub async fn wait(&self) {
        self.tracker.close();
        self.tracker.wait().await;
    }
}
