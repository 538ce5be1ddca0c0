//! Forgets a person, everywhere that this domain holds anything of them; and lets go of what grew too old.
//!
//! | where | how | when |
//! |---|---|---|
//! | the log | the person's keys are dropped; what is unsealed stays for the log's own retention, and counts no more | at once |
//! | views, answers, exports | by the erasure's event, on every replica | as any event |
//! | kept states of users | dropped | at once here, within two seconds elsewhere |
//! | dead letters | those that name the person are removed | before the keys go |
//! | features of users | removed, by who holds them | before the keys go |
//! | checkpoints | a new one is written, and every older one removed | right after |
//! | kept answers | out of reach at once: they are kept under the history | their time to live |
//! | models | trained anew, earlier versions removed | `schedule.forget_within_hours` |
//!
//! What is held of a person is read from the view, so that nothing is decided before the view shows all of the log. The
//! audit is written first and the dead letters go before the keys: from the moment that the keys are gone, what is left to
//! do needs no user id, and the next look of any replica takes up an erasure that was cut off.
//!
//! What grew too old is said by an event with the day in it, so that views stay folds of the log. Its id is of its
//! content: of many replicas that say it, one does.
//!
//! It refuses to keep the person's id, in the answer's audit or in the log.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use edge::AuditLog;
use edge::audit::Record;
use kernel::{Clock, Error, Event, Permission, Result, Scope, TenantId, codes};
use parking_lot::Mutex;
use privacy::{Erasure, Erasures, Holder, Prepared, Progress};
use serde_json::Value;
use store::{DeadLetter, DeadLetters, EventLog};
use stream::Projector;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::events::{RetentionData, kinds};
use crate::log_ends::log_ends;
use crate::service::Service;
use crate::views::Views;
use crate::views::activity::day_of;

/// How long an erasure waits for the view. It is durable all the same.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long a restore waits for it.
const LONG_PATIENCE: Duration = Duration::from_secs(600);
/// Between two looks at the view, which cost nothing.
const PAUSE: Duration = Duration::from_secs(1);
/// Looks at the view between two looks at the records.
const LOOKS_PER_QUESTION: u64 = 600;
/// Letters a page.
const PAGE: usize = 1_000;
/// In the audit, what was removed of a person of whom nothing was under a key.
const UNKEYED: &str = "without_erasure";

/// What it works with.
#[derive(Debug, Clone)]
pub struct ForgettingParts {
    /// Who was forgotten.
    pub erasures: Erasures,
    /// What forgets.
    pub views: Arc<Views>,
    /// What writes checkpoints.
    pub projector: Arc<Projector<Views>>,
    /// What keeps states of users.
    pub service: Arc<Service>,
    /// What may quote a person.
    pub dead_letters: DeadLetters,
    /// Who else holds something of a person.
    pub holders: Vec<Arc<dyn Holder>>,
    /// Who forgot whom.
    pub audit: AuditLog,
    /// Where retention is said.
    pub log: Arc<dyn EventLog>,
    /// What day it is.
    pub clock: Arc<dyn Clock>,
    /// Days by interaction type or event type.
    pub retention_days: BTreeMap<String, u32>,
    /// Hours in which models that learned from a person may stay.
    pub models_within_hours: u32,
}

/// What was done to forget a person.
#[derive(Debug)]
pub struct Forgotten {
    /// The erasure; none where nothing was held.
    pub erasure: Option<Erasure>,
    /// Dead letters that were removed.
    pub dead_letters: usize,
    /// What others held and removed, by what it is.
    pub elsewhere: BTreeMap<String, u64>,
    /// Whether unsealed events of the person stay in the log until its retention ends.
    pub unsealed: bool,
}

/// Forgets.
#[derive(Debug)]
pub struct Forgetting {
    parts: ForgettingParts,
    /// There is an erasure to complete.
    begun: Notify,
    /// Erasures of each tenant that this process has seen in its view.
    seen: Mutex<HashMap<TenantId, usize>>,
}

impl Forgetting {
    /// Over these parts.
    #[must_use]
    pub fn new(parts: ForgettingParts) -> Self {
        Self { parts, begun: Notify::new(), seen: Mutex::default() }
    }

    /// The erasures.
    #[must_use]
    pub fn erasures(&self) -> &Erasures {
        &self.parts.erasures
    }

    /// Hours in which models that learned from a person may stay.
    #[must_use]
    pub fn models_within_hours(&self) -> u32 {
        self.parts.models_within_hours
    }

    /// The dead letters.
    #[must_use]
    pub fn dead_letters(&self) -> &DeadLetters {
        &self.parts.dead_letters
    }

