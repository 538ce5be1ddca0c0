//! Sessions: windows that grow with what comes, until nothing came for a gap.
//!
//! An item is late when a session of it alone would have ended longer ago than the allowed lateness, whatever it
//! touches. So no two sessions of a key ever meet.
//!
//! A session is named by its key and its start. What comes late can join sessions that were passed on: the joined one
//! goes on with the revisions of the session that began first, and each other one gets a last revision that says it
//! is retracted. A start that was retracted never comes back, because items do not go away.

use super::panes::{Panes, Window};
use super::window::{Partial, WindowFold, WindowResult, close_due, late, revise};
use crate::Context;
use crate::operator::{Emit, Operator, Part, Site};

/// The sessions of every key.
#[derive(Debug)]
pub struct Sessions<A: Partial, F> {
    site: Site,
    gap_ms: i64,
    lateness_ms: i64,
    fold: F,
    panes: Panes<A>,
    results: Vec<WindowResult<A::Output>>,
}

impl<A: Partial, F> Sessions<A, F> {
    pub(crate) fn new(name: &'static str, gap_ms: i64, lateness_ms: i64, fold: F) -> Self {
        assert!(gap_ms > 0, "sessions have a positive gap");
        let lateness_ms = lateness_ms.max(0);
        // What is in time may reach back over a gap, and must find what it touches.
        let panes = Panes::new(lateness_ms.saturating_add(gap_ms));
        Self { site: Site::new(name), gap_ms, lateness_ms, fold, panes, results: Vec::new() }
    }

    /// Joins the item with the sessions that it touches; its own end where it is too late for that.
    fn join(&mut self, key: &[u8], time_ms: i64, item: &A::Item, context: &Context) -> Result<(), i64> {
        let (mut start_ms, mut end_ms) = (time_ms, time_ms.saturating_add(self.gap_ms));
        if self.panes.is_settled(time_ms, context.watermark_ms()) {
            return Err(end_ms);
        }
        let touches = |window: &&Window<A>| time_ms < window.end_ms && window.start_ms < end_ms;
        let touched: Vec<(i64, i64)> = self
            .panes
            .of(key)
            .iter()
            .filter(touches)
            .map(|window| (window.start_ms, window.end_ms))
            .collect();
        for (start, end) in &touched {
            start_ms = start_ms.min(*start);
            end_ms = end_ms.max(*end);
        }
        if let [(start, _)] = touched[..]
            && start == start_ms
            && let Some(window) = self.panes.get(key, start_ms)
        {
            // The common case: it goes on.
            window.end_ms = end_ms;
            window.partial.add(time_ms, item);
            // What was passed on has a timer for when it is forgotten, which may be after its new end.
            if !std::mem::replace(&mut window.is_pending, true) {
                self.panes.rearm(context.tenant(), key, start_ms);
            }
        } else {
            let mut joined = Window::new(start_ms, end_ms, A::default());
            for (start, end) in touched {
                let Some(mut window) = self.panes.remove(key, start) else { continue };
                if start == start_ms {
                    joined.revision = window.revision;
                } else if window.revision.is_some() {
                    let result = revise(key, &mut window, self.panes.settles_at_ms(end));
                    self.results.push(WindowResult { is_retracted: true, ..result });
                }
                joined.partial.merge(std::mem::take(&mut window.partial));
            }
            joined.partial.add(time_ms, item);
            self.panes.add(context.tenant(), key, joined);
        }
        if end_ms <= context.watermark_ms() {
            let settles_at_ms = self.panes.settles_at_ms(end_ms);
            if let Some(window) = self.panes.get(key, start_ms) {
                self.results.push(revise(key, window, settles_at_ms));
            }
        }
        Ok(())
    }
}

impl<A: Partial, F: WindowFold<A::Item>> Operator<A::Item> for Sessions<A, F> {
    type Out = WindowResult<A::Output>;

    fn push(&mut self, item: A::Item, context: &mut Context, emit: &mut Emit<'_, Self::Out>) {
        self.site.counts.taken += 1;
        let time_ms = self.fold.time_ms(&item);
        let mut key = context.key();
        self.fold.key(&item, &mut key);
        let outcome = self.join(&key, time_ms, &item, context);
        context.give_back(key);
        if let Err(end_ms) = outcome {
            self.site.counts.rejected += 1;
            let rejection = late(end_ms, self.lateness_ms, context.watermark_ms());
            return context.reject(self.site.name, &rejection);
        }
        self.site.counts.passed += 1;
        context.arrive();
        for result in self.results.drain(..) {
            result.emit(self.site.name, context, emit);
        }
    }

    fn advance(&mut self, context: &mut Context, emit: &mut Emit<'_, Self::Out>) {
        close_due(&mut self.panes, self.site.name, context, emit);
    }

    fn visit(&mut self, visitor: &mut dyn FnMut(Part<'_>)) {
        visitor(Part { site: &mut self.site, state: Some(&mut self.panes) });
    }
}
