//! A start beside servers that are not there yet: it waits for them, says what for, and ends when it waited enough.
//!
//! It refuses to wait for what time does not mend: a wrong setting, a schema that is too old or too new.

use std::time::Duration;

use kernel::{Entropy, Error, ErrorKind, Result};
use tracing::{info, warn};

use crate::app::Ambient;
use crate::config::StorageSettings;

const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// Tries until it succeeds, or until `storage.startup_timeout_secs` have passed since the first try began. What is
/// being tried then is waited for: opening may take long because there is much to read.
///
/// # Errors
/// The last one, saying how long was waited; at once where waiting cannot help.
pub(crate) async fn patiently<T>(
    settings: &StorageSettings,
    ambient: &Ambient,
    mut open: impl AsyncFnMut() -> Result<T>,
) -> Result<T> {
    let needs_servers = settings.chosen().needs_servers();
    let limit = Duration::from_secs(if needs_servers { settings.startup_timeout_secs } else { 0 });
    let began = ambient.clock.elapsed();
    let (mut pause, mut told) = (FIRST_PAUSE, String::new());
    loop {
        let error = match open().await {
            Ok(opened) => {
                if !told.is_empty() {
                    info!("every server that the start needs answers");
                }
                return Ok(opened);
            }
            Err(error) if error.kind() == ErrorKind::Unavailable && !limit.is_zero() => error,
            Err(error) => return Err(error),
        };
        let waited = ambient.clock.elapsed().saturating_sub(began);
        if waited >= limit {
            let message = format!("{}; gave up after {} s", error.message(), waited.as_secs());
            return Err(Error::new(error.code(), message).with_source(error));
        }
        let reason = error.chain();
        if reason != told {
            warn!(
                reason,
                limit_secs = limit.as_secs(),
                "a server that the start needs does not answer, waiting"
            );
            told = reason;
        }
        tokio::time::sleep(jittered(pause, ambient.entropy.as_ref()).min(limit.saturating_sub(waited))).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// Half of the pause to all of it, so that replicas that start together do not ask together.
fn jittered(pause: Duration, entropy: &dyn Entropy) -> Duration {
    let half_ms = u64::try_from(pause.as_millis() / 2).unwrap_or(u64::MAX).max(1);
    Duration::from_millis(half_ms + entropy.next_u64() % half_ms)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use kernel::{ErrorCode, ManualClock, SeededEntropy, Timestamp, codes};

    use super::*;
    use crate::config::Engine;

    /// Opening that fails so often, a second each time: how often it was tried, and the outcome.
    async fn check(failures: u32, code: ErrorCode, engine: Engine, limit_secs: u64) -> (u32, Result<()>) {
        let clock = Arc::new(ManualClock::at(Timestamp::UNIX_EPOCH));
        let ambient =
            Ambient { clock: Arc::clone(&clock) as Arc<_>, entropy: Arc::new(SeededEntropy::new(1)) };
        let mut settings = StorageSettings { startup_timeout_secs: limit_secs, ..StorageSettings::default() };
        (settings.records, settings.log) = (engine, engine);
        let mut tries = 0;
        let opened = patiently(&settings, &ambient, async || {
            tries += 1;
            clock.advance(Duration::from_secs(1));
            if tries > failures { Ok(()) } else { Err(Error::new(code, "is away")) }
        });
        let opened = opened.await;
        (tries, opened)
    }

    #[tokio::test(start_paused = true)]
    async fn it_waits_for_what_may_come_and_not_for_ever() {
        let (tries, opened) = check(3, codes::UNAVAILABLE, Engine::Postgres, 60).await;
        assert_eq!((tries, opened.is_ok()), (4, true));
        let (tries, opened) = check(99, codes::TIMED_OUT, Engine::Postgres, 5).await;
        assert_eq!((tries, opened.unwrap_err().message()), (5, "is away; gave up after 5 s"));
        for (code, engine, limit_secs) in [
            (codes::UNAVAILABLE, Engine::Postgres, 0),
            (codes::CONFLICT, Engine::Postgres, 60),
            (codes::UNAVAILABLE, Engine::Embedded, 60),
        ] {
            let (tries, opened) = check(99, code, engine, limit_secs).await;
            assert_eq!((tries, opened.unwrap_err().message()), (1, "is away"), "{code:?} {engine:?}");
        }
    }
}
