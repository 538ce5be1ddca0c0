//! Canaries of answers: who gets the candidate, what was shown, and what the gates say of it.
//!
//! All state is in the log: how a canary began, what each user was shown first in each arm, and every decision. A server
//! folds these like any event, so that a restart and another replica know the same. One server reads the gates every second,
//! by a lease; what it decides is an event under an id that its number makes, so that two that read at once decide once.
//!
//! A decision is in the audit log in one transaction with a mark that it is: none is lost where a server dies in between,
//! and none is told twice. Webhooks read decisions from the view.
//!
//! It refuses to hold an answer up: what was shown is handed to a bounded queue, and left out where that is full.

mod gates;
mod shown;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use edge::AuditLog;
use edge::audit::Record;
use kernel::{
    Clock, Entropy, Error, ErrorKind, Event, Id, Permission, Result, Scope, TenantId, Timestamp, codes,
};
use parking_lot::Mutex;
use rollout::assignment::is_candidate;
use rollout::canary::{Arm, Plan, Reading};
use serde::Serialize;
use serde_json::value::to_raw_value;
use store::{EventLog, Leases, Records, Repository};
use stream::Projector;
use tokio::sync::mpsc;
use tracing::warn;

use crate::events::{ArmSettings, CanaryDecided, CanaryShown, CanaryStarted, EntityName, Mode, Stage, kinds};
use crate::metrics::CanaryMetrics;
use crate::service::answer::AnswerCanary;
use crate::service::{Algorithm, Answer};
use crate::views::{Canary, Decision, Views, seen};
use gates::Told;

/// What waits to be written, at most.
const QUEUE: usize = 10_000;
/// Users that count at once, at most: what is asked with a key that may only read must not grow the view without end.
const EXPOSED_MAX: usize = 1_000_000;
/// Times that an operator's decision is tried while the gates decide too.
const ATTEMPTS: usize = 5;
/// How long a writer waits for the view. What it wrote is durable all the same.
const PATIENCE: Duration = Duration::from_secs(5);
/// The partition key of what must keep its order.
const ORDER: &str = "canary";
const SOURCE: &str = "/canaries";
const NAME_BYTES_MAX: usize = 100;
const REASON_BYTES_MAX: usize = 1_000;
const WINDOW_SECONDS_MAX: u64 = 30 * 24 * 3_600;

/// What it works with.
#[derive(Debug, Clone)]
pub struct CanaryParts {
    /// What is known.
    pub views: Arc<Views>,
    /// What follows the log.
    pub projector: Arc<Projector<Views>>,
    /// Where all of it is written.
    pub log: Arc<dyn EventLog>,
    /// Which decisions were told.
    pub records: Arc<dyn Records>,
    /// Who decided what.
    pub audit: AuditLog,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Randomness.
    pub entropy: Arc<dyn Entropy>,
    /// Who decides.
    pub leases: Leases,
    /// What is counted.
    pub metrics: CanaryMetrics,
}

/// A canary as an operator asks for it.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct NewCanary {
    /// Its name; of its key where missing.
    pub name: Option<String>,
    /// Who ends it.
    pub mode: Mode,
    /// What is tried.
    pub candidate: ArmSettings,
    /// Its steps and gates.
    pub plan: Plan,
    /// See [`CanaryStarted::outcome_window_seconds`].
    pub outcome_window_seconds: u64,
    /// See [`CanaryStarted::slow_ms`].
    pub slow_ms: u64,
}

/// The arm that a user is in.
#[derive(Debug, Clone, PartialEq)]
pub struct Assigned {
    /// How it answers.
    pub settings: ArmSettings,
    /// How the other one does.
    pub other: ArmSettings,
    /// The canary and the arm; none where no canary runs.
    pub canary: Option<(String, Arm)>,
    /// Milliseconds above which an answer is slow.
    slow_ms: u64,
    /// It is not known yet that the user was answered in it, and there is room for knowing.
    is_first: bool,
}

#[derive(Debug)]
struct Waiting {
    tenant: TenantId,
    at: Timestamp,
    shown: CanaryShown,
}

