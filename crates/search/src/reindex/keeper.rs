//! What a server does about jobs: it looks at the direction now and then, follows the jobs that are to be kept up and that
//! it has a model for (`make`), turns the direction when the goal is complete, and tells searches whose vectors to ask.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use kernel::{Clock, Error, Result, codes};
use parking_lot::{Mutex, RwLock};
use store::{EventLog, Leases, Vectors};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::sink::JobSink;
use super::{Direction, Jobs, Reindex, scope};
use crate::encoding::Encoding;
use crate::follower::{Follower, Sink};
use crate::log::ITEMS;
use crate::meanings::Meanings;
use crate::metrics::SearchMetrics;

/// Between two looks at the direction.
const LOOK: Duration = Duration::from_millis(500);
/// Between two looks at a job that is followed.
const PAUSE: Duration = Duration::from_millis(50);
const LEASE: &str = "search.vectors.";
const LEASE_LASTS: Duration = Duration::from_secs(15);

/// The vectors that searches ask.
#[derive(Debug, Clone)]
pub(crate) struct Active {
    pub(crate) meanings: Meanings,
    /// The job that made them.
    pub(crate) job: String,
    /// Whether there once was a vector of everything.
    pub(crate) is_whole: bool,
}

/// What a keeper works with.
#[derive(Debug, Clone)]
pub(crate) struct KeeperParts {
    pub(crate) jobs: Jobs,
    pub(crate) leases: Leases,
    /// What others know this server by.
    pub(crate) holder: String,
    /// The first is the one that is to answer.
    pub(crate) encodings: Vec<Encoding>,
    pub(crate) vectors: Arc<dyn Vectors>,
    pub(crate) log: Arc<dyn EventLog>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) metrics: SearchMetrics,
    /// How long vectors of former jobs stay.
    pub(crate) keeps_former: Duration,
}

/// Keeps jobs, and knows which answers.
#[derive(Debug)]
pub(crate) struct Keeper {
    pub(super) parts: KeeperParts,
    active: RwLock<Option<Active>>,
    /// Names of collections live as long as the process: each is kept once.
    names: Mutex<BTreeMap<String, &'static str>>,
}

/// A job that is followed by a task.
#[derive(Debug)]
struct Followed {
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Keeper {
    pub(crate) fn new(parts: KeeperParts) -> Self {
        Self { parts, active: RwLock::default(), names: Mutex::default() }
    }

    /// The vectors that searches ask; nothing before the direction was read.
    pub(crate) fn active(&self) -> Option<Active> {
        self.active.read().clone()
    }

    pub(crate) fn jobs(&self) -> &Jobs {
        &self.parts.jobs
    }

    /// Until `stop`. Where it does not make vectors, it only looks whose to ask.
    pub(crate) async fn run(self: Arc<Self>, makes: bool, stop: CancellationToken) {
        let (mut has_aimed, mut is_failing) = (false, false);
        let mut followed: BTreeMap<String, Followed> = BTreeMap::new();
        let former = makes.then(|| tokio::spawn(Arc::clone(&self).remove_former_until(stop.clone())));
        while !stop.is_cancelled() {
            let looked = self.look(makes, &mut has_aimed, &mut followed).await;
            if let Err(error) = &looked
                && !is_failing
            {
                warn!(error = %error.chain(), "which vectors answer is not known for now");
            }
            is_failing = looked.is_err();
            tokio::select! {
                () = stop.cancelled() => {}
                () = tokio::time::sleep(LOOK) => {}
            }
        }
        followed.values().for_each(|job| job.stop.cancel());
        for job in followed.into_values() {
            ended(job.task.await);
        }
        if let Some(former) = former {
            ended(former.await);
        }
    }

    async fn look(
        self: &Arc<Self>,
        makes: bool,
        has_aimed: &mut bool,
        followed: &mut BTreeMap<String, Followed>,
    ) -> Result<()> {
        if makes && !*has_aimed {
            // Once, at the start: the server that starts last has the settings that count.
            if let Some(wanted) = self.parts.encodings.first() {
                self.parts.jobs.aim(wanted.identity(), false).await?;
            }
            *has_aimed = true;
        }
        let Some(direction) = self.parts.jobs.direction().await? else { return Ok(()) };
        let (goal, serving) = self.read(&direction).await?;
        self.tell(goal.as_ref(), serving.as_ref()).await?;
        if let Some(goal) = &goal {
            self.parts.metrics.pending(goal.lag(&self.parts.log.extents(&ITEMS).await?).0);
        }
        if !makes {
            return Ok(());
        }
        if let Some(goal) = goal.as_ref().filter(|goal| goal.completed_at.is_some())
            && direction.serving.as_ref() != Some(&goal.id)
        {
            self.parts.jobs.serve(&goal.id).await?;
            info!(job = goal.id, model = goal.model, "the vectors of a model are complete, and answer");
        }
        self.follow([goal, serving].into_iter().flatten(), followed).await;
        Ok(())
    }

    /// The goal and, where it is another, what is served.
    async fn read(&self, direction: &Direction) -> Result<(Option<Reindex>, Option<Reindex>)> {
        let job = async |id: &str| Ok::<_, Error>(self.parts.jobs.get(id).await?.map(|found| found.document));
        let goal = job(&direction.goal).await?;
        let serving = match &direction.serving {
            Some(id) if *id != direction.goal => job(id).await?,
            _ => None,
        };
        Ok((goal, serving))
    }

    /// What is served answers; the goal does where nothing is, or this server has not the model of that. A server that has
    /// the model of neither asks what its own made last, until it is started with theirs.
    async fn tell(&self, goal: Option<&Reindex>, serving: Option<&Reindex>) -> Result<()> {
        let active = |job: &Reindex, is_whole| {
            let meanings = self.meanings(job)?;
            Some(Active { meanings, job: job.id.clone(), is_whole })
        };
        let mut found =
            [serving, goal].into_iter().flatten().find_map(|job| active(job, job.completed_at.is_some()));
        if found.is_none() {
            let jobs = self.parts.jobs.list().await?;
            let mut made = jobs.iter().filter(|job| job.completed_at.is_some() && !job.is_removing);
            found = made.find_map(|job| active(job, false));
        }
        *self.active.write() = found;
        Ok(())
    }

    /// Nothing where this server has not the model.
    fn meanings(&self, job: &Reindex) -> Option<Meanings> {
        let encoding =
            self.parts.encodings.iter().find(|encoding| encoding.identity().version == job.model_version)?;
        Some(Meanings::new(encoding.clone(), Arc::clone(&self.parts.vectors), self.name_of(job)))
    }

    /// The name of the collection of a job's vectors.
    pub(super) fn name_of(&self, job: &Reindex) -> &'static str {
        let mut names = self.names.lock();
        names.entry(job.id.clone()).or_insert_with(|| Box::leak(job.collection().into_boxed_str()))
    }

