//! Over the fakes: from a reference beside a model to the look that finds drift, and from a prediction to its truth.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use edge::AuditLog;
use kernel::{Timestamp, codes};
use rollout::drift::document::{Feature, ReferenceDocument, Rows, Side, Take};
use store::{Query, Records, Selection, Table};

use super::MonitoringSettings;
use super::meddled::Meddled;
use super::watch::{Batch, Watch};
use super::windows::{Windows, is_lost_race};
use crate::canaries::Asker;
use crate::fake::{Fake, rows};
use crate::model::Model;
use crate::shelf::Place;
use crate::tests::{Home, home, home_over, scope};
use crate::{RuntimeSettings, Selector};

fn reference() -> Vec<u8> {
    let mut document = ReferenceDocument::new(Rows::Examples);
    let uniform = || (0..1_000).map(|at| f64::from(at) / 1_000.0);
    document.add(Feature::named("x", Side::Input, "x", Take::Value), uniform(), 1);
    document.add(Feature::named("y", Side::Output, "y", Take::Value), uniform().map(|value| value * 2.0), 1);
    serde_json::to_vec(&document).unwrap()
}

fn keeps() -> Asker {
    Asker { keeps: true, ..Asker::default() }
}

async fn watched(files: &[(&str, &[u8])]) -> Home {
    with_version(home(RuntimeSettings::default()), files).await
}

/// Watched, over records that something happens to.
async fn meddled() -> (Home, Arc<Meddled>) {
    let records = Arc::new(Meddled::default());
    let home = home_over(Arc::clone(&records) as _, RuntimeSettings::default());
    let files: [(&str, &[u8]); 2] = [("model.factor", b"2"), ("drift_reference.json", &reference())];
    (with_version(home, &files).await, records)
}

async fn with_version(home: Home, files: &[(&str, &[u8])]) -> Home {
    let version = home.version_of(&home.scope, "curve", files).await;
    home.promote("curve", version).await;
    home
}

impl Home {
    /// Asks for 60 rows from a number on, and lets their window pass.
    async fn ask_window(&self, from: f32) {
        self.ask_rows(from).await;
        self.runtime.watch_once().await;
        self.pass().await;
    }

    /// Lets a window pass.
    async fn pass(&self) {
        self.clock.advance(Duration::from_secs(3_700));
        self.runtime.watch_once().await;
    }

    async fn ask_rows(&self, from: f32) {
        let values: Vec<f32> = (0..60).flat_map(|at| [from + (at as f32 * 0.37) % 1.0, 0.0]).collect();
        for part in values.chunks(20) {
            self.runtime.infer(&self.scope, "curve", Selector::default(), vec![rows(part)]).await.unwrap();
        }
    }

    async fn parts(&self) -> usize {
        let table = Table { name: "drift_parts", indexes: &[] };
        let all = Query::new(Selection::All, 1_000);
        self.runtime.0.parts.records.list(&self.scope, table, &all).await.unwrap().records.len()
    }

    async fn audited(&self) -> usize {
        self.runtime.0.parts.audit.list(&self.scope, None, 10).await.unwrap().0.len()
    }

    async fn head(&self) -> Option<super::windows::Head> {
        let place = self.runtime.place_of(&self.scope, "curve", Selector::default()).await.unwrap();
        self.runtime.0.monitor.windows.head(&self.scope, &place).await.unwrap().map(|head| head.document)
    }
}

#[tokio::test]
async fn drift_is_found_once_told_and_ends() {
    let home = watched(&[("model.factor", b"2"), ("drift_reference.json", &reference())]).await;
    home.ask_window(0.0).await;
    let quiet = home.head().await.unwrap();
    assert_eq!((quiet.looks, quiet.is_drifting(), quiet.history[0].seen), (1, false, 60));
    for _ in 0..2 {
        home.ask_window(5.0).await;
    }
    let drifted = home.head().await.unwrap();
    assert_eq!((drifted.looks, &drifted.history[0].drifted), (3, &vec!["x".to_owned(), "y".to_owned()]));
    assert!(drifted.last.unwrap().level < quiet.last.unwrap().level, "each look has less to spend");
    assert_eq!(home.runtime.0.monitor.metrics.drifting.get(), 1);
    let (entries, _) = home.runtime.0.parts.audit.list(&home.scope, None, 10).await.unwrap();
    assert_eq!(entries.iter().map(|entry| entry.action.as_str()).collect::<Vec<_>>(), ["model.drifted"]);
    home.ask_window(0.0).await;
    assert_eq!((home.head().await.unwrap().looks, home.runtime.0.monitor.metrics.drifting.get()), (4, 0));
}