/// What this process remembers of a tenant.
#[derive(Debug, Default, Clone, Copy)]
struct Note {
    /// When the lease was taken, by the clock's elapsed time.
    held_at: Option<Duration>,
    /// Decisions that are in the audit log.
    told: u64,
}

/// The canaries of every tenant.
#[derive(Debug)]
pub struct Canaries {
    parts: CanaryParts,
    told: Repository<Told>,
    queue: mpsc::Sender<Waiting>,
    waiting: Mutex<Option<mpsc::Receiver<Waiting>>>,
    notes: Mutex<HashMap<TenantId, Note>>,
}

impl Canaries {
    /// Over these parts.
    #[must_use]
    pub fn new(parts: CanaryParts) -> Self {
        let (queue, waiting) = mpsc::channel(QUEUE);
        let told = Repository::new(Arc::clone(&parts.records));
        Self { parts, told, queue, waiting: Mutex::new(Some(waiting)), notes: Mutex::default() }
    }

    /// The arm of a user; none where no canary ever was, and for users who do not agree to personal answers.
    #[must_use]
    pub fn assigned(&self, scope: &Scope, user_id: &str) -> Option<Assigned> {
        let view = self.parts.views.of(scope);
        let view = view.read();
        let canary = view.canaries.in_force()?;
        let user = view.users.find(user_id).and_then(|index| view.users.get(index));
        if user.is_some_and(|user| !user.consent.personalisation) {
            return None;
        }
        let CanaryStarted { canary: name, key, control, candidate, slow_ms, .. } = &canary.started;
        if canary.stage != Stage::Running {
            let settings = canary.settled().clone();
            let other = if settings == *control { candidate.clone() } else { control.clone() };
            return Some(Assigned { settings, other, canary: None, slow_ms: *slow_ms, is_first: false });
        }
        let (arm, settings, other) = match is_candidate(key, user_id, canary.percent) {
            true => (Arm::Candidate, candidate, control),
            false => (Arm::Control, control, candidate),
        };
        let shown = user.map_or(&[][..], |user| user.exposures());
        let is_new = !shown.iter().any(|shown| *shown.canary == **name && shown.arm == arm);
        let has_room = !shown.is_empty() || view.users.exposed_count() < EXPOSED_MAX;
        Some(Assigned {
            settings: settings.clone(),
            other: other.clone(),
            canary: Some((name.clone(), arm)),
            slow_ms: *slow_ms,
            is_first: is_new && has_room,
        })
    }

    /// Makes the answer, names its arm in it, and notes what was shown where that is the user's first page in the arm.
    ///
    /// # Errors
    /// Those of `make`; `INTERNAL_ERROR` where it panics in a canary, which counts as a failed answer.
    pub fn observe(
        &self,
        scope: &Scope,
        user_id: &Id,
        assigned: Option<&Assigned>,
        is_first_page: bool,
        make: impl FnOnce() -> Result<Answer>,
    ) -> Result<Answer> {
        let Some((assigned, (name, arm))) = assigned.and_then(|one| Some((one, one.canary.as_ref()?))) else {
            return make();
        };
        let begun = self.parts.clock.elapsed();
        let made = catch_unwind(AssertUnwindSafe(make));
        let mut made = made.unwrap_or_else(|_| Err(Error::internal("making the answer panicked")));
        let took = self.parts.clock.elapsed().saturating_sub(begun);
        if let Ok(answer) = &mut made {
            answer.canary = Some(AnswerCanary { name: name.clone(), arm: arm.name() });
        }
        let is_ours = |error: &Error| {
            matches!(error.kind(), ErrorKind::Internal | ErrorKind::Corrupted | ErrorKind::Unavailable)
        };
        let counts = made.as_ref().map_or_else(is_ours, |answer| !answer.without_consent);
        if assigned.is_first && is_first_page && counts {
            let lines = made.as_ref().map_or(&[][..], |answer| &answer.recommendations);
            let entities = lines.iter().filter_map(|line| {
                let entity_id = Id::new(&line.entity_id).ok()?;
                Some(EntityName { entity_id, entity_type: line.entity_type.clone() })
            });
            let entities: Vec<EntityName> = entities.collect();
            let shown = CanaryShown {
                canary: name.clone(),
                user_id: user_id.clone(),
                arm: *arm,
                failed: entities.is_empty(),
                slow: took.as_millis() > u128::from(assigned.slow_ms),
                entities,
            };
            // What is chosen of it comes after, however long it was under way.
            let at = made.as_ref().map_or_else(|_| self.parts.clock.now(), |answer| answer.generated_at);
            let waiting = Waiting { tenant: scope.tenant().clone(), at, shown };
            // Full, or nobody writes any more: the user counts at the next answer.
            if self.queue.try_send(waiting).is_err() {
                self.parts.metrics.uncounted.inc();
            }
        }
        made
    }

