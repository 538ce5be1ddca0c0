//! The engine keeps the rules of its port against a server, and bounds its waits without one. Each test has a prefix of
//! its own in the bucket. A test that lacks its server fails and says how to run it.

#![expect(clippy::unwrap_used, reason = "helpers of tests are tests")]

use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::TryStreamExt;
use kernel::{Clock, Entropy, Scope, SystemClock, SystemEntropy, TenantId, codes};
use object_store::ObjectStore;
use object_store::aws::AmazonS3Builder;
use store::{Blobs, PutMode, Secret};
use store_s3::{S3Store, Settings};

#[track_caller]
#[expect(clippy::disallowed_methods, reason = "this is how a test learns of its servers")]
fn variable(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| {
        panic!("{name} is not set: run `scripts/with-engines --only s3 cargo nextest run -p store-s3`")
    })
}

fn settings() -> Settings {
    Settings {
        bucket: variable("WATERSHED_TEST_S3_BUCKET"),
        prefix: format!("test/{:016x}", SystemEntropy::new().next_u64()),
        endpoint: variable("WATERSHED_TEST_S3_URL"),
        allow_http: true,
        access_key_id: variable("WATERSHED_TEST_S3_ACCESS_KEY_ID"),
        secret_access_key: Secret::new(variable("WATERSHED_TEST_S3_SECRET_ACCESS_KEY")),
        part_size_mb: 5,
        ..Settings::default()
    }
}

fn open(settings: &Settings) -> S3Store {
    S3Store::open(settings, [], Arc::new(SystemEntropy::new())).unwrap()
}

fn shop() -> Scope {
    Scope::system(TenantId::new("shop").unwrap(), "test")
}

/// Every key under the prefix, whoever's it is.
async fn all_paths(settings: &Settings) -> Vec<String> {
    let bucket = AmazonS3Builder::new()
        .with_endpoint(&settings.endpoint)
        .with_allow_http(true)
        .with_bucket_name(&settings.bucket)
        .with_access_key_id(&settings.access_key_id)
        .with_secret_access_key(settings.secret_access_key.expose())
        .build()
        .unwrap();
    let listed: Vec<_> = bucket.list(Some(&settings.prefix.as_str().into())).try_collect().await.unwrap();
    listed.into_iter().map(|meta| meta.location.to_string()).collect()
}

mod blobs {
    fn opener() -> impl AsyncFn() -> std::sync::Arc<dyn super::Blobs> {
        let settings = super::settings();
        async move || super::open(&settings).blobs()
    }

    store::blobs_conformance!(opener());
}

/// Objects of several parts come back whole; creating one that is there is a conflict and leaves nothing behind.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_objects_go_in_parts() {
    let settings = settings();
    let blobs = open(&settings).blobs();
    let body: Bytes = (0..13_000_000_u32).map(|number| (number % 251) as u8).collect();
    for (path, mode) in [("created", PutMode::Create), ("replaced", PutMode::Replace)] {
        blobs.put(&shop(), path, body.clone(), mode).await.unwrap();
        assert!(blobs.get(&shop(), path).await.unwrap() == body, "{path} came back changed");
        let range = blobs.get_range(&shop(), path, 4_000_000..12_500_000).await.unwrap();
        assert!(range == body.slice(4_000_000..12_500_000), "a range of {path} came back changed");
        let refused = blobs.put(&shop(), path, body.clone(), PutMode::Create).await.unwrap_err();
        assert_eq!(refused.code(), codes::CONFLICT);
    }
    let everything = all_paths(&settings).await;
    assert_eq!(everything.len(), 2, "what was put aside is gone: {everything:?}");
}

/// Of many that create one large object at once, one succeeds.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_of_many_creates_a_large_object() {
    let blobs = open(&settings()).blobs();
    let create = |number: u8| {
        let blobs = Arc::clone(&blobs);
        let body = Bytes::from(vec![number; 6 << 20]);
        tokio::spawn(
            async move { blobs.put(&shop(), "a", body, PutMode::Create).await.ok().map(|()| number) },
        )
    };
    let mut created = Vec::new();
    for task in [1, 2, 3].map(create) {
        created.extend(task.await.unwrap());
    }
    assert_eq!(created, [blobs.get(&shop(), "a").await.unwrap()[0]]);
}

/// Credentials may come from the usual variables; a setting goes before them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn variables_fill_what_is_not_set() {
    let wanted = settings();
    let bare =
        Settings { access_key_id: String::new(), secret_access_key: Secret::default(), ..wanted.clone() };
    let variables = [
        ("AWS_ACCESS_KEY_ID", wanted.access_key_id.as_str()),
        ("AWS_SECRET_ACCESS_KEY", wanted.secret_access_key.expose()),
        ("AWS_BUCKET", "another"),
        ("AWS_PROFILE", "ignored"),
        ("PATH", "ignored"),
    ];
    let variables = variables.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let store = S3Store::open(&bare, variables, Arc::new(SystemEntropy::new())).unwrap();
    store.ping().await.unwrap();
    store.blobs().put(&shop(), "a", Bytes::from_static(b"x"), PutMode::Create).await.unwrap();
    assert_eq!(open(&wanted).blobs().get(&shop(), "a").await.unwrap(), "x");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bucket_that_is_not_there_is_told() {
    let store = open(&Settings { bucket: "missing".to_owned(), ..settings() });
    let error = store.ping().await.unwrap_err();
    assert_eq!(error.code(), codes::UNAVAILABLE, "{error:?}");
    assert!(error.chain().contains("NoSuchBucket"), "{error:?}");
}

/// A service that is away, and one that accepts and says nothing: every wait ends, and nothing secret is shown.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn waits_are_bounded() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let away = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    for (address, limit) in
        [(away, Duration::from_secs(4)), (silent.local_addr().unwrap(), Duration::from_secs(8))]
    {
        let settings = Settings {
            bucket: "models".to_owned(),
            endpoint: format!("http://{address}"),
            allow_http: true,
            access_key_id: "somebody".to_owned(),
            secret_access_key: Secret::new("hunter2"),
            connection_timeout_secs: 1,
            request_timeout_secs: 1,
            retries: 2,
            ..Settings::default()
        };
        let store = open(&settings);
        let clock = SystemClock::new();
        let ping = store.ping().await.unwrap_err();
        assert!(clock.elapsed() < Duration::from_secs(3), "a ping took {:?}", clock.elapsed());
        let error = store.blobs().put(&shop(), "a", Bytes::new(), PutMode::Replace).await.unwrap_err();
        assert_eq!(error.code(), codes::UNAVAILABLE, "{error:?}");
        assert!(clock.elapsed() < limit, "it took {:?}", clock.elapsed());
        let shown = format!("{store:?} {:?} {ping:?} {error:?}", store.blobs());
        assert!(!shown.contains("hunter2"), "{shown}");
    }
}
