//! The one way in for events: every endpoint that writes goes through [`Ingest`].
//!
//! An event is checked by the domain that owns its type, appended durably, and acknowledged when the owner's
//! view shows it (or after a short patience: it is durable all the same). What is refused is kept as a dead
//! letter with its reason.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::Arc;

use async_trait::async_trait;
use kernel::{
    Clock, Entropy, Error, ErrorCode, ErrorKind, Event, EventDraft, Permission, Result, Scope, Timestamp,
    codes,
};
use store::{Appended, DeadLetter, DeadLetters, EventLog, MAX_APPEND_BATCH, Outcome, Topic};
use tracing::{Instrument, debug_span, warn};

use crate::HttpMetrics;
use crate::metrics::EventLabels;

/// The topic of the events that callers send, unless their owner has one of its own.
pub const EVENTS: Topic = Topic::fixed("events");

/// The longest type and id that a dead letter is listed with; its body has them whole.
const MAX_LETTER_NAME_BYTES: usize = 1_024;

/// Nobody owns events of this type.
pub const UNKNOWN_EVENT_TYPE: ErrorCode = ErrorCode {
    name: "UNKNOWN_EVENT_TYPE",
    kind: ErrorKind::Invalid,
    title: "No part of the server understands events of this type",
};

/// The domain that understands some event types.
#[async_trait]
pub trait EventOwner: Send + Sync + Debug {
    /// The event types it understands.
    fn kinds(&self) -> &'static [&'static str];

    /// The topic that its events go to.
    fn topic(&self) -> Topic {
        EVENTS
    }

    /// The log with that topic, where it is not the one that events usually go to.
    fn log(&self) -> Option<Arc<dyn EventLog>> {
        None
    }

    /// Passes when the event can be folded; may complete it as it is to be appended.
    ///
    /// # Errors
    /// What is wrong, naming the field. Such an event is left as it was and never appended.
    fn admit(&self, scope: &Scope, event: &mut Event) -> Result<()>;

    /// Returns when the owner's view shows these places of its topic, or when its patience ends.
    async fn settled(&self, places: &[Appended]);
}

/// What became of one event.
#[derive(Debug)]
pub enum Receipt {
    /// It is durable, now or since an earlier request.
    Stored(Appended),
    /// It was not taken.
    Refused(Error),
}

/// Takes events in.
#[derive(Debug, Clone)]
pub struct Ingest {
    log: Arc<dyn EventLog>,
    dead_letters: DeadLetters,
    owners: Arc<BTreeMap<&'static str, Arc<dyn EventOwner>>>,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    metrics: HttpMetrics,
}

/// The events of one owner, and where in the request they stood.
struct Owned {
    owner: Arc<dyn EventOwner>,
    indexes: Vec<usize>,
    events: Vec<Event>,
}

/// What [`Ingest`] works with.
#[derive(Debug, Clone)]
pub struct IngestParts {
    /// Where events go.
    pub log: Arc<dyn EventLog>,
    /// Where refused ones go.
    pub dead_letters: DeadLetters,
    /// For missing event times.
    pub clock: Arc<dyn Clock>,
    /// For ids.
    pub entropy: Arc<dyn Entropy>,
    /// What it counts into.
    pub metrics: HttpMetrics,
}

impl Ingest {
    /// Over the log, for the event types of `owners`.
    #[must_use]
    pub fn new(parts: IngestParts, owners: &[Arc<dyn EventOwner>]) -> Self {
        let owned =
            owners.iter().flat_map(|owner| owner.kinds().iter().map(|kind| (*kind, Arc::clone(owner))));
        Self {
            log: parts.log,
            dead_letters: parts.dead_letters,
            owners: Arc::new(owned.collect()),
            clock: parts.clock,
            entropy: parts.entropy,
            metrics: parts.metrics,
        }
    }

    /// The clock that stamps events.
    #[must_use]
    pub fn clock(&self) -> &Arc<dyn Clock> {
        &self.clock
    }

