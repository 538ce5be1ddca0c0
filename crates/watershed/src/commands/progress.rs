//! The bar of a command that goes through stages.

use backup::Step;
use indicatif::ProgressBar;
use parking_lot::Mutex;

use crate::terminal;

/// Shows the stage that is at work.
#[derive(Default)]
pub(super) struct Progress(Mutex<Option<(&'static str, ProgressBar)>>);

impl Progress {
    /// Shows a step; the first of a stage begins another bar.
    pub(super) fn tell(&self, step: Step) {
        let mut shown = self.0.lock();
        if shown.as_ref().is_none_or(|(what, _)| *what != step.what) {
            if let Some((_, bar)) = shown.take() {
                bar.finish_and_clear();
            }
            let bar = if step.what == "verifying" { terminal::bytes_bar } else { terminal::steps_bar };
            *shown = Some((step.what, bar(step.total).with_message(step.what)));
        }
        if let Some((_, bar)) = &*shown {
            bar.set_length(step.total.max(step.done));
            bar.set_position(step.done);
        }
    }

    /// Takes the bar away.
    pub(super) fn end(&self) {
        if let Some((_, bar)) = self.0.lock().take() {
            bar.finish_and_clear();
        }
    }
}
