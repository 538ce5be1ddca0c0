//! The registry on the fakes: versions that keep their bytes, aliases that move once, what is never removed.

use std::sync::Mutex;
use std::time::Duration;

use kernel::{ManualClock, SeededEntropy, TenantId, Timestamp};
use store::memory::MemoryRecords;

use super::*;
use crate::files::FileLimits;
use crate::tracking::NewRun;

#[derive(Debug, Default)]
struct Noted(Mutex<Vec<String>>);

#[async_trait]
impl Witness for Noted {
    async fn note(
        &self,
        _: &Scope,
        action: &'static str,
        subject: &str,
        _: BTreeMap<String, String>,
    ) -> Result<()> {
        self.0.lock().unwrap().push(format!("{action} {subject}"));
        Ok(())
    }
}

struct Home {
    models: RegisteredModels,
    clock: Arc<ManualClock>,
    noted: Arc<Noted>,
    scope: Scope,
    run: crate::tracking::Run,
}

fn scope(tenant: &str) -> Scope {
    Scope::system(TenantId::new(tenant).unwrap(), "test")
}

async fn home() -> Home {
    let records: Arc<dyn Records> = Arc::new(MemoryRecords::new());
    let clock = Arc::new(ManualClock::at(Timestamp::from_millisecond(1_700_000_000_000).unwrap()));
    let (now, entropy): (Arc<dyn Clock>, Arc<dyn Entropy>) =
        (Arc::clone(&clock) as _, Arc::new(SeededEntropy::new(1)));
    let limits = FileLimits { file_bytes: 1_000, part_bytes: 64 };
    let blobs = Arc::new(store::memory::memory_blobs());
    let files = Files::new(Arc::clone(&records), blobs, Arc::clone(&now), Arc::clone(&entropy), limits);
    let tracking = Tracking::new(Arc::clone(&records), files.clone(), Arc::clone(&now), Arc::clone(&entropy));
    let (scope, noted) = (scope("shop"), Arc::new(Noted::default()));
    let tags = BTreeMap::from([("mlflow.source.git.commit".to_owned(), "abc".to_owned())]);
    let run = NewRun { experiment_id: "0".to_owned(), tags, ..NewRun::default() };
    let run = tracking.create_run(&scope, run).await.unwrap();
    let models = RegisteredModels::new(records, files, tracking, Arc::clone(&noted) as _, now, entropy);
    models.create(&scope, "curve", "", BTreeMap::new()).await.unwrap();
    Home { models, clock, noted, scope, run }
}

impl Home {
    async fn put(&self, path: &str, bytes: &[u8]) {
        let mut upload = self.models.files.begin(&self.run.root(), path, None).unwrap();
        upload.push(&self.scope, bytes).await.unwrap();
        upload.finish(&self.scope).await.unwrap();
    }

    async fn version(&self, mark: u8) -> RegisteredVersion {
        self.put("model/weights", &[mark; 100]).await;
        let source = format!("runs:/{}/model", self.run.id);
        let new = NewVersion {
            model: "curve".to_owned(),
            source,
            run_id: self.run.id.clone(),
            ..NewVersion::default()
        };
        self.models.create_version(&self.scope, new).await.unwrap()
    }

    async fn promote(&self, version: u64, expected: Option<u64>) -> Result<RegisteredModel> {
        let (wanted, alias) = (Wanted::Version(version), CHAMPION.to_owned());
        let promotion = Promotion { wanted, alias, expected, reason: String::new() };
        self.models.promote(&self.scope, "curve", &promotion).await
    }

    async fn champion(&self) -> Option<u64> {
        self.models.model(&self.scope, "curve").await.unwrap().aliases.get(CHAMPION).copied()
    }
}

#[tokio::test]
async fn a_version_keeps_its_bytes_and_its_lineage() {
    let home = home().await;
    home.put("model/MLmodel", b"signature:\n  inputs: x\nflavors: {}\n").await;
    let first = home.version(1).await;
    let second = home.version(2).await;
    assert_eq!((first.version, second.version), (1, 2));
    assert_eq!(first.signature.as_deref(), Some("signature:\n  inputs: x"));
    assert_eq!(first.lineage.code_version.as_deref(), Some("abc"));
    assert_ne!(first.checksum, second.checksum);
    let root = first.root.clone().unwrap();
    let kept = home.models.files.get(&home.scope, &root, "weights").await.unwrap().unwrap();
    assert_eq!(home.models.files.read(&home.scope, &kept, 1_000).await.unwrap(), [1; 100]);
    let refused = home.models.tracking.require_writable(&home.scope, &root).await.unwrap_err();
    assert_eq!(refused.code(), INVALID_STATE);
    let other = scope("other");
    assert_eq!(home.models.model(&other, "curve").await.unwrap_err().code(), codes::NOT_FOUND);
    assert!(home.models.files.get(&other, &root, "weights").await.unwrap().is_none());
    for (source, code) in [
        ("runs:/0123456789abcdef0123456789abcdef/model", codes::NOT_FOUND),
        ("runs:/x/../y", codes::NOT_FOUND),
        ("s3://bucket/model", codes::VALIDATION_ERROR),
        ("mlflow-artifacts:/../secrets", codes::VALIDATION_ERROR),
        ("mlflow-artifacts:/0/x/artifacts/empty", codes::NOT_FOUND),
    ] {
        let new =
            NewVersion { model: "curve".to_owned(), source: source.to_owned(), ..NewVersion::default() };
        assert_eq!(home.models.create_version(&home.scope, new).await.unwrap_err().code(), code, "{source}");
    }
}

