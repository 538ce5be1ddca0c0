//! Requests of one model, put together by time and number, from a bounded queue.
//!
//! Where the last call answered one request alone, the next is made at once: nobody waits for company that does not come.
//! Where it answered several, the next waits up to `delay` for as many examples as a call may have. A request that finds the
//! queue full is refused (`OVERLOADED`); one whose caller went away is not asked; one that fails does not fail those beside
//! it, for then each is asked alone.
//!
//! A request that nobody is before is answered where it is handled, if the call is known not to take long: the way through a
//! queue and back would cost as much as a small model does. What it took counts against the turn of its task.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use kernel::{Error, Result, codes};
use tokio::sync::mpsc::{self, Receiver, Sender, error::TrySendError};
use tokio::sync::{Mutex, Semaphore, SemaphorePermit, oneshot};
use tokio::task::consume_budget;
use tokio::time::{Instant, timeout_at};

use crate::metrics::RuntimeMetrics;
use crate::model::Model;
use crate::processors::{Pace, Processors};
use crate::tensor::{Tensor, row_count};

/// The runtime gives a task 128 units for a turn: so that is over after eight milliseconds.
const BUDGET_MICROSECONDS: u128 = 64;

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
        row_count(&self.inputs)
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

/// What askers and workers share.
#[derive(Debug)]
struct Shared {
    model: Arc<dyn Model>,
    processors: Arc<Processors>,
    metrics: RuntimeMetrics,
    limits: BatchLimits,
    /// Calls of this model at once.
    calls: Semaphore,
    pace: parking_lot::Mutex<Pace>,
    /// Whether the last call answered several requests.
    had_company: AtomicBool,
}

/// Asks one model. Its workers end when it is dropped.
#[derive(Debug)]
pub(crate) struct Batcher {
    queue: Sender<Job>,
    shared: Arc<Shared>,
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
        let calls = limits.calls.max(1);
        let shared = Arc::new(Shared {
            model: Arc::clone(model),
            processors: Arc::clone(processors),
            metrics: metrics.clone(),
            limits,
            calls: Semaphore::new(calls),
            pace: parking_lot::Mutex::default(),
            had_company: AtomicBool::new(false),
        });
        for _ in 0..calls {
            let worker = Worker { shared: Arc::clone(&shared), waiting: Arc::clone(&waiting) };
            tokio::spawn(worker.run());
        }
        Self { queue: sender, shared }
    }

    /// Asks. The inputs are those that the model's signature passed.
    ///
    /// # Errors
    /// `OVERLOADED` at once where too many wait; those of the model.
    pub(crate) async fn ask(&self, inputs: Vec<Tensor>) -> Result<Vec<Tensor>> {
        if let Some((answered, took)) = self.ask_here(&inputs) {
            // A task that asks on and on lets others have their turn.
            for _ in 0..took.as_micros() / BUDGET_MICROSECONDS {
                consume_budget().await;
            }
            return answered;
        }
        let (answer, answered) = oneshot::channel();
        self.queue.try_send(Job { inputs, answer }).map_err(|fault| match fault {
            TrySendError::Full(_) => Error::new(
                codes::OVERLOADED,
                "the model has as many requests as may wait; send it again later",
            ),
            TrySendError::Closed(_) => Error::internal("the workers of a model ended"),
        })?;
        self.shared.metrics.queued.inc();
        answered.await.map_err(Error::internal)?
    }

    /// The answer, and how long it took, where nobody is before, company is not waited for and the call is known not to take long.
    fn ask_here(&self, inputs: &[Tensor]) -> Option<(Result<Vec<Tensor>>, Duration)> {
        let shared = &self.shared;
        let somebody_waits = self.queue.capacity() < self.queue.max_capacity();
        if somebody_waits || shared.had_company.load(Ordering::Relaxed) {
            return None;
        }
        let _call = shared.calls.try_acquire().ok()?;
        let mut answered = None;
        let call = || {
            shared.metrics.batch_rows.observe(row_count(inputs) as f64);
            answered = Some(shared.model.infer(inputs));
        };
        let took = shared.processors.make_here(weight_of(inputs), &shared.pace, call)?;
        Some((answered.unwrap_or_else(|| Err(Error::internal("the model panicked"))), took))
    }
}

/// What a call takes grows with it: values, times those of one example, for models of texts look at each two words of a text.
fn weight_of(inputs: &[Tensor]) -> usize {
    let weights = inputs.iter().map(|tensor| {
        let values = tensor.values.len();
        values.saturating_mul(values.div_ceil(tensor.rows().max(1)))
    });
    weights.fold(0, usize::saturating_add)
}

struct Worker {
    shared: Arc<Shared>,
    waiting: Arc<Mutex<Waiting>>,
}

