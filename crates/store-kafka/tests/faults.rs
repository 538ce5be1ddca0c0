//! Faults that only a mock of a cluster shows on demand: librdkafka's own, in this process.

#![expect(clippy::unwrap_used, reason = "a test may fail at once")]

mod support;

use std::sync::Arc;
use std::time::Duration;

use kernel::{Event, SystemClock, codes};
use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};
use store::{EventLog, Outcome, ReadLimit, Topic};
use store_kafka::{Compression, KafkaStore, Settings};
use support::{event, open, produce, read, settings, shop, timed, until};

const TOPIC: Topic = Topic::fixed("events");

type Mock = MockCluster<'static, DefaultProducerContext>;

/// A cluster with the topic in `partitions` partitions, and settings that find it.
fn cluster(partitions: i32) -> (Mock, Settings) {
    let mock = MockCluster::new(1).unwrap();
    let url = format!("kafka://{}", mock.bootstrap_servers());
    let settings = Settings {
        topic_prefix: String::new(),
        create_topics: false,
        delivery_timeout_ms: 2_000,
        ..settings(&url)
    };
    if partitions > 0 {
        mock.create_topic(TOPIC.as_str(), partitions, 1).unwrap();
    }
    (mock, settings)
}

async fn append(log: &Arc<dyn EventLog>, ids: std::ops::Range<u64>) -> kernel::Result<Vec<store::Appended>> {
    log.append(&shop(), &TOPIC, ids.map(|id| event(id, "key")).collect()).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_are_written_and_read_in_order() {
    let (_mock, settings) = cluster(2);
    let store = open(&settings);
    let log = store.event_log();
    let places = append(&log, 0..500).await.unwrap();
    assert!(
        places.iter().zip(0..).all(|(place, offset)| place.offset == offset && place.outcome == Outcome::New)
    );
    let found = read(&log, &TOPIC, places[0].partition, 0).await;
    assert!(found.iter().zip(0..).all(|(stored, id): (_, u64)| stored.event.id == id.to_string()));
    assert_eq!(found.len(), 500);
    let figures = store.figures();
    assert_eq!((figures.appended, figures.read, figures.foreign), (500, 500, 0));
    store.ping(Duration::from_secs(2)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_try_that_failed_on_the_way_is_written_once() {
    let (mock, settings) = cluster(1);
    let log = open(&settings).event_log();
    append(&log, 0..1).await.unwrap();
    let errors = [
        RDKafkaRespErr::RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION,
        RDKafkaRespErr::RD_KAFKA_RESP_ERR_REQUEST_TIMED_OUT,
    ];
    mock.request_errors(RDKafkaApiKey::Produce, &errors);
    let places = append(&log, 1..20).await.unwrap();
    assert_eq!(places.last().unwrap().offset, 19);
    assert_eq!(read(&log, &TOPIC, 0, 0).await.len(), 20);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_brokers_refuse_says_why() {
    let (mock, settings) = cluster(1);
    let log = open(&settings).event_log();
    append(&log, 0..1).await.unwrap();
    for (fault, code) in [
        (RDKafkaRespErr::RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE, codes::TOO_LARGE),
        (RDKafkaRespErr::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED, codes::PERMISSION_DENIED),
    ] {
        mock.request_errors(RDKafkaApiKey::Produce, &[fault]);
        let error = append(&log, 1..2).await.unwrap_err();
        assert_eq!(error.code(), code, "{error:?}");
    }
    // The client asks anew before it believes that it may write again.
    until(Duration::from_secs(20), "the log goes on", async || append(&log, 2..3).await.is_ok()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn brokers_that_go_away_come_back() {
    let (mock, settings) = cluster(1);
    let store = open(&Settings { request_timeout_ms: 1_500, ..settings });
    let log = store.event_log();
    append(&log, 0..5).await.unwrap();
    read(&log, &TOPIC, 0, 0).await;
    mock.broker_down(1).unwrap();
    let (error, took) = timed(append(&log, 5..6)).await;
    assert_eq!(error.unwrap_err().code(), codes::UNAVAILABLE);
    assert!(took < Duration::from_secs(8), "an append waited {took:?}");
    let (error, took) = timed(log.extents(&TOPIC)).await;
    assert_eq!(error.unwrap_err().code(), codes::UNAVAILABLE);
    assert!(took < Duration::from_secs(4), "a question waited {took:?}");
    assert!(!store.figures().is_answering && store.figures().failures >= 2, "{:?}", store.figures());
    mock.broker_up(1).unwrap();
    until(Duration::from_secs(15), "the log goes on", async || append(&log, 6..7).await.is_ok()).await;
    assert!(store.figures().is_answering);
    assert!(read(&log, &TOPIC, 0, 0).await.len() >= 6);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_needs_no_broker() {
    let settings = Settings {
        delivery_timeout_ms: 1_000,
        request_timeout_ms: 300,
        ..settings(&format!("kafka://127.0.0.1:{}", support::broker::free_port()))
    };
    let store = KafkaStore::open(&settings, Arc::new(SystemClock::new())).unwrap();
    let (error, took) = timed(store.event_log().extents(&TOPIC)).await;
    assert_eq!(error.unwrap_err().code(), codes::UNAVAILABLE);
    assert!(took < Duration::from_secs(3), "{took:?}");
    assert!(store.ping(Duration::from_millis(200)).await.is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_retention_took_is_passed_over_visibly() {
    let (_mock, settings) = cluster(1);
    // A partition of the mock holds 5 MB.
    let log = open(&Settings { compression: Compression::None, ..settings }).event_log();
    for round in 0..12 {
        let mut large = event(round, "key");
        large.data = Some(serde_json::value::to_raw_value(&"x".repeat(900_000)).unwrap().into());
        log.append(&shop(), &TOPIC, vec![large]).await.unwrap();
    }
    let extent = log.extents(&TOPIC).await.unwrap()[0];
    assert!(extent.first > 0 && extent.next == 12, "{extent:?}");
    let found = read(&log, &TOPIC, 0, 0).await;
    assert_eq!(found[0].offset, extent.first, "the caller sees that it is not what was asked for");
    assert_eq!(found.last().unwrap().offset, 11);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_that_nobody_made_is_told() {
    let (_mock, settings) = cluster(0);
    let log = open(&settings).event_log();
    let error = log.extents(&Topic::fixed("none.of.these")).await.unwrap_err();
    assert!(error.message().contains("none.of.these"), "{error:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_that_vanished_is_not_taken_for_an_empty_one() {
    let (mock, settings) = cluster(1);
    let log = open(&Settings { create_topics: true, ..settings }).event_log();
    append(&log, 0..3).await.unwrap();
    let unknown = RDKafkaRespErr::RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART;
    mock.topic_error(TOPIC.as_str(), unknown).unwrap();
    tokio::time::sleep(Duration::from_secs(4)).await;
    let error = log.extents(&TOPIC).await.unwrap_err();
    assert_eq!(error.code(), codes::UNAVAILABLE);
    assert!(error.message().contains("was there and no longer is"), "{error:?}");
    mock.topic_error(TOPIC.as_str(), RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR).unwrap();
    until(Duration::from_secs(10), "it is there again", async || log.extents(&TOPIC).await.is_ok()).await;
    assert_eq!(log.extents(&TOPIC).await.unwrap()[0].next, 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_partition_goes_on_after_what_it_cannot_read() {
    let (_mock, settings) = cluster(1);
    let store = open(&settings);
    let log = store.event_log();
    append(&log, 0..1).await.unwrap();
    produce(&settings, TOPIC.as_str(), 0, b"\xff\xfe").await;
    produce(&settings, TOPIC.as_str(), 0, &vec![b'x'; 3_000_000]).await;
    append(&log, 1..2).await.unwrap();
    let found = read(&log, &TOPIC, 0, 0).await;
    let kinds: Vec<&str> = found.iter().map(|stored| &*stored.event.kind).collect();
    assert_eq!(kinds, ["test.happened", store_kafka::FOREIGN, store_kafka::UNUSABLE, "test.happened"]);
    let figures = store.figures();
    assert_eq!((figures.read, figures.foreign, figures.unusable), (4, 2, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readers_at_several_places_do_not_disturb_each_other() {
    let (_mock, settings) = cluster(1);
    let log = open(&settings).event_log();
    append(&log, 0..300).await.unwrap();
    let few = ReadLimit { events: 7, bytes: usize::MAX };
    let reader = |start: u64| {
        let log = Arc::clone(&log);
        async move {
            let mut offset = start;
            while offset < 300 {
                let found = log.read(&TOPIC, 0, offset, few).await.unwrap();
                assert_eq!(found[0].offset, offset);
                offset += found.len() as u64;
            }
            assert!(log.read(&TOPIC, 0, offset, few).await.unwrap().is_empty());
        }
    };
    let readers: Vec<_> = [0, 100, 200, 0].map(|start| tokio::spawn(reader(start))).into();
    for reader in readers {
        reader.await.unwrap();
    }
}

/// Readers that follow what is written here, and what others write in between, get all of it in order, whoever wrote it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_just_written_and_what_others_write_come_in_order() {
    const ROUNDS: u64 = 60;
    let (_mock, settings) = cluster(1);
    let store = open(&settings);
    let log = store.event_log();
    let follow = |waits_first: bool| {
        let log = Arc::clone(&log);
        tokio::spawn(async move {
            let (mut found, few) = (Vec::new(), ReadLimit { events: 7, bytes: usize::MAX });
            let mut waits = waits_first;
            while (found.len() as u64) < ROUNDS * 6 {
                let offset = found.len() as u64;
                if waits {
                    log.wait(&TOPIC, 0, offset).await.unwrap();
                }
                let read = log.read(&TOPIC, 0, offset, few).await.unwrap();
                assert!(read.iter().zip(offset..).all(|(stored, at)| stored.offset == at), "{read:?}");
                waits = waits_first || read.is_empty();
                found.extend(read.into_iter().map(|stored| stored.event));
            }
            found
        })
    };
    let readers = [follow(true), follow(false)];
    for round in 0..ROUNDS {
        append(&log, round * 5..round * 5 + 5).await.unwrap();
        // Now and then long enough for readers to find that the brokers have no more.
        if round % 20 == 0 {
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        produce(&settings, TOPIC.as_str(), 0, b"7").await;
    }
    // Read from the brokers, by a process that wrote nothing.
    let fresh = read(&open(&settings).event_log(), &TOPIC, 0, 0).await;
    let fresh: Vec<Event> = fresh.into_iter().map(|stored| stored.event).collect();
    for reader in readers {
        let followed = reader.await.unwrap();
        assert!(followed.iter().map(Event::to_json).eq(fresh.iter().map(Event::to_json)));
    }
    let figures = store.figures();
    assert!(figures.recent > 0 && figures.foreign >= 2 * ROUNDS, "{figures:?}");
}

/// A reader that finds everything in memory lets its client go, and gets what others write afterwards all the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_read_from_memory_for_long_finds_what_others_write() {
    let (_mock, settings) = cluster(1);
    let store = open(&settings);
    let log = store.event_log();
    let all = ReadLimit { events: usize::MAX, bytes: usize::MAX };
    produce(&settings, TOPIC.as_str(), 0, b"7").await;
    assert_eq!(read(&log, &TOPIC, 0, 0).await.len(), 1);
    let mut offset = 1;
    for round in 0..40 {
        append(&log, round..round + 1).await.unwrap();
        log.wait(&TOPIC, 0, offset).await.unwrap();
        offset += log.read(&TOPIC, 0, offset, all).await.unwrap().len() as u64;
    }
    assert_eq!(offset, 41);
    assert!(store.figures().recent >= 39, "{:?}", store.figures());
    produce(&settings, TOPIC.as_str(), 0, b"8").await;
    append(&log, 40..41).await.unwrap();
    log.wait(&TOPIC, 0, offset).await.unwrap();
    let kinds: Vec<String> =
        read(&log, &TOPIC, 0, offset).await.into_iter().map(|it| it.event.kind).collect();
    assert_eq!(kinds.len(), 2, "{kinds:?}");
    assert_eq!(kinds[0], "kafka.record");
}

/// What is kept of a topic is not believed once the brokers had none.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_that_vanished_is_not_read_from_what_was_kept() {
    let (mock, settings) = cluster(1);
    let store = open(&settings);
    let log = store.event_log();
    assert!(read(&log, &TOPIC, 0, 0).await.is_empty());
    append(&log, 0..3).await.unwrap();
    assert_eq!(read(&log, &TOPIC, 0, 0).await.len(), 3);
    assert_eq!(store.figures().recent, 3);
    let unknown = RDKafkaRespErr::RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART;
    mock.topic_error(TOPIC.as_str(), unknown).unwrap();
    tokio::time::sleep(Duration::from_secs(4)).await;
    let error = log.read(&TOPIC, 0, 0, ReadLimit::default()).await.unwrap_err();
    assert!(error.message().contains("was there and no longer is"), "{error:?}");
    mock.topic_error(TOPIC.as_str(), RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR).unwrap();
    assert_eq!(read(&log, &TOPIC, 0, 0).await.len(), 3);
    assert_eq!(store.figures().recent, 3);
}
