//! Re-indexing as jobs: who makes the vectors of a model, how far they are, and which of them answer.
//!
//! A [`Reindex`] is one collection of vectors: of a model's version, made from the whole log. The [`Direction`] says which
//! job is to answer (`goal`) and which does (`serving`). The one that answers is kept up until the goal has all vectors,
//! and then one compare-and-set of the direction turns all servers to it. Both are records of the server, for all tenants.
//!
//! The vectors of former jobs are removed after a while (`former`).
//!
//! A job is followed by one server at a time, which holds its lease, writes itself into the job's record and
//! thereby fences off whoever had it before; see [`crate::meanings`] for why a late one cannot harm. Progress is in the
//! same record: whoever takes the job next goes on where it stands. It refuses vectors that were made of another log.

mod former;
pub(crate) mod keeper;
pub(crate) mod sink;

use std::collections::BTreeMap;
use std::sync::Arc;

use kernel::{Clock, Entropy, Error, Result, Scope, TenantId, Timestamp, codes};
use serde::{Deserialize, Serialize};
use store::{
    Document, Expect, Extent, MAX_KEY_BYTES, Query, Records, Repository, Selection, Table, Versioned,
};

use crate::encoder::ModelIdentity;
use crate::index::Progress;

/// The tables of jobs. They are of the vectors that an engine holds, and make no sense without them: no backup has them.
pub const TABLES: [&str; 2] = [Reindex::TABLE.name, Direction::TABLE.name];
/// Jobs that are told of, the newest.
const LISTED_MAX: usize = 100;
const TRIES: usize = 16;

/// One making of all vectors by one model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Reindex {
    /// The version of its model and what tells it from other jobs of that.
    pub id: String,
    /// What callers know the model by.
    pub model: String,
    /// The version of the model.
    pub model_version: String,
    /// When it was asked for.
    pub begun_at: Timestamp,
    /// When a server last wrote how far it is.
    pub updated_at: Timestamp,
    /// When it first had a vector of everything that the log held.
    pub completed_at: Option<Timestamp>,
    /// When it was found that others answer in its place.
    #[serde(default)]
    pub superseded_at: Option<Timestamp>,
    /// Whether its vectors are being removed: it will not answer again.
    #[serde(default)]
    pub(crate) is_removing: bool,
    /// The length of its vectors; 0 where it was begun before that was noted.
    #[serde(default)]
    pub(crate) dimensions: usize,
    /// The server that follows it, by a name of its own.
    pub(crate) holder: String,
    /// How much of the log is in.
    pub(crate) progress: Progress,
}

impl Document for Reindex {
    const TABLE: Table = Table { name: "search_reindexes", indexes: &[] };

    fn key(&self) -> String {
        self.id.clone()
    }
}

impl Reindex {
    /// The collection of its vectors.
    fn collection(&self) -> String {
        format!("search_{}", self.id.replace('-', "_"))
    }

    /// Events that are not in, and all that the log of these extents holds.
    pub(crate) fn lag(&self, extents: &[Extent]) -> (u64, u64) {
        let of = |extent: &Extent| {
            let next = self.progress.get(&extent.partition).map_or(0, |place| place.next);
            extent.next.saturating_sub(next.max(extent.first))
        };
        (extents.iter().map(of).sum(), extents.iter().map(|extent| extent.next - extent.first).sum())
    }
}

/// Which job answers, and which is to.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Direction {
    pub(crate) goal: String,
    /// Nothing until the first is complete.
    pub(crate) serving: Option<String>,
}

impl Document for Direction {
    const TABLE: Table = Table { name: "search_direction", indexes: &[] };

    fn key(&self) -> String {
        CURRENT.to_owned()
    }
}

/// The one key of the direction.
const CURRENT: &str = "current";

/// The records of all jobs.
#[derive(Debug, Clone)]
pub(crate) struct Jobs {
    jobs: Repository<Reindex>,
    directions: Repository<Direction>,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
}

/// Of the server, for all tenants.
pub(crate) fn scope() -> Scope {
    Scope::system(TenantId::server(), "search")
}

impl Jobs {
    pub(crate) fn new(records: Arc<dyn Records>, clock: Arc<dyn Clock>, entropy: Arc<dyn Entropy>) -> Self {
        let (jobs, directions) = (Repository::new(Arc::clone(&records)), Repository::new(records));
        Self { jobs, directions, clock, entropy }
    }

    /// Nothing for what cannot be the name of one.
    pub(crate) async fn get(&self, id: &str) -> Result<Option<Versioned<Reindex>>> {
        if id.is_empty() || id.len() > MAX_KEY_BYTES {
            return Ok(None);
        }
        self.jobs.get(&scope(), id).await
    }

    pub(crate) async fn put(&self, job: &Reindex, expect: Expect) -> Result<u64> {
        self.jobs.put(&scope(), job, expect).await
    }

    /// The newest first, those that are told of.
    pub(crate) async fn list(&self) -> Result<Vec<Reindex>> {
        let mut jobs = self.all().await?;
        jobs.truncate(LISTED_MAX);
        Ok(jobs)
    }