    /// Forgets a person. Returns when no answer of this process knows them; checkpoints and models follow. Forgetting
    /// someone of whom nothing is held does nothing.
    ///
    /// # Errors
    /// `PERMISSION_DENIED`; `UNAVAILABLE` while the view is behind the log, so that it is not known what is held: then nothing
    /// was done; those of the engines: what was begun is completed by a later look, or by asking again.
    pub async fn forget(&self, scope: &Scope, user_id: &str) -> Result<Forgotten> {
        scope.require(Permission::Admin)?;
        self.take_up(scope).await?;
        self.caught_up().await?;
        let unsealed = {
            let view = self.parts.views.of(scope);
            let view = view.read();
            let user = view.users.find(user_id).and_then(|index| view.users.get(index));
            user.is_some_and(|user| user.unsealed)
        };
        let letters = letters_about(&self.parts.dead_letters, scope, user_id).await?;
        let prepared = self.parts.erasures.prepare(scope, user_id, unsealed).await?;
        let held = self.held(scope, user_id).await?;
        self.note(scope, prepared.as_ref().map(Prepared::erasure), letters.len(), &held).await?;
        for letter in &letters {
            self.parts.dead_letters.remove(scope, &letter.id).await?;
        }
        let mut elsewhere = BTreeMap::new();
        for holder in &self.parts.holders {
            elsewhere.insert(holder.what().to_owned(), holder.forget(scope, user_id).await?);
        }
        let dead_letters = letters.len();
        let Some(prepared) = prepared else {
            return Ok(Forgotten { erasure: None, dead_letters, elsewhere, unsealed });
        };
        let erasure = self.parts.erasures.begin(scope, prepared).await?;
        self.tell(scope, &erasure).await?;
        info!(tenant = %scope.tenant(), erasure = erasure.id, "a person was forgotten");
        self.begun.notify_one();
        Ok(Forgotten { erasure: Some(erasure), dead_letters, elsewhere, unsealed })
    }

    /// What others hold of a person.
    async fn held(&self, scope: &Scope, user_id: &str) -> Result<Vec<(&'static str, u64)>> {
        let mut held = Vec::with_capacity(self.parts.holders.len());
        for holder in &self.parts.holders {
            held.push((holder.what(), holder.held(scope, user_id).await?));
        }
        Ok(held)
    }

    /// Waits until the view shows all that the log holds now.
    async fn caught_up(&self) -> Result<()> {
        let ends = log_ends(&*self.parts.log).await?;
        self.parts.projector.reached(&ends, PATIENCE).await.map_err(|error| {
            let message = "this server does not show all of the log yet, so it does not know what is held of the person; \
                           nothing was done, try again";
            Error::new(codes::UNAVAILABLE, message).with_source(error)
        })
    }

