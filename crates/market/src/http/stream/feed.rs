//! What is to be said next to one caller, whatever it goes over; and when a stream ends.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use edge::StillProven;
use kernel::Error;
use serde::Serialize;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::service::live::{Follower, Live, LivePlace, Retry, Told};

/// A silent stream says so often that it is there, and how far it has come.
pub(super) const HEARTBEAT: Duration = Duration::from_secs(15);
/// How often it is looked for partitions that were added, whether there is much to tell or nothing.
const LOOKS_EVERY: Duration = HEARTBEAT;
/// How often a credential is looked at again.
const PROVEN_FOR: Duration = if cfg!(test) { Duration::from_millis(50) } else { Duration::from_secs(5) };

/// How long a caller is waited for.
#[derive(Debug, Clone, Copy)]
struct Patience(Duration);

impl Patience {
    const PARTS: u32 = 5;

    /// What the work gives; none where it takes too long. It is waited for in parts: where the server itself stood still, only
    /// one of them is gone.
    async fn with<T>(self, work: impl Future<Output = T>) -> Option<T> {
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
pub(super) struct Standing {
    stop: CancellationToken,
    place: LivePlace,
    still_proven: StillProven,
    ends_at: Instant,
    proven_until: Instant,
    /// How long a caller may take nothing while there is more.
    slow_after_seconds: u64,
}

impl Standing {
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

    /// What the work gives, unless the stream ends before it does. The work goes on whenever a credential is looked at.
    async fn beside<T>(&mut self, work: impl Future<Output = T>) -> Result<T, End> {
        let mut work = pin!(work);
        loop {
            let due = self.ends_at.min(self.proven_until);
            tokio::select! {
                biased;
                () = self.stop.cancelled() => {
                    let message = "the server stops; connect again";
                    return Err(self.again(End::new("SERVER_STOPPING", 1001, message)));
                }
                () = tokio::time::sleep_until(due) => {
                    if let Some(end) = self.ended() {
                        return Err(end);
                    }
                }
                done = work.as_mut() => return Ok(done),
            }
        }
    }

    /// What comes of giving a caller something, unless the stream ends before, or the caller takes nothing for too long.
    pub(super) async fn give<T>(&mut self, give: impl Future<Output = T>) -> Result<T, End> {
        let seconds = self.slow_after_seconds;
        let patience = Patience(Duration::from_secs(seconds));
        self.beside(patience.with(give)).await?.ok_or_else(|| {
            let message =
                format!("nothing was taken for {seconds} s while there was more; go on from the last id");
            self.again(End::new(edge::streams::STREAM_TOO_SLOW.name, 1008, message))
        })
    }

    fn again(&self, end: End) -> End {
        End { retry_ms: Some(self.place.retry_ms), ..end }
    }
}

/// What there is to tell one caller.
pub(super) struct Telling {
    live: Arc<Live>,
    follower: Follower,
    silent_until: Instant,
    looks_at: Instant,
    /// How often in a row it could not be looked for added partitions.
    failed_looks: u32,
}

impl Telling {
    /// From where a later stream goes on after what was given last.
    pub(super) fn position(&self) -> String {
        self.follower.position()
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

    /// Looks for added partitions; whether it was silent for so long that it is to say that it is there.
    async fn is_silent(&mut self) -> kernel::Result<bool> {
        let now = Instant::now();
        self.looks_at = match self.follower.refresh().await {
            Ok(()) => {
                self.failed_looks = 0;
                now + LOOKS_EVERY
            }
            Err(error) if Retry::USUAL.is_worth(&error, self.failed_looks) => {
                if self.failed_looks == 0 {
                    warn!(error = %error.chain(), "it cannot be looked for added partitions now, and is tried again");
                }
                self.failed_looks += 1;
                now + Retry::USUAL.pause
            }
            Err(error) => return Err(error),
        };
        if now < self.silent_until {
            return Ok(false);
        }
        self.silent_until = now + HEARTBEAT;
        Ok(true)
    }
}

/// A stream to one caller.
pub(super) struct Feed {
    standing: Standing,
    telling: Telling,
    /// Why it ended; a caller who went away says nothing.
    ended: Option<&'static str>,
}

impl Drop for Feed {
    fn drop(&mut self) {
        self.telling.live.metrics.ended(self.ended.unwrap_or("GONE"));
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
        let (now, settings) = (Instant::now(), live.settings());
        let standing = Standing {
            stop: live.stop.clone(),
            place,
            still_proven,
            ends_at: now + Duration::from_secs(settings.max_seconds),
            proven_until: now + PROVEN_FOR,
            slow_after_seconds: settings.slow_after_seconds,
        };
        let telling = Telling { live, follower, silent_until: now, looks_at: now, failed_looks: 0 };
        Self { standing, telling, ended: None }
    }

    /// After how long the caller is to come back.
    pub(super) fn retry_ms(&self) -> u64 {
        self.standing.place.retry_ms
    }

    /// What may end it while something is given, and what there is to give.
    pub(super) fn parts(&mut self) -> (&mut Standing, &mut Telling) {
        (&mut self.standing, &mut self.telling)
    }

    /// Notes why it ends.
    pub(super) fn end(&mut self, end: &End) {
        self.ended = Some(end.code);
    }

    /// What comes next. It may be dropped at any time.
    pub(super) async fn next(&mut self) -> Next {
        loop {
            // A timer may be late by a moment, and a stream with much to tell would never be.
            if let Some(end) = self.standing.ended() {
                return Next::End(end);
            }
            let Self { standing, telling, .. } = self;
            let due = telling.silent_until.min(telling.looks_at);
            if due <= Instant::now() {
                match standing.beside(telling.is_silent()).await {
                    Ok(Ok(true)) => return Next::Heartbeat,
                    Ok(Ok(false)) => continue,
                    Ok(Err(error)) => return Next::End(self.failed(&error)),
                    Err(end) => return Next::End(end),
                }
            }
            match standing.beside(tokio::time::timeout_at(due, telling.follower.next())).await {
                Ok(Err(_)) => {}
                Ok(Ok(Ok(Some(told)))) => return telling.told(told),
                Ok(Ok(Ok(None))) => return Next::End(End::new("END", 1000, "this was all")),
                Ok(Ok(Err(error))) => return Next::End(self.failed(&error)),
                Err(end) => return Next::End(end),
            }
        }
    }

    /// Callers are told what they can do; what exactly broke is for the log.
    fn failed(&self, error: &Error) -> End {
        warn!(error = %error.chain(), "a stream of market data ends, because its topics cannot be read");
        self.standing.again(End::new(error.code().name, 1011, "the topics cannot be read now; connect again"))
    }
}
