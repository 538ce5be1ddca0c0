//! What erasures and retention do to a view: the live one and one that is folded again from the log are the same bytes.

use std::sync::Arc;

use kernel::{Event, EventDraft, ManualClock, Scope, SeededEntropy, TenantId, Timestamp};
use privacy::{Erasures, Keyring, MasterKeys, SealedLog};
use proptest::prelude::*;
use serde_json::json;
use store::memory::{MemoryEventLog, MemoryRecords};
use store::{EventLog, ReadLimit, Topic};
use stream::Fold;

use super::*;
use crate::events::{OfRecommend, kinds};
use crate::training::TrainingSet;

const TOPIC: Topic = Topic::fixed("events");
const DAY_MS: i64 = 86_400_000;

/// A log, sealed or not, and the view that follows it.
struct House {
    log: Arc<dyn EventLog>,
    erasures: Erasures,
    views: Views,
    next: u64,
}

fn scope(tenant: &str) -> Scope {
    Scope::system(TenantId::new(tenant).unwrap(), "test")
}

impl House {
    async fn new(seals: bool) -> Self {
        let (records, entropy) = (Arc::new(MemoryRecords::new()), Arc::new(SeededEntropy::new(5)));
        let masters = MasterKeys::new(&["a master key for tests of 32 chars".to_owned()]).unwrap();
        let keyring = Arc::new(Keyring::open(records, masters, seals, entropy).await.unwrap());
        let inner = Arc::new(MemoryEventLog::new(1));
        let log: Arc<dyn EventLog> =
            Arc::new(SealedLog::new(inner, Arc::clone(&keyring), Arc::new(OfRecommend)));
        let clock = Arc::new(ManualClock::at(Timestamp::from_millisecond(100 * DAY_MS).unwrap()));
        let erasures = Erasures::new(keyring, Arc::clone(&log), TOPIC, clock);
        Self { log, erasures, views: Views::default(), next: 0 }
    }

    async fn append(&self, tenant: &str, kind: &str, day: i64, data: serde_json::Value) {
        let id = self.log.extents(&TOPIC).await.unwrap()[0].next;
        let draft =
            json!({"specversion": "1.0", "id": id.to_string(), "source": "/t", "type": kind, "data": data});
        let draft: EventDraft = serde_json::from_value(draft).unwrap();
        let time = Timestamp::from_millisecond(day * DAY_MS + 1).unwrap();
        let event: Event = draft.seal(&scope(tenant), time).unwrap();
        self.log.append(&scope(tenant), &TOPIC, vec![event]).await.unwrap();
    }

    async fn interaction(&self, tenant: &str, user: &str, entity: &str, kind: &str, day: i64) {
        let data = json!({"user_id": user, "entity_id": entity, "interaction_type": {"custom": kind}});
        self.append(tenant, kinds::INTERACTION_RECORDED, day, data).await;
    }

    async fn erase(&mut self, tenant: &str, user: &str) {
        // As the server does: it knows from its view whether anything is unsealed.
        self.follow().await;
        let unsealed = {
            let view = self.views.of(&scope(tenant));
            let view = view.read();
            view.users.find(user).and_then(|index| view.users.get(index)).is_some_and(|user| user.unsealed)
        };
        let prepared = self.erasures.prepare(&scope(tenant), user, unsealed).await.unwrap();
        if let Some(prepared) = prepared {
            let erasure = self.erasures.begin(&scope(tenant), prepared).await.unwrap();
            self.erasures.tell(&scope(tenant), &erasure).await.unwrap();
        }
    }

    async fn follow(&mut self) {
        let batch = self.log.read(&TOPIC, 0, self.next, ReadLimit::default()).await.unwrap();
        self.next += batch.len() as u64;
        assert_eq!(self.views.apply(0, &batch), []);
    }

