//! Events that were cut before a task took them: refused, or passed over where its settings say so.

#![expect(clippy::unwrap_used, reason = "a test may fail at once")]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use kernel::{Event, Scope, TenantId, Timestamp};
use store::memory::{MemoryEventLog, MemoryRecords};
use store::{EventLog, ReadLimit, Records, Retention, Topic};
use stream::{
    Emission, HISTORY_GONE, LogSink, LogSource, Rejection, Step, Task, TaskParts, TaskSettings, Topology,
    read,
};

const IN: Topic = Topic::fixed("in");
const OUT: Topic = Topic::fixed("out");

fn pass() -> Arc<Topology> {
    let built = Topology::new("pass", IN, || {
        read("decode", |event| event.data_as::<i64>().map_err(Rejection::from))
            .to("passed", OUT, |number| Emission::new("number", Timestamp::UNIX_EPOCH, number))
    });
    Arc::new(built.unwrap())
}

async fn append(log: &dyn EventLog, scope: &Scope, numbers: std::ops::Range<i64>) {
    for number in numbers {
        let data = serde_json::value::to_raw_value(&number).unwrap();
        let id = number.to_string();
        let event = Event::new(scope.tenant(), id, "/feed", "number", Timestamp::UNIX_EPOCH);
        log.append(scope, &IN, vec![Event { data: Some(data.into()), ..event }]).await.unwrap();
    }
}

/// What comes out where the fourth and the fifth of six events are cut before they were taken.
async fn check(passes_gaps: bool, is_opened_again: bool) -> Result<Vec<i64>, kernel::Error> {
    let log: Arc<dyn EventLog> = Arc::new(MemoryEventLog::new(1));
    let records: Arc<dyn Records> = Arc::new(MemoryRecords::new());
    let scope = Scope::system(TenantId::new("desk").unwrap(), "test");
    let parts = TaskParts {
        source: Arc::new(LogSource::new(Arc::clone(&log), IN)),
        sink: Arc::new(LogSink::new(Arc::clone(&log))),
        records,
    };
    let settings = TaskSettings { passes_gaps, ..TaskSettings::default() };
    append(log.as_ref(), &scope, 0..3).await;
    let mut task = Task::open(pass(), parts.clone(), 0, settings.clone()).await.unwrap();
    assert_eq!(task.step().await.unwrap(), Step::Took(3));
    append(log.as_ref(), &scope, 3..6).await;
    let before = Some(BTreeMap::from([(0, 5)]));
    let keep = Retention { age: Some(Duration::ZERO), before, ..Retention::default() };
    let now = Timestamp::from_second(60).unwrap();
    assert_eq!(log.retain(&IN, keep, now).await.unwrap(), 5);
    if is_opened_again {
        task = Task::open(pass(), parts, 0, settings).await.unwrap();
    }
    assert_eq!(task.step().await?, Step::Took(1));
    assert_eq!((task.step().await?, task.next_offset()), (Step::Idle, 6));
    let found = log.read(&OUT, 0, 0, ReadLimit::default()).await.unwrap();
    Ok(found.into_iter().map(|stored| stored.event.data_as().unwrap()).collect())
}

#[tokio::test]
async fn a_gap_is_passed_over_where_the_settings_say_so_and_refused_else() {
    for is_opened_again in [false, true] {
        let passed = check(true, is_opened_again).await.unwrap();
        assert_eq!(passed, [0, 1, 2, 5], "what is there is taken, and nothing twice");
        let refused = check(false, is_opened_again).await.unwrap_err();
        assert_eq!(refused.code(), HISTORY_GONE);
    }
}