#[tokio::test]
async fn few_rows_wait_and_are_joined() {
    let home = watched(&[("model.factor", b"2"), ("drift_reference.json", &reference())]).await;
    for window in 0..40 {
        let input = rows(&[window as f32 / 40.0, 0.0]);
        home.runtime.infer(&home.scope, "curve", Selector::default(), vec![input]).await.unwrap();
        home.runtime.watch_once().await;
        home.clock.advance(Duration::from_secs(3_700));
    }
    home.runtime.watch_once().await;
    assert_eq!(home.head().await.map(|head| head.looks), Some(0), "too few, and many parts became one");
    home.ask_window(0.0).await;
    let head = home.head().await.unwrap();
    assert_eq!((head.looks, head.history[0].seen), (1, 100), "nothing was lost on the way");
}

#[tokio::test]
async fn a_window_in_the_making_is_told() {
    let home = watched(&[("model.factor", b"2"), ("drift_reference.json", &reference())]).await;
    let place = home.runtime.place_of(&home.scope, "curve", Selector::default()).await.unwrap();
    let monitor = &home.runtime.0.monitor;
    // How many wait, and whether the window ends within its length.
    let check = async |rows: usize, is_going_on: bool| {
        let now = monitor.now();
        let told = monitor.windows.waiting(&home.scope, &place, now, &monitor.settings).await.unwrap();
        assert_eq!((told.0, told.1 > now), (rows, is_going_on), "{told:?}");
        assert!(told.1.as_second() <= now.as_second() + 3_600 && told.1.as_second() % 3_600 == 0);
    };
    let to_the_hour = |now: Timestamp| 3_600 - u64::try_from(now.as_second() % 3_600).unwrap();
    home.clock.advance(Duration::from_secs(to_the_hour(monitor.now()) + 600));
    check(0, true).await;
    home.ask_rows(0.0).await;
    check(0, true).await;
    home.runtime.watch_once().await;
    check(60, true).await;
    // What is asked after the end waits for the next window, while this one is not compared yet.
    home.clock.advance(Duration::from_secs(to_the_hour(monitor.now()) + 10));
    home.ask_rows(0.0).await;
    home.runtime.watch_once().await;
    assert!(home.head().await.is_none());
    check(60, false).await;
    home.clock.advance(Duration::from_secs(100));
    check(120, true).await;
}

#[tokio::test]
async fn a_bad_reference_is_told_and_the_model_serves() {
    let home = watched(&[("model.factor", b"2"), ("drift_reference.json", b"{}")]).await;
    let answered =
        home.runtime.infer(&home.scope, "curve", Selector::default(), vec![rows(&[1.0, 2.0])]).await;
    assert!(answered.is_ok());
    let loaded = home.runtime.loaded(&home.scope, "curve", Selector::default()).await.unwrap();
    assert!(loaded.watched.as_ref().unwrap_err().as_ref().unwrap().contains("cannot be read"));
    home.runtime.watch_once().await;
    assert!(home.head().await.is_none());
}

#[tokio::test]
async fn a_prediction_is_kept_for_who_may_write() {
    let home = watched(&[("model.factor", b"2")]).await;
    let keep = async |scope: &kernel::Scope| {
        let inputs = |_: &crate::Signature| Ok(vec![rows(&[1.0, 2.0])]);
        home.runtime.infer_for(scope, "curve", Selector::default(), &keeps(), inputs).await
    };
    assert_eq!(keep(&home.scope).await.unwrap().prediction_id.unwrap().len(), 32);
    #[expect(clippy::disallowed_methods, reason = "a caller who may only read")]
    let reader = kernel::Scope::proven(home.scope.tenant().clone(), "reader", kernel::Permission::Read);
    assert_eq!(keep(&reader).await.unwrap_err().code(), codes::PERMISSION_DENIED);
    assert_eq!(keep(&scope("other")).await.unwrap_err().code(), codes::NOT_FOUND);
}

