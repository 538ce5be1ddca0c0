//! Canaries on two replicas over one log: both know the same, one decides, and each decision is told once.

use std::sync::Arc;
use std::time::Duration;

use kernel::{EventDraft, Id, Scope, SystemClock, TenantId, Timestamp};
use prometheus_client::registry::Registry;
use recommend::canaries::NewCanary;
use recommend::events::{ArmSettings, Mode, Stage};
use recommend::service::Query;
use recommend::trainer::Duties;
use recommend::{Recommend, RecommendSettings};
use rollout::canary::Plan;
use store::EventLog;
use store::memory::MemoryEventLog;
use tokio_util::sync::CancellationToken;

use crate::{interaction, parts};

fn query() -> Query {
    Query { count: 3, include_seen: true, ..Query::default() }
}

/// A user asks one of the replicas, and chooses something where the control answered.
async fn visit(replica: &Recommend, log: &MemoryEventLog, scope: &Scope, user: usize) {
    let user_id = Id::new(format!("visitor-{user}")).unwrap();
    let canaries = replica.canaries();
    let assigned = canaries.assigned(scope, user_id.as_str());
    let make = || replica.service().for_user(scope, user_id.as_str(), &query(), None);
    let answer = canaries.observe(scope, &user_id, assigned.as_ref(), true, make).unwrap();
    if answer.canary.is_some_and(|canary| canary.arm == "control") {
        let entity = &answer.recommendations[0].entity_id;
        let json = format!(
            r#"{{"specversion":"1.0","id":"choice-{user}","source":"/t","type":"recommend.interaction.recorded.v1",
                "time":"{}","data":{{"user_id":"{user_id}","entity_id":"{entity}","interaction_type":"view"}}}}"#,
            Timestamp::from_millisecond(answer.generated_at.as_millisecond() + 1).unwrap()
        );
        let draft: EventDraft = serde_json::from_str(&json).unwrap();
        let event = draft.seal(scope, Timestamp::UNIX_EPOCH).unwrap();
        log.append(scope, &edge::ingest::EVENTS, vec![event]).await.unwrap();
    }
}

async fn becomes(what: &str, is_so: impl AsyncFn() -> bool) {
    for _ in 0..600 {
        if is_so().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("{what}: never");
}

#[tokio::test]
async fn two_replicas_agree_and_tell_each_decision_once() {
    let scope = Scope::system(TenantId::new("shop").unwrap(), "test");
    let log = Arc::new(MemoryEventLog::new(3));
    let events = (0..100).map(|id| interaction(&scope, id)).collect();
    log.append(&scope, &edge::ingest::EVENTS, events).await.unwrap();
    let parts = parts(log.clone(), Arc::new(SystemClock::new())).await;
    let audit = parts.audit.clone();
    let stop = CancellationToken::new();
    let mut replicas = Vec::new();
    for _ in 0..2 {
        let settings = RecommendSettings::default();
        let mut replica = Recommend::open(parts.clone(), settings, &mut Registry::default()).await.unwrap();
        replica.start(Duties { trains: false, answers: true }, stop.clone());
        replicas.push(replica);
    }
    let plan =
        Plan { steps_percent: vec![50, 100], sample_min: 1_000, step_seconds_min: 0, ..Plan::default() };
    let asked = NewCanary {
        name: Some("bad".to_owned()),
        mode: Mode::Canary,
        candidate: ArmSettings { algorithm: Some("latest".to_owned()), ..ArmSettings::default() },
        plan,
        outcome_window_seconds: 1,
        slow_ms: 60_000,
    };
    let started = replicas[0].canaries().start(&scope, asked.clone()).await.unwrap();
    assert_eq!(replicas[0].canaries().start(&scope, asked).await.unwrap_err().code().name, "CONFLICT");
    let stage = |replica: &Recommend| replica.canaries().find(&scope, "bad").map(|canary| canary.stage);
    becomes("known on both", async || stage(&replicas[1]) == Some(Stage::Running)).await;
    for user in 0..40 {
        let name = format!("visitor-{user}");
        let arms = replicas.iter().map(|replica| replica.canaries().assigned(&scope, &name).unwrap().canary);
        let arms: Vec<_> = arms.collect();
        assert_eq!(arms[0], arms[1], "{name}");
        visit(&replicas[user % 2], &log, &scope, user).await;
    }
    let ended = async || replicas.iter().all(|replica| stage(replica) == Some(Stage::RolledBack));
    becomes("rolled back on both", ended).await;
    let told = async || audit.list(&scope, None, 100).await.unwrap().0;
    becomes("in the audit", async || told().await.len() == 2).await;
    stop.cancel();
    let canaries: Vec<_> =
        replicas.iter().map(|replica| replica.canaries().find(&scope, "bad").unwrap()).collect();
    assert_eq!(canaries[0], canaries[1]);
    assert_eq!((canaries[0].decisions.len(), &canaries[0].started), (1, &started.started));
    for replica in replicas {
        replica.stop().await;
    }
    // From the log alone, it is the same; and nothing is told again.
    let mut again =
        Recommend::open(parts, RecommendSettings::default(), &mut Registry::default()).await.unwrap();
    assert_eq!(again.canaries().find(&scope, "bad").as_ref(), Some(&canaries[0]));
    let stop = CancellationToken::new();
    again.start(Duties { trains: false, answers: true }, stop.clone());
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    assert_eq!(told().await.len(), 2);
    stop.cancel();
    again.stop().await;
}