#[tokio::test]
async fn of_two_promotions_one_wins() {
    let home = home().await;
    for mark in 1..=3 {
        home.version(mark).await;
    }
    home.promote(1, Some(0)).await.unwrap();
    let (left, right) = futures::join!(home.promote(2, Some(1)), home.promote(3, Some(1)));
    let outcomes = [left.map(drop), right.map(drop)];
    assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 1, "{outcomes:?}");
    let lost = outcomes.into_iter().find_map(Result::err).unwrap();
    assert!(
        lost.code() == codes::CONFLICT && lost.message().contains("another promotion was first"),
        "{lost}"
    );
    assert_eq!(home.promote(9, None).await.unwrap_err().code(), codes::NOT_FOUND);
}

#[tokio::test]
async fn a_rollback_goes_back_one_promotion_at_a_time() {
    let home = home().await;
    for mark in 1..=3 {
        home.version(mark).await;
        home.promote(u64::from(mark), None).await.unwrap();
    }
    let back = async || home.models.rollback(&home.scope, "curve", CHAMPION, None, "worse").await;
    for expected in [2, 1] {
        back().await.unwrap();
        assert_eq!(home.champion().await, Some(expected));
    }
    assert_eq!(back().await.unwrap_err().code(), INVALID_STATE);
    let (changes, _) = home.models.history(&home.scope, "curve", None, 100).await.unwrap();
    let told: Vec<_> = changes.iter().rev().map(|change| change.action.as_str()).collect();
    let expected = "created version_created promoted version_created promoted version_created promoted rolled_back \
                    rolled_back";
    assert_eq!(told.join(" "), expected);
    assert_eq!(home.noted.0.lock().unwrap().len(), told.len(), "the audit has every change");
}

#[tokio::test]
async fn stages_are_a_view_on_aliases() {
    let home = home().await;
    for mark in 1..=2 {
        home.version(mark).await;
    }
    let set =
        async |version, stage| home.models.set_stage(&home.scope, "curve", version, stage).await.unwrap();
    let stages = |model: &RegisteredModel| [model.stage(1), model.stage(2)];
    set(1, Stage::Staging).await;
    let model = set(1, Stage::Production).await;
    assert_eq!((stages(&model), model.aliases.len()), ([Stage::Production, Stage::None], 1));
    set(2, Stage::Staging).await;
    let next =
        Promotion { wanted: Wanted::Next, alias: CHAMPION.to_owned(), expected: None, reason: String::new() };
    let model = home.models.promote(&home.scope, "curve", &next).await.unwrap();
    assert_eq!(stages(&model), [Stage::Archived, Stage::Production]);
    assert_eq!(stages(&set(2, Stage::None).await), [Stage::Archived, Stage::None]);
    assert_eq!(stages(&set(1, Stage::None).await), [Stage::None, Stage::None]);
    for bad in ["latest", "v3", "7", "", "a b"] {
        let promotion = Promotion { alias: bad.to_owned(), ..next.clone() };
        let refused = home.models.promote(&home.scope, "curve", &promotion).await.unwrap_err();
        assert_eq!(refused.field(), Some("alias"), "{bad}");
    }
    let meant = |model: (RegisteredModel, Option<u64>)| (model.0.name, model.1);
    assert_eq!(
        meant(home.models.meant(&home.scope, "curve_v2").await.unwrap()),
        ("curve".to_owned(), Some(2))
    );
    assert_eq!(meant(home.models.meant(&home.scope, "curve").await.unwrap()), ("curve".to_owned(), None));
    assert!(home.models.meant(&home.scope, "other_v2").await.is_err());
}

