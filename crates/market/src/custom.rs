//! What custom projections keep: of each key the newest, whatever comes in whatever order, however often.
//!
//! A value stands in `Records` under its projection, what that is declared as, and its key. It is replaced by one that
//! happened later (by time, then by number, then by identity) and by nothing else: an event that is late, that comes again or
//! that two processes take at once changes nothing that is newer. A projection that is declared otherwise begins anew; what
//! came before, [`rebuild`] makes of the topics, and takes away what was kept for declarations of before. What is past its time
//! is taken away in the background (`Sweeper`), and at once where another key needs its room.
//!
//! It refuses to make up what came too early: without a rebuild a projection knows what came since it was declared. And it
//! refuses more than [`MOST_KEYS`] keys of a projection and a tenant: what comes of others then is a dead letter.

mod counting;
mod keeping;
mod sweeping;

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use kernel::{Clock, Error, Event, Permission, Result, Scope, TenantId, Timestamp, codes};
use prometheus_client::metrics::counter::Counter;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use store::{
    Document, EventLog, IndexValue, Query, ReadLimit, Records, Repository, Selection, Stored, Table, Topic,
};
use stream::{DEAD_LETTER, Letter, LogSink, Output, Sink};

use crate::algorithms::projections::Projection;
use crate::events::{kinds, topics};
use crate::settings::Rules;
use crate::topology::{KEPT, inputs, project, told};

use keeping::Keeping;
pub(crate) use sweeping::Sweeper;

/// The most keys that a projection has of one tenant.
pub const MOST_KEYS: u64 = 100_000;
/// The code of what would be one more.
const TOO_MANY_KEYS: &str = "TOO_MANY_KEYS";

/// The newest that a projection has of a key.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Kept {
    /// The name of the projection.
    pub projection: String,
    /// Names what it was declared as.
    pub definition: String,
    /// Its key.
    pub key: String,
    /// The instrument that it was made of.
    pub instrument_id: String,
    /// Its fields.
    pub data: Map<String, Value>,
    /// When it happened (a bar when it begins), in microseconds since 1970: the newest counts.
    pub occurred_us: i64,
    /// Of one time the highest counts: the number of a tick, the revision of a bar.
    pub sequence: u64,
    /// What it was made of.
    pub id: String,
    /// From when on it says something (a bar from its end on), in microseconds since 1970.
    pub told_us: i64,
    /// Until when it says something, by the settings with which it was made, in milliseconds since 1970; none for ever.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ends_ms: Option<i64>,
    /// When it was written, in milliseconds since 1970.
    #[serde(default)]
    pub changed_ms: i64,
}

impl Document for Kept {
    const TABLE: Table = Table { name: "market_projections", indexes: &["changed", "ends"] };

    fn key(&self) -> String {
        format!("{}{}", prefix(&self.projection, &self.definition), self.key)
    }

    fn indexes(&self) -> Vec<(&'static str, IndexValue)> {
        let ends = self.ends_ms.map(|ends_ms| ("ends", IndexValue::Integer(ends_ms)));
        [("changed", IndexValue::Integer(self.changed_ms))].into_iter().chain(ends).collect()
    }
}

impl Kept {
    fn order(&self) -> (i64, u64, &str) {
        (self.occurred_us, self.sequence, &self.id)
    }

    /// Whether it still says something.
    #[must_use]
    pub fn lives(&self, projection: &Projection, now: Timestamp) -> bool {
        self.ends_us(projection).is_none_or(|end_us| now.as_microsecond() < end_us)
    }

    /// What it is declared as, where it was made for that and not for a declaration of before.
    pub(crate) fn declared<'a>(&self, rules: &'a Rules) -> Option<&'a Projection> {
        let (projection, definition) = rules.projections.named(&self.projection)?;
        (definition == self.definition).then_some(projection)
    }

    /// Until when it says something, in microseconds since 1970; none for ever.
    pub(crate) fn ends_us(&self, projection: &Projection) -> Option<i64> {
        let seconds = i64::try_from(projection.ttl_seconds?).unwrap_or(i64::MAX);
        Some(self.told_us.saturating_add(seconds.saturating_mul(1_000_000)))
    }

    /// As it is by the declaration of now.
    pub(crate) fn ending(self, projection: &Projection) -> Self {
        let ends_ms = self.ends_us(projection).map(|ends_us| ends_us.div_euclid(1_000));
        Self { ends_ms, ..self }
    }
}

fn prefix(projection: &str, definition: &str) -> String {
    format!("{projection}/{definition}/")
}

