//! The whole of it over memory, with a clock that stands still and a sender that answers as it is told.

use std::collections::VecDeque;

use async_trait::async_trait;
use kernel::{ManualClock, Permission, SeededEntropy, TenantId, Timestamp};
use serde_json::Value;
use store::memory::MemoryRecords;

use super::*;
use crate::deliveries::{State, Wanted};
use crate::sender::Outgoing;
use crate::signing::signature;
use crate::subscriptions::{Change, Kind, NewWebhook};
use crate::watch::{CanaryDecision, ServedModel, TrendingEntity};
use edge::middleware::AnswerWatch;

type Answer = std::result::Result<u16, String>;

/// Answers as it is told, then with 200.
#[derive(Debug, Default)]
struct Receiver {
    answers: Mutex<VecDeque<Answer>>,
    got: Mutex<Vec<Outgoing>>,
}

#[async_trait]
impl Sender for Receiver {
    async fn send(&self, request: Outgoing) -> Answer {
        self.got.lock().push(request);
        self.answers.lock().pop_front().unwrap_or(Ok(200))
    }
}

#[derive(Debug, Default)]
struct World {
    model: Mutex<Option<ServedModel>>,
    trending: Mutex<Vec<&'static str>>,
    decisions: Mutex<Vec<CanaryDecision>>,
}

impl Observed for World {
    fn model(&self, _: &Scope) -> Option<ServedModel> {
        *self.model.lock()
    }

    fn trending(&self, _: &Scope, count: usize) -> Result<Vec<TrendingEntity>> {
        let one = |id: &&str| TrendingEntity { entity_type: "item".to_owned(), entity_id: (*id).to_owned() };
        Ok(self.trending.lock().iter().take(count).map(one).collect())
    }

    fn decisions(&self, _: &Scope, after: u64) -> Result<Vec<CanaryDecision>> {
        Ok(self.decisions.lock().iter().filter(|one| one.number > after).cloned().collect())
    }
}

struct Bench {
    records: Arc<MemoryRecords>,
    clock: Arc<ManualClock>,
    receiver: Arc<Receiver>,
    world: Arc<World>,
    scope: Scope,
}

impl Bench {
    fn new() -> Self {
        Self {
            records: Arc::new(MemoryRecords::new()),
            clock: Arc::new(ManualClock::at("2026-01-01T00:00:00Z".parse().unwrap())),
            receiver: Arc::default(),
            world: Arc::default(),
            scope: Scope::system(TenantId::new("shop").unwrap(), "test"),
        }
    }

    /// One process over the records of all.
    fn replica(&self, seed: u64) -> Webhooks {
        let records: Arc<dyn Records> = Arc::clone(&self.records) as _;
        let clock: Arc<dyn Clock> = Arc::clone(&self.clock) as _;
        let parts = WebhookParts {
            audit: AuditLog::new(Arc::clone(&records), Arc::clone(&clock)),
            records,
            clock,
            entropy: Arc::new(SeededEntropy::new(seed)),
            sender: Arc::clone(&self.receiver) as _,
            observed: Arc::clone(&self.world) as _,
            keys: Keys::new(&["k".repeat(32)]).unwrap(),
        };
        let settings = WebhookSettings { max_attempts: 3, ..WebhookSettings::default() };
        Webhooks::new(parts, settings, &mut Registry::default())
    }

    async fn webhook(&self, webhooks: &Webhooks, events: &[Kind]) -> (String, String) {
        let url = "https://hooks.example/in".to_owned();
        let new = NewWebhook { url, events: events.to_vec(), description: String::new(), active: true };
        let (webhook, secret) = webhooks.subscriptions().create(&self.scope, new).await.unwrap();
        // What happens is later than the webhook.
        self.clock.advance(Duration::from_secs(1));
        (webhook.id, secret)
    }

    async fn round(&self, webhooks: &Webhooks) -> usize {
        webhooks.round(1, &CancellationToken::new()).await.unwrap()
    }

    /// The types of what was sent since the last time.
    fn sent(&self) -> Vec<String> {
        let got = std::mem::take(&mut *self.receiver.got.lock());
        got.iter().map(|one| json_of(one)["type"].as_str().unwrap().to_owned()).collect()
    }

    fn serve(&self, version: u64) {
        *self.world.model.lock() = Some(ServedModel { version, trained_at: self.clock.now() });
    }

    async fn of_state(&self, webhooks: &Webhooks, state: State) -> Vec<Delivery> {
        let wanted = Wanted { state: Some(state), webhook_id: None };
        webhooks.deliveries().list(&self.scope, &wanted, None, 100).await.unwrap().0
    }
}

