//! A hub of a few files on this machine, which answers as the usual one does, redirects large files as that does, and lies.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::Router;
use axum::extract::{Path as Address, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::get;
use ring::digest::{SHA256, digest};
use serde_json::{Value, json};

use super::*;

const REVISION: &str = "0123456789abcdef0123456789abcdef01234567";
const MODEL: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/encoder");

/// What a hub gives for a file, and what it says of it.
#[derive(Debug, Clone)]
struct Given {
    name: &'static str,
    bytes: Vec<u8>,
    said: Value,
}

#[derive(Debug, Default)]
struct Fake {
    files: Vec<Given>,
    asked: AtomicUsize,
}

fn honest(name: &'static str, bytes: Vec<u8>) -> Given {
    let size = bytes.len();
    let head = format!("blob {size}\0").into_bytes();
    let sha1 = digest(&SHA1_FOR_LEGACY_USE_ONLY, &[head, bytes.clone()].concat());
    let mut said = json!({"type": "file", "path": name, "size": size, "oid": kernel::hex(sha1.as_ref())});
    if name.ends_with(".safetensors") {
        said["oid"] = json!("1".repeat(40));
        let sha256 = kernel::hex(digest(&SHA256, &bytes).as_ref());
        said["lfs"] = json!({"oid": sha256, "size": size, "pointerSize": 134});
    }
    Given { name, bytes, said }
}

fn model() -> Vec<Given> {
    let file = |name: &&'static str| honest(name, std::fs::read(Path::new(MODEL).join(name)).unwrap());
    FILES.iter().map(file).chain([honest("README.md", b"#".to_vec())]).collect()
}

async fn list(
    State(fake): State<Arc<Fake>>,
    Address((_, _, revision)): Address<(String, String, String)>,
) -> Response {
    fake.asked.fetch_add(1, Ordering::SeqCst);
    if revision != REVISION {
        return StatusCode::NOT_FOUND.into_response();
    }
    let folder = json!({"type": "directory", "path": "1_Pooling", "size": 0, "oid": "2".repeat(40)});
    let files = fake.files.iter().map(|file| file.said.clone()).chain([folder]);
    axum::Json(files.collect::<Vec<_>>()).into_response()
}

async fn resolve(
    State(fake): State<Arc<Fake>>,
    Address((_, _, _, name)): Address<(String, String, String, String)>,
) -> Response {
    fake.asked.fetch_add(1, Ordering::SeqCst);
    match fake.files.iter().find(|file| file.name == name) {
        Some(file) if file.said.get("lfs").is_some() => {
            Redirect::temporary(&format!("/cdn/{name}")).into_response()
        }
        Some(file) => file.bytes.clone().into_response(),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

async fn large(State(fake): State<Arc<Fake>>, Address(name): Address<String>) -> Response {
    fake.files.iter().find(|file| file.name == name).unwrap().bytes.clone().into_response()
}

/// A hub with these files; its address.
async fn hub(files: Vec<Given>) -> (String, Arc<Fake>) {
    let fake = Arc::new(Fake { files, asked: AtomicUsize::new(0) });
    let router = Router::new()
        .route("/api/models/{owner}/{name}/tree/{revision}", get(list))
        .route("/{owner}/{name}/resolve/{revision}/{*file}", get(resolve))
        .route("/cdn/{name}", get(large))
        .with_state(Arc::clone(&fake));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await });
    (url, fake)
}

async fn fetched(url: &str, folder: &Path) -> Result<String> {
    files(url, folder, "some/words", REVISION).await.map(|files| files.version().to_owned())
}

#[tokio::test]
async fn a_commit_is_fetched_once_and_looked_at_ever_after() {
    let folder = tempfile::tempdir().unwrap();
    let (url, fake) = hub(model()).await;
    let expected = ModelFiles::read(Path::new(MODEL)).unwrap().version().to_owned();
    assert_eq!(fetched(&url, folder.path()).await.unwrap(), expected);
    assert_eq!(fake.asked.load(Ordering::SeqCst), 1 + FILES.len(), "what is not read is not fetched");
    let kept = folder.path().join("some--words").join(REVISION);
    assert!(!kept.join("README.md").exists());
    let nobody = "http://127.0.0.1:1";
    assert_eq!(fetched(nobody, folder.path()).await.unwrap(), expected, "without a network");

    let weights = kept.join("model.safetensors");
    let mut bytes = std::fs::read(&weights).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&weights, bytes).unwrap();
    assert_eq!(fetched(nobody, folder.path()).await.unwrap_err().code(), codes::UNAVAILABLE);
    assert_eq!(fetched(&url, folder.path()).await.unwrap(), expected, "fetched again");
    std::fs::write(kept.join(LIST), "[]").unwrap();
    assert_eq!(fetched(&url, folder.path()).await.unwrap(), expected, "a list that lacks files is none");
    let left = std::fs::read_dir(folder.path().join("some--words")).unwrap();
    assert_eq!(left.count(), 1, "nothing half done is left");
}

#[tokio::test]
async fn what_a_hub_should_not_give_is_refused() {
    let check = async |change: fn(&mut Vec<Given>), code: kernel::ErrorCode, says: &str| {
        let folder = tempfile::tempdir().unwrap();
        let mut given = model();
        change(&mut given);
        let error = fetched(&hub(given).await.0, folder.path()).await.unwrap_err();
        assert_eq!(error.code(), code, "{error}");
        assert!(error.message().contains(says) && error.message().contains("folder"), "{error}");
        let left = std::fs::read_dir(folder.path().join("some--words"));
        assert_eq!(left.map_or(0, Iterator::count), 0, "{says}");
    };
    // The order of the files is that of their names in the list above: config, tokenizer, weights.
    check(|given| given[2].bytes[20] ^= 1, codes::CORRUPTED, "model.safetensors").await;
    check(|given| given[0].bytes[0] ^= 1, codes::CORRUPTED, "config.json").await;
    check(|given| given[2].bytes.push(0), codes::CORRUPTED, "checksum").await;
    check(|given| given[2].bytes.truncate(20), codes::CORRUPTED, "checksum").await;
    check(|given| drop(given.remove(1)), codes::NOT_FOUND, "tokenizer.json").await;
    check(|given| given[2].said["size"] = json!(u64::MAX), codes::TOO_LARGE, "bytes").await;
    check(|given| given[0].said = json!(7), codes::UNAVAILABLE, "list files").await;
}

#[tokio::test]
async fn an_unknown_commit_and_no_network_are_told() {
    let folder = tempfile::tempdir().unwrap();
    let (url, _) = hub(model()).await;
    let error = files(&url, folder.path(), "some/words", &"f".repeat(40)).await.unwrap_err();
    assert_eq!(error.code(), codes::NOT_FOUND);
    assert!(error.message().contains("without a login"), "{error}");
    let error = fetched("http://127.0.0.1:1", folder.path()).await.unwrap_err();
    assert_eq!(error.code(), codes::UNAVAILABLE);
    assert!(error.message().contains("does not answer") && error.message().contains("folder"), "{error}");
}
