//! Log lines of requests that failed: for each class one a second at most, which says how many were left out before it.
//! An outage makes thousands of the same, and a log that is full of them shows nothing else. Counters stay exact.
//!
//! To make a class finer: a part more in [`Class`]. It must come from a fixed set, because classes are never forgotten.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use kernel::{Error, ErrorKind};
use parking_lot::Mutex;

const PAUSE: Duration = Duration::from_secs(1);

/// Why a request failed, on its way from the handler to the log.
#[derive(Debug, Clone)]
pub(crate) struct Failed {
    pub(crate) code: &'static str,
    pub(crate) kind: ErrorKind,
    pub(crate) chain: String,
}

impl Failed {
    pub(crate) fn of(error: &Error) -> Self {
        Self { code: error.code().name, kind: error.kind(), chain: error.chain() }
    }

    /// Whether it is a fault of the server, which differs by where it happened.
    pub(crate) fn is_fault(&self) -> bool {
        matches!(self.kind, ErrorKind::Internal | ErrorKind::Corrupted)
    }
}

/// Failures that are the same for who reads the log: the code, and for a fault of the server the route too.
pub(crate) type Class = (&'static str, String);

/// What was written lately.
#[derive(Debug, Default)]
pub(crate) struct Sampled {
    classes: Mutex<BTreeMap<Class, Lately>>,
    /// Lines that were left out and not told of.
    untold: AtomicU64,
}

#[derive(Debug, Default)]
struct Lately {
    /// By the clock's elapsed time.
    written: Option<Duration>,
    left_out: u64,
}

impl Sampled {
    /// Whether a line of the class is written now, and how many were left out before it.
    pub(crate) fn admit(&self, class: Class, now: Duration) -> Option<u64> {
        let mut classes = self.classes.lock();
        let lately = classes.entry(class).or_default();
        if lately.written.is_some_and(|written| now.saturating_sub(written) < PAUSE) {
            lately.left_out += 1;
            self.untold.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        lately.written = Some(now);
        let left_out = std::mem::take(&mut lately.left_out);
        self.untold.fetch_sub(left_out, Ordering::Relaxed);
        Some(left_out)
    }

    /// The classes of which lines were left out, and none came since to say so. Asked at every request.
    pub(crate) fn overdue(&self, now: Duration) -> Vec<(Class, u64)> {
        if self.untold.load(Ordering::Relaxed) == 0 {
            return Vec::new();
        }
        let mut classes = self.classes.lock();
        let mut overdue = Vec::new();
        for (class, lately) in &mut *classes {
            let is_past = lately.written.is_none_or(|written| now.saturating_sub(written) >= PAUSE);
            if is_past && lately.left_out > 0 {
                lately.written = Some(now);
                overdue.push((class.clone(), std::mem::take(&mut lately.left_out)));
            }
        }
        self.untold.fetch_sub(overdue.iter().map(|(_, left_out)| left_out).sum(), Ordering::Relaxed);
        overdue
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_a_second_and_every_failure_is_counted_once() {
        let sampled = Sampled::default();
        let class = |name| (name, String::new());
        let admit = |name, ms| sampled.admit(class(name), Duration::from_millis(ms));
        assert_eq!(admit("UNAVAILABLE", 0), Some(0));
        for ms in 1..1_000 {
            assert_eq!(admit("UNAVAILABLE", ms), None);
        }
        assert_eq!(admit("OVERLOADED", 500), Some(0), "another class has its own line");
        assert_eq!(admit("UNAVAILABLE", 1_000), Some(999));
        assert_eq!(admit("UNAVAILABLE", 1_001), None);
        let overdue = |ms| sampled.overdue(Duration::from_millis(ms));
        assert_eq!(overdue(1_500), []);
        assert_eq!(overdue(2_000), [(class("UNAVAILABLE"), 1)]);
        assert_eq!(overdue(9_000), []);
        assert_eq!(admit("UNAVAILABLE", 9_000), Some(0));
        assert_eq!(sampled.untold.load(Ordering::Relaxed), 0);
    }
}
