//! Truths that come once, twice, in parts, for nothing and too late; bounds.

use kernel::{ManualClock, SeededEntropy, TenantId, Timestamp};

use super::*;
use crate::monitoring::meddled::Meddled;

struct Home {
    predictions: Predictions,
    clock: Arc<ManualClock>,
    records: Arc<Meddled>,
    scope: Scope,
    place: Place,
}

fn home(max_predictions: u64) -> Home {
    bounded(MonitoringSettings { max_predictions, ..MonitoringSettings::default() })
}

fn bounded(settings: MonitoringSettings) -> Home {
    let clock = Arc::new(ManualClock::at(Timestamp::from_second(1_700_000_000).unwrap()));
    let (records, entropy) = (Arc::new(Meddled::default()), Arc::new(SeededEntropy::new(1)));
    let predictions =
        Predictions::new(Arc::clone(&records) as _, Arc::clone(&clock) as Arc<_>, entropy, settings);
    let tenant = TenantId::new("shop").unwrap();
    let place = Place { tenant: tenant.clone(), model_id: "m".to_owned(), version: 3 };
    Home { predictions, clock, records, scope: Scope::system(tenant, "test"), place }
}

fn answered(values: &[f64]) -> Answered {
    Answered {
        outputs: BTreeMap::from([("y".to_owned(), values.to_vec())]),
        persistence: BTreeMap::from([("y".to_owned(), 1.0)]),
    }
}

fn truth(id: &str, values: &[Option<f64>]) -> Truth {
    Truth { id: id.to_owned(), values: BTreeMap::from([("y".to_owned(), values.to_vec())]) }
}

impl Home {
    async fn keep(&self, values: &[f64]) -> String {
        self.predictions.keep(&self.scope, &self.place, answered(values), None).await.unwrap()
    }

    async fn join(&self, truths: &[Truth]) -> Vec<&'static str> {
        let (told, _) = self.predictions.join(&self.scope, "m", truths).await.unwrap();
        told.into_iter().map(|told| told.outcome).collect()
    }

    async fn sums(&self) -> Sums {
        self.predictions.days(&self.scope, &self.place, 10).await.unwrap()[0].outputs["y"]
    }
}

#[tokio::test]
async fn each_value_is_joined_once() {
    let home = home(100);
    let id = home.keep(&[2.0, 4.0]).await;
    assert_eq!(home.join(&[truth(&id, &[Some(3.0), None])]).await, ["joined"]);
    // Again, beside what is new, and twice in one request.
    let both = truth(&id, &[Some(3.0), Some(1.0)]);
    assert_eq!(home.join(&[both.clone(), both.clone()]).await, ["joined", "duplicate"]);
    assert_eq!(home.join(&[both]).await, ["duplicate"]);
    let sums = home.sums().await;
    assert_eq!((sums.count, sums.error, sums.absolute, sums.squared), (2, 2.0, 4.0, 10.0));
    assert_eq!((sums.paired, sums.persistence_absolute, sums.persistence_squared), (2, 2.0, 4.0));
    let told = home.predictions.join(&home.scope, "m", &[truth(&id, &[Some(9.0), None])]).await.unwrap();
    assert!(told.0[0].outcome == "conflict" && told.0[0].reason.as_ref().unwrap().contains("is 3 already"));
    assert_eq!(home.sums().await, sums);
}

#[tokio::test]
async fn what_cannot_be_joined_is_told_one_by_one() {
    let home = home(100);
    let id = home.keep(&[2.0]).await;
    let other = truth("0123456789abcdef0123456789abcdef", &[Some(1.0)]);
    let bad = Truth { id: id.clone(), values: BTreeMap::from([("z".to_owned(), vec![Some(1.0)])]) };
    let found = home
        .join(&[
            other,
            truth("", &[]),
            bad,
            truth(&id, &[]),
            truth(&id, &[Some(1e101)]),
            truth(&id, &[Some(1.0)]),
        ])
        .await;
    assert_eq!(found, ["unknown", "unknown", "refused", "refused", "refused", "joined"]);
    assert_eq!(
        home.predictions.join(&home.scope, "n", &[truth(&id, &[Some(1.0)])]).await.unwrap().0[0].outcome,
        "unknown"
    );
    let foreign = Scope::system(TenantId::new("other").unwrap(), "test");
    let told = home.predictions.join(&foreign, "m", &[truth(&id, &[Some(1.0)])]).await.unwrap();
    assert_eq!(told.0[0].outcome, "unknown", "another tenant's");
    let late = home.keep(&[2.0]).await;
    home.clock.advance(Duration::from_secs(720 * 3_600 + 1));
    assert_eq!(home.join(&[truth(&late, &[Some(1.0)])]).await, ["late"]);
    assert!(home.join(&[]).await.is_empty());
}

