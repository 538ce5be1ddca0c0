//! On the fakes of the engines: aliases that move, versions that are bad, tenants, memory.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

use async_trait::async_trait;
use kernel::{ManualClock, SeededEntropy, TenantId, Timestamp};
use models::files::FileLimits;
use models::registered::{NewVersion, Promotion, Wanted, Witness};
use models::tracking::{NewRun, Tracking};
use store::memory::{MemoryRecords, memory_blobs};
use store::{Blobs, Records};

use super::*;
use crate::fake::{FakeEngine, floats, rows};
use crate::model::MODEL_UNUSABLE;

#[derive(Debug)]
struct Nobody;

#[async_trait]
impl Witness for Nobody {
    async fn note(&self, _: &Scope, _: &'static str, _: &str, _: BTreeMap<String, String>) -> Result<()> {
        Ok(())
    }
}

pub(crate) struct Home {
    pub(crate) runtime: Runtime,
    tracking: Tracking,
    pub(crate) clock: Arc<ManualClock>,
    engine: Arc<FakeEngine>,
    pub(crate) scope: Scope,
}

pub(crate) fn scope(tenant: &str) -> Scope {
    Scope::system(TenantId::new(tenant).unwrap(), "test")
}

pub(crate) fn home(settings: RuntimeSettings) -> Home {
    home_over(Arc::new(MemoryRecords::new()), settings)
}

pub(crate) fn home_over(records: Arc<dyn Records>, settings: RuntimeSettings) -> Home {
    let blobs: Arc<dyn Blobs> = Arc::new(memory_blobs());
    let clock = Arc::new(ManualClock::at(Timestamp::from_millisecond(1_700_000_000_000).unwrap()));
    let (now, entropy): (Arc<dyn Clock>, Arc<dyn kernel::Entropy>) =
        (Arc::clone(&clock) as _, Arc::new(SeededEntropy::new(1)));
    let limits = FileLimits { file_bytes: 8 << 20, part_bytes: 1 << 20 };
    let files = Files::new(Arc::clone(&records), blobs, Arc::clone(&now), Arc::clone(&entropy), limits);
    let tracking = Tracking::new(Arc::clone(&records), files.clone(), Arc::clone(&now), Arc::clone(&entropy));
    let audit = AuditLog::new(Arc::clone(&records), Arc::clone(&now));
    let models = RegisteredModels::new(
        Arc::clone(&records),
        files.clone(),
        tracking.clone(),
        Arc::new(Nobody),
        Arc::clone(&now),
        Arc::clone(&entropy),
    );
    let engine = Arc::new(FakeEngine::default());
    let engines = vec![Arc::clone(&engine) as _];
    let parts = RuntimeParts { models, files, engines, records, audit, clock: now, entropy };
    let runtime = Runtime::new(parts, settings, &mut Registry::default());
    Home { runtime, tracking, clock, engine, scope: scope("shop") }
}

impl Home {
    /// Another process over the same engines.
    pub(crate) fn beside(&self) -> Runtime {
        let parts = RuntimeParts { entropy: Arc::new(SeededEntropy::new(2)), ..self.runtime.0.parts.clone() };
        Runtime::new(parts, self.runtime.0.settings.clone(), &mut Registry::default())
    }

    /// A version of `name` with one file.
    async fn version(&self, scope: &Scope, name: &str, path: &str, bytes: &[u8]) -> u64 {
        self.version_of(scope, name, &[(path, bytes)]).await
    }

    /// A version of `name` with these files.
    pub(crate) async fn version_of(&self, scope: &Scope, name: &str, with: &[(&str, &[u8])]) -> u64 {
        let new = NewRun { experiment_id: "0".to_owned(), ..NewRun::default() };
        let run = self.tracking.create_run(scope, new).await.unwrap();
        for (path, bytes) in with {
            let mut upload = self.runtime.0.parts.files.begin(&run.root(), path, None).unwrap();
            upload.push(scope, bytes).await.unwrap();
            upload.finish(scope).await.unwrap();
        }
        // There may be one already.
        drop(self.runtime.models().create(scope, name, "", BTreeMap::new()).await);
        let source = format!("runs:/{}", run.id);
        let new = NewVersion { model: name.to_owned(), source, ..NewVersion::default() };
        self.runtime.models().create_version(scope, new).await.unwrap().version
    }

    pub(crate) async fn factor(&self, name: &str, factor: f32) -> u64 {
        self.version(&self.scope, name, "model.factor", factor.to_string().as_bytes()).await
    }

    pub(crate) async fn promote(&self, name: &str, version: u64) {
        let promotion = Promotion {
            wanted: Wanted::Version(version),
            alias: "champion".to_owned(),
            expected: None,
            reason: String::new(),
        };
        self.runtime.models().promote(&self.scope, name, &promotion).await.unwrap();
    }

