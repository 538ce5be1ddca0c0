//! Durations and their percentiles, exactly: every one is kept, none is put into a bucket.

use std::time::Duration;

use serde::Serialize;

/// Durations in the order in which they were measured.
#[derive(Debug, Clone, Default)]
pub struct Latencies(Vec<Duration>);

/// What is told of many durations, in milliseconds. All 0 where there are none.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Summary {
    /// How many there are.
    pub count: usize,
    /// The mean.
    pub mean_ms: f64,
    /// The shortest.
    pub least_ms: f64,
    /// Half are at most this.
    pub p50_ms: f64,
    /// 90 % are at most this.
    pub p90_ms: f64,
    /// 95 % are at most this.
    pub p95_ms: f64,
    /// 99 % are at most this.
    pub p99_ms: f64,
    /// 99.9 % are at most this.
    pub p999_ms: f64,
    /// The longest.
    pub most_ms: f64,
}

impl Latencies {
    /// Adds one.
    pub fn add(&mut self, latency: Duration) {
        self.0.push(latency);
    }

    /// Takes those of another.
    pub fn extend(&mut self, other: Self) {
        self.0.extend(other.0);
    }

    /// The percentiles.
    #[must_use]
    pub fn summary(mut self) -> Summary {
        self.0.sort_unstable();
        let Some((first, last)) = self.0.first().zip(self.0.last()) else { return Summary::default() };
        let count = self.0.len();
        let at = |share: f64| milliseconds(self.0[rank(count, share)]);
        Summary {
            count,
            mean_ms: self.0.iter().copied().map(milliseconds).sum::<f64>() / count as f64,
            least_ms: milliseconds(*first),
            p50_ms: at(0.5),
            p90_ms: at(0.9),
            p95_ms: at(0.95),
            p99_ms: at(0.99),
            p999_ms: at(0.999),
            most_ms: milliseconds(*last),
        }
    }
}

/// The place of the smallest value that at least this share of all values do not exceed.
fn rank(count: usize, share: f64) -> usize {
    ((count as f64 * share).ceil() as usize).clamp(1, count) - 1
}

fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_of_the_nearest_rank() {
        let check = |milliseconds: &[u64], p50: f64, p99: f64| {
            let mut latencies = Latencies::default();
            milliseconds.iter().for_each(|value| latencies.add(Duration::from_millis(*value)));
            let summary = latencies.summary();
            assert_eq!((summary.count, summary.p50_ms, summary.p99_ms), (milliseconds.len(), p50, p99));
        };
        check(&[], 0.0, 0.0);
        check(&[7], 7.0, 7.0);
        check(&[4, 1, 3, 2], 2.0, 4.0);
        check(&(1..=200).collect::<Vec<_>>(), 100.0, 198.0);
    }
}
