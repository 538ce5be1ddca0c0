//! What became of the requests of a mixed load: a tally on each connection, their sum in one line of JSON.

use std::time::Duration;

use bench::latencies::{Latencies, Summary};
use serde::Serialize;

/// The width of a bucket of the timeline.
pub(super) const BUCKET: Duration = Duration::from_millis(100);
const FAILURES_SHOWN: usize = 5;

/// What became of the requests of one kind.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) good: Latencies,
    pub(super) good_count: u64,
    pub(super) refused: u64,
    pub(super) failed: u64,
    pub(super) over_limit: u64,
    pub(super) most: Duration,
}

#[derive(Debug, Serialize)]
pub(super) struct KindTold {
    pub(super) sent: u64,
    pub(super) good: u64,
    /// 503 that says when to come again.
    pub(super) refused: u64,
    /// Any other answer, or none.
    pub(super) failed: u64,
    /// Answers, good or not, that came after the limit.
    pub(super) over_limit: u64,
    /// The longest wait for any answer.
    pub(super) most_ms: f64,
    /// Of good answers, from when they were due.
    pub(super) latency: Summary,
}

#[derive(Debug, Serialize)]
pub(super) struct Told {
    /// When the first request was due, in milliseconds since 1970.
    pub(super) began_unix_ms: i64,
    pub(super) seconds: f64,
    pub(super) requests_per_second: f64,
    pub(super) recommend: KindTold,
    pub(super) write: KindTold,
    pub(super) entity: KindTold,
    /// Of good answers of every kind.
    pub(super) latency: Summary,
    /// From when a request was due to when it was sent.
    pub(super) late: Summary,
    pub(super) bucket_ms: u64,
    /// By the time of the answer: good reads, other reads, good writes, refused writes, failed writes.
    pub(super) timeline: Vec<[u32; 5]>,
    pub(super) failures: Vec<String>,
}

#[derive(Debug, Default)]
pub(super) struct Worker {
    pub(super) tallies: [Tally; 3],
    pub(super) late: Latencies,
    pub(super) timeline: Vec<[u32; 5]>,
    pub(super) acknowledged: Vec<u64>,
    pub(super) failures: Vec<String>,
}

/// The sum.
pub(super) fn told(workers: Vec<Worker>, began_unix_ms: i64, seconds: f64) -> Told {
    let mut all = Worker::default();
    for worker in workers {
        for (sum, tally) in all.tallies.iter_mut().zip(worker.tallies) {
            sum.good.extend(tally.good);
            sum.good_count += tally.good_count;
            sum.refused += tally.refused;
            sum.failed += tally.failed;
            sum.over_limit += tally.over_limit;
            sum.most = sum.most.max(tally.most);
        }
        all.late.extend(worker.late);
        if all.timeline.len() < worker.timeline.len() {
            all.timeline.resize(worker.timeline.len(), [0; 5]);
        }
        for (sums, counts) in all.timeline.iter_mut().zip(worker.timeline) {
            sums.iter_mut().zip(counts).for_each(|(sum, count)| *sum += count);
        }
        all.failures.extend(worker.failures);
    }
    all.failures.truncate(FAILURES_SHOWN);
    let mut latency = Latencies::default();
    let [recommend, write, entity] = all.tallies.map(|tally| {
        latency.extend(tally.good.clone());
        KindTold {
            sent: tally.good_count + tally.refused + tally.failed,
            good: tally.good_count,
            refused: tally.refused,
            failed: tally.failed,
            over_limit: tally.over_limit,
            most_ms: tally.most.as_secs_f64() * 1e3,
            latency: tally.good.summary(),
        }
    });
    Told {
        began_unix_ms,
        seconds,
        requests_per_second: (recommend.sent + write.sent + entity.sent) as f64 / seconds,
        recommend,
        write,
        entity,
        latency: latency.summary(),
        late: all.late.summary(),
        bucket_ms: BUCKET.as_millis() as u64,
        timeline: all.timeline,
        failures: all.failures,
    }
}

#[cfg(test)]
mod tests {
    use super::super::Kind;
    use super::*;

    #[test]
    fn tallies_are_summed() {
        let mut one = Worker { timeline: vec![[1, 0, 0, 0, 0]], ..Worker::default() };
        one.tallies[Kind::Write as usize] =
            Tally { refused: 2, most: Duration::from_millis(7), ..Tally::default() };
        let mut two = Worker { timeline: vec![[1, 0, 0, 0, 0], [0, 0, 3, 0, 0]], ..Worker::default() };
        two.tallies[Kind::Write as usize].good.add(Duration::from_millis(5));
        two.tallies[Kind::Write as usize].good_count = 1;
        let told = told(vec![one, two], 0, 2.0);
        assert_eq!((told.write.sent, told.write.good, told.write.refused), (3, 1, 2));
        assert_eq!((told.write.most_ms, told.latency.count, told.requests_per_second), (7.0, 1, 1.5));
        assert_eq!(told.timeline, [[2, 0, 0, 0, 0], [0, 0, 3, 0, 0]]);
    }
}