    /// A new id.
    #[must_use]
    pub fn new_id(&self) -> String {
        self.entropy.id(self.clock.now()).as_hyphenated().to_string()
    }

    /// Takes parsed drafts in, each with the text it came from. Returns one receipt for each, in order, once
    /// every stored event shows in its owner's view.
    ///
    /// # Errors
    /// Those of the log (nothing of the batch that failed is stored; an earlier part may be), and
    /// `PERMISSION_DENIED`.
    pub async fn accept(
        &self,
        scope: &Scope,
        drafts: Vec<(Result<EventDraft>, &str)>,
    ) -> Result<Vec<Receipt>> {
        let now = self.clock.now();
        let seal = |(draft, text): (Result<EventDraft>, &str)| {
            let event = draft.and_then(|draft| draft.seal(scope, now));
            event.map_err(|error| (error, text.to_owned()))
        };
        self.take(scope, drafts.into_iter().map(seal)).await
    }

    /// As [`Ingest::accept`], for events that were made here.
    ///
    /// # Errors
    /// As [`Ingest::accept`].
    pub async fn accept_events(&self, scope: &Scope, events: Vec<Event>) -> Result<Vec<Receipt>> {
        self.take(scope, events.into_iter().map(Ok)).await
    }

    async fn take(
        &self,
        scope: &Scope,
        sealed: impl ExactSizeIterator<Item = Result<Event, (Error, String)>>,
    ) -> Result<Vec<Receipt>> {
        scope.require(Permission::Write)?;
        let now = self.clock.now();
        let mut receipts = Vec::with_capacity(sealed.len());
        let mut events = Vec::with_capacity(sealed.len());
        let mut letters = Vec::new();
        let batch = self.new_id();
        for (index, event) in sealed.enumerate() {
            match event.and_then(|event| self.admit(scope, event)) {
                Ok(event) => {
                    events.push(event);
                    receipts.push(None);
                }
                Err((error, text)) => {
                    // Another tenant's data is not kept, not even as a dead letter.
                    if error.kind() != ErrorKind::Forbidden {
                        // The letters of one batch are of one time, and their ids keep them in order.
                        letters.push(letter(format!("edge:{batch}:{index:06}"), &text, &error, now));
                    }
                    receipts.push(Some(Receipt::Refused(error)));
                }
            }
        }
        self.count("refused", receipts.iter().flatten().count());
        let mut places = self.append(scope, events).await?.into_iter();
        self.keep(scope, letters).await;
        let lost = || Error::internal("the log returned fewer places than events");
        receipts
            .into_iter()
            .map(|receipt| match receipt {
                Some(refused) => Ok(refused),
                None => places.next().map(Receipt::Stored).ok_or_else(lost),
            })
            .collect()
    }

    /// The event as its owner takes it, or why not, with its text.
    fn admit(&self, scope: &Scope, mut event: Event) -> Result<Event, (Error, String)> {
        match self.check(scope, &mut event) {
            Ok(()) => Ok(event),
            Err(error) => Err((error, text_of(&event))),
        }
    }

    /// Passes when the event would be taken; completes it as it would be appended. Nothing is kept of it.
    ///
    /// # Errors
    /// Why it would be refused.
    pub fn check(&self, scope: &Scope, event: &mut Event) -> Result<()> {
        self.owner(event).and_then(|owner| owner.admit(scope, event))
    }

    /// Appends events that are already checked and waits until the views show them. One place for each, in order.
    ///
    /// # Errors
    /// Those of the log.
    pub async fn append(&self, scope: &Scope, events: Vec<Event>) -> Result<Vec<Appended>> {
        let count = events.len();
        let mut groups: BTreeMap<&'static str, Owned> = BTreeMap::new();
        for (index, event) in events.into_iter().enumerate() {
            let owner = self.owner(&event)?;
            let Some(first) = owner.kinds().first() else { continue };
            let new = || Owned { owner: Arc::clone(owner), indexes: Vec::new(), events: Vec::new() };
            let group = groups.entry(first).or_insert_with(new);
            group.indexes.push(index);
            group.events.push(event);
        }
        let mut all = vec![None; count];
        for Owned { owner, indexes, events } in groups.into_values() {
            let places = self.append_to(scope, owner.as_ref(), events).await?;
            let stored = places.iter().filter(|place| place.outcome == Outcome::New).count();
            self.count("stored", stored);
            self.count("duplicate", places.len() - stored);
            owner.settled(&places).instrument(debug_span!("events.settle")).await;
            for (index, place) in indexes.into_iter().zip(places) {
                all[index] = Some(place);
            }
        }
        let places: Option<Vec<Appended>> = all.into_iter().collect();
        places.ok_or_else(|| Error::internal("the log returned fewer places than events"))
    }