    async fn ask(&self, selector: Selector) -> Result<(u64, Vec<f32>)> {
        let found = self.runtime.infer(&self.scope, "curve", selector, vec![rows(&[1.0, 2.0])]).await?;
        Ok((found.version, floats(&found.outputs[0]).to_vec()))
    }

    async fn champion(&self) -> (u64, Vec<f32>) {
        self.ask(Selector::default()).await.unwrap()
    }
}

#[tokio::test]
async fn an_alias_that_moves_is_followed() {
    let home = home(RuntimeSettings::default());
    let (one, two) = (home.factor("curve", 2.0).await, home.factor("curve", 3.0).await);
    let error = home.ask(Selector::default()).await.unwrap_err();
    assert_eq!(error.code(), codes::NOT_FOUND, "{error}");
    home.promote("curve", one).await;
    assert_eq!(home.champion().await, (1, vec![2.0, 4.0]));
    home.promote("curve", two).await;
    assert_eq!(home.champion().await.0, 1, "nobody looked yet");
    home.runtime.look().await;
    assert_eq!(home.champion().await, (2, vec![3.0, 6.0]));
    assert_eq!(home.ask(Selector::Version(1)).await.unwrap().1, [2.0, 4.0]);
    home.promote("curve", one).await;
    home.runtime.look().await;
    assert_eq!(home.champion().await.0, 1);
    assert_eq!(home.engine.loads.load(Ordering::Relaxed), 2, "what is in memory is not loaded again");
    for (selector, name) in [
        (Selector::Version(9), "curve"),
        (Selector::Alias("canary".to_owned()), "curve"),
        (Selector::default(), "none"),
    ] {
        let error = home.runtime.infer(&home.scope, name, selector, vec![]).await.unwrap_err();
        assert_eq!(error.code(), codes::NOT_FOUND);
    }
}

#[tokio::test]
async fn a_version_that_is_bad_leaves_the_old_one_serving() {
    let home = home(RuntimeSettings::default());
    let good = home.factor("curve", 2.0).await;
    let bad = home.version(&home.scope, "curve", "model.factor", b"two").await;
    let unknown = home.version(&home.scope, "curve", "model.h5", b"x").await;
    let signature = br#"signature:
  inputs: '[{"type": "tensor", "tensor-spec": {"dtype": "float32", "shape": [-1, 7]}}]'
"#;
    let of_another: &[(&str, &[u8])] = &[("model.factor", b"3"), ("MLmodel", signature)];
    let of_another = home.version_of(&home.scope, "curve", of_another).await;
    home.promote("curve", good).await;
    assert_eq!(home.champion().await.0, good);
    for version in [bad, unknown, of_another] {
        home.promote("curve", version).await;
        home.runtime.look().await;
        assert_eq!(home.champion().await.0, good);
        let (serving, fault) = home.runtime.standing(&home.scope, "curve", Selector::default());
        assert!(serving == Some(good) && fault.is_some_and(|fault| fault.contains("cannot be served")));
        let error = home.ask(Selector::Version(version)).await.unwrap_err();
        assert_eq!(error.code(), MODEL_UNUSABLE, "{error}");
    }
    let loads = home.engine.loads.load(Ordering::Relaxed);
    home.runtime.look().await;
    assert_eq!(home.engine.loads.load(Ordering::Relaxed), loads, "it is not tried again at once");
    home.clock.advance(Duration::from_secs(1_000));
    // Nobody asked for it meanwhile: this process knows no version before, the history does.
    home.runtime.look().await;
    assert_eq!(home.runtime.standing(&home.scope, "curve", Selector::default()), (None, None));
    assert_eq!(home.champion().await.0, good);
}

#[tokio::test]
async fn a_look_that_is_asked_for_tries_again_and_says_what_it_found() {
    let home = home(RuntimeSettings::default());
    let bad = home.version(&home.scope, "curve", "model.factor", b"two").await;
    home.promote("curve", bad).await;
    home.ask(Selector::default()).await.unwrap_err();
    for _ in 0..2 {
        let loads = home.engine.loads.load(Ordering::Relaxed);
        let found = home.runtime.look_now(&home.scope).await;
        assert_eq!((found.len(), found[0].version), (1, None));
        assert!(found[0].fault.as_ref().is_some_and(|fault| fault.contains("cannot be served")), "{found:?}");
        assert_eq!(home.engine.loads.load(Ordering::Relaxed), loads + 1, "it is tried again");
        assert!(home.runtime.standing(&home.scope, "curve", Selector::default()).1.is_some());
    }
    let good = home.factor("curve", 2.0).await;
    home.promote("curve", good).await;
    let found = home.runtime.look_now(&home.scope).await;
    assert_eq!((found[0].version, found[0].fault.as_deref()), (Some(good), None));
    assert_eq!(home.champion().await.0, good);
}

