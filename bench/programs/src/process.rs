//! Processor time of a process, as Linux counts it.

use std::fs;
use std::io::{Error, ErrorKind, Result};

/// Linux tells processor time in hundredths of a second, whatever the machine.
const TICKS_PER_SECOND: f64 = 100.0;

/// User and system seconds of a process and all its threads since it began; of this one without a `pid`.
///
/// # Errors
/// When there is no such process.
pub fn processor_seconds(pid: Option<u32>) -> Result<f64> {
    let name = pid.map_or_else(|| "self".to_owned(), |pid| pid.to_string());
    let stat = fs::read_to_string(format!("/proc/{name}/stat"))?;
    ticks(&stat)
        .map(|ticks| ticks as f64 / TICKS_PER_SECOND)
        .ok_or_else(|| Error::new(ErrorKind::InvalidData, "the process table is not as it should be"))
}

/// The name of a program may hold spaces and brackets, so that fields are counted from its end.
fn ticks(stat: &str) -> Option<u64> {
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let field = |place: usize| fields.get(place)?.parse::<u64>().ok();
    Some(field(11)? + field(12)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found_behind_any_name() {
        let stat = "42 (a) (b c) S 1 42 42 0 -1 4194304 100 0 0 0 250 50 0 0 20 0 3 0";
        assert_eq!(ticks(stat), Some(300));
        assert_eq!(ticks("42 (a"), None);
        assert!(processor_seconds(None).is_ok());
        assert!(processor_seconds(Some(u32::MAX)).is_err());
    }
}
