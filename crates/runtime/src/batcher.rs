//! Requests of one model, put together by time and number, from a bounded queue.
//!
//! Where the last call answered one request alone, the next is made at once: nobody waits for company that does not come.
//! Where it answered several, the next waits up to `delay` for as many examples as a call may have. A request that finds the
//! queue full is refused (`OVERLOADED`); one whose caller went away is not asked; one that fails does not fail those beside
//! it, for then each is asked alone.

use std::sync::Arc;
use std::time::Duration;

use kernel::{Error, Result, codes};
use tokio::sync::mpsc::{self, Receiver, Sender, error::TrySendError};
use tokio::sync::{Mutex, oneshot};
use tokio::time::{Instant, timeout_at};

use crate::metrics::RuntimeMetrics;
use crate::model::Model;
use crate::processors::{Pace, Processors};
use crate::tensor::Tensor;

/// How requests are put together.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BatchLimits {
    /// Requests that wait.
    pub queue: usize,
    /// Examples of one call; 1 for a model whose examples know of each other.
    pub rows_max: usize,
    /// The longest wait for company.
    pub delay: Duration,
    /// Calls at once.
    pub calls: usize,
}

struct Job {
    inputs: Vec<Tensor>,
    answer: oneshot::Sender<Result<Vec<Tensor>>>,
}

impl Job {
    fn rows(&self) -> usize {
        self.inputs.first().map_or(1, Tensor::rows)
    }

    /// How many values: what a call takes grows with them, as with long texts of one example.
    fn values(&self) -> usize {
        self.inputs.iter().map(|tensor| tensor.values.len()).sum()
    }

    fn joins(&self, first: &Self) -> bool {
        self.inputs.iter().zip(&first.inputs).all(|(tensor, other)| other.stacks_with(tensor))
    }
}

/// What waits: the queue, and what did not fit into the call before.
struct Waiting {
    queue: Receiver<Job>,
    held: Option<Job>,
}

/// Asks one model. Its workers end when it is dropped.
#[derive(Debug)]
pub(crate) struct Batcher {
    queue: Sender<Job>,
    metrics: RuntimeMetrics,
}

impl Batcher {
    /// Starts the workers, which hold `model`. `processors` is shared by all models.
    pub(crate) fn start(
        model: &Arc<dyn Model>,
        limits: BatchLimits,
        processors: &Arc<Processors>,
        metrics: &RuntimeMetrics,
    ) -> Self {
        let (sender, queue) = mpsc::channel(limits.queue.max(1));
        let waiting = Arc::new(Mutex::new(Waiting { queue, held: None }));
        for _ in 0..limits.calls.max(1) {
            let worker = Worker {
                model: Arc::clone(model),
                waiting: Arc::clone(&waiting),
                processors: Arc::clone(processors),
                metrics: metrics.clone(),
                limits,
            };
            tokio::spawn(worker.run());
        }
        Self { queue: sender, metrics: metrics.clone() }
    }

    /// Asks. The inputs are those that the model's signature passed.
    ///
    /// # Errors
    /// `OVERLOADED` at once where too many wait; those of the model.
    pub(crate) async fn ask(&self, inputs: Vec<Tensor>) -> Result<Vec<Tensor>> {
        let (answer, answered) = oneshot::channel();
        self.queue.try_send(Job { inputs, answer }).map_err(|fault| match fault {
            TrySendError::Full(_) => Error::new(
                codes::OVERLOADED,
                "the model has as many requests as may wait; send it again later",
            ),
            TrySendError::Closed(_) => Error::internal("the workers of a model ended"),
        })?;
        self.metrics.queued.inc();
        answered.await.map_err(Error::internal)?
    }
}

struct Worker {
    model: Arc<dyn Model>,
    waiting: Arc<Mutex<Waiting>>,
    processors: Arc<Processors>,
    metrics: RuntimeMetrics,
    limits: BatchLimits,
}

impl Worker {
    async fn run(self) {
        let mut had_company = false;
        let mut pace = Pace::default();
        loop {
            let Some(jobs) = self.collect(had_company).await else { return };
            had_company = jobs.len() > 1;
            let values = jobs.iter().map(Job::values).sum();
            let (model, metrics) = (Arc::clone(&self.model), self.metrics.clone());
            // A panic of the model drops the answers of its jobs, which their callers are told as a defect.
            let call = move || answer(model.as_ref(), jobs, &metrics);
            self.processors.make(values, &mut pace, call).await;
        }
    }

