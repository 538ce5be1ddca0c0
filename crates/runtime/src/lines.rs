//! What callers ask for: a model by name and alias, or by name and version; and the version that answers it now.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use kernel::{Error, ErrorCode, Result, Scope, TenantId, codes};
use models::registered::CHAMPION;
use parking_lot::Mutex;

use crate::shelf::{Place, millis};

const ALIAS_BYTES_MAX: usize = 255;

/// Which version of a model.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Selector {
    /// The one that an alias points at.
    Alias(String),
    /// This one.
    Version(u64),
}

impl Default for Selector {
    fn default() -> Self {
        Self::Alias(CHAMPION.to_owned())
    }
}

impl Selector {
    /// What a request names, or the champion where it names nothing.
    ///
    /// # Errors
    /// As [`Selector::parse`].
    pub fn asked(text: Option<&str>) -> Result<Self> {
        text.map(Self::parse).transpose().map(Option::unwrap_or_default)
    }

    /// Reads a number as a version and anything else as an alias.
    ///
    /// # Errors
    /// `VALIDATION_ERROR` for what can be neither.
    pub fn parse(text: &str) -> Result<Self> {
        let refused = |message| Error::new(codes::VALIDATION_ERROR, message).with_field("version");
        if text.starts_with(|first: char| first.is_ascii_digit()) {
            let number = text.parse().ok().filter(|version| *version > 0);
            return number.map(Self::Version).ok_or_else(|| refused("is a number from 1, or an alias"));
        }
        if text.is_empty() || text.len() > ALIAS_BYTES_MAX || text.contains(char::is_control) {
            return Err(refused("is a number from 1, or an alias"));
        }
        Ok(Self::Alias(text.to_owned()))
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Alias(alias) => formatter.write_str(alias),
            Self::Version(version) => version.fmt(formatter),
        }
    }
}

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Asked {
    pub(crate) tenant: TenantId,
    pub(crate) model: String,
    pub(crate) selector: Selector,
}

impl Asked {
    pub(crate) fn new(scope: &Scope, model: &str, selector: Selector) -> Self {
        Self { tenant: scope.tenant().clone(), model: model.to_owned(), selector }
    }
}

/// A version that could not be loaded. The next try is later.
#[derive(Debug, Clone)]
pub(crate) struct Refused {
    pub(crate) version: u64,
    code: ErrorCode,
    message: String,
    pub(crate) until: Duration,
}

impl Refused {
    pub(crate) fn new(version: u64, error: &Error, until: Duration) -> Self {
        Self { version, code: error.code(), message: error.message().to_owned(), until }
    }

    pub(crate) fn error(&self) -> Error {
        Error::new(self.code, self.message.clone())
    }
}

/// One thing that is asked for, and what answers it.
#[derive(Debug, Default)]
pub(crate) struct Line {
    serving: Mutex<Option<Place>>,
    pub(crate) refused: Mutex<Option<Refused>>,
    /// Who loads; others wait for them.
    pub(crate) turn: tokio::sync::Mutex<()>,
    asked_ms: AtomicU64,
}

impl Line {
    pub(crate) fn serving(&self) -> Option<Place> {
        self.serving.lock().clone()
    }

    /// From now on `place` answers; whether another did before.
    pub(crate) fn serve(&self, place: &Place) -> bool {
        let before = self.serving.lock().replace(place.clone());
        *self.refused.lock() = None;
        before.is_some_and(|before| before != *place)
    }

    /// An earlier version answers, and why the newest does not stays noted.
    pub(crate) fn fall_back(&self, place: &Place) {
        *self.serving.lock() = Some(place.clone());
    }

    /// Why the version is not tried now.
    pub(crate) fn refused(&self, version: u64, now: Duration) -> Option<Error> {
        let refused = self.refused.lock();
        refused
            .as_ref()
            .filter(|refused| refused.version == version && refused.until > now)
            .map(Refused::error)
    }
}

/// Everything that is asked for.
#[derive(Debug, Default)]
pub(crate) struct Lines(Mutex<HashMap<Asked, Arc<Line>>>);

impl Lines {
    /// The line, and notes that it was asked for.
    pub(crate) fn get(&self, asked: &Asked, now: Duration) -> Option<Arc<Line>> {
        let line = self.0.lock().get(asked).cloned()?;
        line.asked_ms.store(millis(now), Ordering::Relaxed);
        Some(line)
    }

    /// The line, without counting as asking for it.
    pub(crate) fn peek(&self, asked: &Asked) -> Option<Arc<Line>> {
        self.0.lock().get(asked).cloned()
    }

    /// The line of something that is there.
    pub(crate) fn get_or_make(&self, asked: &Asked, now: Duration) -> Arc<Line> {
        let line = Arc::clone(self.0.lock().entry(asked.clone()).or_default());
        line.asked_ms.store(millis(now), Ordering::Relaxed);
        line
    }

    /// Those of a tenant.
    pub(crate) fn of(&self, tenant: &TenantId) -> Vec<(Asked, Arc<Line>)> {
        let lines = self.0.lock();
        let of_tenant = lines.iter().filter(|(asked, _)| asked.tenant == *tenant);
        of_tenant.map(|(asked, line)| (asked.clone(), Arc::clone(line))).collect()
    }

    pub(crate) fn remove(&self, asked: &Asked) {
        self.0.lock().remove(asked);
    }

    /// All of them, without those that nobody asked for since.
    pub(crate) fn sweep(&self, since: Duration) -> Vec<(Asked, Arc<Line>)> {
        let mut lines = self.0.lock();
        lines.retain(|_, line| line.asked_ms.load(Ordering::Relaxed) >= millis(since));
        lines.iter().map(|(asked, line)| (asked.clone(), Arc::clone(line))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_a_version_and_a_word_an_alias() {
        assert_eq!(Selector::parse("12").unwrap(), Selector::Version(12));
        assert_eq!(Selector::parse("canary").unwrap(), Selector::Alias("canary".to_owned()));
        assert_eq!(Selector::default().to_string(), "champion");
        for bad in ["", "0", "1x", "99999999999999999999", "a\n", &"a".repeat(256)] {
            assert!(Selector::parse(bad).is_err(), "{bad}");
        }
    }
}
