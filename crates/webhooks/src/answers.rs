//! How many of each tenant's requests this server failed, over a window of time.
//!
//! A window that is over is taken by who asks for it; the next begins with the next request. Tenants are those of proven
//! credentials, so that callers cannot make the map grow.

use std::collections::BTreeMap;
use std::time::Duration;

use edge::middleware::AnswerWatch;
use kernel::TenantId;
use parking_lot::Mutex;

/// The requests of one tenant.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Window {
    /// By the clock's elapsed time; none before the first look.
    began: Option<Duration>,
    pub(crate) requests: u64,
    pub(crate) errors: u64,
}

/// The requests of every tenant.
#[derive(Debug, Default)]
pub struct AnswerCounts(Mutex<BTreeMap<TenantId, Window>>);

impl AnswerWatch for AnswerCounts {
    fn answered(&self, tenant: &TenantId, failed: bool) {
        let mut windows = self.0.lock();
        if !windows.contains_key(tenant) {
            windows.insert(tenant.clone(), Window::default());
        }
        if let Some(window) = windows.get_mut(tenant) {
            window.requests += 1;
            window.errors += u64::from(failed);
        }
    }
}

impl AnswerCounts {
    /// Takes the windows that are over, with how long each was. A window begins with the first look that sees it.
    pub(crate) fn over(&self, now: Duration, length: Duration) -> Vec<(TenantId, Window, Duration)> {
        let mut over = Vec::new();
        self.0.lock().retain(|tenant, window| {
            let began = *window.began.get_or_insert(now);
            let lasted = now.saturating_sub(began);
            let is_over = lasted >= length;
            if is_over {
                over.push((tenant.clone(), *window, lasted));
            }
            !is_over
        });
        over
    }

    /// Puts one back, to be told later.
    pub(crate) fn put_back(&self, tenant: TenantId, window: Window) {
        let mut windows = self.0.lock();
        let now = windows.entry(tenant).or_default();
        now.began = window.began;
        now.requests += window.requests;
        now.errors += window.errors;
    }
}
