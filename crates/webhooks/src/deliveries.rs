//! Deliveries: one message to one webhook, from the moment it is written down until it is delivered or given up.
//!
//! The queue is a table of records. A delivery is pending until a receiver answers with 2xx; after so many attempts it is
//! dead, and stays with its last error until it is replayed or too old. What is delivered and dead is removed after some
//! days.
//!
//! It refuses an order: receivers sort by the time of the event, and know a repeated one by its id.

use std::sync::Arc;

use kernel::{Clock, Entropy, Error, Event, Permission, Result, Scope, Timestamp, codes};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use store::{Document, Expect, IndexValue, Query, Records, Repository, Selection, Table, Versioned, Write};
use utoipa::ToSchema;

use crate::subscriptions::{Webhook, is_id};

const SOURCE: &str = "/watershed";

/// Old deliveries that are removed at once.
const REMOVED_AT_ONCE: usize = 500;

/// Dead deliveries that are replayed at once.
const REPLAYED_AT_ONCE: usize = 1_000;

/// Where a delivery stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
#[schema(as = DeliveryState)]
pub enum State {
    /// It will be sent, or sent again.
    Pending,
    /// The receiver answered with 2xx.
    Delivered,
    /// It was given up.
    Dead,
}

impl State {
    fn name(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Delivered => "delivered",
            Self::Dead => "dead",
        }
    }
}

/// One message to one webhook.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delivery {
    /// Names the delivery; later ones sort after.
    pub id: String,
    /// The webhook it goes to.
    pub webhook_id: String,
    /// The id of the event, the same for every webhook and attempt.
    pub event_id: String,
    /// The type of the event.
    pub kind: String,
    /// The event as JSON: what is sent.
    pub body: String,
    /// Where it stands.
    pub state: State,
    /// Attempts since it was made or replayed.
    pub attempts: u32,
    /// When it was written down.
    pub created_at: Timestamp,
    /// When it is sent next, while it is pending.
    pub due_at: Option<Timestamp>,
    /// When it was delivered or given up.
    pub finished_at: Option<Timestamp>,
    /// What the receiver answered last.
    pub last_status: Option<u16>,
    /// Why the last attempt failed.
    pub last_error: Option<String>,
}

impl Document for Delivery {
    const TABLE: Table = Table {
        name: "webhook_deliveries",
        indexes: &["due_at", "finished_at", "state", "webhook", "webhook_state"],
    };

    fn key(&self) -> String {
        self.id.clone()
    }

    fn indexes(&self) -> Vec<(&'static str, IndexValue)> {
        let text = |text: &str| IndexValue::Text(text.to_owned());
        let mut indexes = vec![
            ("state", text(self.state.name())),
            ("webhook", text(&self.webhook_id)),
            ("webhook_state", text(&both(&self.webhook_id, self.state))),
        ];
        let time = |time: Timestamp| IndexValue::Integer(time.as_millisecond());
        indexes.extend(self.due_at.map(|at| ("due_at", time(at))));
        indexes.extend(self.finished_at.map(|at| ("finished_at", time(at))));
        indexes
    }
}

fn both(webhook_id: &str, state: State) -> String {
    format!("{webhook_id}/{}", state.name())
}

impl Delivery {
    /// Sends it anew, from the first attempt.
    fn again(&mut self, now: Timestamp) {
        (self.state, self.attempts) = (State::Pending, 0);
        (self.due_at, self.finished_at) = (Some(now), None);
    }

    /// Ends it.
    pub(crate) fn finish(&mut self, state: State, now: Timestamp) {
        self.state = state;
        (self.due_at, self.finished_at) = (None, Some(now));
    }
}

/// Something that happened, before it is a message.
#[derive(Debug, Clone)]
pub(crate) struct Happening {
    pub(crate) kind: &'static str,
    pub(crate) subject: Option<String>,
    pub(crate) data: serde_json::Value,
}