/// Keeps what the stages of custom projections make; the rest goes to the log.
///
/// A stage that is opened delivers once more what it committed last. What was made for a declaration of before goes nowhere
/// then: a rebuild took it away for good.
#[derive(Debug)]
pub(crate) struct CustomSink {
    log: LogSink,
    rules: Arc<Rules>,
    keeping: Keeping,
    refused: Counter,
}

impl CustomSink {
    pub(crate) fn new(
        log: Arc<dyn EventLog>,
        records: Arc<dyn Records>,
        rules: Arc<Rules>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let keeping = Keeping::new(records, Arc::clone(&rules), clock, MOST_KEYS);
        Self { log: LogSink::new(log), rules, keeping, refused: Counter::default() }
    }

    /// Counts there the values for whose keys there is no room, again where they are delivered again.
    pub(crate) fn counting(self, refused: Counter) -> Self {
        Self { refused, ..self }
    }

    #[cfg(test)]
    fn with_most_keys(mut self, most_keys: u64) -> Self {
        self.keeping.most_keys = most_keys;
        self
    }
}

#[async_trait]
impl Sink for CustomSink {
    async fn deliver(&self, outputs: Vec<Output>) -> Result<()> {
        let (made, letters): (Vec<Output>, _) = outputs.into_iter().partition(|output| output.topic == KEPT);
        self.log.deliver(letters).await?;
        let mut by_tenant: BTreeMap<TenantId, (Vec<Kept>, BTreeMap<String, Event>)> = BTreeMap::new();
        for Output { event, .. } in made {
            let kept: Kept = event.data_as()?;
            let Some(declared) = kept.declared(&self.rules) else { continue };
            let kept = kept.ending(declared);
            let (found, events) = by_tenant.entry(event.tenant.clone()).or_default();
            events.insert(kept.key(), event);
            found.push(kept);
        }
        for (tenant, (found, events)) in by_tenant {
            let done = self.keeping.keep(&Scope::system(tenant, "market"), found).await?;
            self.refused.inc_by(done.refused.len() as u64);
            let refused = done.refused.iter().filter_map(|kept| Some((kept, events.get(&kept.key())?)));
            let letters = refused.map(|(kept, event)| letter(kept, event)).collect::<Result<Vec<_>>>()?;
            self.log.deliver(letters).await?;
        }
        Ok(())
    }
}

/// What tells that there is no room for a key. It has the same id each time that it is delivered.
fn letter(kept: &Kept, made: &Event) -> Result<Output> {
    let Kept { projection, key, .. } = kept;
    let said = Letter {
        code: TOO_MANY_KEYS.to_owned(),
        reason: format!(
            "projection `{projection}`, key `{}`: it has {MOST_KEYS} keys of this tenant, which is the most; choose a key of \
             fewer values, or a `ttl_seconds`, and run `watershed projection rebuild`",
            key.escape_debug()
        ),
        // The source is that of its stage: `/watershed/stream/NAME/VERSION`.
        topology: made.source.rsplit('/').nth(1).unwrap_or_default().to_owned(),
        version: made.source.rsplit('/').next().and_then(|version| version.parse().ok()).unwrap_or(1),
        operator: "kept".to_owned(),
        topic: KEPT.as_str().to_owned(),
        partition: 0,
        offset: 0,
        event_id: made.id.clone(),
        event_source: made.source.clone(),
        event: None,
    };
    let id = format!("{}-keys", made.id);
    let event = Event {
        subject: made.subject.clone(),
        data: Some(serde_json::value::to_raw_value(&said).map_err(Error::internal)?.into()),
        ..Event::new(&made.tenant, id, made.source.clone(), DEAD_LETTER, made.time)
    };
    Ok(Output { topic: Topic::fixed(topics::DEAD_PROJECTION), event })
}

/// What a rebuild did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Rebuilt {
    /// Values that were missing or older.
    pub kept: u64,
    /// Times that an expression failed for an event.
    pub failed: u64,
    /// Values for whose keys there was no room.
    pub refused: u64,
    /// Values of declarations of before, which were taken away.
    pub removed: u64,
    /// Values past their time, which were taken away.
    pub ended: u64,
}

