//! The machine: free disk, open files, memory, the clock, and who may write the folder.
//!
//! What cannot be found out is not told. To add a check: a function of what is read, in [`check`].

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use kernel::Timestamp;
use rustix::process::{Resource, getrlimit};

use crate::config::Config;
use crate::terminal;

const MIB: u64 = 1 << 20;
/// Below this the embedded engine soon refuses writes.
const LEAST_FREE_BYTES: u64 = 256 * MIB;
/// Connections and tables each take one.
const LEAST_OPEN_FILES: u64 = 1_024;
/// A small catalogue, its views and a training fit into it.
const LEAST_MEMORY_BYTES: u64 = 128 * MIB;

/// Tells what the machine has; returns what is wrong.
pub(super) fn check(config: &Config, now: Timestamp) -> Vec<String> {
    let mut wrong = Vec::new();
    let open_files = getrlimit(Resource::Nofile).current;
    let told = open_files.map_or_else(|| "without a limit".to_owned(), |files| files.to_string());
    terminal::say(format!("open files      {told}"));
    wrong.extend(open_files.and_then(too_few_files));
    if let Some(bytes) = available_memory_bytes() {
        terminal::say(format!("free memory     {} MiB", bytes / MIB));
        wrong.extend(too_little(bytes, LEAST_MEMORY_BYTES, "memory"));
    }
    if config.storage.chosen().needs_folder() {
        folder(&config.storage.data_dir, now, &mut wrong);
    }
    wrong
}

fn folder(path: &Path, now: Timestamp, wrong: &mut Vec<String>) {
    if let Ok(found) = rustix::fs::statvfs(path) {
        let bytes = found.f_bavail.saturating_mul(found.f_frsize);
        terminal::say(format!("free disk       {} MiB", bytes / MIB));
        wrong.extend(too_little(bytes, LEAST_FREE_BYTES, "disk"));
    }
    if let Ok(found) = std::fs::metadata(path) {
        wrong.extend(open_to_all(found.permissions().mode(), path));
    }
    let made = std::fs::metadata(path.join("FORMAT")).and_then(|found| found.modified());
    let made = made.ok().and_then(|time| Timestamp::try_from(time).ok());
    terminal::say(format!("clock           {now}"));
    wrong.extend(made.and_then(|made| set_back(now, made)));
}

fn too_few_files(limit: u64) -> Option<String> {
    let message =
        format!("only {limit} files may be open at once; raise the limit to {LEAST_OPEN_FILES} or more");
    (limit < LEAST_OPEN_FILES).then_some(message)
}

fn too_little(bytes: u64, least_bytes: u64, what: &str) -> Option<String> {
    let message =
        format!("only {} MiB of {what} are free; make room for {} or more", bytes / MIB, least_bytes / MIB);
    (bytes < least_bytes).then_some(message)
}

fn open_to_all(mode: u32, path: &Path) -> Option<String> {
    let message = format!("everyone on the machine may write `{0}`; run `chmod o-w {0}`", path.display());
    (mode & 0o002 != 0).then_some(message)
}

fn set_back(now: Timestamp, made: Timestamp) -> Option<String> {
    let message =
        format!("the clock shows {now}, which is before the folder was made ({made}); set the clock");
    (now < made).then_some(message)
}

fn available_memory_bytes() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes << 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_is_told() {
        let check = |found: Option<String>, part: Option<&str>| match (&found, part) {
            (None, None) => {}
            (Some(found), Some(part)) if found.contains(part) => {}
            _ => panic!("found {found:?}, expected {part:?}"),
        };
        check(too_few_files(1_023), Some("1023 files"));
        check(too_few_files(1_024), None);
        check(too_little(255 * MIB, LEAST_FREE_BYTES, "disk"), Some("255 MiB of disk"));
        check(too_little(256 * MIB, LEAST_FREE_BYTES, "disk"), None);
        check(open_to_all(0o777, Path::new("data")), Some("chmod o-w data"));
        check(open_to_all(0o755, Path::new("data")), None);
        let (early, late) = (Timestamp::UNIX_EPOCH, Timestamp::from_second(1_700_000_000).unwrap());
        check(set_back(early, late), Some("set the clock"));
        check(set_back(late, early), None);
    }
}