#[tokio::test]
async fn they_are_bounded_and_go() {
    let check = async |settings: MonitoringSettings, numbers: usize, told: &str| {
        let (home, values) = (bounded(settings), vec![1.0; numbers]);
        let mut refused = 0;
        for _ in 0..100 {
            let kept = home.predictions.keep(&home.scope, &home.place, answered(&values), None).await;
            if let Err(error) = kept {
                assert_eq!(error.code(), TOO_MANY_PREDICTIONS);
                assert!(error.to_string().contains(told), "{error}");
                refused += 1;
            }
        }
        assert_eq!(refused, 84, "{told}: one in each shard");
        assert_eq!(home.predictions.sweep().await.unwrap(), 0);
        home.clock.advance(Duration::from_secs(720 * 3_600) + REMEMBERED + Duration::from_secs(1));
        assert_eq!(home.predictions.sweep().await.unwrap(), 16);
        for shard in 0..SHARDS {
            let (count, _) = home.predictions.count(&home.scope, shard).await.unwrap();
            assert_eq!((count.count, count.numbers), (0, 0), "{told}: {shard}");
        }
        home.keep(&values).await;
    };
    let few = MonitoringSettings { max_predictions: 16, ..MonitoringSettings::default() };
    check(few, 1, "`runtime.monitoring.max_predictions`").await;
    // Four numbers for each shard.
    let small = MonitoringSettings { max_prediction_numbers: 64, ..MonitoringSettings::default() };
    check(small, 3, "`runtime.monitoring.max_prediction_numbers`").await;
}

#[tokio::test]
async fn they_go_though_others_keep_meanwhile() {
    let home = home(16);
    for _ in 0..100 {
        drop(home.predictions.keep(&home.scope, &home.place, answered(&[1.0]), None).await);
    }
    home.clock.advance(Duration::from_secs(720 * 3_600) + REMEMBERED + Duration::from_secs(1));
    let touched = Repository::write(&Count { shard: 0, count: 1, numbers: 1 }, Expect::Any).unwrap();
    *home.records.before_commit.lock() = Some((home.scope.clone(), touched));
    assert_eq!(home.predictions.sweep().await.unwrap(), 16);
    // Another server was faster.
    let key = home.keep(&[1.0]).await;
    home.clock.advance(Duration::from_secs(720 * 3_600) + REMEMBERED + Duration::from_secs(1));
    let gone = Write::Delete { table: Kept::TABLE, key, expect: Expect::Any };
    *home.records.before_commit.lock() = Some((home.scope.clone(), gone));
    assert_eq!(home.predictions.sweep().await.unwrap(), 0);
}

#[test]
fn better_and_worse_are_told_apart() {
    let mut sums = Sums::default();
    assert_eq!(sums.add(1.0, Some(2.0), 1.0), Some(0));
    assert_eq!(sums.add(1.0, Some(3.0), 2.0), Some(1));
    assert_eq!(sums.add(1.0, Some(2.0), 2.0), Some(2));
    assert_eq!(sums.add(1.0, None, 2.0), None);
    assert_eq!((sums.count, sums.paired), (4, 3));
    assert!(check(&answered(&[])).is_err() && check(&answered(&[1e101])).is_err());
    assert!(check(&answered(&vec![1.0; VALUES_MAX + 1])).is_err() && check(&answered(&[1.0])).is_ok());
}