    /// The newest first.
    pub(crate) async fn all(&self) -> Result<Vec<Reindex>> {
        let found = self.jobs.list_all(&scope(), Query::new(Selection::All, 1_000)).await?;
        let mut jobs: Vec<Reindex> = found.into_iter().map(|found| found.document).collect();
        jobs.sort_by(|left, right| right.begun_at.cmp(&left.begun_at).then_with(|| right.id.cmp(&left.id)));
        Ok(jobs)
    }

    pub(crate) async fn direction(&self) -> Result<Option<Direction>> {
        Ok(self.directions.get(&scope(), CURRENT).await?.map(|found| found.document))
    }

    /// Makes the newest job of a model the goal, or a new one where there is none or `anew` says so. Returns the goal.
    ///
    /// # Errors
    /// Those of the records; `CONFLICT` where other servers change the direction all the time.
    pub(crate) async fn aim(&self, model: &ModelIdentity, anew: bool) -> Result<Reindex> {
        for _ in 0..TRIES {
            let (mut direction, expect) = self.current().await?;
            if let Some(goal) = self.get(&direction.goal).await?.filter(|_| !anew)
                && goal.document.model_version == model.version
            {
                return Ok(goal.document);
            }
            let known = match self.newest_of(&model.version).await?.filter(|_| !anew) {
                Some(job) => self.again(&job.id, &direction).await?,
                None => None,
            };
            let is_new = known.is_none();
            let goal = match known {
                Some(job) => job,
                None => self.begin(&model.name, &model.version, model.dimensions).await?,
            };
            direction.goal.clone_from(&goal.id);
            match self.directions.put(&scope(), &direction, expect).await {
                Ok(_) => return Ok(goal),
                Err(error) if error.code() == codes::CONFLICT => {}
                Err(error) => return Err(error),
            }
            // Another server was quicker, maybe with a job of the same model.
            if is_new {
                self.jobs.delete(&scope(), &goal.id, Expect::Any).await?;
            }
        }
        Err(others_turn())
    }

    /// The goal answers from now on, if it still is the goal.
    pub(crate) async fn serve(&self, id: &str) -> Result<()> {
        let serve = |direction: &mut Direction| {
            if direction.goal == id {
                direction.serving = Some(id.to_owned());
            }
        };
        self.turn(serve).await
    }

    /// A new job in place of one whose vectors are of another log.
    pub(crate) async fn replace(&self, job: &Reindex) -> Result<()> {
        let new = self.begin(&job.model, &job.model_version, job.dimensions).await?;
        self.turn(|direction| {
            if direction.goal == job.id {
                direction.goal.clone_from(&new.id);
            }
            if direction.serving.as_ref() == Some(&job.id) {
                direction.serving = None;
            }
        })
        .await?;
        self.jobs.delete(&scope(), &job.id, Expect::Any).await
    }

    /// A job that does not answer may be behind: it has to be completed once more. It is written in any case, so that who is
    /// about to remove its vectors finds that it changed. Nothing where they are being removed.
    async fn again(&self, id: &str, direction: &Direction) -> Result<Option<Reindex>> {
        let Some(found) = self.get(id).await?.filter(|found| !found.document.is_removing) else {
            return Ok(None);
        };
        if direction.serving.as_deref() == Some(id) {
            return Ok(Some(found.document));
        }
        let job = Reindex { completed_at: None, superseded_at: None, ..found.document };
        self.put(&job, Expect::Version(found.version)).await?;
        Ok(Some(job))
    }

    async fn newest_of(&self, version: &str) -> Result<Option<Reindex>> {
        let is_of = |job: &Reindex| job.model_version == version && !job.is_removing;
        Ok(self.all().await?.into_iter().find(is_of))
    }

    /// Forgets a job.
    async fn remove(&self, id: &str) -> Result<()> {
        self.jobs.delete(&scope(), id, Expect::Any).await.map(drop)
    }

    async fn begin(&self, model: &str, version: &str, dimensions: usize) -> Result<Reindex> {
        let now = self.clock.now();
        // Never a name that an engine may hold vectors under.
        let suffix = self.entropy.next_u64() >> 32;
        let job = Reindex {
            id: format!("{version}-{suffix:08x}"),
            model: model.to_owned(),
            model_version: version.to_owned(),
            begun_at: now,
            updated_at: now,
            completed_at: None,
            superseded_at: None,
            is_removing: false,
            dimensions,
            holder: String::new(),
            progress: BTreeMap::new(),
        };
        self.put(&job, Expect::Absent).await?;
        Ok(job)
    }

    async fn current(&self) -> Result<(Direction, Expect)> {
        Ok(match self.directions.get(&scope(), CURRENT).await? {
            None => (Direction::default(), Expect::Absent),
            Some(found) => (found.document, Expect::Version(found.version)),
        })
    }

    /// One compare-and-set of the direction, again where another server was quicker.
    async fn turn(&self, change: impl Fn(&mut Direction)) -> Result<()> {
        for _ in 0..TRIES {
            let (before, expect) = self.current().await?;
            let mut direction = before.clone();
            change(&mut direction);
            if direction == before {
                return Ok(());
            }
            match self.directions.put(&scope(), &direction, expect).await {
                Err(error) if error.code() == codes::CONFLICT => {}
                other => return other.map(drop),
            }
        }
        Err(others_turn())
    }
}

fn others_turn() -> Error {
    Error::new(codes::CONFLICT, "other servers change which vectors answer; try again")
}