/// Makes what the projections of the settings keep again from the topics, and takes away what is kept for others, of all tenants. A
/// server may go on beside it.
///
/// # Errors
/// Those of the engines.
pub async fn rebuild(
    log: &dyn EventLog,
    records: &Arc<dyn Records>,
    rules: &Arc<Rules>,
    clock: &Arc<dyn Clock>,
) -> Result<Rebuilt> {
    let mut done = Rebuilt::default();
    // First, so that there is room.
    let sweeper = Sweeper::new(Arc::clone(records), Arc::clone(rules), Arc::clone(clock));
    (done.removed, done.ended) = sweeper.remove_former().await?;
    let keeping = Keeping::new(Arc::clone(records), Arc::clone(rules), Arc::clone(clock), MOST_KEYS);
    for (_, topic) in inputs(&rules.projections) {
        for extent in log.extents(&topic).await? {
            let mut offset = extent.first;
            while offset < extent.next {
                let batch = log.read(&topic, extent.partition, offset, ReadLimit::default()).await?;
                let Some(last) = batch.last() else { break };
                offset = last.offset + 1;
                let (found, failed) = projected(rules, &topic, &batch);
                done.failed += failed;
                for (tenant, found) in found {
                    let kept = keeping.keep(&Scope::system(tenant, "market"), found).await?;
                    done.kept += kept.written;
                    done.refused += kept.refused.len() as u64;
                }
            }
        }
    }
    Ok(done)
}

/// What projections make of a batch, by tenant, and how often one failed.
fn projected(rules: &Rules, topic: &Topic, batch: &[Stored]) -> (BTreeMap<TenantId, Vec<Kept>>, u64) {
    let (mut found, mut failed) = (BTreeMap::<TenantId, Vec<Kept>>::new(), 0);
    // Else punctuations, and at brokers what others wrote there.
    for event in batch.iter().map(|stored| &stored.event).filter(|event| is_ours(&event.kind)) {
        let Ok(told) = told(topic, event) else {
            failed += 1;
            continue;
        };
        for made in project(&rules.projections, told) {
            match made {
                Ok(kept) => found.entry(event.tenant.clone()).or_default().push(kept),
                Err(_) => failed += 1,
            }
        }
    }
    (found, failed)
}

fn is_ours(kind: &str) -> bool {
    [kinds::ENRICHED_TICK, kinds::BAR].contains(&kind)
}

/// Answers what projections keep.
#[derive(Debug)]
pub struct Custom {
    rules: Arc<Rules>,
    kept: Repository<Kept>,
}

impl Custom {
    /// Over these.
    #[must_use]
    pub fn new(rules: Arc<Rules>, records: Arc<dyn Records>) -> Self {
        Self { rules, kept: Repository::new(records) }
    }

    /// The projections of the settings.
    ///
    /// # Errors
    /// `PERMISSION_DENIED`.
    pub fn declared(&self, scope: &Scope) -> Result<Vec<&Projection>> {
        scope.require(Permission::Read)?;
        Ok(self.rules.projections.declared().collect())
    }

    fn named(&self, name: &str) -> Result<(&Projection, &str)> {
        self.rules.projections.named(name).ok_or_else(|| {
            let message = format!(
                "no projection is called `{}`; `market.projections` of the settings has them",
                name.escape_debug()
            );
            Error::new(codes::NOT_FOUND, message).with_field("name")
        })
    }

    /// The newest of a key.
    ///
    /// # Errors
    /// `PERMISSION_DENIED`; `NOT_FOUND` for a name or a key, also where it is past its time; those of the engine.
    pub async fn get(&self, scope: &Scope, name: &str, key: &str, now: Timestamp) -> Result<Kept> {
        scope.require(Permission::Read)?;
        let (projection, definition) = self.named(name)?;
        let missing = || {
            let message = format!("`{name}` has nothing of `{}`", key.escape_debug());
            Error::new(codes::NOT_FOUND, message).with_field("key")
        };
        let place = format!("{}{key}", prefix(name, definition));
        if place.len() > store::MAX_KEY_BYTES || key.chars().any(char::is_control) {
            return Err(missing());
        }
        let found = self.kept.get(scope, &place).await?.map(|found| found.document);
        found.filter(|kept| kept.lives(projection, now)).ok_or_else(missing)
    }

    /// A page of what a projection has, in the order of keys, and the cursor of the next one. What is past its time is left
    /// out, so that a page may be shorter.
    ///
    /// # Errors
    /// `PERMISSION_DENIED`; `NOT_FOUND` for a name; `VALIDATION_ERROR` for a cursor that is none; those of the engine.
    pub async fn list(
        &self,
        scope: &Scope,
        name: &str,
        (cursor, limit): (Option<String>, usize),
        now: Timestamp,
    ) -> Result<(Vec<Kept>, Option<String>)> {
        scope.require(Permission::Read)?;
        let (projection, definition) = self.named(name)?;
        let query = Query { cursor, ..Query::new(Selection::Prefix(prefix(name, definition)), limit) };
        let (found, cursor) = self.kept.list(scope, &query).await?;
        let living = found.into_iter().map(|found| found.document).filter(|kept| kept.lives(projection, now));
        Ok((living.collect(), cursor))
    }
}

#[cfg(test)]
mod tests;
