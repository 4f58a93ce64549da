//! Many requests at a time, never more than so many.

use std::future::Future;

use tokio::task::JoinSet;

/// Runs futures, at most `limit` at a time; the only place of this program that starts tasks. A panic in one goes on here.
pub struct Pool<T> {
    limit: usize,
    tasks: JoinSet<T>,
}

impl<T: Send + 'static> Pool<T> {
    pub fn new(limit: usize) -> Pool<T> {
        Pool { limit: limit.max(1), tasks: JoinSet::new() }
    }

    /// Starts one; if the pool is full, first waits for one to end, and returns what came of it.
    pub async fn add(&mut self, task: impl Future<Output = T> + Send + 'static) -> Option<T> {
        let ended = if self.is_full() { self.next().await } else { None };
        self.tasks.spawn(task);
        ended
    }

    pub fn is_empty(&self) -> bool {
        self.tasks.is_empty()
    }

    /// Whether [`Pool::add`] would wait.
    pub fn is_full(&self) -> bool {
        self.tasks.len() >= self.limit
    }

    /// What came of the next one to end; `None` if none runs.
    pub async fn next(&mut self) -> Option<T> {
        match self.tasks.join_next().await? {
            Ok(value) => Some(value),
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[tokio::test]
    async fn it_is_bounded_and_loses_nothing() {
        let (running, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let mut pool = Pool::new(3);
        let mut ended = Vec::new();
        for number in 0..20 {
            let (running, most) = (running.clone(), most.clone());
            let task = async move {
                most.fetch_max(running.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                tokio::task::yield_now().await;
                running.fetch_sub(1, Ordering::SeqCst);
                number
            };
            ended.extend(pool.add(task).await);
        }
        while let Some(number) = pool.next().await {
            ended.push(number);
        }
        ended.sort_unstable();
        assert_eq!(ended, (0..20).collect::<Vec<_>>());
        assert!(most.load(Ordering::SeqCst) <= 3);
    }
}
