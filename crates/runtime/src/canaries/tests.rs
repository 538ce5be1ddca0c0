//! Over the fakes: two processes over the same records, truths that come later, candidates that are worse or fail.

use std::collections::BTreeMap;
use std::time::Duration;

use kernel::{Result, codes};
use models::registered::CHAMPION;
use rollout::canary::{Arm, Gate, Plan};
use rollout::decision::Stage;

use super::*;
use crate::fake::rows;
use crate::monitoring::predictions::Truth;
use crate::tests::{Home, home};
use crate::{Inference, RuntimeSettings};

/// A champion that doubles, and a candidate that multiplies by `factor`.
async fn tried(factor: f32) -> (Home, u64) {
    let home = home(RuntimeSettings::default());
    let champion = home.factor("curve", 2.0).await;
    home.promote("curve", champion).await;
    let candidate = home.factor("curve", factor).await;
    (home, candidate)
}

fn plan() -> Plan {
    Plan { sample_min: 20, step_seconds_min: 60, ..Plan::default() }
}

fn new(candidate: u64, mode: Mode) -> NewCanary {
    let steps_percent = if mode == Mode::Shadow { vec![100] } else { vec![50, 100] };
    NewCanary {
        candidate: Selector::Version(candidate),
        mode,
        outcome: Outcome::Truth,
        plan: Plan { steps_percent, ..plan() },
        slow_ms: 120,
        output: None,
        loss_scale: 10.0,
    }
}

impl Home {
    async fn start(&self, asked: NewCanary) -> Result<Canary> {
        self.runtime.start_canary(&self.scope, "curve", asked).await
    }

    async fn ask_as(&self, subject: &str, keeps: bool) -> Inference {
        let asker = Asker { subject: Some(subject.to_owned()), keeps };
        let inputs = |_: &crate::Signature| Ok(vec![rows(&[1.0, 2.0])]);
        self.runtime.infer_for(&self.scope, "curve", Selector::default(), &asker, inputs).await.unwrap()
    }

    /// Each of these subjects asks once, and what came true is what the champion says.
    async fn ask_and_tell(&self, subjects: std::ops::Range<usize>) {
        let model = self.runtime.models().model(&self.scope, "curve").await.unwrap().id;
        for subject in subjects {
            let id = self.ask_as(&format!("s{subject}"), true).await.prediction_id.unwrap();
            let values = BTreeMap::from([("y".to_owned(), vec![Some(2.0), Some(4.0)])]);
            let truths = [Truth { id, values }];
            let (told, _) =
                self.runtime.0.monitor.predictions.join(&self.scope, &model, &truths).await.unwrap();
            assert_eq!(told[0].outcome, "joined");
        }
    }

    async fn wait_and_look(&self, seconds: u64) {
        self.clock.advance(Duration::from_secs(seconds));
        self.runtime.tend_once().await.unwrap();
    }

    async fn canary(&self) -> Canary {
        let model = self.runtime.models().model(&self.scope, "curve").await.unwrap();
        self.runtime.0.canaries.list(&self.scope, &model.id, 1).await.unwrap().pop().unwrap().document
    }

    async fn alias(&self, alias: &str) -> Option<u64> {
        self.runtime.models().model(&self.scope, "curve").await.unwrap().aliases.get(alias).copied()
    }

    async fn actions(&self) -> Vec<String> {
        let (entries, _) = self.runtime.0.parts.audit.list(&self.scope, None, 50).await.unwrap();
        entries.into_iter().map(|entry| entry.action).collect()
    }
}

#[tokio::test]
async fn a_candidate_whose_loss_is_worse_goes_back_by_itself() {
    let (home, candidate) = tried(5.0).await;
    home.start(new(candidate, Mode::Canary)).await.unwrap();
    assert_eq!(home.alias(CANARY).await, Some(candidate));
    home.ask_and_tell(0..80).await;
    home.wait_and_look(1).await;
    let canary = home.canary().await;
    let last = canary.decisions.last().unwrap();
    assert_eq!((canary.stage, canary.percent), (Stage::RolledBack, 0), "{canary:?}");
    assert!(last.reason.starts_with("loss: candidate 0.4500 of"), "{}", last.reason);
    let gates = &last.reading.as_ref().unwrap().gates;
    assert!(gates.iter().any(|gate| gate.gate == Gate::Loss && gate.closed), "{gates:?}");
    assert_eq!((home.alias(CANARY).await, home.alias(CHAMPION).await), (None, Some(1)));
    let model = home.runtime.models().model(&home.scope, "curve").await.unwrap();
    assert!(model.archived.contains(&candidate), "nobody promotes it unasked");
    for subject in 0..20 {
        assert_eq!(home.ask_as(&format!("s{subject}"), false).await.version, 1);
    }
    let actions = home.actions().await;
    for action in ["model.canary_started", "model.canary_rolled_back"] {
        assert_eq!(actions.iter().filter(|found| *found == action).count(), 1, "{actions:?}");
    }
}