fn json_of(request: &Outgoing) -> Value {
    serde_json::from_str(&request.body).unwrap()
}

fn header<'a>(request: &'a Outgoing, name: &str) -> &'a str {
    &request.headers.iter().find(|(found, _)| *found == name).unwrap().1
}

#[tokio::test]
async fn a_message_is_signed_and_retried_under_one_id_until_it_is_taken() {
    let bench = Bench::new();
    let webhooks = bench.replica(1);
    let (id, secret) = bench.webhook(&webhooks, &[Kind::ModelUpdated]).await;
    let written = webhooks.test(&bench.scope, &id).await.unwrap();
    bench.receiver.answers.lock().extend([Ok(500), Err("no connection".to_owned())]);
    assert_eq!(bench.round(&webhooks).await, 1);
    assert_eq!(bench.round(&webhooks).await, 0, "it waits for its turn");
    let waiting = webhooks.deliveries().get(&bench.scope, &written.id).await.unwrap();
    assert_eq!((waiting.attempts, waiting.last_status), (1, Some(500)));
    assert_eq!(waiting.last_error.as_deref(), Some("answered 500"));
    let pause = waiting.due_at.unwrap().duration_since(bench.clock.now()).as_secs_f64();
    assert!((2.5..=5.0).contains(&pause), "{pause}");
    for expected in [1, 1, 0] {
        bench.clock.advance(Duration::from_secs(10));
        assert_eq!(bench.round(&webhooks).await, expected);
    }
    let got = bench.receiver.got.lock().clone();
    assert_eq!(got.len(), 3);
    let event = json_of(&got[0]);
    assert_eq!((event["specversion"].as_str(), event["type"].as_str()), (Some("1.0"), Some("webhook.test")));
    assert_eq!((event["tenantid"].as_str(), &event["data"]["webhook_id"]), (Some("shop"), &json!(id)));
    assert!(got.iter().all(|one| one.body == got[0].body), "an attempt changes nothing");
    let last = &got[2];
    let time: i64 = header(last, SIGNATURE_HEADER)[2..12].parse().unwrap();
    assert_eq!(time, bench.clock.now().as_second() - 10);
    assert_eq!(header(last, SIGNATURE_HEADER), signature(std::slice::from_ref(&secret), time, &last.body));
    assert_eq!(header(last, "watershed-delivery"), written.id);
    assert!(header(last, "traceparent").starts_with(&format!("00-{}-", written.event_id.replace('-', ""))));
    assert_eq!(bench.of_state(&webhooks, State::Delivered).await.len(), 1);
    let stored = bench.records.list(&bench.scope, table("webhooks"), &query()).await.unwrap();
    assert!(!String::from_utf8_lossy(&stored.records[0].body).contains(&secret[10..]), "a secret is stored");
}

const SIGNATURE_HEADER: &str = crate::signing::SIGNATURE;

fn table(name: &'static str) -> store::Table {
    store::Table { name, indexes: &[] }
}

fn query() -> store::Query {
    store::Query::new(store::Selection::All, 10)
}

#[tokio::test]
async fn what_is_given_up_is_listed_with_its_error_and_replayed() {
    let bench = Bench::new();
    let webhooks = bench.replica(1);
    let (id, _) = bench.webhook(&webhooks, &[Kind::ModelUpdated]).await;
    for _ in 0..2 {
        webhooks.test(&bench.scope, &id).await.unwrap();
    }
    bench.receiver.answers.lock().extend(std::iter::repeat_n(Ok(302), 6));
    for _ in 0..3 {
        bench.round(&webhooks).await;
        bench.clock.advance(Duration::from_secs(60));
    }
    let dead = bench.of_state(&webhooks, State::Dead).await;
    assert_eq!(dead.len(), 2);
    assert_eq!(dead[0].last_error.as_deref(), Some("answered 302; redirects are not followed"));
    assert_eq!(bench.round(&webhooks).await, 0);

    webhooks.replay(&bench.scope, &dead[0].id).await.unwrap();
    assert_eq!(webhooks.replay(&bench.scope, &dead[0].id).await.unwrap_err().code(), codes::CONFLICT);
    assert_eq!(bench.round(&webhooks).await, 1);
    let all = webhooks.replay_dead(&bench.scope, Some(id.clone())).await.unwrap();
    assert_eq!(all, (1, false));
    bench.round(&webhooks).await;
    assert_eq!(bench.of_state(&webhooks, State::Delivered).await.len(), 2);
    assert_eq!(webhooks.replay_dead(&bench.scope, None).await.unwrap(), (0, false));

    bench.clock.advance(Duration::from_secs(8 * 24 * 60 * 60));
    webhooks.round(0, &CancellationToken::new()).await.unwrap();
    assert!(bench.of_state(&webhooks, State::Delivered).await.is_empty(), "what is old goes");
}

