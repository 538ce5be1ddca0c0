//! What of the first stage fails, is elsewhere or is not handed over, and what the second one makes of that.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use kernel::{Event, Scope, TenantId, Timestamp};
use parking_lot::Mutex;
use stream::{LogSink, Step, Task, TaskParts};

use crate::brokers::{Brokers, task_settings};
use crate::{DEAD, MIDDLE, pass};

#[tokio::test(start_paused = true)]
async fn what_was_committed_elsewhere_is_handed_on_once_and_with_rests_while_that_fails() {
    let brokers = Brokers::new(true);
    brokers.send(0, "desk", 1, 1).await;
    brokers.pass(3).await;
    // Who has the first stage commits, delivers half of it, and is gone.
    brokers.rows.is_away.store(true, Ordering::Relaxed);
    brokers.send(1, "other", 1, 2).await;
    brokers.pass(1).await;
    brokers.stop_first.cancel();
    brokers.pass(20).await;
    let before = brokers.rows.deliveries.load(Ordering::Relaxed);
    brokers.pass(600).await;
    let tried = brokers.rows.deliveries.load(Ordering::Relaxed) - before;
    assert!((5..=40).contains(&tried), "{tried} in ten minutes");
    assert!(brokers.summed().await.is_empty(), "rows are missing, and perhaps events");

    brokers.rows.is_away.store(false, Ordering::Relaxed);
    brokers.pass(200).await;
    let mut summed = brokers.summed().await;
    summed.sort();
    assert_eq!(summed, ["desk", "other"], "once each");
    let before = brokers.rows.deliveries.load(Ordering::Relaxed);
    // Another one falls silent, and nothing was committed since.
    let scope = Scope::system(TenantId::new("late").unwrap(), "test");
    let data = serde_json::value::to_raw_value(&3).unwrap();
    let event = Event::new(scope.tenant(), "late", "/feed", "number", Timestamp::UNIX_EPOCH);
    brokers.log.append(&scope, &MIDDLE, vec![Event { data: Some(data.into()), ..event }]).await.unwrap();
    brokers.pass(200).await;
    assert_eq!(brokers.summed().await.len(), 3);
    assert_eq!(brokers.rows.deliveries.load(Ordering::Relaxed), before, "each commit is handed on once");
    brokers.stop();
}

/// What is warned of.
#[derive(Debug, Default, Clone)]
struct Warnings(Arc<Mutex<Vec<String>>>);

impl tracing::Subscriber for Warnings {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        *metadata.level() == tracing::Level::WARN
    }

    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }

    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}

    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}

    fn event(&self, event: &tracing::Event<'_>) {
        struct Text(String);
        impl tracing::field::Visit for Text {
            fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn std::fmt::Debug) {
                self.0.push_str(&format!("{field}={value:?} "));
            }
        }
        let mut text = Text(String::new());
        event.record(&mut text);
        self.0.lock().push(text.0);
    }

    fn enter(&self, _: &tracing::span::Id) {}

    fn exit(&self, _: &tracing::span::Id) {}
}

#[tokio::test(start_paused = true)]
async fn a_partition_that_fails_stops_the_clock_only_where_events_wait_in_it_and_that_is_said() {
    let warnings = Warnings::default();
    let _heard = tracing::subscriber::set_default(warnings.clone());
    let brokers = Brokers::new(false);
    brokers.send(0, "desk", 1, 1).await;
    brokers.send(1, "other", 1, 2).await;
    brokers.pass(3).await;
    *brokers.raw.broken.lock() = Some(1);
    brokers.pass(30).await;
    assert!(brokers.first.standings()[&1].failure.is_some());
    brokers.pass(75).await;
    let mut summed = brokers.summed().await;
    summed.sort();
    assert_eq!(summed, ["desk", "other"], "nothing waits in the one that fails");

    let about_the_clock = || -> Vec<String> {
        let said = warnings.0.lock();
        said.iter().filter(|said| said.contains("the clock closes nothing")).cloned().collect()
    };
    assert_eq!(about_the_clock(), [""; 0]);
    brokers.send(1, "other", 21, 3).await;
    brokers.send(0, "desk", 21, 4).await;
    // So long that its bar would be due.
    brokers.pass(1_000).await;
    assert_eq!(brokers.summed().await.len(), 2, "what waits may be anybody's");
    let said = about_the_clock();
    assert_eq!(said.len(), 1, "once: {said:?}");
    assert!(said[0].contains("pass, partition 1") && said[0].contains("cannot be read"), "{said:?}");

    *brokers.raw.broken.lock() = None;
    brokers.pass(120).await;
    let mut summed = brokers.summed().await;
    summed.sort();
    assert_eq!(summed, ["desk", "desk", "other", "other"]);
    brokers.stop();
}