#[tokio::test]
async fn a_candidate_that_is_as_good_becomes_the_champion() {
    let (home, candidate) = tried(2.0).await;
    home.start(new(candidate, Mode::Canary)).await.unwrap();
    home.ask_and_tell(0..60).await;
    home.wait_and_look(30).await;
    assert_eq!(home.canary().await.stage, Stage::Running, "the step takes its time");
    home.wait_and_look(31).await;
    let canary = home.canary().await;
    assert_eq!((canary.stage, canary.percent), (Stage::Complete, 100), "{canary:?}");
    assert_eq!((home.alias(CANARY).await, home.alias(CHAMPION).await), (None, Some(candidate)));
    assert!(home.start(new(candidate, Mode::Canary)).await.is_err(), "it is the champion");
    let again = home.start(new(1, Mode::Canary)).await.unwrap();
    assert_eq!(again.sequence, 2);
}

#[tokio::test]
async fn a_subject_stays_in_its_arm_and_counts_once() {
    let (home, candidate) = tried(3.0).await;
    home.start(new(candidate, Mode::Canary)).await.unwrap();
    let mut arms = [0, 0];
    for subject in 0..200 {
        let subject = format!("s{subject}");
        let first = home.ask_as(&subject, false).await;
        assert_eq!(home.ask_as(&subject, false).await.version, first.version);
        assert_eq!(first.version == candidate, first.arm == Some(Arm::Candidate));
        arms[usize::from(first.version == candidate)] += 1;
    }
    assert!(arms.iter().all(|count| *count > 70), "{arms:?}");
    home.ask_and_tell(0..1).await;
    home.ask_and_tell(0..1).await;
    home.wait_and_look(1).await;
    let canary = home.canary().await;
    let seen = home.runtime.0.canaries.seen(&home.scope, &canary).await.unwrap();
    assert_eq!(seen.control.loss.count + seen.candidate.loss.count, 1);
    assert_eq!(seen.control.errors.count + seen.candidate.errors.count, 200, "each subject once");
}

#[tokio::test]
async fn a_candidate_that_fails_fails_no_request_and_goes_back() {
    // Twice that is beyond what the number can hold, though its first example is not.
    let (home, candidate) = tried(3e38).await;
    let asked = NewCanary { outcome: Outcome::Answer, ..new(candidate, Mode::Canary) };
    home.start(asked).await.unwrap();
    for subject in 0..80 {
        let answer = home.ask_as(&format!("s{subject}"), false).await;
        assert_eq!((answer.version, answer.outputs.len()), (1, 1));
    }
    home.wait_and_look(1).await;
    let canary = home.canary().await;
    assert_eq!(canary.stage, Stage::RolledBack);
    assert!(canary.decisions[0].reason.starts_with("errors:"), "{}", canary.decisions[0].reason);
}

