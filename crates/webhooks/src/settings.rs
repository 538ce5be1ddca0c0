//! The `webhooks` section of the configuration.

use std::time::Duration;

use kernel::{Error, Result, codes};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::addresses::Allowed;
use crate::signing::Keys;

/// Messages about what happened, sent to addresses that tenants name.
#[derive(Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct WebhookSettings {
    /// Whether this server looks for what happened and delivers. Webhooks can be made and changed in any case.
    pub enabled: bool,
    /// Send to addresses that are not public: private, loopback, link-local and metadata addresses. Leave it off where
    /// others than the operator may make webhooks.
    pub allow_private: bool,
    /// Send over plain http too.
    pub allow_http: bool,
    /// What the secrets of webhooks are derived from, at least 32 characters each, the same on every replica. New
    /// webhooks take the first; those made under another go on while it is listed. Where missing, and records are kept in
    /// the data folder, one is made there in the file `webhook-key`.
    #[serde(skip_serializing)]
    pub secret_keys: Vec<String>,
    /// Seconds that a receiver has to answer, 60 at most.
    pub timeout_secs: u64,
    /// Attempts before a delivery is given up and becomes a dead letter.
    pub max_attempts: u32,
    /// Seconds before the second attempt; doubled for each one after, and varied by half.
    pub retry_backoff_secs: u64,
    /// The longest pause between two attempts, in seconds.
    pub retry_backoff_max_secs: u64,
    /// Days that delivered and dead deliveries are kept.
    pub keep_days: u32,
    /// `trending.changed`: seconds between two looks, and so between two messages at least.
    pub trending_interval_secs: u64,
    /// `trending.changed`: how many of the trending list are looked at, from the top.
    pub trending_top: usize,
    /// `trending.changed`: how many of them must be new since the last message.
    pub trending_new_min: usize,
    /// `errors.threshold`: seconds over which one server counts a tenant's requests.
    pub errors_window_secs: u64,
    /// `errors.threshold`: the share of a tenant's requests that failed (500 and more), 0 to 1.
    pub errors_ratio: f64,
    /// `errors.threshold`: fewer requests in the window say nothing.
    pub errors_requests_min: u64,
    /// `errors.threshold`: seconds between two messages at least, over all replicas.
    pub errors_pause_secs: u64,
}

impl Default for WebhookSettings {
    fn default() -> Self {
        Self {
            enabled: true,
            allow_private: false,
            allow_http: false,
            secret_keys: Vec::new(),
            timeout_secs: 10,
            max_attempts: 8,
            retry_backoff_secs: 5,
            retry_backoff_max_secs: 3_600,
            keep_days: 7,
            trending_interval_secs: 300,
            trending_top: 10,
            trending_new_min: 1,
            errors_window_secs: 60,
            errors_ratio: 0.05,
            errors_requests_min: 20,
            errors_pause_secs: 900,
        }
    }
}

impl std::fmt::Debug for WebhookSettings {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut shown = formatter.debug_struct("WebhookSettings");
        shown
            .field("enabled", &self.enabled)
            .field("allow_private", &self.allow_private)
            .finish_non_exhaustive()
    }
}

impl WebhookSettings {
    /// Checks every value.
    ///
    /// # Errors
    /// `VALIDATION_ERROR` naming the setting.
    pub fn validate(&self) -> Result<()> {
        let require = |holds: bool, setting: &str, rule: &str| {
            let fault =
                || Error::new(codes::VALIDATION_ERROR, rule).with_field(format!("webhooks.{setting}"));
            if holds { Ok(()) } else { Err(fault()) }
        };
        Keys::new(&self.secret_keys)?;
        require((1..=60).contains(&self.timeout_secs), "timeout_secs", "must be between 1 and 60")?;
        require((1..=100).contains(&self.max_attempts), "max_attempts", "must be between 1 and 100")?;
        let longest = self.retry_backoff_max_secs;
        require((1..=86_400).contains(&longest), "retry_backoff_max_secs", "must be between 1 and 86400")?;
        let backoff = 1..=longest;
        let rule = "must be between 1 and retry_backoff_max_secs";
        require(backoff.contains(&self.retry_backoff_secs), "retry_backoff_secs", rule)?;
        require((1..=365).contains(&self.keep_days), "keep_days", "must be between 1 and 365")?;
        let top = 1..=100;
        require(top.contains(&self.trending_top), "trending_top", "must be between 1 and 100")?;
        let new = 1..=self.trending_top;
        require(
            new.contains(&self.trending_new_min),
            "trending_new_min",
            "must be between 1 and trending_top",
        )?;
        require(self.trending_interval_secs >= 1, "trending_interval_secs", "must be at least 1")?;
        require(self.errors_window_secs >= 1, "errors_window_secs", "must be at least 1")?;
        require(
            self.errors_ratio > 0.0 && self.errors_ratio <= 1.0,
            "errors_ratio",
            "must be over 0, and 1 at most",
        )?;
        require(self.errors_requests_min >= 1, "errors_requests_min", "must be at least 1")
    }

    /// Where requests may go.
    #[must_use]
    pub fn allowed(&self) -> Allowed {
        Allowed { private: self.allow_private, http: self.allow_http }
    }

    /// How long a receiver has.
    #[must_use]
    pub fn timeout(&self) -> Duration {
        Duration::from_secs(self.timeout_secs)
    }

    /// The pause after so many attempts, in milliseconds: exponential, varied by half with `random`.
    #[must_use]
    pub fn pause_ms(&self, attempts: u32, random: u64) -> u64 {
        let doubled = 2_u64.saturating_pow(attempts.saturating_sub(1));
        let pause_ms =
            self.retry_backoff_secs.saturating_mul(doubled).min(self.retry_backoff_max_secs) * 1_000;
        // From half of it to all of it: the largest is the one that the settings name.
        pause_ms / 2 + random % (pause_ms / 2 + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_name_the_setting() {
        let check = |change: fn(&mut WebhookSettings), field: Option<&str>| {
            let mut settings = WebhookSettings::default();
            change(&mut settings);
            let fault = settings.validate().err();
            let expected = field.map(|field| format!("webhooks.{field}"));
            assert_eq!(fault.as_ref().and_then(Error::field), expected.as_deref(), "{fault:?}");
        };
        check(|_| {}, None);
        check(|settings| settings.secret_keys = vec!["short".to_owned()], Some("secret_keys"));
        check(|settings| settings.timeout_secs = 61, Some("timeout_secs"));
        check(|settings| settings.max_attempts = 0, Some("max_attempts"));
        check(|settings| settings.retry_backoff_secs = 3_601, Some("retry_backoff_secs"));
        check(|settings| settings.retry_backoff_max_secs = 0, Some("retry_backoff_max_secs"));
        check(|settings| settings.keep_days = 0, Some("keep_days"));
        check(|settings| settings.trending_top = 0, Some("trending_top"));
        check(|settings| settings.trending_new_min = 11, Some("trending_new_min"));
        check(|settings| settings.errors_ratio = f64::NAN, Some("errors_ratio"));
    }

    #[test]
    fn pauses_double_up_to_the_longest() {
        let settings = WebhookSettings::default();
        let check = |attempts: u32, longest_ms: u64| {
            assert_eq!(settings.pause_ms(attempts, longest_ms / 2), longest_ms);
            assert_eq!(settings.pause_ms(attempts, 0), longest_ms / 2);
        };
        check(1, 5_000);
        check(2, 10_000);
        check(5, 80_000);
        check(20, 3_600_000);
        check(u32::MAX, 3_600_000);
    }
}
