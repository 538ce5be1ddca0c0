//! Where the log ends now, for who must not decide by a view that is behind it. It refuses to wait until a view is there.

use kernel::Result;
use store::{Appended, EventLog, Outcome};

/// The last place of each partition that has any.
pub(crate) async fn log_ends(log: &dyn EventLog) -> Result<Vec<Appended>> {
    let last = |extent: store::Extent| {
        let offset = extent.next.checked_sub(1)?;
        Some(Appended { partition: extent.partition, offset, outcome: Outcome::Duplicate })
    };
    Ok(log.extents(&edge::ingest::EVENTS).await?.into_iter().filter_map(last).collect())
}
