//! A future that is polled again at once where it woke itself while it was polled.
//!
//! An HTTP/1.1 connection does that with each body that a handler reads: reader and writer of the body are one task. The
//! runtime would put the task behind all others and wake another thread to look for it, which costs a request several changes
//! of threads. It refuses to go on for ever: after a few times the others come first.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use futures::task::AtomicWaker;

/// Polls in one turn.
const POLLS_MAX: usize = 4;

const WAITING: u8 = 0;
const POLLED: u8 = 1;
/// Woken since it was polled last.
const WOKEN: u8 = 2;

#[derive(Debug, Default)]
struct Bell {
    state: AtomicU8,
    task: AtomicWaker,
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        // Whoever polls looks at the state once more before it waits.
        if self.state.swap(WOKEN, Ordering::AcqRel) == WAITING {
            self.task.wake();
        }
    }
}

/// The future, which its owner has pinned.
#[derive(Debug)]
pub(super) struct Repolled<'a, F> {
    future: Pin<&'a mut F>,
    bell: Arc<Bell>,
    waker: Waker,
}

impl<'a, F: Future> Repolled<'a, F> {
    pub(super) fn new(future: Pin<&'a mut F>) -> Self {
        let bell = Arc::<Bell>::default();
        Self { future, waker: Waker::from(Arc::clone(&bell)), bell }
    }
}

impl<F: Future> Future for Repolled<'_, F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        let Self { future, bell, waker } = &mut *self;
        bell.task.register(context.waker());
        for _ in 0..POLLS_MAX {
            bell.state.swap(POLLED, Ordering::AcqRel);
            if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(waker)) {
                return Poll::Ready(output);
            }
            let waits = bell.state.compare_exchange(POLLED, WAITING, Ordering::AcqRel, Ordering::Acquire);
            if waits.is_ok() {
                return Poll::Pending;
            }
        }
        context.waker().wake_by_ref();
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::pin::pin;
    use std::sync::atomic::AtomicUsize;
    use std::time::Duration;

    use super::*;

    #[derive(Debug, Default)]
    struct Wakes(AtomicUsize);

    impl Wake for Wakes {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn who_wakes_itself_is_polled_at_once_and_not_for_ever() {
        let wakes = Arc::new(Wakes::default());
        let waker = Waker::from(Arc::clone(&wakes));
        let (mut polls, mut left) = (0, 3);
        let mut future = pin!(poll_fn(|context| {
            polls += 1;
            if left == 0 {
                return Poll::Ready(());
            }
            left -= 1;
            context.waker().wake_by_ref();
            Poll::Pending
        }));
        assert!(pin!(Repolled::new(future.as_mut())).poll(&mut Context::from_waker(&waker)).is_ready());
        assert_eq!((polls, wakes.0.load(Ordering::Relaxed)), (4, 0));

        let mut polls = 0;
        let mut restless = pin!(poll_fn(|context: &mut Context<'_>| -> Poll<()> {
            polls += 1;
            context.waker().wake_by_ref();
            Poll::Pending
        }));
        assert!(pin!(Repolled::new(restless.as_mut())).poll(&mut Context::from_waker(&waker)).is_pending());
        assert_eq!(
            (polls, wakes.0.load(Ordering::Relaxed)),
            (POLLS_MAX, 1),
            "then the others have their turn"
        );
    }

    #[test]
    fn who_is_woken_while_it_waits_is_told() {
        let wakes = Arc::new(Wakes::default());
        let waker = Waker::from(Arc::clone(&wakes));
        let mut inner = None;
        let mut future = pin!(poll_fn(|context: &mut Context<'_>| -> Poll<()> {
            inner = Some(context.waker().clone());
            Poll::Pending
        }));
        {
            let mut repolled = pin!(Repolled::new(future.as_mut()));
            assert!(repolled.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
        }
        inner.unwrap().wake();
        assert_eq!(wakes.0.load(Ordering::Relaxed), 1);
    }

    /// Wakes from other threads are never lost: each message is taken, and the last one ends it.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn no_wake_is_lost() {
        for round in 0..200 {
            let (sender, mut receiver) = tokio::sync::mpsc::channel(1);
            let taker = tokio::spawn(async move {
                let mut taking = pin!(async {
                    let mut sum = 0;
                    while let Some(number) = receiver.recv().await {
                        sum += number;
                    }
                    sum
                });
                Repolled::new(taking.as_mut()).await
            });
            for number in 0..100_u32 {
                sender.send(number).await.unwrap();
            }
            drop(sender);
            let sum = tokio::time::timeout(Duration::from_secs(10), taker).await;
            assert_eq!(sum.unwrap_or_else(|_| panic!("round {round} hangs")).unwrap(), 4_950);
        }
    }
}
