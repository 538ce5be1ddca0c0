//! Which thread a call of a model is made on, and how many calls run at once.
//!
//! A call goes to a thread for work that takes long, so that no request waits behind it. To hand it over, and its answer
//! back, costs as much as a small model does; so a call that is known to be brief is made where its request is handled, and
//! a short one too, on all of these threads but one at once. Whatever else comes may wait for so long.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::task::spawn_blocking;
use tokio::time::Instant;

/// A call that takes less may hold up what else its thread has to do.
const BRIEF: Duration = Duration::from_millis(1);
/// A call that takes less may hold up its thread where another is left.
const SHORT: Duration = Duration::from_millis(5);
/// Calls in a row that must be quick before more of their kind are taken to be.
const QUICK_CALLS: u32 = 3;

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

    /// Makes a call of this weight at once and here, where it is known not to take long and there is a place for it; how long it
    /// took. A panic ends the call and nothing else.
    pub(crate) fn make_here(
        &self,
        weight: usize,
        pace: &Mutex<Pace>,
        call: impl FnOnce(),
    ) -> Option<Duration> {
        let _place = self.calls.try_acquire().ok()?;
        let _thread = self.thread_here(weight, pace)?;
        let took = timed_here(call);
        // Not while the call is made: others look at the pace meanwhile.
        pace.lock().learn(weight, took);
        Some(took.unwrap_or_default())
    }

    /// Makes a call of this weight, once there is a place for it. A panic ends the call and nothing else.
    pub(crate) async fn make(&self, weight: usize, pace: &Mutex<Pace>, call: impl FnOnce() + Send + 'static) {
        let Ok(_place) = self.calls.acquire().await else { return };
        let took = match self.thread_here(weight, pace) {
            Some(_thread) => timed_here(call),
            None => spawn_blocking(move || timed(call)).await.ok(),
        };
        pace.lock().learn(weight, took);
    }

    /// The right to hold up this thread with a call; none where that takes too long.
    fn thread_here(&self, weight: usize, pace: &Mutex<Pace>) -> Option<Option<SemaphorePermit<'_>>> {
        let (is_brief, is_short) = pace.lock().of(weight);
        if is_brief {
            return Some(None);
        }
        is_short.then(|| self.spare_threads.try_acquire().ok()).flatten().map(Some)
    }
}

fn timed(call: impl FnOnce()) -> Duration {
    let begun = Instant::now();
    call();
    begun.elapsed()
}

fn timed_here(call: impl FnOnce()) -> Option<Duration> {
    catch_unwind(AssertUnwindSafe(|| timed(call))).ok()
}

/// How long the calls of a model take, by their weight.
#[derive(Debug, Clone, Default)]
pub(crate) struct Pace {
    brief: Quick,
    short: Quick,
}

impl Pace {
    /// Whether a call of this weight is brief, and whether it is short.
    fn of(&self, weight: usize) -> (bool, bool) {
        (weight < self.brief.below, weight < self.short.below)
    }

    fn learn(&mut self, weight: usize, took: Option<Duration>) {
        for (limit, quick) in [(BRIEF, &mut self.brief), (SHORT, &mut self.short)] {
            quick.learn(weight, took.is_some_and(|took| took < limit));
        }
    }
}

/// Calls that are over within a time.
#[derive(Debug, Clone, Copy, Default)]
struct Quick {
    /// Calls of less weight were.
    below: usize,
    /// Calls in a row.
    calls: u32,
}

impl Quick {
    fn learn(&mut self, weight: usize, was_quick: bool) {
        if !was_quick {
            *self = Self { below: self.below.min(weight), calls: 0 };
            return;
        }
        self.calls = self.calls.saturating_add(1);
        if self.calls >= QUICK_CALLS {
            self.below = self.below.max(weight.saturating_add(1));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::thread;

    use super::*;

    const MILLISECOND: Duration = Duration::from_millis(1);

    /// Whether a call is made where it is asked for, after what was learned of others.
    async fn is_made_here(processors: &Processors, weight: usize, learned: &[(usize, Duration)]) -> bool {
        let mut pace = Pace::default();
        learned.iter().for_each(|(weight, took)| pace.learn(*weight, Some(*took)));
        let (pace, at_once) = (Mutex::new(pace.clone()), Mutex::new(pace));
        let (sender, receiver) = mpsc::channel();
        processors.make(weight, &pace, move || sender.send(thread::current().id()).unwrap()).await;
        let is_here = receiver.recv().unwrap() == thread::current().id();
        let mut calls = 0;
        let made = processors.make_here(weight, &at_once, || {
            assert!(at_once.try_lock().is_some(), "others look at the pace meanwhile");
            calls += 1;
        });
        assert_eq!((made.is_some(), calls), (is_here, u32::from(is_here)));
        is_here
    }

    #[tokio::test]
    async fn calls_are_made_here_by_what_is_known_of_them() {
        let (brief, short, long) = (MILLISECOND / 2, 3 * MILLISECOND, 9 * MILLISECOND);
        let (two_threads, one_thread) = (Processors::new(2, 2), Processors::new(2, 1));
        let check = async |learned: &[(usize, Duration, usize)], weight, with_two: bool, with_one: bool| {
            let each: Vec<(usize, Duration)> = learned
                .iter()
                .flat_map(|(weight, took, count)| std::iter::repeat_n((*weight, *took), *count))
                .collect();
            assert_eq!(is_made_here(&two_threads, weight, &each).await, with_two, "{learned:?} {weight}");
            assert_eq!(is_made_here(&one_thread, weight, &each).await, with_one, "{learned:?} {weight}");
        };
        check(&[], 0, false, false).await;
        check(&[(10, brief, 2)], 10, false, false).await;
        check(&[(10, brief, 3)], 10, true, true).await;
        check(&[(10, brief, 3)], 11, false, false).await;
        check(&[(10, short, 3)], 10, true, false).await;
        check(&[(10, brief, 3), (20, short, 3)], 15, true, false).await;
        check(&[(10, long, 9)], 10, false, false).await;
        check(&[(20, short, 3), (10, long, 1)], 10, false, false).await;
        check(&[(20, short, 3), (10, long, 1)], 9, true, false).await;
        check(&[(10, long, 1), (10, brief, 3)], 10, true, true).await;
        // Now quick and now slow is slow.
        check(&[(10, brief, 9), (10, long, 1), (10, brief, 2)], 10, false, false).await;
        check(&[(0, brief, 9), (0, long, 1)], 0, false, false).await;
    }

    #[tokio::test]
    async fn short_calls_leave_one_thread() {
        let processors = Processors::new(3, 2);
        let (short, brief) = ([(10, 3 * MILLISECOND); 3], [(10, MILLISECOND / 2); 3]);
        let held = processors.spare_threads.try_acquire().unwrap();
        assert!(!is_made_here(&processors, 10, &short).await);
        assert!(is_made_here(&processors, 10, &brief).await);
        drop(held);
        assert!(is_made_here(&processors, 10, &short).await);
        let mut pace = Pace::default();
        brief.iter().for_each(|(weight, took)| pace.learn(*weight, Some(*took)));
        let pace = Mutex::new(pace);
        let places = processors.calls.try_acquire_many(3).unwrap();
        assert!(processors.make_here(10, &pace, || unreachable!("there is no place")).is_none());
        drop(places);
        assert!(processors.make_here(10, &pace, || panic!("as a model does")).is_some());
        assert!(processors.make_here(10, &pace, || unreachable!("what panics is not quick")).is_none());
        assert_eq!(
            (processors.calls.available_permits(), processors.spare_threads.available_permits()),
            (3, 1)
        );
    }
}
