//! What is to be said next to one caller, whatever it goes over; and when a stream ends.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use edge::StillProven;
use kernel::Error;
use serde::Serialize;
use tokio::time::Instant;
use tracing::warn;

use crate::service::live::{Follower, Live, LivePlace, Told};

/// A silent stream says so often that it is there, and how far it has come.
pub(super) const HEARTBEAT: Duration = Duration::from_secs(15);
/// How often it is looked for partitions that were added, whether there is much to tell or nothing.
const LOOKS_EVERY: Duration = HEARTBEAT;
/// How often a credential is looked at again.
const PROVEN_FOR: Duration = if cfg!(test) { Duration::from_millis(50) } else { Duration::from_secs(5) };

/// How long a caller is waited for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Patience(Duration);

impl Patience {
    const PARTS: u32 = 5;

    /// What the work gives; none where it takes too long. It is waited for in parts: where the server itself stood still, only
    /// one of them is gone.
    pub(super) async fn with<T>(self, work: impl Future<Output = T>) -> Option<T> {
        let mut work = pin!(work);
        for _ in 0..Self::PARTS {
            if let Ok(done) = tokio::time::timeout(self.0 / Self::PARTS, work.as_mut()).await {
                return Some(done);
            }
        }
        None
    }
}

/// Why a stream ends.
#[derive(Debug, Clone, Serialize)]
pub(super) struct End {
    pub(super) code: &'static str,
    message: String,
    /// After how long to connect again; missing where that would change nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_ms: Option<u64>,
    #[serde(skip)]
    pub(super) close: u16,
}

impl End {
    pub(super) fn new(code: &'static str, close: u16, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), retry_ms: None, close }
    }
}

/// What is to be said next.
pub(super) enum Next {
    Told(Told),
    Heartbeat,
    End(End),
}

/// Whether a stream may go on. Looking at it takes no time, so it is done beside whatever is waited for.
struct Standing {
    place: LivePlace,
    still_proven: StillProven,
    ends_at: Instant,
    proven_until: Instant,
}

impl Standing {
    /// When to look again.
    fn due(&self) -> Instant {
        self.ends_at.min(self.proven_until)
    }

    fn ended(&mut self) -> Option<End> {
        let now = Instant::now();
        if now >= self.ends_at {
            let message = "a stream lasts so long; connect again";
            return Some(self.again(End::new("REAUTHENTICATE", 1001, message)));
        }
        if now >= self.proven_until {
            if !self.still_proven.may_read() {
                let message = "the credential is no longer good; connect again with another";
                return Some(End::new("CREDENTIAL_ENDED", 1008, message));
            }
            self.proven_until = now + PROVEN_FOR;
        }
        None
    }

    fn again(&self, end: End) -> End {
        End { retry_ms: Some(self.place.retry_ms), ..end }
    }
}

/// A stream to one caller.
pub(super) struct Feed {
    live: Arc<Live>,
    standing: Standing,
    follower: Follower,
    silent_until: Instant,
    looks_at: Instant,
    /// Why it ended; a caller who went away says nothing.
    ended: Option<&'static str>,
}

impl Drop for Feed {
    fn drop(&mut self) {
        self.live.metrics.ended(self.ended.unwrap_or("GONE"));
    }
}

impl Feed {
    /// It begins with a heartbeat, so that a caller who is cut off before the first message can go on too.
    pub(super) fn new(
        live: Arc<Live>,
        place: LivePlace,
        still_proven: StillProven,
        follower: Follower,
    ) -> Self {
        let now = Instant::now();
        let ends_at = now + Duration::from_secs(live.settings().max_seconds);
        let standing = Standing { place, still_proven, ends_at, proven_until: now + PROVEN_FOR };
        Self { live, standing, follower, silent_until: now, looks_at: now, ended: None }
    }

    /// After how long the caller is to come back.
    pub(super) fn retry_ms(&self) -> u64 {
        self.standing.place.retry_ms
    }

    /// How long a caller may take nothing while there is more.
    pub(super) fn patience(&self) -> Patience {
        Patience(Duration::from_secs(self.live.settings().slow_after_seconds))
    }

    /// From where a later stream goes on after what was given last.
    pub(super) fn position(&self) -> String {
        self.follower.position()
    }

    /// Notes why it ends.
    pub(super) fn end(&mut self, end: &End) {
        self.ended = Some(end.code);
    }

    pub(super) fn slow(&self) -> End {
        let seconds = self.live.settings().slow_after_seconds;
        let message =
            format!("nothing was taken for {seconds} s while there was more; go on from the last id");
        self.standing.again(End::new(edge::streams::STREAM_TOO_SLOW.name, 1008, message))
    }

    /// What comes next. It may be dropped at any time.
    pub(super) async fn next(&mut self) -> Next {
        loop {
            // A timer may be late by a moment, and a stream with much to tell would never be.
            if let Some(end) = self.standing.ended() {
                return Next::End(end);
            }
            let due = self.silent_until.min(self.looks_at);
            if due <= Instant::now() {
                match self.due().await {
                    Some(next) => return next,
                    None => continue,
                }
            }
            let found = {
                let Self { live, standing, follower, .. } = &mut *self;
                // A slow log is not asked again from the start whenever a credential is looked at.
                let mut coming = pin!(follower.next());
                loop {
                    tokio::select! {
                        biased;
                        () = live.stop.cancelled() => {
                            let message = "the server stops; connect again";
                            return Next::End(standing.again(End::new("SERVER_STOPPING", 1001, message)));
                        }
                        () = tokio::time::sleep_until(standing.due()) => {
                            if let Some(end) = standing.ended() {
                                return Next::End(end);
                            }
                        }
                        () = tokio::time::sleep_until(due) => break None,
                        found = coming.as_mut() => break Some(found),
                    }
                }
            };
            match found {
                None => {}
                Some(Ok(Some(told))) => return self.told(told),
                Some(Ok(None)) => return Next::End(End::new("END", 1000, "this was all")),
                Some(Err(error)) => return Next::End(self.failed(&error)),
            }
        }
    }

    /// What comes next and is here already.
    pub(super) fn queued(&mut self) -> Option<Next> {
        let told = self.follower.queued()?;
        Some(self.told(told))
    }

    fn told(&mut self, told: Told) -> Next {
        if matches!(told, Told::Message { .. }) {
            self.live.metrics.told(1);
        }
        self.silent_until = Instant::now() + HEARTBEAT;
        Next::Told(told)
    }

    /// Looks for added partitions, and says that it is there where it was silent for long.
    async fn due(&mut self) -> Option<Next> {
        let now = Instant::now();
        if let Err(error) = self.follower.refresh().await {
            return Some(Next::End(self.failed(&error)));
        }
        self.looks_at = now + LOOKS_EVERY;
        if now < self.silent_until {
            return None;
        }
        self.silent_until = now + HEARTBEAT;
        Some(Next::Heartbeat)
    }

    /// Callers are told what they can do; what exactly broke is for the log.
    fn failed(&self, error: &Error) -> End {
        warn!(error = %error.chain(), "a stream of market data ends, because its topics cannot be read");
        self.standing.again(End::new(error.code().name, 1011, "the topics cannot be read now; connect again"))
    }
}
