//! What the reads of one request may cost together: rows, their bytes, and bytes of the answer.
//!
//! A read of a page counts when it is done, so that reads that run at once may go beyond by a page each. It refuses the next
//! page; what was read by then stands.

use std::sync::atomic::{AtomicUsize, Ordering};

use kernel::{Error, Result, codes};

const ROWS_MAX: usize = 50_000;
const BYTES_MAX: usize = 128 << 20;
const ANSWER_BYTES_MAX: usize = 16 << 20;

/// What was spent, and what may be.
#[derive(Debug)]
pub struct Budget {
    rows: Purse,
    bytes: Purse,
    answer_bytes: Purse,
}

#[derive(Debug)]
struct Purse {
    most: usize,
    spent: AtomicUsize,
}

impl Purse {
    fn of(most: usize) -> Self {
        Self { most, spent: AtomicUsize::new(0) }
    }

    fn spend(&self, cost: usize) {
        self.spent.fetch_add(cost, Ordering::Relaxed);
    }

    fn is_empty(&self) -> bool {
        self.spent.load(Ordering::Relaxed) >= self.most
    }
}

impl Default for Budget {
    fn default() -> Self {
        Self::new(ROWS_MAX, BYTES_MAX, ANSWER_BYTES_MAX)
    }
}

impl Budget {
    pub(super) fn new(rows: usize, bytes: usize, answer_bytes: usize) -> Self {
        let [rows, bytes, answer_bytes] = [rows, bytes, answer_bytes].map(Purse::of);
        Self { rows, bytes, answer_bytes }
    }

    /// Passes while there is something left.
    pub(super) fn check(&self) -> Result<()> {
        if [&self.rows, &self.bytes, &self.answer_bytes].into_iter().any(Purse::is_empty) {
            let message =
                "this request has looked through as much as one may; ask for fewer rows or features at once";
            return Err(Error::new(codes::TOO_LARGE, message));
        }
        Ok(())
    }

    /// Counts the rows of a page, by their bytes.
    pub(super) fn read(&self, rows: impl Iterator<Item = usize>) {
        let (count, bytes) = rows.fold((0, 0), |(count, sum), bytes| (count + 1, sum + bytes));
        self.rows.spend(count);
        self.bytes.spend(bytes);
    }

    /// Counts the values of an answer, by their bytes.
    pub(super) fn answer(&self, values: impl Iterator<Item = usize>) {
        self.answer_bytes.spend(values.sum());
    }
}