    /// Written before the change: an audit that names what did not happen is better than one that lacks what did. Where
    /// nothing is held there is nothing to note, and where nothing was under a key there is no erasure to name.
    async fn note(
        &self,
        scope: &Scope,
        erasure: Option<&Erasure>,
        dead_letters: usize,
        held: &[(&'static str, u64)],
    ) -> Result<()> {
        let keys = erasure.map_or(0, |erasure| erasure.keys.len());
        let counts = [("keys", keys as u64), ("dead_letters", dead_letters as u64)];
        let counts = counts.iter().chain(held);
        if erasure.is_none() && counts.clone().all(|(_, count)| *count == 0) {
            return Ok(());
        }
        let details = counts.map(|(name, count)| ((*name).to_owned(), count.to_string())).collect();
        let subject = erasure.map_or_else(|| UNKEYED.to_owned(), |erasure| erasure.id.clone());
        let action = "person.erased".to_owned();
        self.parts.audit.append(scope, Record { action, subject, details }).await.map(drop)
    }

    /// Tells of every erasure of a tenant again, and writes a checkpoint that is without them. Returns how many.
    ///
    /// # Errors
    /// Those of the engines.
    pub async fn again(&self, scope: &Scope) -> Result<usize> {
        let places = self.parts.erasures.replay(scope).await?;
        if !places.is_empty() {
            self.parts.projector.reached(&places, LONG_PATIENCE).await?;
            self.parts.projector.checkpoint_alone().await?;
        }
        Ok(places.len())
    }

    async fn tell(&self, scope: &Scope, erasure: &Erasure) -> Result<()> {
        let places = self.parts.erasures.tell(scope, erasure).await?;
        if let Err(error) = self.parts.projector.reached(&places, PATIENCE).await {
            warn!(error = %error.chain(), "a person is forgotten before the view shows it");
        }
        self.forget_states(scope);
        Ok(())
    }

    fn forget_states(&self, scope: &Scope) {
        if let Some(model) = self.parts.service.served(scope).and_then(|served| served.current()) {
            model.forget_users(&self.parts.views.of(scope));
        }
    }

    /// Tells of erasures that were begun and never told.
    async fn take_up(&self, scope: &Scope) -> Result<()> {
        let open = self.parts.erasures.open(scope).await?;
        for erasure in open.iter().filter(|erasure| erasure.progress == Progress::KeysDropped) {
            self.tell(scope, erasure).await?;
        }
        Ok(())
    }

    /// Completes erasures and says what grew too old, until `stop`.
    pub async fn run(self: Arc<Self>, stop: CancellationToken) {
        let mut looks = 0_u64;
        loop {
            let is_time = looks.is_multiple_of(LOOKS_PER_QUESTION);
            for tenant in self.parts.views.tenants() {
                // A tenant that was not there at the last question is asked for at once.
                let asks = is_time || !self.seen.lock().contains_key(&tenant);
                let scope = Scope::system(tenant, "forgetting");
                if let Err(error) = self.look_after(&scope, asks).await {
                    warn!(tenant = %scope.tenant(), error = %error.chain(), "forgetting is not complete, trying again");
                }
            }
            looks += 1;
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.begun.notified() => {}
                () = tokio::time::sleep(PAUSE) => {}
            }
        }
    }

    async fn look_after(&self, scope: &Scope, asks: bool) -> Result<()> {
        let erasures = self.parts.views.of(scope).read().erasures_ms().len();
        let seen = self.seen.lock().get(scope.tenant()).copied().unwrap_or(0);
        if erasures != seen {
            self.forget_states(scope);
        }
        if asks || erasures != seen {
            self.complete(scope).await?;
        }
        if !asks {
            self.seen.lock().insert(scope.tenant().clone(), erasures);
            return Ok(());
        }
        // More than the view knows of: the log was restored from before.
        if self.parts.erasures.count(scope).await? > erasures {
            self.again(scope).await?;
        }
        self.let_go(scope).await?;
        self.seen.lock().insert(scope.tenant().clone(), erasures);
        Ok(())
    }

    /// Writes the checkpoint that is without the forgotten, and removes the others.
    ///
    /// # Errors
    /// Those of the engines.
    pub async fn complete(&self, scope: &Scope) -> Result<()> {
        self.take_up(scope).await?;
        let open = self.parts.erasures.open(scope).await?;
        if open.is_empty() {
            return Ok(());
        }
        self.parts.projector.checkpoint_alone().await?;
        for erasure in open {
            self.parts.erasures.mark(scope, &erasure.id, Progress::Complete).await?;
        }
        Ok(())
    }

    /// Says what is too old from today on, unless the view knows.
    ///
    /// # Errors
    /// Those of the log.
    pub async fn let_go(&self, scope: &Scope) -> Result<()> {
        let now = self.parts.clock.now();
        let today = day_of(now.as_millisecond());
        let first_day = self.parts.retention_days.iter();
        let first_day: BTreeMap<String, i64> =
            first_day.map(|(name, days)| (name.clone(), today - i64::from(*days))).collect();
        if self.parts.views.of(scope).read().lets_go(&first_day) {
            return Ok(());
        }
        let data = serde_json::value::to_raw_value(&RetentionData { first_day }).map_err(Error::internal)?;
        let id = blake3::hash(data.get().as_bytes()).to_hex().to_string();
        let event = Event {
            data: Some(data.into()),
            ..Event::new(scope.tenant(), id, "/retention", kinds::RETENTION_APPLIED, now)
        };
        self.parts.log.append(scope, &edge::ingest::EVENTS, vec![event]).await.map(drop)
    }
}

/// The dead letters of a tenant that name a person.
///
/// # Errors
/// Those of the engine.
pub async fn letters_about(letters: &DeadLetters, scope: &Scope, user_id: &str) -> Result<Vec<DeadLetter>> {
    let (mut found, mut cursor) = (Vec::new(), None);
    loop {
        let (page, next) = letters.list(scope, cursor, PAGE).await?;
        found.extend(page.into_iter().filter(|letter| names(letter, user_id)));
        if next.is_none() {
            return Ok(found);
        }
        cursor = next;
    }
}

/// Whether a text in a letter is the person's id, or could hold it where the letter is no JSON.
fn names(letter: &DeadLetter, user_id: &str) -> bool {
    match serde_json::from_str::<Value>(&letter.body) {
        Ok(body) => holds(&body, user_id),
        Err(_) => letter.body.contains(user_id),
    }
}

fn holds(value: &Value, user_id: &str) -> bool {
    match value {
        Value::String(text) => text == user_id,
        Value::Array(values) => values.iter().any(|value| holds(value, user_id)),
        Value::Object(fields) => fields.values().any(|value| holds(value, user_id)),
        Value::Number(number) => number.to_string() == user_id,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use kernel::Timestamp;

    use super::*;

    #[test]
    fn letters_are_found_by_whom_they_name() {
        let check = |body: &str, expected: bool| {
            let error = Error::internal("no event");
            let letter = DeadLetter::of_text("1".to_owned(), body, &error, Timestamp::UNIX_EPOCH);
            assert_eq!(names(&letter, "ada"), expected, "{body}");
        };
        check(r#"{"data":{"user_id":"ada"}}"#, true);
        check(r#"[{"subject":"ada"}]"#, true);
        check(r#"{"data":{"user_id":"adam","other":["nevada"]}}"#, false);
        check(r#"{"data":{"user_id":"ada""#, true);
        check("no JSON at all", false);
    }
}