/// Which deliveries are listed.
#[derive(Debug, Clone, Default)]
pub struct Wanted {
    /// Only those that stand there.
    pub state: Option<State>,
    /// Only those to this webhook.
    pub webhook_id: Option<String>,
}

impl Wanted {
    fn selection(&self) -> Result<Selection> {
        let text = |text: String| IndexValue::Text(text);
        if self.webhook_id.as_ref().is_some_and(|id| !is_id(id)) {
            let rule = "must be 1 to 64 letters and digits, as in the list of webhooks";
            return Err(Error::new(codes::VALIDATION_ERROR, rule).with_field("webhook_id"));
        }
        Ok(match (&self.webhook_id, self.state) {
            (None, None) => Selection::All,
            (None, Some(state)) => Selection::Equal("state", text(state.name().to_owned())),
            (Some(id), None) => Selection::Equal("webhook", text(id.clone())),
            (Some(id), Some(state)) => Selection::Equal("webhook_state", text(both(id, state))),
        })
    }
}

/// The deliveries of every tenant.
#[derive(Debug, Clone)]
pub struct Deliveries {
    records: Arc<dyn Records>,
    deliveries: Repository<Delivery>,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
}

impl Deliveries {
    /// Over an engine.
    #[must_use]
    pub fn new(records: Arc<dyn Records>, clock: Arc<dyn Clock>, entropy: Arc<dyn Entropy>) -> Self {
        Self { deliveries: Repository::new(Arc::clone(&records)), records, clock, entropy }
    }

    /// Writes one delivery for each webhook, and `more` in the same transaction; durable when this returns.
    pub(crate) async fn enqueue(
        &self,
        scope: &Scope,
        webhooks: &[Webhook],
        happening: Happening,
        more: Vec<Write>,
    ) -> Result<Vec<Delivery>> {
        let now = self.clock.now();
        let event_id = self.entropy.id(now).to_string();
        let kind = happening.kind.to_owned();
        let body = event(scope, &event_id, happening, now)?;
        let one = |webhook: &Webhook| Delivery {
            id: self.entropy.id(now).simple().to_string(),
            webhook_id: webhook.id.clone(),
            event_id: event_id.clone(),
            kind: kind.clone(),
            body: body.clone(),
            state: State::Pending,
            attempts: 0,
            created_at: now,
            due_at: Some(now),
            finished_at: None,
            last_status: None,
            last_error: None,
        };
        let deliveries: Vec<Delivery> = webhooks.iter().map(one).collect();
        let mut writes = more;
        for delivery in &deliveries {
            writes.push(Repository::write(delivery, Expect::Absent)?);
        }
        if !writes.is_empty() {
            self.records.commit(scope, writes).await?;
        }
        Ok(deliveries)
    }

    /// One page, newest first, and the cursor of the next.
    ///
    /// # Errors
    /// `PERMISSION_DENIED`; those of [`Records::list`].
    pub async fn list(
        &self,
        scope: &Scope,
        wanted: &Wanted,
        cursor: Option<String>,
        limit: usize,
    ) -> Result<(Vec<Delivery>, Option<String>)> {
        scope.require(Permission::Admin)?;
        let query = Query { descending: true, cursor, ..Query::new(wanted.selection()?, limit) };
        let (found, cursor) = self.deliveries.list(scope, &query).await?;
        Ok((found.into_iter().map(|found| found.document).collect(), cursor))
    }

    /// One delivery.
    ///
    /// # Errors
    /// `PERMISSION_DENIED`; `NOT_FOUND`; those of the engine.
    pub async fn get(&self, scope: &Scope, id: &str) -> Result<Delivery> {
        Ok(self.found(scope, id).await?.document)
    }

    async fn found(&self, scope: &Scope, id: &str) -> Result<Versioned<Delivery>> {
        scope.require(Permission::Admin)?;
        let missing = || Error::new(codes::NOT_FOUND, "there is no such delivery");
        if !is_id(id) {
            return Err(missing());
        }
        self.deliveries.get(scope, id).await?.ok_or_else(missing)
    }