    /// The next requests; none where there will be no more.
    async fn collect(&self, had_company: bool) -> Option<Vec<Job>> {
        let mut waiting = self.waiting.lock().await;
        let first = loop {
            let job = match waiting.held.take() {
                Some(job) => job,
                None => self.taken(waiting.queue.recv().await?),
            };
            if !job.answer.is_closed() {
                break job;
            }
        };
        let end = Instant::now() + if had_company { self.limits.delay } else { Duration::ZERO };
        let mut rows = first.rows();
        let mut jobs = vec![first];
        while rows < self.limits.rows_max {
            let Some(job) = self.next(&mut waiting.queue, end).await else { break };
            if job.answer.is_closed() {
                continue;
            }
            if rows + job.rows() > self.limits.rows_max || !job.joins(&jobs[0]) {
                waiting.held = Some(job);
                break;
            }
            rows += job.rows();
            jobs.push(job);
        }
        Some(jobs)
    }

    async fn next(&self, queue: &mut Receiver<Job>, end: Instant) -> Option<Job> {
        let job = match queue.try_recv() {
            Ok(job) => job,
            Err(_) => timeout_at(end, queue.recv()).await.ok()??,
        };
        Some(self.taken(job))
    }

    fn taken(&self, job: Job) -> Job {
        self.metrics.queued.dec();
        job
    }
}

/// Asks the model once for all; where that fails, once for each.
fn answer(model: &dyn Model, jobs: Vec<Job>, metrics: &RuntimeMetrics) {
    let rows: usize = jobs.iter().map(Job::rows).sum();
    metrics.batch_rows.observe(rows as f64);
    if let [only] = jobs.as_slice() {
        let answered = model.infer(&only.inputs);
        return send(jobs, vec![answered]);
    }
    let answered = match together(model, &jobs) {
        Some(answers) => answers,
        None => jobs.iter().map(|job| model.infer(&job.inputs)).collect(),
    };
    send(jobs, answered);
}

fn send(jobs: Vec<Job>, answers: Vec<Result<Vec<Tensor>>>) {
    for (job, answer) in jobs.into_iter().zip(answers) {
        // Who went away meanwhile needs no answer.
        drop(job.answer.send(answer));
    }
}

/// The answers of each; none where the model did not give as many rows as it was given.
fn together(model: &dyn Model, jobs: &[Job]) -> Option<Vec<Result<Vec<Tensor>>>> {
    let mut inputs = jobs[0].inputs.clone();
    for job in &jobs[1..] {
        inputs.iter_mut().zip(&job.inputs).for_each(|(tensor, more)| tensor.stack(more));
    }
    let rows: usize = jobs.iter().map(Job::rows).sum();
    let outputs = model.infer(&inputs).ok()?;
    if outputs.iter().any(|output| output.shape.first() != Some(&rows)) {
        return None;
    }
    let mut at = 0;
    let part = |job: &Job| {
        let range = at..at + job.rows();
        at = range.end;
        Ok(outputs.iter().map(|output| output.rows_of(range.clone())).collect())
    };
    Some(jobs.iter().map(part).collect())
}

#[cfg(test)]
mod tests {
    use prometheus_client::registry::Registry;

    use super::*;
    use crate::fake::{Fake, floats, rows};

    const LIMITS: BatchLimits =
        BatchLimits { queue: 100, rows_max: 16, delay: Duration::from_millis(20), calls: 1 };

    fn start(model: Fake, limits: BatchLimits) -> (Arc<Fake>, Arc<Batcher>) {
        let model = Arc::new(model);
        let (processors, metrics) =
            (Arc::new(Processors::new(2, 2)), RuntimeMetrics::register(&mut Registry::default()));
        let batcher = Batcher::start(&(Arc::clone(&model) as Arc<dyn Model>), limits, &processors, &metrics);
        (model, Arc::new(batcher))
    }