    async fn append_to(
        &self,
        scope: &Scope,
        owner: &dyn EventOwner,
        events: Vec<Event>,
    ) -> Result<Vec<Appended>> {
        let (topic, log) = (owner.topic(), owner.log());
        let log = log.as_ref().unwrap_or(&self.log);
        let mut places = Vec::with_capacity(events.len());
        let mut events = events.into_iter();
        while events.len() > 0 {
            let batch: Vec<Event> = events.by_ref().take(MAX_APPEND_BATCH).collect();
            let span = debug_span!("events.append");
            places.extend(log.append(scope, &topic, batch).instrument(span).await?);
        }
        Ok(places)
    }

    /// Checks one event with the domain that owns it, then appends it.
    ///
    /// # Errors
    /// The owner's (the event is kept as a dead letter), or those of the log.
    pub async fn append_checked(&self, scope: &Scope, event: Event) -> Result<Appended> {
        scope.require(Permission::Write)?;
        let event = match self.admit(scope, event) {
            Ok(event) => event,
            Err((error, text)) => return Err(self.refuse(scope, &text, error).await),
        };
        let places = self.append(scope, vec![event]).await?;
        places.first().copied().ok_or_else(|| Error::internal("the log returned no place"))
    }

    /// Keeps what a caller who may write sent, with the reason why it was not taken, and hands the reason back.
    pub(crate) async fn refuse(&self, scope: &Scope, text: &str, error: Error) -> Error {
        self.count("refused", 1);
        // Another tenant's data is not kept, not even as a dead letter.
        if error.kind() != ErrorKind::Forbidden {
            let id = format!("edge:{}", self.new_id());
            self.keep(scope, vec![letter(id, text, &error, self.clock.now())]).await;
        }
        error
    }

    async fn keep(&self, scope: &Scope, letters: Vec<DeadLetter>) {
        if let Err(error) = self.dead_letters.add(scope, letters).await {
            warn!(error = %error.chain(), "dead letters could not be kept");
        }
    }

    fn owner(&self, event: &Event) -> Result<&Arc<dyn EventOwner>> {
        self.owners.get(event.kind.as_str()).ok_or_else(|| {
            let known: Vec<_> = self.owners.keys().copied().collect();
            let message = format!("`{}` is not known; known types: {}", event.kind, known.join(", "));
            Error::new(UNKNOWN_EVENT_TYPE, message).with_field("type")
        })
    }

    fn count(&self, outcome: &'static str, events: usize) {
        if events > 0 {
            self.metrics.events.get_or_create(&EventLabels { outcome }).inc_by(events as u64);
        }
    }
}

fn letter(id: String, text: &str, error: &Error, now: Timestamp) -> DeadLetter {
    let letter = DeadLetter::of_text(id, text, error, now);
    // What was refused may be anything, and names in it of any length.
    let Ok(draft) = serde_json::from_str::<EventDraft>(text) else { return letter };
    let sane = |name: &String| name.len() <= MAX_LETTER_NAME_BYTES;
    DeadLetter { kind: draft.kind.filter(sane), event_id: draft.id.filter(sane), ..letter }
}

fn text_of(event: &Event) -> String {
    String::from_utf8_lossy(&event.to_json()).into_owned()
}

/// The code for a body that holds no event at all.
pub(crate) fn not_an_event(message: impl Into<String>) -> Error {
    Error::new(codes::INVALID_EVENT, message)
}
