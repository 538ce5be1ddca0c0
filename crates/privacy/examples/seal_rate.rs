//! How many events of persons are sealed, and opened again, in a second on one thread:
//! `cargo run --release -p privacy --example seal_rate`.

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "an example may end at once, and prints")]

use std::sync::Arc;

use kernel::{Clock, Event, EventDraft, Result, Scope, SystemClock, SystemEntropy, TenantId, Timestamp};
use privacy::{Keyring, MasterKeys, Person, Personal, SealedLog};
use serde_json::json;
use store::memory::{MemoryEventLog, MemoryRecords};
use store::{EventLog, ReadLimit, Topic};

const TOPIC: Topic = Topic::fixed("events");
const EVENTS: usize = 200_000;
const USERS: usize = 5_000;
const BATCH: usize = 1_000;

#[derive(Debug)]
struct Everyone;

impl Personal for Everyone {
    fn person(&self, event: &Event) -> Result<Option<Person>> {
        let data: serde_json::Value = event.data_as()?;
        Ok(data["user_id"].as_str().map(|id| Person { id: id.to_owned(), rest: None }))
    }
}

fn event(scope: &Scope, number: usize) -> Event {
    let data = json!({"user_id": format!("user-{}", number % USERS), "entity_id": format!("film-{}", number % 997),
        "entity_type": "film", "interaction_type": "view"});
    let draft = json!({"specversion": "1.0", "id": format!("event-{number}"), "source": "/example",
        "type": "recommend.interaction.recorded.v1", "data": data});
    let draft: EventDraft = serde_json::from_value(draft).unwrap();
    draft.seal(scope, Timestamp::UNIX_EPOCH).unwrap()
}

/// Seconds to append all, and to read all.
async fn run(seals: bool) -> (f64, f64) {
    let clock = SystemClock::new();
    let scope = Scope::system(TenantId::new("shop").unwrap(), "example");
    let masters = MasterKeys::new(&["a master key of 32 characters or more".to_owned()]).unwrap();
    let (records, entropy) = (Arc::new(MemoryRecords::new()), Arc::new(SystemEntropy::new()));
    let keyring = Arc::new(Keyring::open(records, masters, seals, entropy).await.unwrap());
    let log = SealedLog::new(Arc::new(MemoryEventLog::new(1)), keyring, Arc::new(Everyone));
    let events: Vec<Event> = (0..EVENTS).map(|number| event(&scope, number)).collect();
    let began = clock.elapsed();
    for batch in events.chunks(BATCH) {
        log.append(&scope, &TOPIC, batch.to_vec()).await.unwrap();
    }
    let (appended, mut offset) = (clock.elapsed(), 0);
    while let Some(last) = log.read(&TOPIC, 0, offset, ReadLimit::default()).await.unwrap().last() {
        offset = last.offset + 1;
    }
    let read = clock.elapsed();
    ((appended - began).as_secs_f64(), (read - appended).as_secs_f64())
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let (open, sealed) = (run(false).await, run(true).await);
    let rate = |seconds: f64| EVENTS as f64 / seconds;
    let cost = |with: f64, without: f64| (with - without) / EVENTS as f64 * 1e6;
    println!("in the open: {:.0} appended/s, {:.0} read/s", rate(open.0), rate(open.1));
    println!("sealed:      {:.0} appended/s, {:.0} read/s", rate(sealed.0), rate(sealed.1));
    println!(
        "sealing costs {:.2} µs an event, opening {:.2} µs",
        cost(sealed.0, open.0),
        cost(sealed.1, open.1)
    );
}
