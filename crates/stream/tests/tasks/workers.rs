//! Workers: who has which partition, and what they wait for.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use kernel::{Error, SystemClock, codes};
use store::memory::MemoryEventLog;
use store::{Extent, Leases, ReadLimit, Stored};
use stream::{
    LogSink, LogSource, Output, Sink, Source, Task, TaskParts, TaskSettings, Worker, WorkerSettings,
};
use tokio_util::sync::CancellationToken;

use crate::{House, IN, OUT, finish, numbers, sums};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn workers_share_a_topic_and_close_the_windows_of_who_is_silent() {
    let mut house = House::new(4);
    let worker = |name: &str| {
        let clock: Arc<SystemClock> = Arc::new(SystemClock::new());
        let settings = WorkerSettings {
            lease: Duration::from_millis(300),
            idle_after: Duration::from_millis(200),
            most_partitions: 3,
            ..WorkerSettings::default()
        };
        let leases = Leases::new(Arc::clone(&house.records), clock.clone(), name.to_owned());
        let parts = house.parts();
        Arc::new(Worker::new(Arc::new(sums()), parts, Arc::clone(&house.log), leases, clock, settings))
    };
    let (one, two) = (worker("one"), worker("two"));
    let (stop_one, stop_two) = (CancellationToken::new(), CancellationToken::new());
    let first = tokio::spawn(Arc::clone(&one).run(stop_one.clone()));
    let second = tokio::spawn(Arc::clone(&two).run(stop_two.clone()));
    let until = async |what: &str, is_so: &dyn Fn() -> bool| {
        for _ in 0..1_000 {
            if is_so() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("{what}: {:?} {:?}", one.standings(), two.standings());
    };
    let open = || one.standings().len() + two.standings().len();
    until("all partitions are taken", &|| open() == 4).await;
    assert!(one.standings().len() <= 3 && two.standings().len() <= 3);
    for number in 0..40 {
        house.send(&[(0, &format!("s{number}"), "1")]).await;
    }
    let taken = || {
        let standings = one.standings().into_iter().chain(two.standings());
        standings.map(|(_, standing)| standing.totals.taken).sum::<u64>()
    };
    until("all events are taken", &|| taken() == 40).await;
    stop_one.cancel();
    first.await.unwrap().unwrap();
    assert!(one.standings().is_empty());
    until("the other takes what it may", &|| two.standings().len() == 3).await;
    for _ in 0..1_000 {
        if house.data(&OUT).await.len() >= 3 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let sums: Vec<(i64, u32, i64)> =
        house.data(&OUT).await.iter().map(|said| serde_json::from_str(said).unwrap()).collect();
    assert!(
        sums.len() >= 3 && sums.iter().all(|(start, revision, _)| (*start, *revision) == (0, 0)),
        "{sums:?}"
    );
    // Nothing waits for time any more, and so nothing is said.
    until("every window is settled", &|| {
        two.standings().values().all(|standing| standing.watermarks_ms.is_empty())
    })
    .await;
    let length = async || house.log.extents(&IN).await.unwrap().iter().map(|extent| extent.next).sum::<u64>();
    let before = length().await;
    tokio::time::sleep(Duration::from_millis(700)).await;
    assert_eq!(length().await, before, "who is silent is not told the time again and again");
    stop_two.cancel();
    second.await.unwrap().map_err(|error: Error| error.chain()).unwrap();
}

/// A sink that is away for some.
#[derive(Debug)]
struct Away {
    sink: Arc<dyn Sink>,
    is_away: AtomicBool,
}

#[async_trait]
impl Sink for Away {
    async fn deliver(&self, outputs: Vec<Output>) -> kernel::Result<()> {
        if self.is_away.load(Ordering::Relaxed) {
            return Err(Error::new(codes::UNAVAILABLE, "away"));
        }
        self.sink.deliver(outputs).await
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_comes_later_has_a_fair_share_and_who_cannot_work_has_none() {
    let mut house = House::new(5);
    let away = Arc::new(Away { sink: house.parts().sink, is_away: AtomicBool::new(false) });
    let worker = |name: &str, sink: Arc<dyn Sink>| {
        let clock: Arc<SystemClock> = Arc::new(SystemClock::new());
        let settings = WorkerSettings { lease: Duration::from_millis(600), ..WorkerSettings::default() };
        let leases = Leases::new(Arc::clone(&house.records), clock.clone(), name.to_owned());
        let parts = TaskParts { sink, ..house.parts() };
        Arc::new(Worker::new(Arc::new(numbers(true)), parts, Arc::clone(&house.log), leases, clock, settings))
    };
    let sink = house.parts().sink;
    let workers =
        [worker("one", Arc::clone(&sink)), worker("two", Arc::clone(&away) as _), worker("three", sink)];
    let stops = [(); 3].map(|()| CancellationToken::new());
    let shares = || {
        workers
            .each_ref()
            .map(|worker| worker.standings().values().filter(|standing| standing.failure.is_none()).count())
    };
    let until = async |expected: &dyn Fn([usize; 3]) -> bool| {
        for _ in 0..2_000 {
            if expected(shares()) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("{:?}", shares());
    };
    let mut running = Vec::new();
    let start = |number: usize| tokio::spawn(Arc::clone(&workers[number]).run(stops[number].clone()));
    running.push(start(0));
    until(&|shares| shares == [5, 0, 0]).await;
    running.push(start(1));
    until(&|shares| shares[0].max(shares[1]) == 3 && shares[0] + shares[1] == 5).await;
    running.push(start(2));
    until(&|shares| shares.iter().all(|share| (1..=2).contains(share)) && shares.iter().sum::<usize>() == 5)
        .await;
    away.is_away.store(true, Ordering::Relaxed);
    for number in 0..40 {
        house.send(&[(0, &format!("s{number}"), "1")]).await;
    }
    until(&|shares| shares[1] == 0 && shares[0] + shares[2] == 5).await;
    for stop in [&stops[1], &stops[2]] {
        stop.cancel();
    }
    until(&|shares| shares == [5, 0, 0]).await;
    for _ in 0..1_000 {
        if house.data(&OUT).await.len() >= 40 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(house.data(&OUT).await.len(), 40, "whoever had them, each is there once");
    stops[0].cancel();
    for run in running {
        run.await.unwrap().map_err(|error: Error| error.chain()).unwrap();
    }
}

/// A sink that takes its time.
#[derive(Debug)]
struct Slow {
    sink: Arc<dyn Sink>,
    began: AtomicUsize,
}

#[async_trait]
impl Sink for Slow {
    async fn deliver(&self, outputs: Vec<Output>) -> kernel::Result<()> {
        self.began.fetch_add(1, Ordering::Relaxed);
        tokio::time::sleep(Duration::from_millis(500)).await;
        self.sink.deliver(outputs).await
    }
}

#[tokio::test]
async fn what_is_on_its_way_is_neither_told_nor_cut_off_by_the_end() {
    let mut house = House::new(1);
    house.send(&[(0, "", "1"), (0, "", "2")]).await;
    let slow = Arc::new(Slow { sink: house.parts().sink, began: AtomicUsize::new(0) });
    let parts = TaskParts { sink: Arc::clone(&slow) as _, ..house.parts() };
    let clock: Arc<SystemClock> = Arc::new(SystemClock::new());
    let settings = WorkerSettings { lease: Duration::from_secs(9), ..WorkerSettings::default() };
    let leases = Leases::new(Arc::clone(&house.records), clock.clone(), "one".to_owned());
    let log = Arc::clone(&house.log);
    let worker = Worker::new(Arc::new(numbers(true)), parts.clone(), log, leases, clock, settings);
    let (worker, stop) = (Arc::new(worker), CancellationToken::new());
    let running = tokio::spawn(Arc::clone(&worker).run(stop.clone()));
    for _ in 0..1_000 {
        if slow.began.load(Ordering::Relaxed) > 0 && !worker.standings().is_empty() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert_eq!(house.data(&OUT).await, [""; 0], "it is on its way");
    assert_eq!((worker.counted().taken, worker.standings()[&0].next_offset), (0, 0));
    stop.cancel();
    running.await.unwrap().map_err(|error: Error| error.chain()).unwrap();
    assert_eq!(house.data(&OUT).await, ["1", "2"]);
    assert_eq!(worker.counted().taken, 2);
    let mut task = Task::open(Arc::new(numbers(true)), parts, 0, TaskSettings::default()).await.unwrap();
    finish(&mut task).await;
    // Whoever opens a task cannot know, and delivers the last commit once more.
    assert_eq!((slow.began.load(Ordering::Relaxed), house.data(&OUT).await.len()), (2, 2));
}

/// A sink that takes its time and then fails, for what is said of one key.
#[derive(Debug)]
struct Poisoned(Arc<dyn Sink>);

#[async_trait]
impl Sink for Poisoned {
    async fn deliver(&self, outputs: Vec<Output>) -> kernel::Result<()> {
        if outputs.iter().any(|output| output.event.data_as::<i64>().is_ok_and(|number| number == 666)) {
            tokio::time::sleep(Duration::from_millis(700)).await;
            return Err(Error::new(codes::UNAVAILABLE, "away"));
        }
        self.0.deliver(outputs).await
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_partition_that_fails_everywhere_takes_no_other_with_it() {
    let mut house = House::new(6);
    let sink: Arc<dyn Sink> = Arc::new(Poisoned(house.parts().sink));
    let workers = ["one", "two"].map(|name| {
        let clock: Arc<SystemClock> = Arc::new(SystemClock::new());
        let settings = WorkerSettings { lease: Duration::from_millis(450), ..WorkerSettings::default() };
        let leases = Leases::new(Arc::clone(&house.records), clock.clone(), name.to_owned());
        let parts = TaskParts { sink: Arc::clone(&sink), ..house.parts() };
        Arc::new(Worker::new(Arc::new(numbers(true)), parts, Arc::clone(&house.log), leases, clock, settings))
    });
    let stop = CancellationToken::new();
    let running = workers.clone().map(|worker| tokio::spawn(worker.run(stop.clone())));
    let shares = || {
        let works = |worker: &Arc<Worker>| {
            worker.standings().values().filter(|standing| standing.failure.is_none()).count()
        };
        workers.each_ref().map(works)
    };
    for _ in 0..1_000 {
        if shares() == [3, 3] {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(shares(), [3, 3]);
    house.send(&[(0, "a", "666")]).await;
    let mut has_failed = false;
    for _ in 0..500 {
        tokio::time::sleep(Duration::from_millis(10)).await;
        has_failed |= shares().iter().sum::<usize>() == 5;
        assert!(shares().iter().all(|share| *share >= 2), "{:?}", shares());
    }
    assert!(has_failed);
    stop.cancel();
    for worker in running {
        worker.await.unwrap().unwrap();
    }
}

/// A source whose topic has as many partitions as it is told, and that is away while it has none.
#[derive(Debug)]
struct Growing {
    source: LogSource,
    partitions: AtomicUsize,
}

#[async_trait]
impl Source for Growing {
    async fn read(&self, partition: u32, offset: u64, limit: ReadLimit) -> kernel::Result<Vec<Stored>> {
        self.source.read(partition, offset, limit).await
    }

    async fn extents(&self) -> kernel::Result<Vec<Extent>> {
        match self.partitions.load(Ordering::Relaxed) {
            0 => Err(Error::new(codes::UNAVAILABLE, "away")),
            count => Ok(self.source.extents().await?.into_iter().take(count).collect()),
        }
    }

    async fn wait(&self, partition: u32, offset: u64) -> kernel::Result<()> {
        self.source.wait(partition, offset).await
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_waits_for_its_source_takes_what_is_added_and_tells_the_group() {
    let mut house = House::new(3);
    let source = Arc::new(Growing {
        source: LogSource::new(Arc::clone(&house.log), IN),
        partitions: AtomicUsize::new(0),
    });
    let clock: Arc<SystemClock> = Arc::new(SystemClock::new());
    let settings = WorkerSettings { group: Some("sums".to_owned()), ..WorkerSettings::default() };
    let leases = Leases::new(Arc::clone(&house.records), clock.clone(), "one".to_owned());
    let parts = TaskParts { source: source.clone(), ..house.parts() };
    let log = Arc::clone(&house.log);
    let worker = Arc::new(Worker::new(Arc::new(sums()), parts, log, leases, clock, settings));
    let stop = CancellationToken::new();
    let running = tokio::spawn(Arc::clone(&worker).run(stop.clone()));
    for number in 0..30 {
        house.send(&[(0, &format!("s{number}"), "1")]).await;
    }
    let until = async |what: &str, is_so: &dyn Fn() -> bool| {
        for _ in 0..2_000 {
            if is_so() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("{what}: {:?}", worker.standings());
    };
    for count in [1, 3] {
        source.partitions.store(count, Ordering::Relaxed);
        until("the partitions are taken", &|| worker.standings().len() == count).await;
    }
    let taken = || worker.standings().values().map(|standing| standing.totals.taken).sum::<u64>();
    until("all events are taken", &|| taken() == 30).await;
    stop.cancel();
    running.await.unwrap().unwrap();
    assert_eq!(worker.counted().taken, 30);
    let (log, clock) = (Arc::clone(&house.log), Arc::new(SystemClock::new()));
    let leases = Leases::new(Arc::clone(&house.records), clock.clone(), "two".to_owned());
    let settings = WorkerSettings::default();
    let other = Arc::new(Worker::new(Arc::new(sums()), house.parts(), log, leases, clock, settings));
    let stop = CancellationToken::new();
    let running = tokio::spawn(Arc::clone(&other).run(stop.clone()));
    for _ in 0..2_000 {
        if other.standings().len() == 3 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let known = other.standings().values().map(|standing| standing.totals.taken).sum::<u64>();
    assert_eq!((known, other.counted().taken), (30, 0), "what another process took is not counted again");
    stop.cancel();
    running.await.unwrap().unwrap();
    let mut told = 0;
    for extent in house.log.extents(&IN).await.unwrap() {
        told += house.log.committed("sums", &IN, extent.partition).await.unwrap();
    }
    assert!(told > 0, "the group was told");
}

/// Takes longer than a lease lasts, each time.
#[derive(Debug)]
struct SlowSink(LogSink, AtomicUsize);

#[async_trait]
impl Sink for SlowSink {
    async fn deliver(&self, outputs: Vec<Output>) -> kernel::Result<()> {
        self.1.fetch_add(1, Ordering::Relaxed);
        tokio::time::sleep(Duration::from_secs(1)).await;
        self.0.deliver(outputs).await
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_step_that_outlasts_its_lease_is_not_begun_again_elsewhere() {
    let mut house = House::new(1);
    house.send(&[(0, "a", "1"), (30, "a", "1"), (60, "a", "1")]).await;
    let sink = Arc::new(SlowSink(LogSink::new(Arc::clone(&house.log)), AtomicUsize::new(0)));
    let worker = |name: &str| {
        let clock: Arc<SystemClock> = Arc::new(SystemClock::new());
        let task = TaskSettings {
            batch: ReadLimit { events: 1, ..ReadLimit::default() },
            ..TaskSettings::default()
        };
        let settings =
            WorkerSettings { task, lease: Duration::from_millis(300), ..WorkerSettings::default() };
        let leases = Leases::new(Arc::clone(&house.records), clock.clone(), name.to_owned());
        let parts = TaskParts { sink: sink.clone(), ..house.parts() };
        Arc::new(Worker::new(Arc::new(sums()), parts, Arc::clone(&house.log), leases, clock, settings))
    };
    let workers = [worker("one"), worker("two")];
    let stop = CancellationToken::new();
    let running = workers.clone().map(|worker| tokio::spawn(worker.run(stop.clone())));
    for _ in 0..1_000 {
        if workers.iter().map(|worker| worker.counted().taken).sum::<u64>() == 3 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let mut taken = workers.each_ref().map(|worker| worker.counted().taken);
    taken.sort_unstable();
    assert_eq!(taken, [0, 3], "who has it keeps it");
    let outputs = house.data(&OUT).await;
    assert!(!outputs.is_empty() && sink.1.load(Ordering::Relaxed) <= 3, "{outputs:?}");
    stop.cancel();
    for worker in running {
        worker.await.unwrap().unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_that_is_shorter_than_what_was_taken_is_told() {
    let mut house = House::new(1);
    house.send(&[(0, "a", "1"), (0, "a", "1"), (0, "a", "1")]).await;
    let mut task = house.open(&sums()).await.unwrap();
    finish(&mut task).await;
    // Another log under the same name, which begins anew.
    let house = House::over(Arc::new(MemoryEventLog::new(1)), Arc::clone(&house.records));
    let clock: Arc<SystemClock> = Arc::new(SystemClock::new());
    let leases = Leases::new(Arc::clone(&house.records), clock.clone(), "one".to_owned());
    let log = Arc::clone(&house.log);
    let settings = WorkerSettings::default();
    let worker = Arc::new(Worker::new(Arc::new(sums()), house.parts(), log, leases, clock, settings));
    let stop = CancellationToken::new();
    let running = tokio::spawn(Arc::clone(&worker).run(stop.clone()));
    let mut failure = None;
    for _ in 0..1_000 {
        failure = worker.standings().get(&0).and_then(|standing| standing.failure.clone());
        if failure.is_some() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    stop.cancel();
    running.await.unwrap().unwrap();
    assert!(failure.unwrap().contains("was taken up to 3"));
}
