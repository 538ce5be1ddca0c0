//! Tumbling and sliding windows, and those of a calendar.
//!
//! A window is passed on when the watermark reaches its end (revision 0), and again with the next revision at each
//! change after that, until the watermark is past its end by the allowed lateness. An item that is later than that
//! for all of its windows goes to the dead letters with the code [`LATE`]. Before the close a window can be read
//! as it stands (`Task::windows`), which is no revision.

use std::fmt::{self, Debug};

use kernel::TenantId;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::panes::{Due, Panes, Window};
use crate::context::split_tenant;
use crate::operator::{Emit, Operator, Part, Site};
use crate::{Context, Rejection};

/// The code of a dead letter that came too late for every window.
pub const LATE: &str = "LATE";

/// What is kept of the items of a window, in a form that two such can be merged to one.
///
/// What `merge` makes of two must be what `add` would have made of the items of both, where the arithmetic is
/// exact. What depends on the order of items (first, last) must order them by what they say, not by when they come.
pub trait Partial: Default + Serialize + DeserializeOwned + Send {
    /// What it takes.
    type Item;
    /// What it says in the end.
    type Output: Send;

    /// Takes one more item.
    fn add(&mut self, time_ms: i64, item: &Self::Item);

    /// Takes what another took.
    fn merge(&mut self, other: Self);

    /// The result for the items so far.
    fn finish(&self) -> Self::Output;
}

/// How items get their key and their time.
pub trait WindowFold<T>: Send {
    /// Appends the key of an item; the tenant comes before it by itself.
    fn key(&self, item: &T, key: &mut Vec<u8>);

    /// The time of an item, in milliseconds since 1970.
    fn time_ms(&self, item: &T) -> i64;
}

impl<T, K, M> WindowFold<T> for (K, M)
where
    K: Fn(&T, &mut Vec<u8>) + Send,
    M: Fn(&T) -> i64 + Send,
{
    fn key(&self, item: &T, key: &mut Vec<u8>) {
        self.0(item, key);
    }

    fn time_ms(&self, item: &T) -> i64 {
        self.1(item)
    }
}

/// One revision of one window.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WindowResult<R> {
    /// Whose it is.
    pub tenant: TenantId,
    /// The key, as the fold wrote it.
    pub key: Vec<u8>,
    /// Its first millisecond.
    pub start_ms: i64,
    /// The first millisecond after it.
    pub end_ms: i64,
    /// 0 at the first close, one more at each change after it.
    pub revision: u32,
    /// Whether there is no such window after all: a session became part of an earlier one.
    pub is_retracted: bool,
    /// The watermark from which on it does not change any more.
    pub settles_at_ms: i64,
    /// The result.
    pub value: R,
}

impl<R> WindowResult<R> {
    /// Passes it on as an output of its own: made by the window and its revision, whichever event closed it.
    pub(crate) fn emit(self, operator: &str, context: &mut Context, emit: &mut Emit<'_, Self>) {
        let mut identity = Vec::with_capacity(64 + self.key.len());
        // A key that is not what partitions go by has a window of its own in each of them.
        identity.extend_from_slice(&context.partition().to_le_bytes());
        identity.extend_from_slice(operator.as_bytes());
        identity.push(0);
        identity.extend_from_slice(self.tenant.as_str().as_bytes());
        identity.push(0);
        identity.extend_from_slice(&self.start_ms.to_le_bytes());
        identity.extend_from_slice(&self.revision.to_le_bytes());
        identity.extend_from_slice(&self.key);
        context.caused_by(&identity, |context| emit(self, context));
    }
}

/// The result of a window as it is now, with its next revision.
pub(crate) fn revise<A: Partial>(
    key: &[u8],
    window: &mut Window<A>,
    settles_at_ms: i64,
) -> WindowResult<A::Output> {
    let (tenant, key) = split_tenant(key).expect("a key of state begins with its tenant");
    WindowResult {
        tenant,
        key: key.to_vec(),
        start_ms: window.start_ms,
        end_ms: window.end_ms,
        revision: window.next_revision(),
        is_retracted: false,
        settles_at_ms,
        value: window.partial.finish(),
    }
}

pub(crate) fn late(end_ms: i64, lateness_ms: i64, watermark_ms: i64) -> Rejection {
    let reason = format!(
        "the window ended at {end_ms} ms, the lateness of {lateness_ms} ms is over, the watermark is at {watermark_ms} ms"
    );
    Rejection { code: LATE, reason }
}

/// Adds the spans that an item of this time is in: first millisecond, first one after.
type Assign<T> = Box<dyn Fn(&T, i64, &mut Vec<(i64, i64)>) + Send>;

/// Which windows an item is in, and for how long they can change after their end.
pub struct Windows<T> {
    assign: Assign<T>,
    lateness_ms: i64,
}

impl<T> Debug for Windows<T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Windows").field("lateness_ms", &self.lateness_ms).finish_non_exhaustive()
    }
}

impl<T> Windows<T> {
    /// Windows of `size_ms` one after the other, the first at 1970.
    ///
    /// # Panics
    /// When the size is not positive.
    #[must_use]
    pub fn tumbling(size_ms: i64) -> Self {
        Self::sliding(size_ms, size_ms)
    }