    /// Follows these jobs and no others.
    async fn follow(
        self: &Arc<Self>,
        jobs: impl Iterator<Item = Reindex>,
        followed: &mut BTreeMap<String, Followed>,
    ) {
        let mut before = std::mem::take(followed);
        for job in jobs {
            let Some(meanings) = self.meanings(&job) else { continue };
            let running = before.remove(&job.id).filter(|known| !known.task.is_finished());
            let known = running.unwrap_or_else(|| {
                let stop = CancellationToken::new();
                let task = tokio::spawn(Arc::clone(self).keep(job.id.clone(), meanings, stop.clone()));
                Followed { stop, task }
            });
            followed.insert(job.id, known);
        }
        before.values().for_each(|job| job.stop.cancel());
        for job in before.into_values() {
            ended(job.task.await);
        }
    }

    /// Follows a job for as long as this server has its lease, again and again.
    async fn keep(self: Arc<Self>, id: String, meanings: Meanings, stop: CancellationToken) {
        let mut is_failing = false;
        while !stop.is_cancelled() {
            let kept = self.keep_once(&id, &meanings, &stop).await;
            if let Err(error) = &kept
                && !is_failing
                && error.code() != codes::CONFLICT
            {
                warn!(job = id, error = %error.chain(), "vectors are not made for now");
            }
            is_failing = kept.is_err();
            tokio::select! {
                () = stop.cancelled() => {}
                () = tokio::time::sleep(LOOK) => {}
            }
        }
    }

    async fn keep_once(&self, id: &str, meanings: &Meanings, stop: &CancellationToken) -> Result<()> {
        let lease = format!("{LEASE}{id}");
        if !self.parts.leases.acquire(&scope(), &lease, LEASE_LASTS).await? {
            return Ok(());
        }
        let KeeperParts { jobs, holder, clock, log, .. } = self.parts.clone();
        // One token for both, so that what is broken off is not taken for a fault.
        let ending = stop.child_token();
        let fed = (log.as_ref(), ending.clone());
        let taken = JobSink::take_over(id, &holder, meanings.clone(), jobs, clock, fed).await;
        let sink = match taken {
            Ok(Some(sink)) => Arc::new(sink),
            other => {
                self.parts.leases.release(&scope(), &lease).await?;
                return other.map(drop);
            }
        };
        let follower = Follower::start_until(log, Arc::clone(&sink) as Arc<dyn Sink>, ending);
        let watched = self.watch(&sink, &follower, &lease, stop).await;
        follower.stop().await;
        self.parts.leases.release(&scope(), &lease).await?;
        watched
    }

    /// Until the job is lost or it is to stop; renews the lease, and notes when the job is complete.
    async fn watch(
        &self,
        sink: &JobSink,
        follower: &Follower,
        lease: &str,
        stop: &CancellationToken,
    ) -> Result<()> {
        let (mut renewed, mut is_complete) = (self.parts.clock.elapsed(), false);
        while !stop.is_cancelled() && !sink.is_lost() {
            if !is_complete && follower.has_caught_up() {
                sink.complete().await?;
                is_complete = true;
            }
            if self.parts.clock.elapsed().saturating_sub(renewed) >= LEASE_LASTS / 3 {
                if !self.parts.leases.acquire(&scope(), lease, LEASE_LASTS).await? {
                    return Ok(());
                }
                renewed = self.parts.clock.elapsed();
            }
            tokio::select! {
                () = stop.cancelled() => {}
                () = sink.lost() => {}
                () = tokio::time::sleep(if is_complete { LEASE_LASTS / 3 } else { PAUSE }) => {}
            }
        }
        Ok(())
    }
}

fn ended(task: std::result::Result<(), tokio::task::JoinError>) {
    if let Err(error) = task {
        warn!(%error, "a task that makes vectors failed");
    }
}