    /// Begins a canary of the scope's tenant, against what is served now.
    ///
    /// # Errors
    /// `PERMISSION_DENIED`; `VALIDATION_ERROR`; `CONFLICT` where another runs or the name is taken; those of the engines.
    pub async fn start(&self, scope: &Scope, asked: NewCanary) -> Result<Canary> {
        scope.require(Permission::Admin)?;
        check(&asked)?;
        let now = self.parts.clock.now();
        let key = self.parts.entropy.id(now).as_hyphenated().to_string();
        let name = asked.name.unwrap_or_else(|| key.clone());
        let control = {
            let view = self.parts.views.of(scope);
            let view = view.read();
            let last = view.canaries.in_force();
            if let Some(running) = last.filter(|canary| canary.stage == Stage::Running) {
                let message = format!("`{}` is running; roll it back first", running.started.canary);
                return Err(Error::new(codes::CONFLICT, message));
            }
            if view.canaries.is_taken(&name) {
                let message = "there was a canary of that name; take another";
                return Err(Error::new(codes::CONFLICT, message).with_field("name"));
            }
            last.map(|canary| canary.settled().clone()).unwrap_or_default()
        };
        if are_alike(&control, &asked.candidate) {
            let message = "is what is served already";
            return Err(Error::new(codes::VALIDATION_ERROR, message).with_field("algorithm"));
        }
        let started = CanaryStarted {
            canary: name.clone(),
            mode: asked.mode,
            key,
            control,
            candidate: asked.candidate,
            plan: asked.plan,
            outcome_window_seconds: asked.outcome_window_seconds,
            slow_ms: asked.slow_ms,
        };
        let details = [
            ("candidate", serde_json::to_string(&started.candidate)),
            ("control", serde_json::to_string(&started.control)),
            ("plan", serde_json::to_string(&started.plan)),
            ("mode", serde_json::to_string(&started.mode)),
        ];
        let details =
            details.into_iter().map(|(of, text)| Ok((of.to_owned(), text.map_err(Error::internal)?)));
        let record = Record {
            action: "canary.started".to_owned(),
            subject: name.clone(),
            details: details.collect::<Result<_>>()?,
        };
        self.parts.audit.append(scope, record).await?;
        // Not under its name: one that lost against another must not stand in its own way later.
        self.write(scope, kinds::CANARY_STARTED, started.key.clone(), &started).await?;
        let found = self.find(scope, &name).filter(|canary| canary.started == started);
        found.ok_or_else(|| {
            Error::new(codes::CONFLICT, "another canary was first, or the view is behind; list them")
        })
    }

    /// Gives the candidate of a canary to nobody from now on. Also one that is complete goes back, while it is the last.
    ///
    /// # Errors
    /// `PERMISSION_DENIED`; `NOT_FOUND`; `CONFLICT` where it is not in force; those of the engines.
    pub async fn roll_back(&self, scope: &Scope, name: &str, reason: &str) -> Result<Canary> {
        self.end(scope, name, reason, Stage::RolledBack).await
    }

    /// Gives the candidate of an A/B test to everyone from now on.
    ///
    /// # Errors
    /// `PERMISSION_DENIED`; `NOT_FOUND`; `CONFLICT` where it does not run or the gates promote it; those of the engines.
    pub async fn promote(&self, scope: &Scope, name: &str, reason: &str) -> Result<Canary> {
        self.end(scope, name, reason, Stage::Complete).await
    }