    /// Passes when a view from the whole log, and one from a checkpoint, are the live one.
    async fn check(&mut self) {
        self.follow().await;
        let rebuilt = Views::default();
        let all = self.log.read(&TOPIC, 0, 0, ReadLimit::default()).await.unwrap();
        assert_eq!(rebuilt.apply(0, &all), []);
        assert!(rebuilt.encode() == self.views.encode(), "the rebuilt view differs");
        let restored = Views::default();
        restored.decode(&self.views.encode()).unwrap();
        assert!(restored.encode() == self.views.encode(), "the restored view differs");
    }
}

#[tokio::test]
async fn a_forgotten_user_leaves_counts_and_no_name() {
    for seals in [true, false] {
        let mut house = House::new(seals).await;
        for (tenant, user) in [("shop", "ada"), ("shop", "bob"), ("other", "ada")] {
            house
                .append(tenant, kinds::USER_PUT, 1, json!({"user_id": user, "attributes": {"age": 7}}))
                .await;
            house.interaction(tenant, user, &format!("film of {user}"), "share", 2).await;
        }
        house.erase("shop", "ada").await;
        house.check().await;
        let all = house.log.read(&TOPIC, 0, 0, ReadLimit::default()).await.unwrap();
        {
            let view = house.views.of(&scope("shop"));
            let view = view.read();
            assert_eq!((view.users.find("ada"), view.users.len()), (None, 1));
            let film = view.entities.find("item", "film of ada").unwrap();
            assert_eq!((view.activity.count(film), view.activity.interactions()), (1, 2));
            assert_eq!(house.views.of(&scope("other")).read().users.len(), 1);
            let training = TrainingSet::of(&RwLock::new(
                postcard::from_bytes::<TenantView>(&postcard::to_stdvec(&*view).unwrap()).unwrap(),
            ))
            .unwrap();
            assert_eq!(training.users, ["bob"]);
            // What the log still has of her does not count in exports.
            for stored in all {
                let place = Place::new(0, stored.offset);
                let of_ada = stored.offset < 2;
                assert_eq!(view.counts(&stored.event, place), !of_ada, "{}", stored.offset);
            }
        }
        assert_eq!(
            house.views.encode().windows(3).filter(|part| part == b"ada").count(),
            3,
            "of the other tenant, and in two entities"
        );
        // She comes back as a new user.
        house.interaction("shop", "ada", "film of bob", "share", 3).await;
        house.check().await;
        let view = house.views.of(&scope("shop"));
        let view = view.read();
        let back = view.users.get(view.users.find("ada").unwrap()).unwrap();
        assert_eq!((back.history.len(), back.attributes.len(), back.created_at_ms), (1, 0, 3 * DAY_MS + 1));
    }
}

#[tokio::test]
async fn consent_is_kept_and_training_heeds_it() {
    let mut house = House::new(true).await;
    for user in ["ada", "bob"] {
        house.interaction("shop", user, "film", "share", 2).await;
    }
    house.append("shop", kinds::USER_CONSENT, 3, json!({"user_id": "ada", "training": false})).await;
    house.check().await;
    let view = house.views.of(&scope("shop"));
    assert_eq!(TrainingSet::of(&view).unwrap().users, ["bob"]);
    let consent = view.read().users.all()[0].consent;
    assert_eq!((consent.personalisation, consent.training), (true, false));
    house.append("shop", kinds::USER_CONSENT, 4, json!({"user_id": "ada", "training": true})).await;
    house.check().await;
    assert_eq!(TrainingSet::of(&view).unwrap().interactions.len(), 2);
}