    /// Windows of `size_ms`, one begins every `slide_ms`.
    ///
    /// # Panics
    /// When one is not positive, or the windows leave gaps.
    #[must_use]
    pub fn sliding(size_ms: i64, slide_ms: i64) -> Self {
        assert!(0 < slide_ms && slide_ms <= size_ms, "windows have a positive size and no gaps between them");
        Self::by(move |_, time_ms, spans| {
            let mut start_ms = time_ms.div_euclid(slide_ms).saturating_mul(slide_ms);
            while start_ms.saturating_add(size_ms) > time_ms {
                spans.push((start_ms, start_ms.saturating_add(size_ms)));
                start_ms = start_ms.saturating_sub(slide_ms);
            }
        })
    }

    /// Windows of a calendar: `assign` adds the spans that an item is in, which must depend on the item and its
    /// time alone. Windows of a key with the same start must have the same end.
    pub fn by(assign: impl Fn(&T, i64, &mut Vec<(i64, i64)>) + Send + 'static) -> Self {
        Self { assign: Box::new(assign), lateness_ms: 0 }
    }

    /// For how long after its end a window can change.
    #[must_use]
    pub fn with_lateness(self, lateness_ms: i64) -> Self {
        Self { lateness_ms: lateness_ms.max(0), ..self }
    }
}

/// The windows of every key.
#[derive(Debug)]
pub struct Windowed<A: Partial, F> {
    site: Site,
    windows: Windows<A::Item>,
    fold: F,
    panes: Panes<A>,
    spans: Vec<(i64, i64)>,
    results: Vec<WindowResult<A::Output>>,
}

impl<A: Partial, F> Windowed<A, F> {
    pub(crate) fn new(name: &'static str, windows: Windows<A::Item>, fold: F) -> Self {
        let panes = Panes::new(windows.lateness_ms);
        Self { site: Site::new(name), windows, fold, panes, spans: Vec::new(), results: Vec::new() }
    }

    /// Adds the item to one of its windows; the result where that was closed.
    fn add(&mut self, key: &[u8], span: (i64, i64), time_ms: i64, item: &A::Item, context: &Context) {
        let (start_ms, end_ms) = span;
        let is_closed = end_ms <= context.watermark_ms();
        let settles_at_ms = self.panes.settles_at_ms(end_ms);
        let mut fresh;
        let (window, is_new) = match self.panes.get(key, start_ms) {
            Some(window) => (window, false),
            None => {
                fresh = Window::new(start_ms, end_ms, A::default());
                (&mut fresh, true)
            }
        };
        window.partial.add(time_ms, item);
        window.is_pending = true;
        if is_closed {
            self.results.push(revise(key, window, settles_at_ms));
        }
        if is_new {
            let window = std::mem::replace(window, Window::new(start_ms, end_ms, A::default()));
            self.panes.add(context.tenant(), key, window);
        }
    }
}

impl<A: Partial, F: WindowFold<A::Item>> Operator<A::Item> for Windowed<A, F> {
    type Out = WindowResult<A::Output>;

    fn push(&mut self, item: A::Item, context: &mut Context, emit: &mut Emit<'_, Self::Out>) {
        self.site.counts.taken += 1;
        let time_ms = self.fold.time_ms(&item);
        let mut spans = std::mem::take(&mut self.spans);
        spans.clear();
        (self.windows.assign)(&item, time_ms, &mut spans);
        let newest_ms = spans.iter().map(|(_, end_ms)| *end_ms).max();
        spans.retain(|(_, end_ms)| !self.panes.is_settled(*end_ms, context.watermark_ms()));
        if spans.is_empty() {
            self.spans = spans;
            let Some(end_ms) = newest_ms else {
                self.site.counts.filtered += 1;
                return;
            };
            self.site.counts.rejected += 1;
            let rejection = late(end_ms, self.windows.lateness_ms, context.watermark_ms());
            return context.reject(self.site.name, &rejection);
        }
        self.site.counts.passed += 1;
        let mut key = context.key();
        self.fold.key(&item, &mut key);
        for span in spans.drain(..) {
            self.add(&key, span, time_ms, &item, context);
        }
        self.spans = spans;
        context.give_back(key);
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

/// Passes on the windows that the watermark closes, by end and key, and forgets those that are settled.
pub(crate) fn close_due<A: Partial>(
    panes: &mut Panes<A>,
    operator: &str,
    context: &mut Context,
    emit: &mut Emit<'_, WindowResult<A::Output>>,
) {
    while let Some((key, start_ms, due)) = panes.fire(context.tenant(), context.watermark_ms()) {
        if due == Due::Forget {
            panes.remove(&key, start_ms);
            continue;
        }
        let lateness = panes.settles_at_ms(0);
        let Some(window) = panes.get(&key, start_ms) else { continue };
        let settles_at_ms = window.end_ms.saturating_add(lateness);
        let result = revise(&key, window, settles_at_ms);
        panes.rearm(context.tenant(), &key, start_ms);
        result.emit(operator, context, emit);
    }
}