    async fn end(&self, scope: &Scope, name: &str, reason: &str, stage: Stage) -> Result<Canary> {
        scope.require(Permission::Admin)?;
        if reason.len() > REASON_BYTES_MAX {
            let message = format!("has at most {REASON_BYTES_MAX} bytes");
            return Err(Error::new(codes::VALIDATION_ERROR, message).with_field("reason"));
        }
        let canary = self.to_end(scope, name, stage)?;
        let reading = self.reading(scope, &canary).await?;
        let mut details = BTreeMap::from([("reason".to_owned(), reason.to_owned())]);
        if let Some(reading) = &reading {
            details.insert("evidence".to_owned(), serde_json::to_string(reading).map_err(Error::internal)?);
        }
        let action = format!("canary.{}", stage.decided());
        self.parts.audit.append(scope, Record { action, subject: name.to_owned(), details }).await?;
        let actor = scope.actor().to_string();
        // The gates may take a step at the same time.
        for _ in 0..ATTEMPTS {
            let canary = self.to_end(scope, name, stage)?;
            let decided = CanaryDecided {
                canary: name.to_owned(),
                sequence: canary.decisions.len() as u64 + 1,
                stage,
                percent: if stage == Stage::Complete { 100 } else { 0 },
                actor: Some(actor.clone()),
                reason: reason.to_owned(),
                reading: reading.clone(),
            };
            self.decide(scope, &decided).await?;
            if let Some(ended) = self.find(scope, name).filter(|canary| canary.stage == stage) {
                return Ok(ended);
            }
        }
        Err(Error::new(codes::CONFLICT, "the view does not show it yet; read the canary, and ask again"))
    }

    /// The canary of that name, where it may come to that stage.
    fn to_end(&self, scope: &Scope, name: &str, stage: Stage) -> Result<Canary> {
        let refuse = |message: &str| Err(Error::new(codes::CONFLICT, message).with_field("name"));
        let view = self.parts.views.of(scope);
        let view = view.read();
        let canary = view.canaries.find(name).ok_or_else(|| not_found(name))?;
        let is_last = view.canaries.in_force().is_some_and(|last| last.started.canary == name);
        if canary.stage == Stage::RolledBack || !is_last {
            return refuse("is not in force: nobody gets its candidate");
        }
        if stage == Stage::Complete && canary.stage == Stage::Complete {
            return refuse("is complete: everyone gets its candidate");
        }
        if stage == Stage::Complete && canary.started.mode == Mode::Canary {
            return refuse("is promoted by its gates; only an A/B test is promoted by hand");
        }
        Ok(canary.clone())
    }

    /// A canary as it stands.
    #[must_use]
    pub fn find(&self, scope: &Scope, name: &str) -> Option<Canary> {
        self.parts.views.of(scope).read().canaries.find(name).cloned()
    }

    /// Every canary that is remembered, newest first.
    #[must_use]
    pub fn list(&self, scope: &Scope) -> Vec<Canary> {
        self.parts.views.of(scope).read().canaries.all().iter().rev().cloned().collect()
    }

    /// Decisions after the one of this number, oldest first.
    #[must_use]
    pub fn decisions(&self, scope: &Scope, after: u64) -> Vec<Decision> {
        let view = self.parts.views.of(scope);
        let view = view.read();
        if view.canaries.decided() <= after {
            return Vec::new();
        }
        let all = view.canaries.all().iter().flat_map(|canary| &canary.decisions);
        let mut later: Vec<Decision> = all.filter(|decision| decision.number > after).cloned().collect();
        later.sort_by_key(|decision| decision.number);
        later
    }

    /// What the gates say of a running canary now, as far as the view has read the log.
    ///
    /// # Errors
    /// `INTERNAL_ERROR` where reading them broke.
    pub async fn reading(&self, scope: &Scope, canary: &Canary) -> Result<Option<Reading>> {
        self.reading_at(scope, canary, self.parts.clock.now()).await
    }