#[tokio::test]
async fn nothing_is_sent_for_a_webhook_that_is_gone_or_off() {
    let bench = Bench::new();
    let webhooks = bench.replica(1);
    let (off, _) = bench.webhook(&webhooks, &[Kind::ModelUpdated]).await;
    let (gone, _) = bench.webhook(&webhooks, &[Kind::ModelUpdated]).await;
    for id in [&off, &gone] {
        webhooks.test(&bench.scope, id).await.unwrap();
    }
    let change = Change { active: Some(false), ..Change::default() };
    webhooks.subscriptions().update(&bench.scope, &off, change).await.unwrap();
    webhooks.subscriptions().delete(&bench.scope, &gone).await.unwrap();
    bench.round(&webhooks).await;
    assert!(bench.sent().is_empty());
    let mut reasons: Vec<_> =
        bench.of_state(&webhooks, State::Dead).await.into_iter().map(|one| one.last_error).collect();
    reasons.sort_unstable();
    assert_eq!(
        reasons,
        [Some("the webhook is not active".to_owned()), Some("the webhook was deleted".to_owned())]
    );
    assert_eq!(webhooks.test(&bench.scope, &off).await.unwrap_err().code(), codes::CONFLICT);
}

#[tokio::test]
async fn another_model_is_told_once_by_one_replica() {
    let bench = Bench::new();
    let (one, two) = (bench.replica(1), bench.replica(2));
    bench.serve(1);
    bench.clock.advance(Duration::from_secs(1));
    bench.webhook(&one, &[Kind::ModelUpdated]).await;
    bench.round(&one).await;
    assert!(bench.sent().is_empty(), "what was trained before is no news");
    bench.serve(2);
    bench.round(&two).await;
    assert!(bench.sent().is_empty(), "the other has the lease");
    bench.round(&one).await;
    bench.round(&one).await;
    assert_eq!(bench.sent(), ["model.updated"]);
    // The first one dies without a word; the second takes over, and a third starts anew.
    bench.serve(4);
    bench.clock.advance(Duration::from_secs(60));
    bench.round(&two).await;
    assert_eq!(bench.sent(), ["model.updated"], "versions between two looks make one message");
    bench.clock.advance(Duration::from_secs(60));
    bench.round(&bench.replica(3)).await;
    assert!(bench.sent().is_empty());
}

#[tokio::test]
async fn a_first_model_is_news_to_who_was_there_before() {
    let bench = Bench::new();
    let webhooks = bench.replica(1);
    bench.webhook(&webhooks, &[Kind::ModelUpdated, Kind::TrendingChanged]).await;
    bench.serve(1);
    bench.round(&webhooks).await;
    assert_eq!(bench.sent(), ["model.updated"]);
}

#[tokio::test]
async fn trending_is_told_when_something_new_comes_into_it() {
    let bench = Bench::new();
    let webhooks = bench.replica(1);
    bench.webhook(&webhooks, &[Kind::TrendingChanged]).await;
    let check = async |list: &[&'static str], entered: Option<Value>| {
        *bench.world.trending.lock() = list.to_vec();
        bench.clock.advance(Duration::from_secs(300));
        bench.round(&webhooks).await;
        let got = bench.receiver.got.lock().pop();
        let told = got.map(|one| json_of(&one)["data"]["entered"].clone());
        let ids =
            |list: &Value| list.as_array().unwrap().iter().map(|one| one["entity_id"].clone()).collect();
        assert_eq!(told.as_ref().map(ids), entered, "{list:?}");
        // Within the interval nothing is told.
        *bench.world.trending.lock() = vec!["z"];
        bench.round(&webhooks).await;
        assert!(bench.sent().is_empty());
    };
    check(&["a", "b"], None).await;
    check(&["b", "a"], None).await;
    check(&["b", "c"], Some(json!(["c"]))).await;
    check(&[], None).await;
    check(&["b", "d", "e"], Some(json!(["d", "e"]))).await;
}

#[tokio::test]
async fn each_decision_about_a_canary_is_told_once() {
    let bench = Bench::new();
    let (one, two) = (bench.replica(1), bench.replica(2));
    let decide = |number: u64| {
        let data = json!({"percent": 10 * number});
        let decision = CanaryDecision { number, at: bench.clock.now(), canary: "one".to_owned(), data };
        bench.world.decisions.lock().push(decision);
    };
    let told = || {
        let got = std::mem::take(&mut *bench.receiver.got.lock());
        got.iter().map(|one| json_of(one)["data"]["percent"].as_u64().unwrap()).collect::<Vec<_>>()
    };
    decide(1);
    bench.clock.advance(Duration::from_secs(1));
    bench.webhook(&one, &[Kind::CanaryDecided]).await;
    bench.round(&one).await;
    assert!(told().is_empty(), "what was decided before is no news");
    decide(2);
    decide(3);
    bench.round(&one).await;
    bench.round(&one).await;
    let mut both = told();
    both.sort_unstable();
    assert_eq!(both, [20, 30]);
    // The first one dies; the second goes on where it was.
    decide(4);
    bench.clock.advance(Duration::from_secs(60));
    bench.round(&two).await;
    assert_eq!(told(), [40]);
}

