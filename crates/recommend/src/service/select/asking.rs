//! The expressions of one query, asked of one entity after the other: what is left of their budgets, and what failed.

use kernel::{Error, Result};

use super::super::expression::{Expression, Failure, INVALID_EXPRESSION, Prepared, Subject};
use super::super::query::Query;

/// The least and the most a booster multiplies odds by; a factor below or above counts as these.
const FACTOR_RANGE: (f64, f64) = (1e-6, 1e6);

/// What the expressions say of an entity.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Said {
    /// The filter is not true of it.
    Dropped,
    /// The filter cannot be asked any more.
    FilterEnded,
    /// The filter keeps it. Boosters add this to its score; none where there are none, or they cannot be asked any
    /// more.
    Kept { boost: Option<f32> },
}

/// The expressions of a query.
#[derive(Debug)]
pub(super) struct Asking<'a> {
    expressions: Vec<&'a Expression>,
    filter: Option<Asked<'a>>,
    filter_units: u64,
    boosts: Vec<Asked<'a>>,
    boost_units: u64,
    is_boosting: bool,
    complete: bool,
    spent: u64,
    has_ended: bool,
}

impl<'a> Asking<'a> {
    /// With this much work in all: half for each where there are both a filter and boosters.
    pub(super) fn new(query: &'a Query, units: u64) -> Self {
        let filter = query.filter.as_deref().map(Asked::new);
        let boosts: Vec<_> = query.boosts.iter().map(|boost| Asked::new(boost)).collect();
        let is_boosting = !boosts.is_empty();
        let units = if filter.is_some() && is_boosting { units / 2 } else { units };
        let expressions = query.filter.iter().chain(&query.boosts).map(|expression| &**expression).collect();
        Self {
            expressions,
            filter,
            filter_units: units,
            boosts,
            boost_units: units,
            is_boosting,
            complete: true,
            spent: 0,
            has_ended: false,
        }
    }

    /// The work that was done so far.
    pub(super) fn spent(&self) -> u64 {
        self.spent
    }

    /// Asks the filter, and the boosters where it keeps the entity.
    pub(super) fn ask(&mut self, subject: Subject<'_>) -> Said {
        let mut prepared = None;
        if let Some(filter) = &mut self.filter {
            let work = filter.expression.work(subject);
            self.spent = self.spent.saturating_add(work);
            if !spend(&mut self.filter_units, work) {
                self.complete = false;
                self.has_ended = true;
                return Said::FilterEnded;
            }
            let prepared = &*prepared.insert(subject.prepare(&self.expressions));
            if filter.count(filter.expression.holds(prepared)) != Some(true) {
                return Said::Dropped;
            }
        }
        if !self.is_boosting {
            return Said::Kept { boost: None };
        }
        let work = self.boosts.iter().map(|boost| boost.expression.work(subject));
        let work = work.fold(0, u64::saturating_add);
        self.spent = self.spent.saturating_add(work);
        if !spend(&mut self.boost_units, work) {
            self.complete = false;
            self.is_boosting = false;
            return Said::Kept { boost: None };
        }
        let prepared = prepared.unwrap_or_else(|| subject.prepare(&self.expressions));
        Said::Kept { boost: Some(self.boost(&prepared)) }
    }

    /// The logarithm of each booster's factor: scores are in units of log odds.
    fn boost(&mut self, prepared: &Prepared<'_>) -> f32 {
        let added = self.boosts.iter_mut().map(|boost| {
            let factor = boost.count(boost.expression.number(prepared)).unwrap_or(1.0);
            factor.clamp(FACTOR_RANGE.0, FACTOR_RANGE.1).ln() as f32
        });
        added.sum()
    }

    /// Whether the filter cannot be asked any more.
    pub(super) fn has_ended(&self) -> bool {
        self.has_ended
    }

    /// Whether the budgets were enough.
    ///
    /// # Errors
    /// `INVALID_EXPRESSION` for an expression that failed wherever it was asked.
    pub(super) fn finish(self) -> Result<bool> {
        let filter = self.filter.iter().map(|filter| ("filter", filter));
        let boosts = self.boosts.iter().map(|boost| ("boost", boost));
        for (field, asked) in filter.chain(boosts) {
            if let Some(failure) = asked.first_failure.as_ref().filter(|_| asked.failed == asked.times) {
                let times = asked.times;
                let message = format!("fails on all of the {times} entities that it was asked of: {failure}");
                return Err(Error::new(INVALID_EXPRESSION, message).with_field(field));
            }
        }
        Ok(self.complete)
    }
}

fn spend(left: &mut u64, units: u64) -> bool {
    let rest = left.checked_sub(units);
    *left = rest.unwrap_or(0);
    rest.is_some()
}

/// An expression and what became of it.
#[derive(Debug)]
struct Asked<'a> {
    expression: &'a Expression,
    times: usize,
    failed: usize,
    first_failure: Option<Failure>,
}

impl<'a> Asked<'a> {
    fn new(expression: &'a Expression) -> Self {
        Self { expression, times: 0, failed: 0, first_failure: None }
    }

    fn count<T>(&mut self, answer: std::result::Result<T, Failure>) -> Option<T> {
        self.times += 1;
        match answer {
            Ok(value) => Some(value),
            Err(failure) => {
                self.failed += 1;
                self.first_failure.get_or_insert(failure);
                None
            }
        }
    }
}