#[tokio::test]
async fn what_is_promoted_is_tried_first() {
    let home = home(RuntimeSettings::default());
    home.runtime.try_promotions();
    let good = home.factor("curve", 2.0).await;
    let bad = home.version(&home.scope, "curve", "model.factor", b"two").await;
    let unread = home.version(&home.scope, "curve", "model.h5", b"x").await;
    home.promote("curve", good).await;
    assert_eq!(home.engine.loads.load(Ordering::Relaxed), 1, "it is in memory already");
    let asked = |version: u64, alias: &str| Promotion {
        wanted: Wanted::Version(version),
        alias: alias.to_owned(),
        expected: None,
        reason: String::new(),
    };
    let models = home.runtime.models();
    for alias in ["champion", "canary"] {
        let error = models.promote(&home.scope, "curve", &asked(bad, alias)).await.unwrap_err();
        assert_eq!((error.code(), error.field()), (MODEL_UNUSABLE, Some("version")));
        assert!(error.message().contains(crate::TRIAL_TAG), "{error}");
    }
    let mut wrong = asked(bad, "champion");
    wrong.expected = Some(9);
    let error = models.promote(&home.scope, "curve", &wrong).await.unwrap_err();
    assert_eq!(error.code(), codes::CONFLICT, "who is late need not wait for a load");
    assert_eq!(home.champion().await.0, good);
    for alias in ["champion", "canary"] {
        let error = models.promote(&home.scope, "curve", &asked(unread, alias)).await.unwrap_err();
        assert_eq!((error.code(), error.field()), (MODEL_UNUSABLE, Some("version")));
        let (good, off) = (error.message().find("register a good version"), error.message().find("`off`"));
        assert!(good.is_some() && good < off, "{error}");
    }
    models.tag_version(&home.scope, "curve", unread, crate::TRIAL_TAG, Some("off")).await.unwrap();
    models.promote(&home.scope, "curve", &asked(unread, "champion")).await.unwrap();
}

/// Promotes a version of the kind `wanted` after versions of the kinds `before`, which nobody tried.
async fn promoted_after(before: &[&str], wanted: &str) -> Result<()> {
    let home = home(RuntimeSettings::default());
    let make = async |kind: &str| {
        let (path, bytes) = match kind {
            "good" => ("model.factor", "2"),
            "damaged" => ("model.factor", "two"),
            "of other inputs" => ("model.factor", "2 z"),
            _ => ("model.h5", "x"),
        };
        home.version(&home.scope, "curve", path, bytes.as_bytes()).await
    };
    for kind in before {
        let version = make(kind).await;
        home.promote("curve", version).await;
    }
    home.runtime.try_promotions();
    let promotion = Promotion {
        wanted: Wanted::Version(make(wanted).await),
        alias: "champion".to_owned(),
        expected: None,
        reason: String::new(),
    };
    home.runtime.models().promote(&home.scope, "curve", &promotion).await.map(drop)
}

#[tokio::test]
async fn a_new_champion_is_compared_with_what_answers() {
    let check = async |before: &[&str], wanted: &str, expected: Option<&str>| {
        let told = promoted_after(before, wanted).await.err();
        let is_as_expected = match (&told, expected) {
            (None, None) => true,
            (Some(error), Some(part)) => error.code() == MODEL_UNUSABLE && error.message().contains(part),
            _ => false,
        };
        assert!(is_as_expected, "{before:?}, then {wanted}: {told:?}");
    };
    let answers = Some("version 1 answers for `champion`");
    let no_successor = Some("no successor of version 1");
    // A model that is only kept.
    check(&[], "unread", None).await;
    check(&["unread"], "unread", None).await;
    check(&["unread"], "of other inputs", None).await;
    check(&["damaged"], "of other inputs", None).await;
    check(&["damaged"], "unread", None).await;
    // One that is served.
    check(&["good"], "good", None).await;
    check(&["good"], "unread", answers).await;
    check(&["good"], "damaged", Some("cannot be served")).await;
    check(&["good"], "of other inputs", no_successor).await;
    check(&["good", "of other inputs"], "of other inputs", None).await;
    // One whose champion cannot be: the version before it answers.
    for between in [&["unread"][..], &["damaged"], &["unread"; 5], &["unread", "damaged"]] {
        let before = [&["good"], between].concat();
        check(&before, "good", None).await;
        check(&before, "unread", answers).await;
        check(&before, "of other inputs", no_successor).await;
    }
}