#[tokio::test]
async fn a_clean_up_leaves_what_is_of_use() {
    let home = home().await;
    for mark in 1..=6 {
        home.version(mark).await;
    }
    home.promote(2, None).await.unwrap();
    home.promote(4, None).await.unwrap();
    home.models.tracking.delete_run(&home.scope, &home.run.id).await.unwrap();
    let clean = async |dry_run| home.models.clean_up(&home.scope, 30, dry_run).await.unwrap();
    assert_eq!(clean(false).await.versions, [], "nothing is old");
    home.clock.advance(Duration::from_secs(31 * 24 * 60 * 60));
    let told = clean(true).await;
    let numbers: Vec<u64> = told.versions.iter().map(|version| version.version).collect();
    assert_eq!(numbers, [1, 3, 5], "2 is rolled back to, 4 serves, 6 is the newest");
    let kept: Vec<(u64, &str)> =
        told.kept.iter().map(|version| (version.version, version.reason.as_str())).collect();
    let serves = format!("the alias {CHAMPION} points at it");
    let is_gone_back_to = format!("a rollback of {CHAMPION} would go to it");
    assert_eq!(kept, [(2, is_gone_back_to.as_str()), (4, serves.as_str()), (6, "it is the newest")]);
    assert_eq!(told.runs, std::slice::from_ref(&home.run.id));
    let done = clean(false).await;
    assert_eq!((done.versions, done.kept, done.runs), (told.versions, told.kept, told.runs));
    assert!(home.models.version(&home.scope, "curve", 4).await.is_ok());
    assert!(home.models.version(&home.scope, "curve", 3).await.is_err());
    let kept = home.models.version(&home.scope, "curve", 4).await.unwrap();
    let file = home.models.files.get(&home.scope, &kept.root.unwrap(), "weights").await.unwrap().unwrap();
    assert_eq!(home.models.files.read(&home.scope, &file, 1_000).await.unwrap(), [4; 100]);
    let refused = home.models.delete_version(&home.scope, "curve", 4).await.unwrap_err();
    assert_eq!(refused.code(), INVALID_STATE);
    assert_eq!(home.models.delete(&home.scope, "curve").await.unwrap_err().code(), INVALID_STATE);
    home.models.remove_alias(&home.scope, "curve", CHAMPION).await.unwrap();
    home.models.rename(&home.scope, "curve", "bend").await.unwrap();
    assert_eq!(home.models.version(&home.scope, "bend", 4).await.unwrap().model, "bend");
    home.models.delete(&home.scope, "bend").await.unwrap();
    assert!(home.models.files.sweep(&home.scope, true).await.unwrap().uploads == 0, "no part is left over");
}

#[tokio::test]
async fn what_was_put_away_is_promoted_only_by_its_number() {
    let home = home().await;
    for mark in 1..=2 {
        home.version(mark).await;
    }
    home.promote(1, None).await.unwrap();
    let next = |alias: &str| {
        let alias = alias.to_owned();
        Promotion { wanted: Wanted::Next, alias, expected: None, reason: String::new() }
    };
    home.models.promote(&home.scope, "curve", &next(CANARY)).await.unwrap();
    // Another has the alias.
    home.models.put_away(&home.scope, "curve", (CANARY, 1), "worse", &[]).await.unwrap();
    let model = home.models.model(&home.scope, "curve").await.unwrap();
    assert_eq!((model.aliases.get(CANARY), model.archived.len()), (Some(&2), 0));
    home.models.put_away(&home.scope, "curve", (CANARY, 2), "worse", &[]).await.unwrap();
    let model = home.models.model(&home.scope, "curve").await.unwrap();
    assert_eq!((model.aliases.get(CANARY), model.stage(2)), (None, Stage::Archived));
    let (changes, _) = home.models.history(&home.scope, "curve", None, 1).await.unwrap();
    let last = &changes[0];
    let told = (last.action.as_str(), last.alias.as_deref(), last.from, last.reason.as_str());
    assert_eq!(told, ("archived", Some(CANARY), Some(2), "worse"));
    let refused = home.models.promote(&home.scope, "curve", &next(CHAMPION)).await.unwrap_err();
    assert_eq!((refused.code(), refused.field()), (INVALID_STATE, Some("version")));
    assert!(refused.message().contains("the newest version of `curve`, 2,"), "{}", refused.message());
    assert_eq!(home.champion().await, Some(1));
    home.promote(2, None).await.unwrap();
    // What a rollback left behind is taken back too.
    home.models.rollback(&home.scope, "curve", CHAMPION, None, "").await.unwrap();
    let refused = home.models.promote(&home.scope, "curve", &next(CHAMPION)).await.unwrap_err();
    assert_eq!(refused.code(), INVALID_STATE);
    home.version(3).await;
    home.models.promote(&home.scope, "curve", &next(CHAMPION)).await.unwrap();
    assert_eq!(home.champion().await, Some(3));
}
