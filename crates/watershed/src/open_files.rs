//! How many files the process may have open: each connection is one.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tracing::warn;

/// Files that are open beside the connections of callers: engines, views, the listening socket.
const RESERVED: u64 = 1_024;

/// Raises the limit as far as it is needed and may be raised. Returns how many connections there can be, `wanted` at
/// most.
pub(crate) fn make_room(wanted: usize) -> usize {
    let needed = (wanted as u64).saturating_add(RESERVED);
    let limit = getrlimit(Resource::Nofile);
    let enough = |most: Option<u64>| most.is_none_or(|most| most >= needed);
    if !enough(limit.current) {
        let most = limit.maximum.map_or(needed, |maximum| maximum.min(needed));
        let raised = Rlimit { current: Some(most), maximum: limit.maximum };
        // What is in force afterwards is looked at below.
        let _ = setrlimit(Resource::Nofile, raised);
    }
    let limit = getrlimit(Resource::Nofile).current;
    if enough(limit) {
        return wanted;
    }
    let files = limit.unwrap_or(u64::MAX);
    let room = usize::try_from(files.saturating_sub(RESERVED).max(files / 2)).unwrap_or(usize::MAX);
    let room = room.clamp(1, wanted);
    warn!(
        files,
        wanted, room, "the limit of open files (`ulimit -n`) is too low for `server.max_connections`"
    );
    room
}
