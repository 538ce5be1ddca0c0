//! [`Flow`]: operators joined, in code. Nothing is looked up while events pass: the compiler sees all of it.

use std::marker::PhantomData;
use std::panic::{AssertUnwindSafe, catch_unwind};

use kernel::Event;
use store::Topic;

use crate::operator::{Emit, Operator, Part};
use crate::operators::deduplicate::{Deduplicate, Deduplication};
use crate::operators::keyed::{Keyed, KeyedFold};
use crate::operators::output::To;
use crate::operators::session::Sessions;
use crate::operators::stateless::{Filter, FlatMap, Map, Read};
use crate::operators::window::{Partial, WindowFold, Windowed, Windows};
use crate::{Context, Emission, Rejection};

/// Operators from an item of type `I` on; `P` is what they are joined to.
#[derive(Debug)]
pub struct Flow<I, P> {
    operator: P,
    input: PhantomData<fn(I)>,
}

/// Begins a flow: what an event says, or why it cannot be used.
pub fn read<T, F>(name: &'static str, decode: F) -> Flow<(), Read<F>>
where
    F: FnMut(&Event) -> Result<T, Rejection> + Send,
{
    Flow { operator: Read::new(name, decode), input: PhantomData }
}

impl<I, P: Operator<I>> Flow<I, P> {
    /// Joins an operator.
    pub fn then<B: Operator<P::Out>>(self, second: B) -> Flow<I, Then<P, B>> {
        Flow { operator: Then { first: self.operator, second }, input: PhantomData }
    }

    /// Turns each item into another, or refuses it.
    pub fn map<U, F>(self, name: &'static str, map: F) -> Flow<I, Then<P, Map<F>>>
    where
        F: FnMut(P::Out) -> Result<U, Rejection> + Send,
    {
        self.then(Map::new(name, map))
    }

    /// Leaves out the items for which `keeps` is false.
    pub fn filter<F>(self, name: &'static str, keeps: F) -> Flow<I, Then<P, Filter<F>>>
    where
        F: FnMut(&P::Out) -> bool + Send,
    {
        self.then(Filter::new(name, keeps))
    }

    /// Turns each item into any number of others, or refuses it.
    pub fn flat_map<U: Send, F>(self, name: &'static str, map: F) -> Flow<I, Then<P, FlatMap<F, U>>>
    where
        F: FnMut(P::Out, &mut Vec<U>) -> Result<(), Rejection> + Send,
    {
        self.then(FlatMap::new(name, map))
    }

    /// Leaves out the items that it saw before, by the identity that `identify` writes: with a sequence number it
    /// is the stream within which the number counts, without one it is all of the identity.
    pub fn deduplicate<F>(
        self,
        name: &'static str,
        settings: Deduplication,
        identify: F,
    ) -> Flow<I, Then<P, Deduplicate<F>>>
    where
        F: FnMut(&P::Out, &mut Vec<u8>) -> Option<u64> + Send,
    {
        self.then(Deduplicate::new(name, settings, identify))
    }

    /// Folds the items of each key into a state.
    pub fn keyed<K>(self, name: &'static str, fold: K) -> Flow<I, Then<P, Keyed<K>>>
    where
        K: KeyedFold<In = P::Out>,
    {
        self.then(Keyed::new(name, fold))
    }

    /// Gathers the items of each key in windows of event time.
    pub fn window<A: Partial<Item = P::Out>, F>(
        self,
        name: &'static str,
        windows: Windows<P::Out>,
        fold: F,
    ) -> Flow<I, Then<P, Windowed<A, F>>>
    where
        F: WindowFold<P::Out>,
    {
        self.then(Windowed::new(name, windows, fold))
    }

    /// Gathers the items of each key in sessions, which end when nothing came for `gap_ms`.
    pub fn session<A: Partial<Item = P::Out>, F>(
        self,
        name: &'static str,
        gap_ms: i64,
        lateness_ms: i64,
        fold: F,
    ) -> Flow<I, Then<P, Sessions<A, F>>>
    where
        F: WindowFold<P::Out>,
    {
        self.then(Sessions::new(name, gap_ms, lateness_ms, fold))
    }

    /// Writes each item to a topic, and passes it on.
    pub fn to<F>(self, name: &'static str, topic: Topic, encode: F) -> Flow<I, Then<P, To<F>>>
    where
        F: FnMut(&P::Out) -> Result<Emission, Rejection> + Send,
    {
        self.then(To::new(name, topic, encode))
    }

    /// Sends a copy of each item through a side flow, then passes it on.
    pub fn branch<B, F>(self, side: F) -> Flow<I, Then<P, Branch<B>>>
    where
        P::Out: Clone,
        B: Operator<P::Out>,
        F: FnOnce(Flow<P::Out, Same>) -> Flow<P::Out, B>,
    {
        let side = side(Flow { operator: Same, input: PhantomData }).operator;
        self.then(Branch { side })
    }

    pub(crate) fn into_operator(self) -> P {
        self.operator
    }
}

/// Passes every item on: where a side flow begins.
#[derive(Debug)]
pub struct Same;

impl<T> Operator<T> for Same {
    type Out = T;

    fn push(&mut self, item: T, context: &mut Context, emit: &mut Emit<'_, T>) {
        emit(item, context);
    }

    fn visit(&mut self, _: &mut dyn FnMut(Part<'_>)) {}
}

/// Two operators, one after the other.
#[derive(Debug)]
pub struct Then<A, B> {
    first: A,
    second: B,
}

impl<I, A: Operator<I>, B: Operator<A::Out>> Operator<I> for Then<A, B> {
    type Out = B::Out;

    fn push(&mut self, item: I, context: &mut Context, emit: &mut Emit<'_, Self::Out>) {
        let Self { first, second } = self;
        first.push(item, context, &mut |item, context| second.push(item, context, emit));
    }

    fn advance(&mut self, context: &mut Context, emit: &mut Emit<'_, Self::Out>) {
        let Self { first, second } = self;
        first.advance(context, &mut |item, context| second.push(item, context, emit));
        second.advance(context, emit);
    }

    fn visit(&mut self, visitor: &mut dyn FnMut(Part<'_>)) {
        self.first.visit(visitor);
        self.second.visit(visitor);
    }
}

/// A side flow.
#[derive(Debug)]
pub struct Branch<B> {
    side: B,
}

impl<T: Clone, B: Operator<T>> Operator<T> for Branch<B> {
    type Out = T;

    fn push(&mut self, item: T, context: &mut Context, emit: &mut Emit<'_, T>) {
        self.side.push(item.clone(), context, &mut |_, context| context.arrive());
        emit(item, context);
    }

    fn advance(&mut self, context: &mut Context, _: &mut Emit<'_, T>) {
        self.side.advance(context, &mut |_, _| {});
    }

    fn visit(&mut self, visitor: &mut dyn FnMut(Part<'_>)) {
        self.side.visit(visitor);
    }
}

/// The end of a flow.
#[derive(Debug)]
pub(crate) struct End<P>(pub(crate) P);

impl<P: Operator<()>> Operator<()> for End<P> {
    type Out = ();

    fn push(&mut self, (): (), context: &mut Context, _: &mut Emit<'_, ()>) {
        self.0.push((), context, &mut |_, context| context.arrive());
    }

    fn advance(&mut self, context: &mut Context, _: &mut Emit<'_, ()>) {
        self.0.advance(context, &mut |_, _| {});
    }

    fn visit(&mut self, visitor: &mut dyn FnMut(Part<'_>)) {
        self.0.visit(visitor);
    }
}

/// Runs code of a topology: a panic there is a fault of one item, not the end of the partition.
pub(crate) fn guard<R>(body: impl FnOnce() -> Result<R, Rejection>) -> Result<R, Rejection> {
    catch_unwind(AssertUnwindSafe(body)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
        let reason = text.or_else(|| panic.downcast_ref::<String>().cloned());
        let reason = reason.unwrap_or_else(|| "without a message".to_owned());
        Err(Rejection { code: "PANICKED", reason: format!("the operator panicked: {reason}") })
    })
}
