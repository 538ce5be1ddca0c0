//! Which thread a call of a model is made on, and how many calls run at once.
//!
//! A call goes to a thread for work that takes long, so that no request waits behind it. To hand it over, and its answer
//! back, costs as much as a small model does; so a call that is known to be brief is made where its request is handled, and
//! a short one too while another of these threads is left for whatever else comes.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;
use tokio::time::Instant;

/// A call that takes less may hold up what else its thread has to do.
const BRIEF: Duration = Duration::from_millis(1);
/// A call that takes less may hold up its thread while another is left.
const SHORT: Duration = Duration::from_millis(5);

/// What all models of a process share.
#[derive(Debug)]
pub(crate) struct Processors {
    calls: Semaphore,
    /// Threads of requests that short calls may hold up at once.
    spare_threads: Semaphore,
}

impl Processors {
    /// For so many calls at once; a runtime of `threads` handles the requests.
    pub(crate) fn new(calls: usize, threads: usize) -> Self {
        Self { calls: Semaphore::new(calls), spare_threads: Semaphore::new(threads.saturating_sub(1)) }
    }

    /// The threads of the runtime that this is called in; 1 where there is none.
    pub(crate) fn threads_here() -> usize {
        Handle::try_current().map_or(1, |handle| handle.metrics().num_workers())
    }

    /// Makes a call of so many values once there is a place for it. A panic ends the call and nothing else.
    pub(crate) async fn make(&self, values: usize, pace: &mut Pace, call: impl FnOnce() + Send + 'static) {
        let Ok(_place) = self.calls.acquire().await else { return };
        let call = move || {
            let begun = Instant::now();
            call();
            begun.elapsed()
        };
        let spare_thread =
            if values <= pace.short_values { self.spare_threads.try_acquire().ok() } else { None };
        let took = if values <= pace.brief_values || spare_thread.is_some() {
            catch_unwind(AssertUnwindSafe(call)).ok()
        } else {
            spawn_blocking(call).await.ok()
        };
        pace.learn(values, took);
    }
}

/// How long the calls of a model take, by their values: a long text is one example too.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    brief_values: usize,
    short_values: usize,
}

impl Pace {
    fn learn(&mut self, values: usize, took: Option<Duration>) {
        for (limit, most) in [(BRIEF, &mut self.brief_values), (SHORT, &mut self.short_values)] {
            *most = match took {
                Some(took) if took < limit => values.max(*most),
                _ => values.saturating_sub(1).min(*most),
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::thread;

    use super::*;

    const MILLISECOND: Duration = Duration::from_millis(1);

    /// Whether a call is made where it is asked for.
    async fn is_made_here(processors: &Processors, values: usize, learned: &[(usize, Duration)]) -> bool {
        let mut pace = Pace::default();
        learned.iter().for_each(|(values, took)| pace.learn(*values, Some(*took)));
        let (sender, receiver) = mpsc::channel();
        processors.make(values, &mut pace, move || sender.send(thread::current().id()).unwrap()).await;
        receiver.recv().unwrap() == thread::current().id()
    }

    #[tokio::test]
    async fn calls_are_made_here_by_what_is_known_of_them() {
        let (brief, short, long) = (MILLISECOND / 2, 3 * MILLISECOND, 9 * MILLISECOND);
        let (two_threads, one_thread) = (Processors::new(2, 2), Processors::new(2, 1));
        let check = async |learned: &[(usize, Duration)], values, with_two: bool, with_one: bool| {
            assert_eq!(is_made_here(&two_threads, values, learned).await, with_two, "{learned:?} {values}");
            assert_eq!(is_made_here(&one_thread, values, learned).await, with_one, "{learned:?} {values}");
        };
        check(&[], 1, false, false).await;
        check(&[(10, brief)], 10, true, true).await;
        check(&[(10, brief)], 11, false, false).await;
        check(&[(10, short)], 10, true, false).await;
        check(&[(10, brief), (20, short)], 15, true, false).await;
        check(&[(10, long)], 10, false, false).await;
        check(&[(20, short), (10, long)], 10, false, false).await;
        check(&[(20, short), (10, long)], 9, true, false).await;
        check(&[(10, long), (10, brief)], 10, true, true).await;
    }

    #[tokio::test]
    async fn short_calls_leave_one_thread() {
        let processors = Processors::new(3, 2);
        let held = processors.spare_threads.try_acquire().unwrap();
        assert!(!is_made_here(&processors, 10, &[(10, 3 * MILLISECOND)]).await);
        assert!(is_made_here(&processors, 10, &[(10, MILLISECOND / 2)]).await);
        drop(held);
        assert!(is_made_here(&processors, 10, &[(10, 3 * MILLISECOND)]).await);
    }
}