    async fn all(batcher: &Arc<Batcher>, requests: Vec<Vec<f32>>) -> Vec<Result<Vec<f32>>> {
        let tasks: Vec<_> = requests
            .into_iter()
            .map(|values| {
                let batcher = Arc::clone(batcher);
                tokio::spawn(async move {
                    batcher.ask(vec![rows(&values)]).await.map(|found| floats(&found[0]).to_vec())
                })
            })
            .collect();
        let mut found = Vec::new();
        for task in tasks {
            found.push(task.await.unwrap());
        }
        found
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn everybody_gets_their_own_rows() {
        let (model, batcher) = start(Fake { takes: Duration::from_millis(5), ..Fake::doubles() }, LIMITS);
        let requests: Vec<Vec<f32>> =
            (0_u8..60).map(|number| vec![f32::from(number); 2 * (1 + usize::from(number) % 3)]).collect();
        let answers = all(&batcher, requests.clone()).await;
        for (request, answer) in requests.iter().zip(answers) {
            let doubled: Vec<f32> = request.iter().map(|value| value * 2.0).collect();
            assert_eq!(answer.unwrap(), doubled);
        }
        let calls = model.calls.lock().clone();
        assert!(calls.len() < 40 && calls.iter().all(|rows| *rows <= 16), "{calls:?}");
        let asked: usize = requests.iter().map(|values| values.len() / 2).sum();
        assert_eq!(calls.iter().sum::<usize>(), asked);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn one_that_fails_fails_alone() {
        let (_, batcher) =
            start(Fake { takes: Duration::from_millis(5), fails_on: Some(100.0), ..Fake::doubles() }, LIMITS);
        let requests = (0_u8..20).map(|number| vec![if number == 7 { 1e3 } else { 1.0 }; 2]).collect();
        let answers = all(&batcher, requests).await;
        let failed: Vec<_> =
            answers.iter().enumerate().filter(|(_, answer)| answer.is_err()).map(|(at, _)| at).collect();
        assert_eq!(failed, [7]);
    }

    /// The first call goes to a thread of its own, and the brief ones after it do not.
    #[tokio::test(flavor = "multi_thread")]
    async fn a_model_that_panics_answers_the_next() {
        let (model, batcher) = start(Fake { panics_on: Some(100.0), ..Fake::doubles() }, LIMITS);
        for round in 0..3 {
            assert!(batcher.ask(vec![rows(&[1e3, 1.0])]).await.is_err(), "{round}");
            assert_eq!(floats(&batcher.ask(vec![rows(&[1.0, 2.0])]).await.unwrap()[0]), [2.0, 4.0]);
        }
        assert_eq!(model.calls.lock().len(), 6);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn too_many_are_refused_at_once() {
        let limits = BatchLimits { queue: 4, rows_max: 1, ..LIMITS };
        let (_, batcher) = start(Fake { takes: Duration::from_millis(50), ..Fake::doubles() }, limits);
        let answers = all(&batcher, vec![vec![1.0, 2.0]; 30]).await;
        let refused: Vec<_> = answers.into_iter().filter_map(std::result::Result::err).collect();
        assert!(refused.len() >= 20, "{}", refused.len());
        assert!(refused.iter().all(|error| error.code() == codes::OVERLOADED));
        assert_eq!(batcher.metrics.queued.get(), 0);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn who_went_away_is_not_asked() {
        let limits = BatchLimits { rows_max: 1, ..LIMITS };
        let (model, batcher) = start(Fake { takes: Duration::from_millis(30), ..Fake::doubles() }, limits);
        let first = tokio::spawn({
            let batcher = Arc::clone(&batcher);
            async move { batcher.ask(vec![rows(&[1.0, 1.0])]).await }
        });
        tokio::time::sleep(Duration::from_millis(5)).await;
        drop(tokio::time::timeout(Duration::from_millis(1), batcher.ask(vec![rows(&[2.0, 2.0])])).await);
        first.await.unwrap().unwrap();
        batcher.ask(vec![rows(&[3.0, 3.0])]).await.unwrap();
        assert_eq!(model.calls.lock().len(), 2);
    }

    #[tokio::test]
    async fn workers_end_with_their_batcher() {
        let (model, batcher) = start(Fake::doubles(), LIMITS);
        batcher.ask(vec![rows(&[1.0, 1.0])]).await.unwrap();
        drop(batcher);
        for _ in 0..100 {
            if Arc::strong_count(&model) == 1 {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("a worker holds the model");
    }
}