impl Worker {
    async fn run(self) {
        let shared = &self.shared;
        loop {
            let Some((jobs, call_place)) = self.collect().await else { return };
            shared.had_company.store(jobs.len() > 1, Ordering::Relaxed);
            let weight = jobs.iter().map(|job| weight_of(&job.inputs)).fold(0, usize::saturating_add);
            let (model, metrics) = (Arc::clone(&shared.model), shared.metrics.clone());
            // A panic of the model drops the answers of its jobs, which their callers are told as a defect.
            let call = move || answer(model.as_ref(), jobs, &metrics);
            shared.processors.make(weight, &shared.pace, call).await;
            drop(call_place);
        }
    }

    /// The next requests and the place of their call; none where there will be no more.
    async fn collect(&self) -> Option<(Vec<Job>, SemaphorePermit<'_>)> {
        let mut waiting = self.waiting.lock().await;
        let (first, call_place) = loop {
            let job = match waiting.held.take() {
                Some(job) => job,
                None => self.taken(waiting.queue.recv().await?),
            };
            // Who comes while a call is under way comes along.
            let call_place = self.shared.calls.acquire().await.ok()?;
            if !job.answer.is_closed() {
                break (job, call_place);
            }
        };
        let limits = self.shared.limits;
        let had_company = self.shared.had_company.load(Ordering::Relaxed);
        let end = Instant::now() + if had_company { limits.delay } else { Duration::ZERO };
        let mut rows = first.rows();
        let mut jobs = vec![first];
        while rows < limits.rows_max {
            let Some(job) = self.next(&mut waiting.queue, end).await else { break };
            if job.answer.is_closed() {
                continue;
            }
            if rows + job.rows() > limits.rows_max || !job.joins(&jobs[0]) {
                waiting.held = Some(job);
                break;
            }
            rows += job.rows();
            jobs.push(job);
        }
        Some((jobs, call_place))
    }

    async fn next(&self, queue: &mut Receiver<Job>, end: Instant) -> Option<Job> {
        let job = match queue.try_recv() {
            Ok(job) => job,
            Err(_) => timeout_at(end, queue.recv()).await.ok()??,
        };
        Some(self.taken(job))
    }

    fn taken(&self, job: Job) -> Job {
        self.shared.metrics.queued.dec();
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
    use futures::FutureExt;
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

    /// As many calls at once as there may be, also those that are made where they are asked for.
    #[tokio::test(flavor = "multi_thread", worker_threads = 3)]
    async fn calls_of_one_model_run_side_by_side() {
        let (model, batcher) = start(
            Fake { takes: Duration::from_millis(2), ..Fake::doubles() },
            BatchLimits { calls: 2, ..LIMITS },
        );
        for _ in 0..20 {
            let two: Vec<_> = (0_u8..2).map(|number| vec![f32::from(number), 1.0]).collect();
            for answer in all(&batcher, two).await {
                assert_eq!(answer.unwrap()[1], 2.0);
            }
        }
        assert_eq!(model.calls.lock().iter().sum::<usize>(), 40);
        assert_eq!(batcher.shared.calls.available_permits(), 2);
    }

    /// The first calls go to a thread of their own, and the brief ones after them do not.
    #[tokio::test(flavor = "multi_thread")]
    async fn a_model_that_panics_answers_the_next() {
        let (model, batcher) = start(Fake { panics_on: Some(100.0), ..Fake::doubles() }, LIMITS);
        for _ in 0..3 {
            batcher.ask(vec![rows(&[1.0, 2.0])]).await.unwrap();
        }
        model.calls.lock().clear();
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
        assert_eq!(batcher.shared.metrics.queued.get(), 0);
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

    /// Alone, a request is answered without a task beside its own; behind another it waits its turn.
    #[tokio::test]
    async fn who_is_alone_is_answered_where_it_asks() {
        let (model, batcher) = start(Fake::doubles(), LIMITS);
        let ask = async |value: f32| batcher.ask(vec![rows(&[value, 1.0])]).await;
        for _ in 0..3 {
            assert_eq!(ask(1.0).now_or_never().map(drop), None, "little is known of the model yet");
            ask(1.0).await.unwrap();
            // What is learned of a call is noted after its answer.
            drop(batcher.shared.calls.acquire().await);
        }
        let answered = ask(2.0).now_or_never().unwrap().unwrap();
        assert_eq!(floats(&answered[0]), [4.0, 2.0]);
        let held = batcher.shared.calls.acquire().await.unwrap();
        assert_eq!(ask(3.0).now_or_never().map(drop), None, "a call is under way");
        drop(held);
        ask(4.0).await.unwrap();
        batcher.shared.had_company.store(true, Ordering::Relaxed);
        assert_eq!(ask(5.0).now_or_never().map(drop), None, "it waits for company");
        assert!(model.calls.lock().iter().all(|rows| *rows == 1));
        assert_eq!(batcher.shared.calls.available_permits(), 1);
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