    /// Sends a delivered or dead one again.
    ///
    /// # Errors
    /// `PERMISSION_DENIED`; `NOT_FOUND`; `CONFLICT` where it is pending; those of the engine.
    pub async fn replay(&self, scope: &Scope, id: &str) -> Result<Delivery> {
        let Versioned { version, document: mut delivery } = self.found(scope, id).await?;
        if delivery.state == State::Pending {
            return Err(Error::new(codes::CONFLICT, "the delivery is pending: it will be sent in any case"));
        }
        delivery.again(self.clock.now());
        self.deliveries.put(scope, &delivery, Expect::Version(version)).await?;
        Ok(delivery)
    }

    /// Sends dead ones again, at most 1,000 at once, the oldest first; returns how many, and whether more are left.
    ///
    /// # Errors
    /// `PERMISSION_DENIED`; `CONFLICT` where another replays them at the same time; those of the engine.
    pub async fn replay_dead(&self, scope: &Scope, webhook_id: Option<String>) -> Result<(usize, bool)> {
        scope.require(Permission::Admin)?;
        let wanted = Wanted { state: Some(State::Dead), webhook_id };
        let query = Query::new(wanted.selection()?, REPLAYED_AT_ONCE);
        let (found, cursor) = self.deliveries.list(scope, &query).await?;
        let now = self.clock.now();
        let again = |Versioned { version, document: mut delivery }: Versioned<Delivery>| {
            delivery.again(now);
            Repository::write(&delivery, Expect::Version(version))
        };
        let writes = found.into_iter().map(again).collect::<Result<Vec<_>>>()?;
        let count = writes.len();
        if count > 0 {
            self.records.commit(scope, writes).await?;
        }
        Ok((count, cursor.is_some()))
    }

    /// Those that are due, the longest first.
    pub(crate) async fn due(&self, scope: &Scope, limit: usize) -> Result<Vec<Versioned<Delivery>>> {
        let now_ms = self.clock.now().as_millisecond();
        let due = Selection::Between("due_at", IndexValue::Integer(i64::MIN), IndexValue::Integer(now_ms));
        Ok(self.deliveries.list(scope, &Query::new(due, limit)).await?.0)
    }

    /// Writes what became of an attempt, unless the delivery was changed meanwhile.
    pub(crate) async fn settle(&self, scope: &Scope, version: u64, delivery: &Delivery) -> Result<()> {
        match self.deliveries.put(scope, delivery, Expect::Version(version)).await {
            Err(error) if error.code() == codes::CONFLICT => Ok(()),
            other => other.map(drop),
        }
    }

    /// Removes some of what was finished before.
    pub(crate) async fn prune(&self, scope: &Scope, before: Timestamp) -> Result<()> {
        let most = IndexValue::Integer(before.as_millisecond());
        let old = Selection::Between("finished_at", IndexValue::Integer(i64::MIN), most);
        let (found, _) = self.deliveries.list(scope, &Query::new(old, REMOVED_AT_ONCE)).await?;
        let remove = |found: Versioned<Delivery>| Write::Delete {
            table: Delivery::TABLE,
            key: found.document.id,
            expect: Expect::Version(found.version),
        };
        let writes: Vec<Write> = found.into_iter().map(remove).collect();
        if writes.is_empty() {
            return Ok(());
        }
        match self.records.commit(scope, writes).await {
            // One of them is replayed just now; the next look takes the others.
            Err(error) if error.code() == codes::CONFLICT => Ok(()),
            other => other.map(drop),
        }
    }
}

/// A CloudEvent as JSON.
fn event(scope: &Scope, id: &str, happening: Happening, now: Timestamp) -> Result<String> {
    let data = RawValue::from_string(happening.data.to_string()).map_err(Error::internal)?;
    let event = Event {
        subject: happening.subject,
        data_content_type: Some("application/json".to_owned()),
        data: Some(data.into()),
        ..Event::new(scope.tenant(), id, SOURCE, happening.kind, now)
    };
    String::from_utf8(event.to_json()).map_err(Error::internal)
}
