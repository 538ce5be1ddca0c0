//! What an operator is: it takes items one at a time, in log order, and passes items on.
//!
//! An operator sees the event, its time and the watermark through [`Context`], and nothing else: no clock, no
//! randomness, no thread, no order of an unordered map. So the same log gives the same outputs and the same state,
//! however it is cut into batches.
//!
//! To add one: a struct with a [`Site`], [`Operator`] for it, [`State`] where it remembers, a method of `Flow`.

use std::fmt::Debug;

use kernel::{Error, Result, TenantId, codes};
use serde::{Deserialize, Serialize};
use store::Topic;

use crate::Context;

/// Where an operator passes its items on to.
pub type Emit<'a, T> = dyn FnMut(T, &mut Context) + 'a;

/// Where a state shows a key that changed, and its value, none where it is gone.
pub type Changed<'a> = dyn FnMut(&[u8], Option<&[u8]>) + 'a;

/// A step of a topology.
pub trait Operator<I>: Send {
    /// What it passes on.
    type Out;

    /// Takes the next item.
    fn push(&mut self, item: I, context: &mut Context, emit: &mut Emit<'_, Self::Out>);

    /// The watermark of the context's tenant moved.
    fn advance(&mut self, context: &mut Context, emit: &mut Emit<'_, Self::Out>) {
        let _ = (context, emit);
    }

    /// Shows every part, itself or what it is made of, always in the same order.
    fn visit(&mut self, visitor: &mut dyn FnMut(Part<'_>));
}

/// One operator as the task sees it.
#[derive(Debug)]
pub struct Part<'a> {
    /// Its name and its counts.
    pub site: &'a mut Site,
    /// What it remembers, where it does.
    pub state: Option<&'a mut dyn State>,
}

/// The name of an operator, unique in its topology, and what it counted.
#[derive(Debug, Clone)]
pub struct Site {
    /// `a-z 0-9 _ -`.
    pub name: &'static str,
    /// Since the state began.
    pub counts: Counts,
    /// Where it writes to, where it does.
    pub output: Option<Topic>,
}

impl Site {
    /// A site that counted nothing.
    #[must_use]
    pub fn new(name: &'static str) -> Self {
        Self { name, counts: Counts::default(), output: None }
    }
}

/// What an operator did with the items that it took: `taken` is the sum of all the others.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Items that came.
    pub taken: u64,
    /// Items that were passed on or became part of its state.
    pub passed: u64,
    /// Items that it had seen before.
    pub duplicates: u64,
    /// Items that it refused; each is a dead letter.
    pub rejected: u64,
    /// Items that it left out, as it is there to do.
    pub filtered: u64,
}

/// What an operator remembers: values by key, kept by the task in a log of changes.
///
/// A value is a function of the events before, never of when it was asked for.
pub trait State: Debug {
    /// Shows every key that changed since the last call, with its value, none where it is gone.
    fn drain(&mut self, see: &mut Changed<'_>);

    /// Whether a value that was drained is still needed to know what is known now.
    fn holds(&self, key: &[u8], value: &[u8]) -> bool;

    /// Takes back what [`State::drain`] showed, in that order. A key may come again with its newest value.
    ///
    /// # Errors
    /// `CORRUPTED` for anything that `drain` does not show.
    fn load(&mut self, key: &[u8], value: Option<&[u8]>) -> Result<()>;

    /// Shows everything by key. Two states that behave alike show the same bytes.
    fn show(&self, see: &mut dyn FnMut(&[u8], &[u8]));

    /// How many values it has.
    fn len(&self) -> usize;

    /// Whether it remembers nothing.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The watermark of a tenant at which something is to be done without another event; none where nothing waits for time.
    fn due_ms(&self, tenant: &TenantId) -> Option<i64> {
        let _ = tenant;
        None
    }

    /// The windows of a key that are still open to changes, as they stand; `key` begins with its tenant.
    fn windows(&self, key: &[u8]) -> Vec<OpenWindow> {
        let _ = key;
        Vec::new()
    }
}

/// A window that may still change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenWindow {
    /// Its first millisecond.
    pub start_ms: i64,
    /// The first millisecond after it.
    pub end_ms: i64,
    /// The newest revision that was passed on; none before its first close.
    pub revision: Option<u32>,
    /// The encoded partial, for [`decode`].
    pub partial: Vec<u8>,
}

/// Appends the stored form of a value.
pub(crate) fn encode<T: Serialize>(value: &T, bytes: &mut Vec<u8>) {
    let writer = std::mem::take(bytes);
    *bytes = postcard::to_extend(value, writer).expect("a state has a stored form and memory takes it");
}

/// Whether `bytes` is the stored form of a value.
pub(crate) fn is_encoded<T: Serialize>(value: &T, bytes: &[u8]) -> bool {
    let mut encoded = Vec::with_capacity(bytes.len());
    encode(value, &mut encoded);
    encoded == bytes
}

/// Reads the stored form of a value, all of `bytes`.
///
/// # Errors
/// `CORRUPTED` when it is anything else.
pub fn decode<T: for<'a> Deserialize<'a>>(bytes: &[u8]) -> Result<T> {
    let corrupted = || Error::new(codes::CORRUPTED, "a stored state cannot be read");
    match postcard::take_from_bytes(bytes) {
        Ok((value, [])) => Ok(value),
        Ok(_) => Err(corrupted()),
        Err(cause) => Err(corrupted().with_source(cause)),
    }
}