#[tokio::test]
async fn a_shadow_is_compared_and_never_heard() {
    let (home, candidate) = tried(2.5).await;
    home.start(new(candidate, Mode::Shadow)).await.unwrap();
    assert_eq!(home.alias(SHADOW).await, Some(candidate));
    for subject in 0..30 {
        let answer = home.ask_as(&format!("s{subject}"), false).await;
        assert_eq!((answer.version, answer.arm), (1, None));
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    for _ in 0..200 {
        home.runtime.tend_once().await.unwrap();
        let canary = home.canary().await;
        if home.runtime.0.canaries.answers(&home.scope, &canary).await.unwrap().shadow.answers == 30 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let ended =
        home.runtime.end_canary(&home.scope, ("curve", 1), Stage::RolledBack, "seen enough").await.unwrap();
    let shadow = ended.shadow.unwrap();
    assert_eq!((shadow.answers, shadow.mismatched), (30, 0));
    let means: Vec<(&str, f64)> =
        shadow.outputs.iter().map(|(name, found)| (name.as_str(), found.mean())).collect();
    assert_eq!(means, [("y[0]", 0.5), ("y[1]", 1.0)]);
    assert_eq!(home.alias(SHADOW).await, None);
}

#[tokio::test]
async fn another_process_follows_and_one_decides() {
    let (home, candidate) = tried(5.0).await;
    home.start(new(candidate, Mode::Canary)).await.unwrap();
    let beside = home.beside();
    beside.tend_once().await.unwrap();
    assert!(beside.0.canaries.running(&home.scope, "curve").is_some());
    home.ask_and_tell(0..80).await;
    let (one, other) = tokio::join!(home.runtime.tend_once(), beside.tend_once());
    assert!(one.is_ok() && other.is_ok(), "{one:?} {other:?}");
    beside.tend_once().await.unwrap();
    assert!(beside.0.canaries.running(&home.scope, "curve").is_none());
    let back = home.actions().await.into_iter().filter(|action| action == "model.canary_rolled_back").count();
    assert_eq!((back, home.canary().await.decisions.len()), (1, 1));
}

#[tokio::test]
async fn what_makes_no_sense_is_refused_and_a_champion_that_moves_ends_it() {
    let (home, candidate) = tried(3.0).await;
    let check = async |asked: NewCanary, field: Option<&str>| {
        let error = home.start(asked).await.unwrap_err();
        assert_eq!(error.field(), field, "{error}");
    };
    check(new(1, Mode::Canary), Some("version")).await;
    check(NewCanary { loss_scale: 0.0, ..new(candidate, Mode::Canary) }, Some("loss_scale")).await;
    check(NewCanary { output: Some("z".to_owned()), ..new(candidate, Mode::Canary) }, Some("output")).await;
    let all = Plan { steps_percent: vec![100], ..plan() };
    check(NewCanary { plan: all, ..new(candidate, Mode::Ab) }, Some("steps")).await;
    home.start(new(candidate, Mode::Ab)).await.unwrap();
    let beside = home.start(new(candidate, Mode::Canary)).await.unwrap_err();
    assert_eq!(beside.code(), codes::CONFLICT, "{beside}");
    let unknown = home.runtime.end_canary(&home.scope, ("curve", 9), Stage::Complete, "").await.unwrap_err();
    assert_eq!(unknown.code(), codes::NOT_FOUND);
    let third = home.factor("curve", 4.0).await;
    home.promote("curve", third).await;
    home.wait_and_look(1).await;
    let canary = home.canary().await;
    assert_eq!(canary.stage, Stage::RolledBack);
    assert!(canary.decisions[0].reason.contains("no longer"), "{canary:?}");
    assert_eq!(home.alias(CHAMPION).await, Some(third));
    let model = home.runtime.models().model(&home.scope, "curve").await.unwrap();
    assert!(!model.archived.contains(&candidate), "nothing was seen of it that it would be put away for");
}

#[tokio::test]
async fn an_ab_test_is_ended_by_people() {
    let (home, candidate) = tried(5.0).await;
    home.start(new(candidate, Mode::Ab)).await.unwrap();
    home.ask_and_tell(0..80).await;
    home.wait_and_look(61).await;
    assert_eq!(home.canary().await.stage, Stage::Running, "its outcome is for people to judge");
    let ended = home.runtime.end_canary(&home.scope, ("curve", 1), Stage::Complete, "cheaper").await.unwrap();
    assert_eq!((ended.stage, home.alias(CHAMPION).await), (Stage::Complete, Some(candidate)));
    let again = home.runtime.end_canary(&home.scope, ("curve", 1), Stage::RolledBack, "").await.unwrap_err();
    assert_eq!(again.code(), codes::CONFLICT);
}

#[tokio::test]
async fn the_same_subjects_carry_a_canary_through_its_steps() {
    let (home, candidate) = tried(2.0).await;
    let steps = Plan { steps_percent: vec![25, 50, 75, 100], sample_min: 20, step_seconds_min: 0, ..plan() };
    home.start(NewCanary { plan: steps, ..new(candidate, Mode::Canary) }).await.unwrap();
    let by_hand = home.runtime.end_canary(&home.scope, ("curve", 1), Stage::Complete, "").await.unwrap_err();
    assert_eq!(by_hand.code(), codes::CONFLICT, "its gates promote it");
    for percent in [50, 75, 100] {
        home.ask_and_tell(0..160).await;
        home.wait_and_look(1).await;
        assert_eq!(home.canary().await.percent, percent);
    }
    let canary = home.canary().await;
    assert_eq!((canary.stage, canary.key.as_str()), (Stage::Complete, ""));
    let losses = home.runtime.0.canaries.seen(&home.scope, &canary).await.unwrap();
    assert_eq!(losses.control.loss.count + losses.candidate.loss.count, 160, "who moved is counted once");
}

#[tokio::test]
async fn a_rollback_that_comes_second_is_told_so() {
    let (home, candidate) = tried(2.0).await;
    home.start(new(candidate, Mode::Ab)).await.unwrap();
    let model = home.runtime.models().model(&home.scope, "curve").await.unwrap().id;
    let stale = home.runtime.0.canaries.found(&home.scope, &model, 1).await.unwrap();
    home.runtime.end_canary(&home.scope, ("curve", 1), Stage::Complete, "").await.unwrap();
    for stage in [Stage::RolledBack, Stage::Complete] {
        let (percent, reason) = (0, "late".to_owned());
        let decision = Decision { at_ms: 0, stage, percent, actor: None, reason, reading: None };
        let error = home.runtime.settle(&home.scope, &stale, decision).await.unwrap_err();
        assert_eq!(error.code(), codes::CONFLICT);
    }
    assert_eq!((home.canary().await.stage, home.alias(CHAMPION).await), (Stage::Complete, Some(candidate)));
}

#[tokio::test]
async fn subjects_are_forgotten_in_time() {
    let (home, candidate) = tried(2.0).await;
    home.start(new(candidate, Mode::Ab)).await.unwrap();
    home.ask_and_tell(0..3).await;
    let subjects = async || {
        let all = Query::new(Selection::All, 100);
        home.runtime.0.parts.records.list(&home.scope, Counted::TABLE, &all).await.unwrap().records.len()
    };
    assert_eq!(subjects().await, 3);
    home.clock.advance(Duration::from_secs(40 * 86_400));
    home.runtime.watch_once().await;
    assert_eq!(subjects().await, 0);
}
