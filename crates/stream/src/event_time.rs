//! Event time: how far a tenant's events have come in a partition, and what is not believed.
//!
//! The watermark of a tenant in a partition is the newest time that was believed, less a delay for what comes out of
//! order. Each tenant has its own, so that nobody's clock moves anybody else's windows.
//!
//! A time is believed unless it is more than `future_limit_ms` after everything known: the newest time before it, and
//! what the newest [`Punctuation`] said the time is. Such an event is held. It goes to the dead letters as
//! [`TOO_FAR_AHEAD`] when an event in time comes after it; it is processed after all when a punctuation says that
//! the time has come, or when `believed_run` events in a row were that far ahead, as after a gap that nobody
//! marked. All of that depends on the log alone.
//!
//! A punctuation is an event that whoever runs the stream writes to the log: what the time is, and whether the tenant
//! was silent. A silent tenant's watermark goes on with it, so that its windows close; a replay sees the same.

use kernel::{Event, Result, TenantId, Timestamp, codes};
use serde::{Deserialize, Serialize};

/// The type of a punctuation.
pub const PUNCTUATION: &str = "stream.punctuation";

/// The code of a dead letter whose time was not believed.
pub const TOO_FAR_AHEAD: &str = "TOO_FAR_AHEAD";

const SOURCE: &str = "/watershed/stream";

/// How event time is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventTime {
    /// How much older than the newest an event may be and still be in time, in milliseconds.
    pub delay_ms: i64,
    /// How far ahead of everything known an event may be, in milliseconds; none for any.
    pub future_limit_ms: Option<i64>,
    /// After so many events in a row that were further ahead, they are believed; 0 for never.
    pub believed_run: usize,
}

impl Default for EventTime {
    /// Thirty seconds of disorder, an hour ahead, believed after 64.
    fn default() -> Self {
        Self { delay_ms: 30_000, future_limit_ms: Some(60 * 60 * 1_000), believed_run: 64 }
    }
}

/// What the writer of a stream says about time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Punctuation {
    /// For which partition; others pass it over.
    pub partition: u32,
    /// What the time is, in milliseconds since 1970.
    pub now_ms: i64,
    /// Whether the tenant sent nothing for a while.
    pub is_idle: bool,
}

impl Punctuation {
    /// As an event of `tenant`. `key` chooses the partition that the log puts it in.
    ///
    /// # Errors
    /// `INTERNAL_ERROR` when it has no JSON form.
    pub fn event(&self, tenant: &TenantId, key: &str) -> Result<Event> {
        let time = Timestamp::from_millisecond(self.now_ms).map_err(kernel::Error::internal)?;
        Ok(Event {
            partition_key: Some(key.to_owned()),
            data: Some(serde_json::value::to_raw_value(self).map_err(kernel::Error::internal)?.into()),
            ..Event::new(
                tenant,
                format!("{}-{}-{key}", self.partition, self.now_ms),
                SOURCE,
                PUNCTUATION,
                time,
            )
        })
    }

    /// What an event says, where it is one.
    ///
    /// # Errors
    /// `INVALID_EVENT` when it says so and is not.
    pub fn of(event: &Event) -> Result<Option<Self>> {
        if event.kind != PUNCTUATION {
            return Ok(None);
        }
        if event.source != SOURCE {
            let message = format!("only `{SOURCE}` writes `{PUNCTUATION}`");
            return Err(kernel::Error::new(codes::INVALID_EVENT, message).with_field("source"));
        }
        event.data_as().map(Some)
    }
}

/// How far one tenant has come in one partition.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Tide {
    /// The newest time that was believed.
    newest_ms: Option<i64>,
    /// What the newest punctuation said the time is.
    told_ms: Option<i64>,
}

impl Tide {
    /// No event is expected to be older; `i64::MIN` before the first.
    pub(crate) fn watermark_ms(&self, rule: EventTime) -> i64 {
        self.newest_ms.map_or(i64::MIN, |newest_ms| newest_ms.saturating_sub(rule.delay_ms))
    }

    /// Whether the time is further ahead than is believed.
    pub(crate) fn is_ahead(&self, rule: EventTime, time_ms: i64) -> bool {
        let known = self.newest_ms.max(self.told_ms);
        let (Some(known), Some(limit_ms)) = (known, rule.future_limit_ms) else { return false };
        time_ms > known.saturating_add(limit_ms)
    }

    /// Takes in the time of an event.
    pub(crate) fn believe(&mut self, time_ms: i64) {
        self.newest_ms = self.newest_ms.max(Some(time_ms));
    }

    /// Takes in what a punctuation says the time is.
    pub(crate) fn hear(&mut self, now_ms: i64) {
        self.told_ms = self.told_ms.max(Some(now_ms));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_near_is_believed() {
        let rule = EventTime { delay_ms: 10, future_limit_ms: Some(100), believed_run: 3 };
        let mut tide = Tide::default();
        assert_eq!(tide.watermark_ms(rule), i64::MIN);
        assert!(!tide.is_ahead(rule, i64::MAX), "nothing is known yet");
        tide.believe(1_000);
        let check = |tide: Tide, time_ms: i64, is_ahead: bool| {
            assert_eq!(tide.is_ahead(rule, time_ms), is_ahead, "{time_ms}");
        };
        check(tide, 1_100, false);
        check(tide, 1_101, true);
        tide.hear(5_000);
        check(tide, 5_100, false);
        assert_eq!(tide.watermark_ms(rule), 990, "the time alone moves no watermark");
        tide.believe(6_000);
        assert_eq!(tide.watermark_ms(rule), 5_990);
        tide.believe(100);
        assert_eq!(tide.watermark_ms(rule), 5_990, "it never goes back");
    }
}
