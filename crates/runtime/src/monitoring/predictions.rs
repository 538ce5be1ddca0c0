//! Predictions that were kept, the truths that came later, and how far both are apart.
//!
//! A prediction is written before it is answered. A truth is joined to it in one transaction with the sums of its version
//! and day, so that each value counts once however often it is sent and whoever else sends it. Sums are by the UTC day of the
//! prediction. It refuses to guess: each truth is told what became of it, and a value that another truth gave stands.

mod documents;
mod joining;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use kernel::{Clock, Entropy, Error, ErrorCode, ErrorKind, Result, Scope, codes};
use rollout::canary::Arm;
use store::{Document, Expect, IndexValue, Query, Records, Repository, Selection, Tenants, Write};

use self::documents::{Count, Kept, day_of};
pub(crate) use self::documents::{Day, Sums};
use self::joining::Joining;
pub(crate) use self::joining::{Told, Truth};
use super::settings::MonitoringSettings;
use super::{TENANTS, of_tenant};
use crate::canaries::{Counted, Losses, Member};
use crate::shelf::Place;

/// As many predictions are kept as may be.
pub const TOO_MANY_PREDICTIONS: ErrorCode = ErrorCode {
    name: "TOO_MANY_PREDICTIONS",
    kind: ErrorKind::Busy,
    title: "The tenant keeps as many predictions as it may",
};

/// Values of one prediction.
pub(crate) const VALUES_MAX: usize = 4_000;
/// Truths that are sent at once.
pub(crate) const TRUTHS_MAX: usize = 1_000;
/// Values of one truth and of its error.
const VALUE_MAX: f64 = 1e100;
/// How long a prediction is remembered after its truth is too late, to say so.
const REMEMBERED: Duration = Duration::from_secs(7 * 86_400);
/// Counts of a tenant, so that few writers meet at one.
const SHARDS: u64 = 16;
const ATTEMPTS: usize = 16;
const SWEEP: usize = 500;
const DAYS_MAX: usize = 366;

/// What a request is kept with.
#[derive(Debug)]
pub(crate) struct Answered {
    pub(crate) outputs: BTreeMap<String, Vec<f64>>,
    pub(crate) persistence: BTreeMap<String, f64>,
}

impl Answered {
    fn numbers(&self) -> usize {
        self.outputs.values().map(Vec::len).sum()
    }
}

/// A prediction that is to be removed.
#[derive(Debug)]
struct Old {
    key: String,
    version: u64,
    numbers: u64,
}

/// Predictions of every tenant.
#[derive(Debug)]
pub(crate) struct Predictions {
    records: Arc<dyn Records>,
    kept: Repository<Kept>,
    counts: Repository<Count>,
    days: Repository<Day>,
    losses: Repository<Losses>,
    subjects: Repository<Counted>,
    tenants: Tenants,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    settings: MonitoringSettings,
}

impl Predictions {
    pub(crate) fn new(
        records: Arc<dyn Records>,
        clock: Arc<dyn Clock>,
        entropy: Arc<dyn Entropy>,
        settings: MonitoringSettings,
    ) -> Self {
        Self {
            kept: Repository::new(Arc::clone(&records)),
            counts: Repository::new(Arc::clone(&records)),
            days: Repository::new(Arc::clone(&records)),
            losses: Repository::new(Arc::clone(&records)),
            subjects: Repository::new(Arc::clone(&records)),
            tenants: Tenants::new(Arc::clone(&records), TENANTS),
            records,
            clock,
            entropy,
            settings,
        }
    }

    /// Writes a prediction down; its id. Of a subject of a canary the first alone counts there.
    ///
    /// # Errors
    /// [`TOO_MANY_PREDICTIONS`]; those of the engine.
    pub(crate) async fn keep(
        &self,
        scope: &Scope,
        place: &Place,
        answered: Answered,
        member: Option<(Member, Option<String>)>,
    ) -> Result<String> {
        self.tenants.note(scope.tenant()).await?;
        let at = self.clock.now();
        let until = at.checked_add(Duration::from_secs(self.settings.truth_hours * 3_600));
        let until = until.map_err(Error::internal)?;
        let bits = (self.entropy.next_u64(), self.entropy.next_u64());
        let mut kept = Kept {
            id: format!("{:016x}{:016x}", bits.0, bits.1),
            model_id: place.model_id.clone(),
            version: place.version,
            at,
            until,
            remove: until.checked_add(REMEMBERED).map_err(Error::internal)?,
            numbers: answered.numbers() as u64,
            outputs: answered.outputs,
            persistence: answered.persistence,
            truth: BTreeMap::new(),
            canary: None,
        };
        for _ in 0..ATTEMPTS {
            let subject = self.counted(scope, &member, &mut kept).await?;
            let (count, expect) = self.count(scope, shard_of(&kept.id)).await?;
            let count = self.with_one_more(&count, kept.numbers)?;
            let mut writes =
                vec![Repository::write(&kept, Expect::Absent)?, Repository::write(&count, expect)?];
            writes.extend(subject);
            match self.records.commit(scope, writes).await {
                Ok(_) => return Ok(kept.id),
                Err(error) if error.code() == codes::CONFLICT => {}
                Err(error) => return Err(error),
            }
        }
        Err(Error::new(codes::OVERLOADED, "many predictions are kept at once; ask again"))
    }

