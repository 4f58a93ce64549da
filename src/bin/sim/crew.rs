//! Threads that share out numbered pieces of work.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

/// How long nothing is heard at most.
const SILENCE: Duration = Duration::from_millis(250);

/// What is heard of the work.
pub enum News<T> {
    /// A piece is done. They come in the order of their numbers, whoever was faster.
    Done(T),
    /// None has been done for a while.
    Quiet,
}

/// Does pieces `0..count` on `jobs` threads. Once `hear` breaks off nothing more is begun or heard; what is under way ends.
pub fn in_order<T: Send>(
    jobs: usize,
    count: u64,
    work: impl Fn(u64) -> T + Sync,
    mut hear: impl FnMut(News<T>) -> ControlFlow<()>,
) {
    let next = AtomicU64::new(0);
    let take = || Some(next.fetch_add(1, Ordering::Relaxed)).filter(|piece| *piece < count);
    thread::scope(|scope| {
        let (sender, receiver) = mpsc::channel();
        for _ in 0..jobs {
            let (sender, take, work) = (sender.clone(), &take, &work);
            scope.spawn(move || {
                while let Some(piece) = take() {
                    // nobody hears any more
                    if sender.send((piece, work(piece))).is_err() {
                        break;
                    }
                }
            });
        }
        drop(sender);
        // at most what the other threads do while one is busy with the piece that is due
        let (mut early, mut due) = (BTreeMap::new(), 0);
        loop {
            match receiver.recv_timeout(SILENCE) {
                Ok((piece, done)) => {
                    early.insert(piece, done);
                    while let Some(done) = early.remove(&due) {
                        due += 1;
                        if hear(News::Done(done)).is_break() {
                            return;
                        }
                    }
                }
                Err(RecvTimeoutError::Timeout) => {
                    if hear(News::Quiet).is_break() {
                        return;
                    }
                }
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    });
}

/// All of them, in order.
pub fn map<T: Send>(jobs: usize, count: u64, work: impl Fn(u64) -> T + Sync) -> Vec<T> {
    let mut all = Vec::new();
    in_order(jobs, count, work, |news| {
        if let News::Done(done) = news {
            all.push(done);
        }
        ControlFlow::Continue(())
    });
    all
}

/// What `work` returns on a thread that has done nothing before. It must not panic.
pub fn on_fresh_thread<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    thread::scope(|scope| scope.spawn(work).join().expect("the work catches its own panics"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_heard_in_order_whoever_is_faster() {
        for jobs in [1, 2, 5] {
            let slow_first = |piece: u64| {
                let spins = if piece.is_multiple_of(7) { 200_000 } else { 1 };
                let spun: u64 = (0..spins).map(std::hint::black_box).sum();
                (piece, spun > 0)
            };
            let pieces = map(jobs, 100, slow_first).into_iter().map(|(piece, _)| piece);
            assert_eq!(pieces.collect::<Vec<_>>(), (0..100).collect::<Vec<_>>());
        }
        assert_eq!(map(3, 0, |piece| piece), Vec::<u64>::new());
    }

    #[test]
    fn a_break_ends_the_work() {
        let begun = AtomicU64::new(0);
        let mut heard = Vec::new();
        let work = |piece| {
            begun.fetch_add(1, Ordering::Relaxed);
            piece
        };
        in_order(2, u64::MAX, work, |news| {
            let News::Done(piece) = news else { return ControlFlow::Continue(()) };
            heard.push(piece);
            if piece == 20 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        assert_eq!(heard, (0..=20).collect::<Vec<_>>());
        assert!(begun.into_inner() > 20);
    }
}