#[tokio::test(start_paused = true)]
async fn what_its_owner_delivers_elsewhere_is_not_handed_on() {
    let brokers = Brokers::new(true);
    brokers.send(0, "desk", 1, 1).await;
    for _ in 0..100 {
        brokers.pass(1).await;
        brokers.send(0, "other", 20, 1).await;
    }
    brokers.pass(1).await;
    assert_eq!(brokers.summed().await, ["desk"], "who is silent is found out");
    assert_eq!(brokers.rows.deliveries.load(Ordering::Relaxed), 101, "one of each commit, by its owner");
    brokers.stop();
}

#[tokio::test(start_paused = true)]
async fn what_another_process_took_counts_where_the_task_here_hangs() {
    let brokers = Brokers::new(false);
    brokers.send(0, "desk", 1, 1).await;
    brokers.pass(3).await;
    brokers.rows.hangs.store(true, Ordering::Relaxed);
    brokers.send(0, "other", 20, 2).await;
    brokers.pass(1).await;
    let parts = TaskParts {
        source: brokers.raw.clone(),
        sink: Arc::new(LogSink::new(Arc::clone(&brokers.log))),
        records: Arc::clone(&brokers.records),
    };
    let mut task = Task::open(Arc::new(pass()), parts, 0, task_settings()).await.unwrap();
    assert_eq!(task.step().await.unwrap(), Step::Idle, "it delivered what hangs");
    brokers.pass(69).await;
    assert!(brokers.summed().await.is_empty(), "as far as is known, that may not be delivered");
    brokers.send(0, "other", 20, 4).await;
    assert_eq!(task.step().await.unwrap(), Step::Took(1));
    brokers.pass(20).await;
    assert_eq!(brokers.summed().await, ["desk"]);
    brokers.stop();
}

#[tokio::test(start_paused = true)]
async fn what_waits_is_not_read_again_and_again() {
    let brokers = Brokers::new(false);
    brokers.send(0, "desk", 1, 1).await;
    brokers.pass(3).await;
    brokers.rows.is_away.store(true, Ordering::Relaxed);
    brokers.send(0, "desk", 2, 2).await;
    brokers.pass(1).await;
    brokers.send(0, "desk", 3, 4).await;
    brokers.pass(300).await;
    assert!(brokers.summed().await.is_empty(), "something waits");
    let looks = brokers.raw.looks.load(Ordering::Relaxed);
    assert!((1..=20).contains(&looks), "{looks} by two tasks in four minutes");
    brokers.stop();
}

#[tokio::test(start_paused = true)]
async fn that_nothing_is_handed_over_is_believed_when_it_is_so_again_after_a_rest() {
    for is_gap in [false, true] {
        let brokers = Brokers::new(false);
        brokers.send(0, "desk", 1, 1).await;
        brokers.pass(3).await;
        *brokers.raw.withheld.lock() = Some(0);
        brokers.send(0, "desk", 2, 2).await;
        brokers.pass(75).await;
        assert!(brokers.summed().await.is_empty(), "it may be handed over yet");
        if !is_gap {
            *brokers.raw.withheld.lock() = None;
        }
        brokers.pass(90).await;
        assert_eq!(brokers.total().await, if is_gap { 1 } else { 3 });
        assert!(brokers.events(&DEAD).await.is_empty(), "nothing came too late");
        brokers.stop();
    }
}
