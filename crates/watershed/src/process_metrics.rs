//! Processor time and memory of the process, and what it may have of them, read when `/metrics` is.
//!
//! By the names of Prometheus' own clients. It tells nothing where Linux does not: without `/proc`. To add a figure: a line
//! in `encode`.

use std::fs::read_to_string;
use std::thread::available_parallelism;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

/// Linux tells processor time in hundredths of a second, whatever the machine.
const TICKS_PER_SECOND: f64 = 100.0;

/// Reads what the kernel says.
#[derive(Debug)]
pub(crate) struct ProcessMetrics;

impl Collector for ProcessMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        if let Some(ticks) = read_to_string("/proc/self/stat").ok().and_then(|stat| ticks(&stat)) {
            let counter = ConstCounter::new(ticks as f64 / TICKS_PER_SECOND);
            let help = "Processor time of all threads";
            counter.encode(encoder.encode_descriptor(
                "process_cpu_seconds",
                help,
                None,
                counter.metric_type(),
            )?)?;
        }
        let status = read_to_string("/proc/self/status").unwrap_or_default();
        let machine = read_to_string("/proc/meminfo").unwrap_or_default();
        // Within a container, the limit of its group, of the second version or the first.
        let group = read_to_string("/sys/fs/cgroup/memory.max")
            .or_else(|_| read_to_string("/sys/fs/cgroup/memory/memory.limit_in_bytes"))
            .unwrap_or_default();
        let gauges = [
            ("process_resident_memory_bytes", "Memory in use", bytes(&status, "VmRSS:")),
            ("process_memory_limit_bytes", "Memory that there is", limit(&machine, &group)),
            (
                "process_processors",
                "Processors that it may use",
                available_parallelism().ok().map(|count| count.get() as u64),
            ),
        ];
        for (name, help, value) in gauges {
            let Some(value) = value else { continue };
            let gauge = ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX));
            gauge.encode(encoder.encode_descriptor(name, help, None, gauge.metric_type())?)?;
        }
        Ok(())
    }
}

/// User and system time. The name of a program may hold spaces and brackets, so that fields are counted from its end.
fn ticks(stat: &str) -> Option<u64> {
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let field = |place: usize| fields.get(place)?.parse::<u64>().ok();
    Some(field(11)? + field(12)?)
}

/// A line such as `VmRSS:  1024 kB`.
fn bytes(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok()?.checked_mul(1_024)
}

/// The memory of the machine, or of the group where that is less.
fn limit(machine: &str, group: &str) -> Option<u64> {
    let machine = bytes(machine, "MemTotal:")?;
    Some(group.trim().parse().map_or(machine, |group: u64| group.min(machine)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_writes_is_read() {
        assert_eq!(ticks("42 (a) (b c) S 1 42 42 0 -1 4194304 100 0 0 0 250 50 0 0 20 0 3 0"), Some(300));
        assert_eq!(ticks("42 (a"), None);
        let status = "Name:\twatershed\nVmRSS:\t   2048 kB\nThreads:\t3\n";
        assert_eq!((bytes(status, "VmRSS:"), bytes(status, "VmSwap:")), (Some(2 << 20), None));
        let machine = "MemTotal:  4096 kB\nMemFree: 1 kB\n";
        assert_eq!(limit(machine, "max\n"), Some(4 << 20));
        assert_eq!(limit(machine, "1048576\n"), Some(1 << 20));
        assert_eq!(limit(machine, "9223372036854771712\n"), Some(4 << 20));
        assert_eq!(limit("", "1048576"), None);
    }
}
