//! Operators that remember nothing: read, map, filter, flat map.

use kernel::Event;

use crate::flow::guard;
use crate::operator::{Emit, Operator, Part, Site};
use crate::{Context, Rejection};

/// Reads the event at hand.
#[derive(Debug)]
pub struct Read<F> {
    site: Site,
    decode: F,
}

impl<F> Read<F> {
    pub(crate) fn new(name: &'static str, decode: F) -> Self {
        Self { site: Site::new(name), decode }
    }
}

impl<T, F> Operator<()> for Read<F>
where
    F: FnMut(&Event) -> Result<T, Rejection> + Send,
{
    type Out = T;

    fn push(&mut self, (): (), context: &mut Context, emit: &mut Emit<'_, T>) {
        let outcome = guard(|| (self.decode)(context.event()));
        pass(&mut self.site, outcome, context, emit);
    }

    fn visit(&mut self, visitor: &mut dyn FnMut(Part<'_>)) {
        visitor(Part { site: &mut self.site, state: None });
    }
}

fn pass<T>(site: &mut Site, outcome: Result<T, Rejection>, context: &mut Context, emit: &mut Emit<'_, T>) {
    site.counts.taken += 1;
    match outcome {
        Ok(item) => {
            site.counts.passed += 1;
            emit(item, context);
        }
        Err(rejection) => {
            site.counts.rejected += 1;
            context.reject(site.name, &rejection);
        }
    }
}

/// Turns an item into another.
#[derive(Debug)]
pub struct Map<F> {
    site: Site,
    map: F,
}

impl<F> Map<F> {
    pub(crate) fn new(name: &'static str, map: F) -> Self {
        Self { site: Site::new(name), map }
    }
}

impl<T, U, F> Operator<T> for Map<F>
where
    F: FnMut(T) -> Result<U, Rejection> + Send,
{
    type Out = U;

    fn push(&mut self, item: T, context: &mut Context, emit: &mut Emit<'_, U>) {
        let outcome = guard(|| (self.map)(item));
        pass(&mut self.site, outcome, context, emit);
    }

    fn visit(&mut self, visitor: &mut dyn FnMut(Part<'_>)) {
        visitor(Part { site: &mut self.site, state: None });
    }
}

/// Leaves items out.
#[derive(Debug)]
pub struct Filter<F> {
    site: Site,
    keeps: F,
}

impl<F> Filter<F> {
    pub(crate) fn new(name: &'static str, keeps: F) -> Self {
        Self { site: Site::new(name), keeps }
    }
}

impl<T, F: FnMut(&T) -> bool + Send> Operator<T> for Filter<F> {
    type Out = T;

    fn push(&mut self, item: T, context: &mut Context, emit: &mut Emit<'_, T>) {
        match guard(|| Ok((self.keeps)(&item))) {
            Ok(false) => {
                self.site.counts.taken += 1;
                self.site.counts.filtered += 1;
            }
            outcome => pass(&mut self.site, outcome.map(|_| item), context, emit),
        }
    }

    fn visit(&mut self, visitor: &mut dyn FnMut(Part<'_>)) {
        visitor(Part { site: &mut self.site, state: None });
    }
}

/// Turns an item into any number of others; into none is leaving it out.
#[derive(Debug)]
pub struct FlatMap<F, U> {
    site: Site,
    map: F,
    made: Vec<U>,
}

impl<F, U> FlatMap<F, U> {
    pub(crate) fn new(name: &'static str, map: F) -> Self {
        Self { site: Site::new(name), map, made: Vec::new() }
    }
}

impl<T, U: Send, F> Operator<T> for FlatMap<F, U>
where
    F: FnMut(T, &mut Vec<U>) -> Result<(), Rejection> + Send,
{
    type Out = U;

    fn push(&mut self, item: T, context: &mut Context, emit: &mut Emit<'_, U>) {
        self.made.clear();
        self.site.counts.taken += 1;
        match guard(|| (self.map)(item, &mut self.made)) {
            Ok(()) if self.made.is_empty() => self.site.counts.filtered += 1,
            Ok(()) => {
                self.site.counts.passed += 1;
                for item in self.made.drain(..) {
                    emit(item, context);
                }
            }
            Err(rejection) => {
                self.site.counts.rejected += 1;
                context.reject(self.site.name, &rejection);
            }
        }
    }

    fn visit(&mut self, visitor: &mut dyn FnMut(Part<'_>)) {
        visitor(Part { site: &mut self.site, state: None });
    }
}
