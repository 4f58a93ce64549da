//! Where every task and thread of a node is started: each with a name and a word on what its end means.

use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{Builder, JoinHandle};

use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{Instrument, debug, error};

use super::ServerError;

/// What it means when a part ends with an error, or ends at all before it is told to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnEnd {
    /// The node cannot do without it and stops.
    StopNode,
    /// It serves one peer or one moment; its errors are its own business.
    Ignore,
}

/// What [`Supervisor::join`] waits for.
#[derive(Debug)]
enum Joined {
    Thread(JoinHandle<()>),
    Task(tokio::task::JoinHandle<()>),
}

/// Threads and tasks by name.
type Parts = Vec<(&'static str, Joined)>;

/// Starts the parts of one node and knows when they have ended.
#[derive(Clone, Debug)]
pub struct Supervisor {
    runtime: Handle,
    tasks: TaskTracker,
    joined: Arc<Mutex<Parts>>,
    failures: mpsc::Sender<ServerError>,
    stopping: CancellationToken,
    /// Set once the node is about to stop: from then on ends are no failures.
    ending: Arc<AtomicBool>,
}

/// Tells of a part's end even if it panics. (In the daemon a panic ends the process at once; tests have no such hook.)
struct Ends<'a> {
    supervisor: &'a Supervisor,
    name: &'static str,
    on_end: OnEnd,
    outcome: Option<Result<(), ServerError>>,
}

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        let reason = match self.outcome.take() {
            None => ServerError::Ended { part: self.name, reason: "it panicked, or its runtime did".to_owned() },
            Some(Err(err)) => err,
            Some(Ok(())) => ServerError::Ended { part: self.name, reason: "for no reason".to_owned() },
        };
        if self.on_end == OnEnd::Ignore || self.supervisor.ending.load(Ordering::Acquire) {
            debug!(name = self.name, "ended");
            return;
        }
        error!(name = self.name, err = %reason, "a part of the node has ended, stopping");
        // the first failure is the one that counts
        let _ = self.supervisor.failures.try_send(reason);
    }
}

impl Supervisor {
    /// For one node, on the runtime that this is called from; and where the failures come out that end it.
    ///
    /// # Panics
    /// Outside of a tokio runtime, and on one of a single thread: shards hand its work to another while they wait for the disk.
    pub fn new() -> (Supervisor, mpsc::Receiver<ServerError>) {
        let runtime = Handle::current();
        assert_eq!(runtime.runtime_flavor(), RuntimeFlavor::MultiThread, "a node needs a multi-thread runtime");
        let (failures, failed) = mpsc::channel(1);
        let supervisor = Supervisor {
            runtime,
            tasks: TaskTracker::new(),
            joined: Arc::default(),
            failures,
            stopping: CancellationToken::new(),
            ending: Arc::default(),
        };
        (supervisor, failed)
    }

