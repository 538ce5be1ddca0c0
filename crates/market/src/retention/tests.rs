//! Topics that are cut while stages go on.

use kernel::{Error, ManualClock, Timestamp, codes};
use prometheus_client::registry::Registry;
use serde_json::json;
use store::memory::{MemoryRecords, memory_blobs};
use store::{ColumnRow, ColumnScan, DeadLetters, MAX_TIME_NS, Page, Query, Record, Table, TimeRange, Write};
use stream::{ProjectorParts, ProjectorSettings, StreamMetrics};

use super::*;
use crate::MarketSettings;
use crate::projection::PRICES;
use crate::reconcile::reconcile;
use crate::tests::{Desk, MINUTE_MS, START_MS, scope, tick};
use crate::topology::{self, BAR_KINDS, NORMALISED_TICKS};

const DAY_NS: i64 = 86_400_000_000_000;

const DAY_MINUTES: i64 = 1_440;

fn minute(minute: i64) -> Timestamp {
    Timestamp::from_millisecond(START_MS + minute * MINUTE_MS).unwrap()
}

/// Who keeps ten days, at a time.
async fn keeper(desk: &Desk, now: Timestamp) -> Keeper {
    let clock = Arc::new(ManualClock::at(now));
    let parts = ProjectorParts {
        log: Arc::clone(&desk.log),
        blobs: Arc::new(memory_blobs()),
        dead_letters: DeadLetters::new(Arc::new(MemoryRecords::new())),
        clock: Arc::clone(&clock) as _,
        metrics: StreamMetrics::register(&mut Registry::default()),
    };
    let views = Arc::new(MarketViews::new(Arc::clone(&desk.rules)));
    let view = Projector::start(parts, ENRICHED_TICKS, views, ProjectorSettings::default()).await.unwrap();
    Keeper {
        topics: Topics::of_log(Arc::clone(&desk.log)),
        records: Arc::clone(&desk.records),
        stages: topology::all(&desk.rules)
            .unwrap()
            .into_iter()
            .chain(topology::custom(&desk.rules).unwrap())
            .collect(),
        view: Arc::new(view),
        clock,
        days: 10,
    }
}

impl Keeper {
    /// Removes what may go without the time between.
    async fn cut_now(&self) -> Result<u64> {
        self.remove(self.may_go().await?).await
    }
}

async fn held(desk: &Desk, topic: &Topic) -> u64 {
    desk.log.extents(topic).await.unwrap().iter().map(|extent| extent.next - extent.first).sum()
}

async fn differences(desk: &Desk) -> usize {
    let topics = Topics::of_log(Arc::clone(&desk.log));
    let stages = topology::all(&desk.rules).unwrap();
    let columns = desk.columns.as_ref();
    reconcile(&scope("desk"), &topics, &desk.records, columns, &stages).await.unwrap().differences()
}

/// What is served, and how many events each stage took.
async fn made(desk: &mut Desk) -> (Vec<ColumnRow>, Vec<u64>) {
    let taken = desk.run().await.values().map(|totals| totals.taken).collect();
    let range = TimeRange { from_ns: -MAX_TIME_NS, to_ns: MAX_TIME_NS };
    let mut rows = Vec::new();
    for table in [PRICES].into_iter().chain(BAR_KINDS.map(|kind| kind.table)) {
        let scan = ColumnScan::new("HUB", range, 10_000);
        rows.extend(desk.columns.scan(&scope("desk"), table, &scan).await.unwrap().rows);
    }
    (rows, taken)
}

