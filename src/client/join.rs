//! Several futures of one task at a time.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::{Context, Poll};

/// A future on the heap.
pub(super) type Boxed<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// A future or what it came to.
pub(super) enum Step<'a, T> {
    Running(Boxed<'a, T>),
    Done(T),
}

impl<'a, T> Step<'a, T> {
    pub(super) fn new(future: impl Future<Output = T> + Send + 'a) -> Step<'a, T> {
        Step::Running(Box::pin(future))
    }

    /// Moves it on; true if it is done.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> bool {
        if let Step::Running(future) = self
            && let Poll::Ready(value) = future.as_mut().poll(cx)
        {
            *self = Step::Done(value);
        }
        matches!(self, Step::Done(_))
    }
}

/// Runs all of them and returns their results in order. For few: each wake polls every one that runs.
pub(super) async fn join_all<T: Unpin>(futures: Vec<Boxed<'_, T>>) -> Vec<T> {
    let mut steps: Vec<_> = futures.into_iter().map(Step::Running).collect();
    poll_fn(|cx| {
        // all are polled, done or not, so that none starves
        let mut left = 0;
        for step in steps.iter_mut().filter(|step| matches!(step, Step::Running(_))) {
            left += usize::from(!step.poll(cx));
        }
        if left == 0 { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    steps
        .into_iter()
        .map(|step| match step {
            Step::Done(value) => value,
            Step::Running(_) => unreachable!("the loop above ends when all are done"),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn results_keep_their_order() {
        let (first, second) = tokio::sync::oneshot::channel();
        let futures: Vec<Boxed<'_, u8>> = vec![
            Box::pin(async { second.await.unwrap() }),
            Box::pin(async {
                first.send(1).unwrap();
                2
            }),
        ];
        assert_eq!(join_all(futures).await, [1, 2]);
        assert!(join_all(Vec::<Boxed<'_, u8>>::new()).await.is_empty());
    }
}