#[tokio::test]
async fn a_window_that_another_server_compares_meanwhile_counts_once() {
    let clock = Arc::new(kernel::ManualClock::at(Timestamp::from_second(1_700_000_000).unwrap()));
    let records = Arc::new(Meddled::default());
    let windows = |records: Arc<dyn Records>| {
        Windows::new(Arc::clone(&records), AuditLog::new(records, Arc::clone(&clock) as _))
    };
    let (one, other) = (windows(Arc::clone(&records.inner) as _), windows(Arc::clone(&records) as _));
    let document = ReferenceDocument::parse(&reference()).unwrap();
    let watch = |salt| {
        let made = Watch::new("m", document.clone(), Fake::doubles().signature(), salt);
        Arc::new(made.unwrap())
    };
    let (scope, settings) = (scope("shop"), MonitoringSettings::default());
    let place = Place { tenant: scope.tenant().clone(), model_id: "m".to_owned(), version: 1 };
    let sampled = (0..60_u64).map(|at| (at, vec![at as f64 / 60.0, at as f64 / 30.0])).collect();
    let batch = Batch { window: 1_699_999_200, id: "a".to_owned(), seen: 60, rows: sampled };
    one.write(&scope, &place, &batch).await.unwrap();
    let now = Timestamp::from_second(1_700_010_000).unwrap();
    let meanwhile = {
        let (scope, place, settings, watch) = (scope.clone(), place.clone(), settings.clone(), watch(1));
        async move {
            assert!(one.look(&scope, &place, &watch, now, &settings).await.unwrap().is_some());
        }
    };
    *records.after_list.lock() = Some(Box::pin(meanwhile));
    let second = watch(2);
    let lost = other.look(&scope, &place, &second, now, &settings).await.unwrap_err();
    assert!(is_lost_race(&lost), "{lost}");
    assert_eq!(other.head(&scope, &place).await.unwrap().unwrap().document.looks, 1);
    assert!(other.look(&scope, &place, &second, now, &settings).await.unwrap().is_none());
    assert_eq!(second.looked_until.load(Ordering::Relaxed), 1_700_006_400, "not asked for again");
}

#[tokio::test]
async fn what_is_written_without_an_answer_counts_once() {
    let (home, records) = meddled().await;
    home.ask_rows(0.0).await;
    *records.lost.lock() = Some("drift_parts");
    home.runtime.watch_once().await;
    assert!(records.lost.lock().is_none());
    assert_eq!(home.parts().await, 1);
    home.runtime.watch_once().await;
    assert_eq!(home.parts().await, 1);
    home.pass().await;
    assert_eq!(home.head().await.unwrap().history[0].seen, 60);
    // Where the window is over before it is known, the rows are left out.
    home.ask_rows(0.0).await;
    *records.lost.lock() = Some("drift_parts");
    home.runtime.watch_once().await;
    home.pass().await;
    let head = home.head().await.unwrap();
    assert_eq!((head.looks, head.history[0].seen, home.parts().await), (2, 60, 0));
}

#[tokio::test]
async fn drift_is_told_when_the_engine_is_back_and_stands_while_it_is_away() {
    let (home, records) = meddled().await;
    *records.is_away.lock() = Some("audit");
    home.ask_window(5.0).await;
    assert!(home.head().await.is_none() && home.parts().await == 1, "not found without being told");
    *records.is_away.lock() = None;
    home.runtime.watch_once().await;
    assert_eq!((home.head().await.unwrap().looks, home.audited().await), (1, 1));
    let drifting = || home.runtime.0.monitor.metrics.drifting.get();
    *records.is_away.lock() = Some("drift_parts");
    home.ask_window(0.0).await;
    assert_eq!(drifting(), 1, "an engine that is away ends no drift");
    *records.is_away.lock() = None;
    home.ask_window(0.0).await;
    assert_eq!((drifting(), home.audited().await), (0, 1));
}

#[tokio::test]
async fn rows_of_a_version_that_is_served_no_more_go() {
    let home = watched(&[("model.factor", b"2"), ("drift_reference.json", &reference())]).await;
    home.ask_rows(0.0).await;
    home.runtime.watch_once().await;
    home.runtime.0.shelf.sweep(Duration::MAX);
    assert_eq!((home.runtime.0.shelf.all().len(), home.parts().await), (0, 1));
    home.clock.advance(Duration::from_secs(89 * 86_400));
    home.runtime.watch_once().await;
    assert_eq!(home.parts().await, 1);
    home.clock.advance(Duration::from_secs(2 * 86_400));
    home.runtime.watch_once().await;
    assert_eq!(home.parts().await, 0);
}