/// 40 ticks of a day, half an hour apart, each as soon as it happened, or all at another time.
async fn send(desk: &Desk, day: i64, received: Option<Timestamp>) {
    for number in 0..40 {
        let at = DAY_MINUTES * day + 30 * number;
        let sequence = u64::try_from(1_000 * (day + 1_000) + number).unwrap();
        let message = tick(sequence, at as f64, number as f64);
        desk.send_at("desk", &message, None, received.unwrap_or_else(|| minute(at))).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_old_goes_and_what_is_still_needed_stays() {
    for partitions in [1, 3] {
        let mut desk = Desk::new(partitions, &MarketSettings::default());
        send(&desk, -300, None).await;
        assert_eq!(keeper(&desk, minute(0)).await.cut_now().await.unwrap(), 0, "no stage took anything");
        assert_eq!(held(&desk, &RAW_TICKS).await, 40);
        let before = made(&mut desk).await;
        let keeper = keeper(&desk, minute(0)).await;
        assert!(keeper.cut_now().await.unwrap() > 0);
        let mut left = Vec::new();
        for topic in [RAW_TICKS, NORMALISED_TICKS, ENRICHED_TICKS] {
            left.push(held(&desk, &topic).await);
        }
        assert!(left[0] == 1 && left.iter().all(|left| *left < 10), "{left:?}");
        // Opened again, every stage delivers what it committed last, and nothing comes of it.
        assert_eq!(made(&mut desk).await, before, "{partitions} partitions");
        assert_eq!(held(&desk, &ENRICHED_TICKS).await, left[2], "nothing was told again");
        assert_eq!(keeper.cut_now().await.unwrap(), 0);
        assert_eq!(differences(&desk).await, 0, "{partitions} partitions");
        send(&desk, -299, None).await;
        let (_, taken) = made(&mut desk).await;
        assert_eq!(taken, before.1.iter().map(|taken| 2 * taken).collect::<Vec<_>>());
        assert_eq!(differences(&desk).await, 0, "{partitions} partitions");
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_young_stays_and_what_is_lost_is_still_told() {
    let mut desk = Desk::new(1, &MarketSettings::default());
    send(&desk, -300, None).await;
    send(&desk, -293, None).await;
    made(&mut desk).await;
    // Ten days after 20 of them.
    let keeper = keeper(&desk, minute(DAY_MINUTES * -290 + 599)).await;
    keeper.cut_now().await.unwrap();
    assert_eq!((held(&desk, &RAW_TICKS).await, held(&desk, &ENRICHED_TICKS).await), (60, 60));
    assert_eq!(differences(&desk).await, 0);
    let start_ns = START_MS * 1_000_000 + DAY_NS * -293;
    let range = TimeRange { from_ns: start_ns, to_ns: start_ns + DAY_NS / 2 };
    assert_eq!(desk.columns.delete(&scope("desk"), PRICES, None, range).await.unwrap(), 24);
    assert_eq!(differences(&desk).await, 1);
}

#[tokio::test]
async fn enriched_ticks_stay_with_their_raw_ones() {
    let mut desk = Desk::new(1, &MarketSettings::default());
    // What is no tick has no time but that at which it came, and those behind it stay with it.
    desk.send_at("desk", &json!({"no": "tick"}), None, minute(0)).await.unwrap();
    send(&desk, -300, Some(minute(0))).await;
    made(&mut desk).await;
    keeper(&desk, minute(0)).await.cut_now().await.unwrap();
    assert_eq!((held(&desk, &RAW_TICKS).await, held(&desk, &ENRICHED_TICKS).await), (41, 40));
    keeper(&desk, minute(DAY_MINUTES * 11)).await.cut_now().await.unwrap();
    assert_eq!(held(&desk, &RAW_TICKS).await, 1);
}

#[tokio::test]
async fn a_raw_partition_that_fell_silent_holds_nothing_up() {
    let mut desk = Desk::new(2, &MarketSettings::default());
    for number in 0..20_u32 {
        let (at, key) = (DAY_MINUTES * -400 + i64::from(number), number.to_string());
        let message = tick(number.into(), at as f64, 1.0);
        desk.send_at("desk", &message, Some(&key), minute(at)).await.unwrap();
    }
    let extents = desk.log.extents(&RAW_TICKS).await.unwrap();
    assert!(extents.iter().all(|extent| extent.next > 1), "{extents:?}");
    made(&mut desk).await;
    send(&desk, -300, None).await;
    made(&mut desk).await;
    // Ten days after 20 of them.
    keeper(&desk, minute(DAY_MINUTES * -290 + 599)).await.cut_now().await.unwrap();
    assert_eq!((held(&desk, &RAW_TICKS).await, held(&desk, &ENRICHED_TICKS).await), (21, 20));
}

#[tokio::test(start_paused = true)]
async fn what_was_needed_a_moment_ago_stays() {
    let mut desk = Desk::new(1, &MarketSettings::default());
    send(&desk, -300, None).await;
    made(&mut desk).await;
    let keeper = keeper(&desk, minute(0)).await;
    let may_go = keeper.may_go().await.unwrap();
    // The stages go on. Whoever stood still since delivers what they committed before.
    send(&desk, -299, None).await;
    made(&mut desk).await;
    keeper.remove(may_go).await.unwrap();
    assert!(held(&desk, &NORMALISED_TICKS).await > 40);
    let stop = CancellationToken::new();
    let begun = tokio::time::Instant::now();
    assert!(keeper.cut(&stop).await.unwrap() > 0);
    assert!(begun.elapsed() >= GRACE && held(&desk, &NORMALISED_TICKS).await < 10);
    send(&desk, -298, None).await;
    made(&mut desk).await;
    stop.cancel();
    assert_eq!((keeper.cut(&stop).await.unwrap(), held(&desk, &RAW_TICKS).await), (0, 41));
}

/// Those of a restart: what the view has in no checkpoint is needed by it.
#[tokio::test]
async fn what_a_view_has_in_no_checkpoint_stays() {
    let mut desk = Desk::new(2, &MarketSettings::default());
    let keeper = keeper(&desk, minute(0)).await;
    keeper.view.stop().await;
    send(&desk, -300, None).await;
    made(&mut desk).await;
    assert!(keeper.cut_now().await.is_err(), "the view stopped");
    assert_eq!(held(&desk, &ENRICHED_TICKS).await, 40);
    let mut before = Before::from([(0, 7), (1, 7)]);
    let running = self::keeper(&Desk::new(1, &MarketSettings::default()), minute(0)).await;
    running.lower_to_views(&mut before).await.unwrap();
    assert_eq!(before, Before::from([(0, 0), (1, 0)]), "no checkpoint has anything");
}

#[tokio::test]
async fn a_projection_that_does_not_go_on_holds_nothing_up() {
    let mut desk = Desk::new(1, &MarketSettings::default());
    send(&desk, -300, None).await;
    made(&mut desk).await;
    // Declared since, its stage has taken nothing yet.
    let declared =
        "[[projections]]\nname = \"last\"\nfrom = \"price\"\nfields = { price = \"event.price\" }\n";
    desk.rules = Arc::new(toml::from_str::<MarketSettings>(declared).unwrap().rules().unwrap());
    assert!(keeper(&desk, minute(0)).await.cut_now().await.unwrap() > 0);
    assert!(held(&desk, &ENRICHED_TICKS).await < 10);
}

/// Records in which the stages of projections cannot be read.
#[derive(Debug)]
struct Torn(Arc<dyn Records>);

#[async_trait]
impl Records for Torn {
    async fn get(&self, scope: &Scope, table: Table, key: &str) -> Result<Option<Record>> {
        if key.contains(CUSTOM) {
            return Err(Error::new(codes::CORRUPTED, "it cannot be read"));
        }
        self.0.get(scope, table, key).await
    }

    async fn list(&self, scope: &Scope, table: Table, query: &Query) -> Result<Page> {
        self.0.list(scope, table, query).await
    }

    async fn commit(&self, scope: &Scope, writes: Vec<Write>) -> Result<Vec<u64>> {
        self.0.commit(scope, writes).await
    }

    async fn erase(&self, scope: &Scope) -> Result<u64> {
        self.0.erase(scope).await
    }
}

#[tokio::test]
async fn a_projection_whose_stage_cannot_be_read_holds_nothing_up() {
    let declared =
        "[[projections]]\nname = \"last\"\nfrom = \"price\"\nfields = { price = \"event.price\" }\n";
    let mut desk = Desk::new(1, &toml::from_str(declared).unwrap());
    send(&desk, -300, None).await;
    made(&mut desk).await;
    let mut keeper = keeper(&desk, minute(0)).await;
    keeper.records = Arc::new(Torn(Arc::clone(&desk.records)));
    assert!(keeper.cut_now().await.unwrap() > 0);
    assert!(held(&desk, &ENRICHED_TICKS).await < 10);
}