    /// Starts a task.
    pub fn task<F>(&self, name: &'static str, on_end: OnEnd, task: F)
    where
        F: Future<Output = Result<(), ServerError>> + Send + 'static,
    {
        // It is waited for with all others.
        drop(self.spawn(name, on_end, task));
    }

    /// Starts a task. It is waited for by [`join`](Self::join).
    pub fn joined_task<F>(&self, name: &'static str, on_end: OnEnd, task: F)
    where
        F: Future<Output = Result<(), ServerError>> + Send + 'static,
    {
        let task = self.spawn(name, on_end, task);
        self.joined().push((name, Joined::Task(task)));
    }

    fn spawn<F>(&self, name: &'static str, on_end: OnEnd, task: F) -> tokio::task::JoinHandle<()>
    where
        F: Future<Output = Result<(), ServerError>> + Send + 'static,
    {
        let supervisor = self.clone();
        let work = async move {
            let mut ends = Ends { supervisor: &supervisor, name, on_end, outcome: None };
            ends.outcome = Some(task.await);
        };
        self.tasks.spawn_on(work.instrument(tracing::debug_span!("task", name)), &self.runtime)
    }

    /// Starts a thread. It is waited for by [`join`](Self::join).
    ///
    /// # Errors
    /// [`ServerError::Ended`] if the system has no thread left.
    pub fn thread<F>(&self, name: &'static str, on_end: OnEnd, work: F) -> Result<(), ServerError>
    where
        F: FnOnce() + Send + 'static,
    {
        let supervisor = self.clone();
        let run = move || {
            let mut ends = Ends { supervisor: &supervisor, name, on_end, outcome: None };
            work();
            ends.outcome = Some(Ok(()));
        };
        let started = Builder::new().name(name.to_owned()).spawn(run);
        let thread = started.map_err(|err| ServerError::Ended { part: name, reason: err.to_string() })?;
        self.joined().push((name, Joined::Thread(thread)));
        Ok(())
    }

    /// Runs what may wait for the disk on a thread for such things.
    ///
    /// # Errors
    /// [`ServerError::Ended`] if the runtime is shutting down.
    pub async fn blocking<T: Send + 'static>(
        &self,
        name: &'static str,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, ServerError> {
        let done = self.tasks.spawn_blocking_on(work, &self.runtime).await;
        done.map_err(|err| ServerError::Ended { part: name, reason: err.to_string() })
    }

    /// From now on no end is a failure.
    pub fn expect_ends(&self) {
        self.ending.store(true, Ordering::Release);
    }

    /// Cancelled once parts are meant to end.
    pub fn stopping(&self) -> &CancellationToken {
        &self.stopping
    }

    /// Waits for the threads and tasks of this name; they must have been told to end.
    pub async fn join(&self, name: &'static str) {
        let these: Vec<_> = {
            let mut all = self.joined();
            let (these, others) = std::mem::take(&mut *all).into_iter().partition(|(known, _)| *known == name);
            *all = others;
            these
        };
        for (_, part) in these {
            // An error means that the part has panicked, which its end has told, or that the runtime is shutting down and
            // nobody can wait.
            match part {
                Joined::Task(task) => drop(task.await),
                Joined::Thread(thread) => {
                    drop(self.tasks.spawn_blocking_on(move || drop(thread.join()), &self.runtime).await);
                }
            }
        }
    }

    /// Waits for all tasks; they must have been told to end.
    pub async fn wait_tasks(&self) {
        self.tasks.close();
        self.tasks.wait().await;
    }

    fn joined(&self) -> std::sync::MutexGuard<'_, Parts> {
        self.joined.lock().expect("nothing panics while it holds this lock")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    async fn an_end_that_nobody_asked_for_is_a_failure_and_one_of_a_bystander_is_not() {
        let (supervisor, mut failed) = Supervisor::new();
        supervisor.task("bystander", OnEnd::Ignore, async { Ok(()) });
        supervisor.thread("worker", OnEnd::StopNode, || {}).unwrap();
        let failure = failed.recv().await.unwrap();
        assert!(matches!(failure, ServerError::Ended { part: "worker", .. }), "{failure}");
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    async fn an_end_that_was_asked_for_is_none() {
        let (supervisor, mut failed) = Supervisor::new();
        let stopping = supervisor.stopping().clone();
        supervisor.task("task", OnEnd::StopNode, async move {
            stopping.cancelled().await;
            Ok(())
        });
        supervisor.expect_ends();
        supervisor.stopping().cancel();
        supervisor.wait_tasks().await;
        drop(supervisor);
        assert!(failed.recv().await.is_none());
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    async fn tasks_that_are_joined_have_ended() {
        let (supervisor, _failed) = Supervisor::new();
        let (ended, go) = (Arc::new(AtomicBool::new(false)), Arc::new(tokio::sync::Notify::new()));
        let (sets, told) = (ended.clone(), go.clone());
        supervisor.expect_ends();
        supervisor.joined_task("shard", OnEnd::StopNode, async move {
            told.notified().await;
            tokio::task::yield_now().await;
            sets.store(true, Ordering::Release);
            Ok(())
        });
        supervisor.thread("other", OnEnd::StopNode, || {}).unwrap();
        let joined = async {
            supervisor.join("shard").await;
            assert!(ended.load(Ordering::Acquire), "it was waited for");
        };
        tokio::join!(biased; joined, async { go.notify_one() });
        assert_eq!(supervisor.joined().len(), 1, "others are left to those who join them");
    }

    #[tokio::test]
    #[should_panic = "multi-thread runtime"]
    async fn a_runtime_of_one_thread_is_refused_at_once() {
        drop(Supervisor::new());
    }
}