#[tokio::test]
async fn failed_requests_are_told_over_the_threshold_and_not_again_for_a_while() {
    let bench = Bench::new();
    let webhooks = bench.replica(1);
    bench.webhook(&webhooks, &[Kind::ErrorsThreshold]).await;
    let check = async |tenant: &str, good: usize, failed: usize, told: usize| {
        let tenant = TenantId::new(tenant).unwrap();
        (0..good + failed).for_each(|number| webhooks.answers().answered(&tenant, number < failed));
        bench.round(&webhooks).await;
        assert!(bench.sent().is_empty(), "the window is not over");
        bench.clock.advance(Duration::from_secs(60));
        bench.round(&webhooks).await;
        assert_eq!(bench.sent().len(), told, "{tenant} {good} {failed}");
    };
    check("shop", 96, 4, 0).await;
    check("shop", 0, 19, 0).await;
    check("other", 0, 100, 0).await;
    check("shop", 95, 5, 1).await;
    check("shop", 0, 100, 0).await;
    bench.clock.advance(Duration::from_secs(900));
    check("shop", 0, 100, 1).await;
}

#[tokio::test]
async fn tenants_and_permissions_are_kept_apart() {
    let bench = Bench::new();
    let webhooks = bench.replica(1);
    let (id, _) = bench.webhook(&webhooks, &[Kind::ModelUpdated]).await;
    let delivery = webhooks.test(&bench.scope, &id).await.unwrap();
    let other = Scope::system(TenantId::new("other").unwrap(), "test");
    for found in [
        webhooks.subscriptions().get(&other, &id).await.err(),
        webhooks.test(&other, &id).await.err(),
        webhooks.deliveries().get(&other, &delivery.id).await.err(),
        webhooks.replay(&other, &delivery.id).await.err(),
        webhooks.subscriptions().get(&bench.scope, "").await.err(),
        webhooks.subscriptions().get(&bench.scope, &"x".repeat(600)).await.err(),
    ] {
        assert_eq!(found.unwrap().code(), codes::NOT_FOUND);
    }
    assert!(webhooks.subscriptions().list(&other).await.unwrap().is_empty());
    #[expect(clippy::disallowed_methods, reason = "stands for the edge")]
    let writer = Scope::proven(TenantId::new("shop").unwrap(), "writer", Permission::Write);
    assert_eq!(webhooks.subscriptions().list(&writer).await.unwrap_err().code(), codes::PERMISSION_DENIED);
    assert_eq!(webhooks.replay_dead(&writer, None).await.unwrap_err().code(), codes::PERMISSION_DENIED);
}

#[tokio::test]
async fn what_a_webhook_cannot_be_is_refused_with_the_field() {
    let bench = Bench::new();
    let webhooks = bench.replica(1);
    let good = NewWebhook {
        url: "https://hooks.example/".to_owned(),
        events: vec![Kind::ModelUpdated, Kind::ModelUpdated],
        description: String::new(),
        active: true,
    };
    let check = async |new: NewWebhook, field: &str| {
        let error = webhooks.subscriptions().create(&bench.scope, new).await.unwrap_err();
        assert_eq!((error.code(), error.field()), (codes::VALIDATION_ERROR, Some(field)));
    };
    check(NewWebhook { url: "https://10.0.0.1/".to_owned(), ..good.clone() }, "url").await;
    check(NewWebhook { events: Vec::new(), ..good.clone() }, "events").await;
    check(NewWebhook { description: "x".repeat(501), ..good.clone() }, "description").await;
    let (first, _) = webhooks.subscriptions().create(&bench.scope, good.clone()).await.unwrap();
    assert_eq!(first.events, [Kind::ModelUpdated]);
    for _ in 1..20 {
        webhooks.subscriptions().create(&bench.scope, good.clone()).await.unwrap();
    }
    let over = webhooks.subscriptions().create(&bench.scope, good).await.unwrap_err();
    assert_eq!(over.code(), codes::CONFLICT);
    assert_eq!(first.created_at, Timestamp::from_second(1_767_225_600).unwrap());
}
