//! The engine keeps the rules of the log, as far as it declares them, on a real broker.

mod support;

use std::sync::Arc;

use store::EventLog;

fn log() -> impl AsyncFn() -> Arc<dyn EventLog> {
    let settings = support::settings(&support::shared());
    async move || support::open(&settings).event_log()
}

mod event_log {
    store::event_log_conformance!(crate::log());
}