#[tokio::test]
async fn what_is_too_old_counts_no_more_by_type() {
    let mut house = House::new(true).await;
    for (entity, kind, day) in [("a", "share", 50), ("a", "save", 50), ("b", "share", 90), ("c", "save", 90)]
    {
        house.interaction("shop", "ada", entity, kind, day).await;
    }
    house.append("shop", kinds::USER_PUT, 50, json!({"user_id": "ada", "attributes": {"age": 7}})).await;
    let retain = json!({"first_day": {"share": 60, kinds::USER_PUT: 51}});
    house.append("shop", kinds::RETENTION_APPLIED, 100, retain).await;
    // Late ones, too.
    house.interaction("shop", "ada", "a", "share", 59).await;
    house.interaction("shop", "ada", "a", "share", 60).await;
    house.check().await;
    {
        let view = house.views.of(&scope("shop"));
        let view = view.read();
        let ada = &view.users.all()[0];
        assert_eq!((ada.history.len(), ada.attributes.len()), (4, 0));
        let count = |id| view.activity.count(view.entities.find("item", id).unwrap());
        assert_eq!(["a", "b", "c"].map(count), [2, 1, 1]);
        assert_eq!((view.activity.interactions(), view.activity.totals()), (4, &[2.0, 1.0, 1.0][..]));
    }
    let all = json!({"first_day": {kinds::INTERACTION_RECORDED: 91}});
    house.append("shop", kinds::RETENTION_APPLIED, 100, all).await;
    house.erase("shop", "ada").await;
    house.check().await;
    assert_eq!(house.views.of(&scope("shop")).read().activity.interactions(), 0);
}

#[derive(Debug, Clone)]
enum Step {
    Act(u8, u8, u8, i64),
    Describe(u8),
    Agree(u8, bool),
    Entity(u8),
    Delete(u8),
    Erase(u8),
    Retain(u8, i64),
    Follow,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        8 => (0..4_u8, 0..6_u8, 0..3_u8, 60..100_i64).prop_map(|(u, e, k, d)| Step::Act(u, e, k, d)),
        1 => (0..4_u8).prop_map(Step::Describe),
        1 => (0..4_u8, any::<bool>()).prop_map(|(user, flag)| Step::Agree(user, flag)),
        1 => (0..6_u8).prop_map(Step::Entity),
        1 => (0..6_u8).prop_map(Step::Delete),
        2 => (0..4_u8).prop_map(Step::Erase),
        1 => (0..3_u8, 55..95_i64).prop_map(|(kind, day)| Step::Retain(kind, day)),
        2 => Just(Step::Follow),
    ];
    prop::collection::vec(step, 0..60)
}

async fn run(seals: bool, steps: Vec<Step>) {
    let mut house = House::new(seals).await;
    for step in steps {
        match step {
            Step::Act(user, entity, kind, day) => {
                let (user, entity, kind) = (format!("u{user}"), format!("e{entity}"), format!("k{kind}"));
                house.interaction("shop", &user, &entity, &kind, day).await;
            }
            Step::Describe(user) => {
                let data = json!({"user_id": format!("u{user}"), "attributes": {"age": user}});
                house.append("shop", kinds::USER_PUT, 70, data).await;
            }
            Step::Agree(user, flag) => {
                let data = json!({"user_id": format!("u{user}"), "training": flag});
                house.append("shop", kinds::USER_CONSENT, 70, data).await;
            }
            Step::Entity(entity) => {
                house.append("shop", kinds::ENTITY_PUT, 70, json!({"entity_id": format!("e{entity}")})).await;
            }
            Step::Delete(entity) => {
                house
                    .append("shop", kinds::ENTITY_DELETED, 70, json!({"entity_id": format!("e{entity}")}))
                    .await;
            }
            Step::Erase(user) => house.erase("shop", &format!("u{user}")).await,
            Step::Retain(kind, day) => {
                let data = json!({"first_day": {format!("k{kind}"): day}});
                house.append("shop", kinds::RETENTION_APPLIED, 100, data).await;
            }
            Step::Follow => house.check().await,
        }
    }
    house.check().await;
}

proptest! {
    #[test]
    fn a_view_folded_again_is_the_one_that_forgot(seals: bool, steps in steps()) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(run(seals, steps));
    }
}