    /// A shard with one more prediction, of so many numbers.
    fn with_one_more(&self, count: &Count, numbers: u64) -> Result<Count> {
        let full = |setting: &str| {
            let message = format!("send no `keep`, or raise `runtime.monitoring.{setting}`");
            Err(Error::new(TOO_MANY_PREDICTIONS, message))
        };
        let more = Count { count: count.count + 1, numbers: count.numbers + numbers, ..*count };
        if more.count > self.settings.max_predictions / SHARDS {
            return full("max_predictions");
        }
        if more.numbers > self.settings.max_prediction_numbers / SHARDS {
            return full("max_prediction_numbers");
        }
        Ok(more)
    }

    /// Whether the prediction counts for its canary; what says that its subject does from now on.
    async fn counted(
        &self,
        scope: &Scope,
        member: &Option<(Member, Option<String>)>,
        kept: &mut Kept,
    ) -> Result<Option<Write>> {
        let Some((member, subject)) = member else { return Ok(None) };
        kept.canary = Some(member.clone());
        let Some(subject) = subject else { return Ok(None) };
        let (canary, subject, arm) = (member.canary.clone(), subject.clone(), member.arm);
        let counted = Counted { canary, subject, arm, remove_ms: kept.remove.as_millisecond() };
        let Some(before) = self.subjects.get(scope, &counted.key()).await? else {
            return Repository::write(&counted, Expect::Absent).map(Some);
        };
        let has_moved = before.document.arm == Arm::Control && arm == Arm::Candidate;
        kept.canary = has_moved.then(|| Member { moved: true, ..member.clone() });
        match has_moved {
            true => Repository::write(&counted, Expect::Version(before.version)).map(Some),
            false => Ok(None),
        }
    }

    async fn count(&self, scope: &Scope, shard: u64) -> Result<(Count, Expect)> {
        let empty = Count { shard, ..Count::default() };
        let found = self.counts.get(scope, &empty.key()).await?;
        Ok(found.map_or((empty, Expect::Absent), |found| (found.document, Expect::Version(found.version))))
    }

    /// Joins truths to predictions of a model; what became of each, and of the joined values how many were better, equal and
    /// worse than persistence.
    ///
    /// # Errors
    /// Those of the engine; nothing was joined.
    pub(crate) async fn join(
        &self,
        scope: &Scope,
        model_id: &str,
        truths: &[Truth],
    ) -> Result<(Vec<Told>, [u64; 3])> {
        for _ in 0..ATTEMPTS {
            let mut joining = Joining::at(self.clock.now());
            self.read(scope, model_id, truths, &mut joining).await?;
            let told = truths.iter().map(|truth| joining.take_in(truth)).collect();
            match self.records.commit(scope, joining.writes()?).await {
                Ok(_) => return Ok((told, joining.compared)),
                Err(error) if error.code() == codes::CONFLICT => {}
                Err(error) => return Err(error),
            }
        }
        Err(Error::new(codes::OVERLOADED, "many truths of this model are sent at once; send them again"))
    }

    async fn read(
        &self,
        scope: &Scope,
        model_id: &str,
        truths: &[Truth],
        joining: &mut Joining,
    ) -> Result<()> {
        for truth in truths {
            // No key of the table is longer.
            if truth.id.len() != 32 || joining.predictions.contains_key(&truth.id) {
                continue;
            }
            let Some(found) = self.kept.get(scope, &truth.id).await? else { continue };
            if found.document.model_id != model_id {
                continue;
            }
            let day = day_of(&found.document);
            if !joining.days.contains_key(&day.key()) {
                let found = self.days.get(scope, &day.key()).await?;
                let known = found
                    .map_or((day, Expect::Absent), |found| (found.document, Expect::Version(found.version)));
                joining.days.insert(known.0.key(), known);
            }
            if let Some(member) = &found.document.canary
                && !joining.losses.contains_key(&member.canary)
            {
                let empty = Losses { canary: member.canary.clone(), ..Losses::default() };
                let known = self.losses.get(scope, &member.canary).await?;
                let known = known.map_or((empty, Expect::Absent), |known| {
                    (known.document, Expect::Version(known.version))
                });
                joining.losses.insert(member.canary.clone(), known);
            }
            joining.predictions.insert(truth.id.clone(), found);
        }
        Ok(())
    }