    async fn reading_at(&self, scope: &Scope, canary: &Canary, now: Timestamp) -> Result<Option<Reading>> {
        if canary.stage != Stage::Running {
            return Ok(None);
        }
        let (view, canary) = (self.parts.views.of(scope), canary.clone());
        let read = move || {
            let seen = seen(&view, &canary, now.as_millisecond());
            // Where it ended meanwhile, only a part was seen.
            let view = view.read();
            let still = view.canaries.find(&canary.started.canary);
            let is_running = still.is_some_and(|still| still.stage == Stage::Running);
            is_running.then(|| canary.started.plan.read(canary.percent, &seen))
        };
        // It goes through everyone who was shown something.
        tokio::task::spawn_blocking(read).await.map_err(Error::internal)
    }

    async fn decide(&self, scope: &Scope, decided: &CanaryDecided) -> Result<()> {
        let id = format!("{}/{}", decided.canary, decided.sequence);
        self.write(scope, kinds::CANARY_DECIDED, id, decided).await
    }

    async fn write<T: Serialize>(&self, scope: &Scope, kind: &str, id: String, data: &T) -> Result<()> {
        let now = self.parts.clock.now();
        let event = event(scope.tenant(), kind, id, now, Some(ORDER), data)?;
        let places = self.parts.log.append(scope, &edge::ingest::EVENTS, vec![event]).await?;
        if let Err(error) = self.parts.projector.reached(&places, PATIENCE).await {
            warn!(error = %error.chain(), "a canary is changed before the view shows it");
        }
        Ok(())
    }
}

/// Whether both arms answer alike.
fn are_alike(one: &ArmSettings, other: &ArmSettings) -> bool {
    let algorithm =
        |arm: &ArmSettings| arm.algorithm.as_deref().map_or(Ok(Algorithm::default()), Algorithm::of).ok();
    let weights = |arm: &ArmSettings| (arm.collaborative_weight, arm.diversity);
    algorithm(one) == algorithm(other) && weights(one) == weights(other)
}

fn not_found(name: &str) -> Error {
    Error::new(codes::NOT_FOUND, format!("there is no canary `{}`", name.escape_debug()))
}

fn check(asked: &NewCanary) -> Result<()> {
    let refuse =
        |field: &str, message: &str| Err(Error::new(codes::VALIDATION_ERROR, message).with_field(field));
    if let Some(name) = &asked.name {
        let is_plain = |letter: char| letter.is_ascii_alphanumeric() || "-_.".contains(letter);
        if name.is_empty() || name.len() > NAME_BYTES_MAX || !name.chars().all(is_plain) {
            return refuse("name", "is 1 to 100 letters, digits, `-`, `_` and `.`");
        }
    }
    let ArmSettings { algorithm, collaborative_weight, diversity } = &asked.candidate;
    let algorithm = algorithm.as_deref().map(Algorithm::of).transpose()?.unwrap_or_default();
    let is_share = |share: &Option<f64>| share.is_none_or(|share| (0.0..=1.0).contains(&share));
    if !is_share(collaborative_weight) || (collaborative_weight.is_some() && algorithm != Algorithm::Hybrid) {
        return refuse("collaborative_weight", "is a share of a hybrid, 0 to 1");
    }
    if !is_share(diversity) || (diversity.is_some() && !algorithm.is_personal()) {
        return refuse("diversity", "is 0 to 1, and needs a model");
    }
    if !(1..=WINDOW_SECONDS_MAX).contains(&asked.outcome_window_seconds) {
        return refuse("outcome_window_seconds", "must be between 1 and 2592000");
    }
    if asked.plan.first_percent() == 100 {
        return refuse("steps", "begin below 100: nobody is left to compare with");
    }
    asked.plan.validate().or_else(|fault| {
        // As operators know it.
        let field = if fault.field == "steps_percent" { "steps" } else { fault.field };
        refuse(field, fault.rule)
    })
}

fn event<T: Serialize>(
    tenant: &TenantId,
    kind: &str,
    id: String,
    time: Timestamp,
    partition_key: Option<&str>,
    data: &T,
) -> Result<Event> {
    Ok(Event {
        partition_key: partition_key.map(str::to_owned),
        data: Some(to_raw_value(data).map_err(Error::internal)?.into()),
        ..Event::new(tenant, id, SOURCE, kind, time)
    })
}
