//! Files on the fakes: whole or not there, shared or alone, found by their checksum.

use kernel::{ManualClock, SeededEntropy, TenantId};
use store::memory::MemoryRecords;

use super::*;

const PART: usize = 64;

struct Home {
    files: Files,
    blobs: Arc<dyn Blobs>,
    records: Arc<dyn Records>,
    clock: Arc<ManualClock>,
    scope: Scope,
}

fn home() -> Home {
    let records: Arc<dyn Records> = Arc::new(MemoryRecords::new());
    let blobs: Arc<dyn Blobs> = Arc::new(store::memory::memory_blobs());
    let clock = Arc::new(ManualClock::at(Timestamp::UNIX_EPOCH));
    let limits = FileLimits { file_bytes: 1_000, part_bytes: PART };
    let files = Files::new(
        Arc::clone(&records),
        Arc::clone(&blobs),
        Arc::clone(&clock) as _,
        Arc::new(SeededEntropy::new(1)),
        limits,
    );
    Home { files, blobs, records, clock, scope: Scope::system(TenantId::new("shop").unwrap(), "test") }
}

impl Home {
    async fn put(&self, root: &str, path: &str, bytes: &[u8]) -> Result<ArtifactFile> {
        let mut upload = self.files.begin(root, path, Some(bytes.len() as u64))?;
        for chunk in bytes.chunks(7) {
            if let Err(error) = upload.push(&self.scope, chunk).await {
                upload.abandon(&self.scope).await.unwrap();
                return Err(error);
            }
        }
        upload.finish(&self.scope).await
    }

    async fn parts(&self) -> usize {
        self.blobs.list(&self.scope, FOLDER).await.unwrap().len()
    }
}

#[tokio::test]
async fn what_comes_in_goes_out() {
    let home = home();
    for length in [0, 1, PART - 1, PART, PART + 1, 5 * PART] {
        let bytes: Vec<u8> = (0..length).map(|byte| (byte % 97) as u8).collect();
        let file = home.put("1/run/artifacts", "model/data.bin", &bytes).await.unwrap();
        assert_eq!((file.size_bytes, file.sha256.clone()), (length as u64, sha256(&bytes)));
        assert_eq!(home.files.read(&home.scope, &file, 1_000).await.unwrap(), bytes);
    }
    assert_eq!(home.parts().await, 5, "what is replaced is gone");
    let listed = home.files.list(&home.scope, "1/run/artifacts", None).await.unwrap();
    assert_eq!(listed, [Listed { path: "model".to_owned(), size_bytes: None }]);
    let listed = home.files.list(&home.scope, "1/run/artifacts", Some("model")).await.unwrap();
    assert_eq!(listed, [Listed { path: "model/data.bin".to_owned(), size_bytes: Some(5 * PART as u64) }]);
    assert!(
        home.files.list(&home.scope, "1/run/artifacts", Some("model/data.bin")).await.unwrap().is_empty()
    );
    let other = Scope::system(TenantId::new("other").unwrap(), "test");
    assert!(home.files.get(&other, "1/run/artifacts", "model/data.bin").await.unwrap().is_none());
    assert_eq!(home.files.remove(&home.scope, "1/run/artifacts", None).await.unwrap(), 1);
    assert_eq!(home.parts().await, 0);
}

#[tokio::test]
async fn what_is_refused_leaves_nothing() {
    let home = home();
    let check = async |path: &str, bytes: &[u8], code: kernel::ErrorCode| {
        assert_eq!(home.put("1/run", path, bytes).await.unwrap_err().code(), code, "{path}");
        assert!(home.files.below(&home.scope, "1/run", None).await.unwrap().is_empty(), "{path}");
    };
    check("../a", b"x", codes::VALIDATION_ERROR).await;
    check("model.pkl", b"x", REFUSED_FORMAT).await;
    check("model.bin", b"\x80\x04\x95 and more", REFUSED_FORMAT).await;
    check("large", &[1; 1_001], codes::TOO_LARGE).await;
    check("bomb.zip", &zip::tests::archive(&[("zeros", 4_000_000_000)]), REFUSED_FORMAT).await;
    check("torch.pt", &zip::tests::archive(&[("archive/data.pkl", 3)]), REFUSED_FORMAT).await;
    let mut unannounced = home.files.begin("1/run", "large", None).unwrap();
    unannounced.push(&home.scope, &[1; 500]).await.unwrap();
    let late = unannounced.push(&home.scope, &[1; 501]).await.unwrap_err();
    assert_eq!(late.code(), codes::TOO_LARGE);
    // What nobody abandons, as after a crash, is found a day later.
    assert_eq!(home.files.sweep(&home.scope, false).await.unwrap(), Swept::default());
    home.clock.advance(std::time::Duration::from_secs(2 * 24 * 60 * 60));
    assert!(home.parts().await > 0);
    let told = home.files.sweep(&home.scope, true).await.unwrap();
    assert_eq!(home.files.sweep(&home.scope, false).await.unwrap(), told);
    assert_eq!(home.parts().await, 0);
}

#[tokio::test]
async fn a_version_keeps_what_a_run_replaces() {
    let home = home();
    home.put("1/run", "model/a", b"first").await.unwrap();
    let (files, writes) = home.files.take_over(&home.scope, ("1/run", Some("model")), "v/1").await.unwrap();
    assert_eq!(files[0].path, "a");
    home.records.commit(&home.scope, writes).await.unwrap();
    home.put("1/run", "model/a", b"second").await.unwrap();
    home.files.remove(&home.scope, "1/run", Some("model")).await.unwrap();
    let kept = home.files.get(&home.scope, "v/1", "a").await.unwrap().unwrap();
    assert_eq!(home.files.read(&home.scope, &kept, 100).await.unwrap(), b"first");
    assert_eq!(home.parts().await, 1);
    // A removal between the reading and the writing makes the take-over fail.
    let (_, writes) = home.files.take_over(&home.scope, ("v/1", None), "v/2").await.unwrap();
    home.files.remove(&home.scope, "v/1", None).await.unwrap();
    assert_eq!(home.records.commit(&home.scope, writes).await.unwrap_err().code(), codes::CONFLICT);
    assert_eq!(home.parts().await, 0);
}

#[tokio::test]
async fn damage_is_found() {
    let home = home();
    let file = home.put("1/run", "a", b"whole").await.unwrap();
    let path = part_path(&file.upload, 0);
    home.blobs.put(&home.scope, &path, Bytes::from_static(b"whole?"), store::PutMode::Replace).await.unwrap();
    assert_eq!(home.files.part(&home.scope, &file, 0).await.unwrap_err().code(), codes::CORRUPTED);
}