    /// The sums of a version, oldest day first: the newest days, at most `days` that have any.
    pub(crate) async fn days(&self, scope: &Scope, place: &Place, days: usize) -> Result<Vec<Day>> {
        let prefix = format!("{}/{:020}/", place.model_id, place.version);
        let query =
            Query { descending: true, ..Query::new(Selection::Prefix(prefix), days.clamp(1, DAYS_MAX)) };
        let (found, _) = self.days.list(scope, &query).await?;
        Ok(found.into_iter().rev().map(|day| day.document).collect())
    }

    /// Removes what is too old, of every tenant; how much.
    pub(crate) async fn sweep(&self) -> Result<usize> {
        let mut removed = 0;
        for scope in self.tenants.all().await?.into_iter().map(of_tenant) {
            while self.sweep_some(&scope, &mut removed).await? {}
            while self.sweep_subjects(&scope).await? {}
        }
        Ok(removed)
    }

    /// Forgets some of the subjects that counted for canaries; whether there may be more.
    async fn sweep_subjects(&self, scope: &Scope) -> Result<bool> {
        let now = IndexValue::Integer(self.clock.now().as_millisecond());
        let query = Query::new(Selection::Between("remove", IndexValue::Integer(i64::MIN), now), SWEEP);
        let page = self.records.list(scope, Counted::TABLE, &query).await?;
        let is_full = page.records.len() == SWEEP;
        let delete = |key| Write::Delete { table: Counted::TABLE, key, expect: Expect::Any };
        let writes: Vec<Write> = page.records.into_iter().map(|record| delete(record.key)).collect();
        if !writes.is_empty() {
            self.records.commit(scope, writes).await?;
        }
        Ok(is_full)
    }

    /// Removes some; whether there may be more.
    async fn sweep_some(&self, scope: &Scope, removed: &mut usize) -> Result<bool> {
        let now = IndexValue::Integer(self.clock.now().as_millisecond());
        let query = Query::new(Selection::Between("remove", IndexValue::Integer(i64::MIN), now), SWEEP);
        let (old, _) = self.kept.list(scope, &query).await?;
        let is_full = old.len() == SWEEP;
        let mut by_shard = BTreeMap::<u64, Vec<Old>>::new();
        for one in old {
            let (shard, numbers) = (shard_of(&one.document.id), one.document.numbers);
            let old = Old { key: one.document.key(), version: one.version, numbers };
            by_shard.entry(shard).or_default().push(old);
        }
        let mut gone = 0;
        for (shard, old) in by_shard {
            gone += self.sweep_shard(scope, shard, old).await?;
        }
        *removed += gone;
        // Where none went, another server removes them: the next sweep looks again.
        Ok(is_full && gone > 0)
    }

    /// Removes predictions of a shard in one transaction with their count; how many. A prediction that is kept meanwhile costs
    /// another try, and none of the other shards.
    async fn sweep_shard(&self, scope: &Scope, shard: u64, mut old: Vec<Old>) -> Result<usize> {
        for _ in 0..ATTEMPTS {
            if old.is_empty() {
                break;
            }
            let (mut count, expect) = self.count(scope, shard).await?;
            count.count = count.count.saturating_sub(old.len() as u64);
            count.numbers = count.numbers.saturating_sub(old.iter().map(|one| one.numbers).sum());
            let delete = |one: &Old| {
                let (key, expect) = (one.key.clone(), Expect::Version(one.version));
                Write::Delete { table: Kept::TABLE, key, expect }
            };
            let mut writes: Vec<Write> = old.iter().map(delete).collect();
            writes.push(Repository::write(&count, expect)?);
            match self.records.commit(scope, writes).await {
                Ok(_) => return Ok(old.len()),
                // Another server may have removed some.
                Err(error) if error.code() == codes::CONFLICT => {
                    old = self.kept.unchanged(scope, old, |one| (one.key.clone(), one.version)).await?;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(0)
    }
}

fn shard_of(id: &str) -> u64 {
    id.get(..1).and_then(|digit| u64::from_str_radix(digit, 16).ok()).unwrap_or(0) % SHARDS
}

/// What can be kept of an answer.
///
/// # Errors
/// `VALIDATION_ERROR` where it has too many values, or some that are too large to compare.
pub(crate) fn check(answered: &Answered) -> Result<()> {
    let refused = |message: String| Error::new(codes::VALIDATION_ERROR, message).with_field("keep");
    let count = answered.numbers();
    if count == 0 || count > VALUES_MAX {
        return Err(refused(format!("the answer has {count} numbers; 1 to {VALUES_MAX} can be kept")));
    }
    let mut all = answered.outputs.values().flatten().chain(answered.persistence.values());
    if all.any(|value| !value.is_finite() || value.abs() > VALUE_MAX) {
        return Err(refused("the answer has a value beyond 1e100, which cannot be kept".to_owned()));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