#[tokio::test]
async fn a_champion_is_examined_and_let_go() {
    let check = async |before: &[&str], expected: Option<Finding>| {
        let home = home(RuntimeSettings::default());
        home.runtime.models().create(&home.scope, "curve", "", BTreeMap::new()).await.unwrap();
        for path in before {
            let version = home.version(&home.scope, "curve", path, b"2").await;
            home.promote("curve", version).await;
        }
        let model = home.runtime.models().model(&home.scope, "curve").await.unwrap();
        let found = home.runtime.examine(&home.scope, &model).await.unwrap();
        let expected = expected.map(|finding| Examined { version: before.len() as u64, finding });
        assert_eq!(found, expected, "{before:?}");
        assert_eq!(home.runtime.0.shelf.taken_bytes(), 0, "it is let go");
    };
    let unread = Finding::Faulty("no engine of this server reads its files; it has fake".to_owned());
    check(&[], None).await;
    check(&["model.factor"], Some(Finding::Served("fake"))).await;
    check(&["model.h5"], Some(Finding::Kept)).await;
    check(&["model.h5", "model.h5"], Some(Finding::Kept)).await;
    check(&["model.factor", "model.h5"], Some(unread)).await;
}

#[tokio::test]
async fn what_is_gone_is_not_served() {
    let home = home(RuntimeSettings::default());
    let one = home.factor("curve", 2.0).await;
    home.promote("curve", one).await;
    assert_eq!(home.champion().await.0, 1);
    home.runtime.models().rename(&home.scope, "curve", "other").await.unwrap();
    home.runtime.look().await;
    assert_eq!(home.ask(Selector::default()).await.unwrap_err().code(), codes::NOT_FOUND);
}

#[tokio::test]
async fn a_tenant_asks_its_own_models_only() {
    let home = home(RuntimeSettings::default());
    let one = home.factor("curve", 2.0).await;
    home.promote("curve", one).await;
    assert_eq!(home.champion().await.0, 1);
    let asked =
        home.runtime.infer(&scope("other"), "curve", Selector::default(), vec![rows(&[1.0, 1.0])]).await;
    assert_eq!(asked.unwrap_err().code(), codes::NOT_FOUND);
    home.version(&scope("other"), "curve", "model.factor", b"5").await;
    let asked =
        home.runtime.infer(&scope("other"), "curve", Selector::Version(1), vec![rows(&[1.0, 1.0])]).await;
    assert_eq!(floats(&asked.unwrap().outputs[0]), [5.0, 5.0]);
    assert_eq!(home.champion().await.1, [2.0, 4.0]);
}

#[tokio::test]
async fn answers_that_are_no_numbers_are_refused() {
    let home = home(RuntimeSettings::default());
    home.factor("curve", 2.0).await;
    let asked =
        home.runtime.infer(&home.scope, "curve", Selector::Version(1), vec![rows(&[f32::MAX, 1.0])]).await;
    assert_eq!(asked.unwrap_err().code(), NOT_FINITE);
    let asked =
        home.runtime.infer(&home.scope, "curve", Selector::Version(1), vec![rows(&[f32::NAN, 1.0])]).await;
    assert_eq!(asked.unwrap_err().field(), Some("inputs[0].data"));
}

#[tokio::test]
async fn memory_holds_as_many_versions_as_it_has_room_for() {
    let home = home(RuntimeSettings { memory_mb: 3, max_model_mb: 1, ..RuntimeSettings::default() });
    let mut bytes = b"2".to_vec();
    bytes.resize(700 << 10, b' ');
    for _ in 0..3 {
        home.version(&home.scope, "curve", "model.factor", &bytes).await;
    }
    for version in [1, 2, 3, 1] {
        home.clock.advance(Duration::from_secs(1));
        assert_eq!(home.ask(Selector::Version(version)).await.unwrap().0, version);
    }
    assert_eq!(home.engine.loads.load(Ordering::Relaxed), 4);
    assert_eq!((home.runtime.0.metrics.evictions.get(), home.runtime.0.metrics.versions.get()), (2, 2));
    bytes.resize(2 << 20, b' ');
    let large = home.version(&home.scope, "curve", "model.factor", &bytes).await;
    assert_eq!(home.ask(Selector::Version(large)).await.unwrap_err().code(), MODEL_UNUSABLE);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_request_fails_while_aliases_move() {
    let home = Arc::new(home(RuntimeSettings { max_queued_requests: 10_000, ..RuntimeSettings::default() }));
    for factor in [2.0, 3.0] {
        home.factor("curve", factor).await;
    }
    home.promote("curve", 1).await;
    let asking: Vec<_> = (0..8)
        .map(|_| {
            let home = Arc::clone(&home);
            tokio::spawn(async move {
                for _ in 0..200 {
                    let (version, values) = home.champion().await;
                    assert_eq!(values, if version == 1 { [2.0, 4.0] } else { [3.0, 6.0] });
                }
            })
        })
        .collect();
    for turn in 0..40 {
        home.promote("curve", 1 + turn % 2).await;
        home.runtime.look().await;
    }
    for task in asking {
        task.await.unwrap();
    }
}
