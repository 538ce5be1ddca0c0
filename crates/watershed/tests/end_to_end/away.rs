//! Engines that are away, by a cut and by a network that swallows everything: at the start, and under a running server.

use serde_json::{Value, json};

use crate::fault::{Fault, Wire};
use crate::replicas::{NO_LIMIT, NO_TRAINING, Place, drop_schema, engine, interactions, soon};
use crate::support::{Home, KEY, Reply, Server, ids, refused};

/// What may be logged while engines are away. What a background task puts off ends in `for now`, and each of them may be the
/// first to find its engine away.
const COMPLAINTS: [&str; 13] = [
    "the database is away",
    "Connection error",
    "Connection could not be recycled",
    "the cache is away",
    "does not answer",
    "request refused",
    "for now",
    "jobs cannot be answered now",
    "jobs that ended cannot be dropped now",
    "acknowledged before the view shows it",
    "dead letters could not be kept",
    "checkpoint was written",
    "the last use of keys was not noted",
];

pub(crate) fn home(settings: &str) -> Home {
    COMPLAINTS.into_iter().fold(Home::with_settings(settings), Home::allowing)
}

fn ready(server: &Server) -> (u16, Value) {
    let reply = server.send("GET", "/ready", &[], None);
    (reply.status, reply.json())
}

fn post(server: &Server, path: &str, body: &Value) -> Reply {
    let headers = [("x-api-key", KEY), ("content-type", "application/json")];
    server.send("POST", path, &headers, Some(body.to_string().as_bytes()))
}

fn event(id: &str) -> Value {
    json!({"specversion": "1.0", "id": id, "source": "/t", "type": "recommend.interaction.recorded.v1",
        "data": {"user_id": "ada", "entity_id": "e-1", "interaction_type": "view"}})
}

/// Whether the event was taken; else it was refused as it should be.
#[track_caller]
fn taken(server: &Server, id: &str) -> bool {
    let headers = [("x-api-key", KEY), ("content-type", "application/cloudevents+json")];
    let reply = server.send("POST", "/api/v1/events", &headers, Some(event(id).to_string().as_bytes()));
    if reply.status < 300 {
        return true;
    }
    assert_unavailable(&reply);
    false
}

#[track_caller]
fn assert_unavailable(reply: &Reply) {
    refused(&(reply.status, reply.json()), 503, "UNAVAILABLE", None);
    assert_eq!(reply.header("content-type"), "application/problem+json");
    assert_eq!(reply.header("retry-after"), "1");
}

/// How often each of the ids is in the log.
fn stored(server: &Server, wanted: &[String]) -> Vec<usize> {
    let exported = server.fetch("/api/v1/export/interactions?format=ndjson");
    assert_eq!(exported.status, 200, "{}", exported.text());
    let lines = exported.text().lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let found: Vec<String> = lines.map(|line| line["id"].as_str().unwrap().to_owned()).collect();
    wanted.iter().map(|id| found.iter().filter(|found| *found == id).count()).collect()
}

/// With PostgreSQL away, what the view knows is answered, what is to be written is refused at once; nothing that was
/// acknowledged is lost, and other replicas' events show again after its return.
fn without_database(wire: Wire) {
    let database = Fault::before(&engine("WATERSHED_TEST_POSTGRES_URL"));
    // Other replicas' events are told of by notifications alone.
    let place =
        Place::new().with_postgres(&database.url, "poll_seconds = 60.0\nacquire_timeout_seconds = 1.0\n");
    let settings = place.settings(&format!("{NO_LIMIT}{NO_TRAINING}"));
    let one = home(&settings);
    one.run(&["migrate", "up"]).succeeded();
    let one = one.serve();
    let two =
        home(&place.with_postgres(&engine("WATERSHED_TEST_POSTGRES_URL"), "").settings(NO_TRAINING)).serve();
    assert_eq!(post(&one, "/api/v1/interactions/bulk", &interactions(5)).status, 202);
    one.create("/api/v1/entities", &json!({"entity_id": "a", "attributes": {"color": "red"}}));
    let made = one.create("/api/v1/keys", &json!({"name": "shop", "permission": "read"}));
    let key = made["api_key"].as_str().unwrap();
    assert!(taken(&one, "before"));
    let known = ids(&one.read("/api/v1/recommendations/popular"));

    database.set(wire);
    let mut number = 0;
    let mut acknowledged = vec!["before".to_owned()];
    let mut write = |server: &Server| {
        number += 1;
        let id = format!("during-{number}");
        let is_taken = taken(server, &id);
        if is_taken {
            acknowledged.push(id);
        }
        is_taken
    };
    for _ in 0..50 {
        assert!(!write(&one));
    }
    soon("a server that says it is not ready", || ready(&one).0 == 503);
    let (_, told) = ready(&one);
    assert!(told["reason"].as_str().unwrap().starts_with("database: "), "{told}");
    assert_ne!(told["checks"]["database"], "running");
    assert_eq!(one.send("GET", "/health", &[], None).status, 200);
    for _ in 0..20 {
        assert_eq!(ids(&one.read("/api/v1/recommendations/popular")), known);
        assert_eq!(one.read("/api/v1/entities/a")["entity_id"], "a");
        one.read("/api/v1/recommendations/user/u-1?exclude_seen=false");
        one.read("/api/v1/interaction-types");
        let by_key = one.send("GET", "/api/v1/recommendations/popular", &[("x-api-key", key)], None);
        assert_eq!(by_key.status, 200, "the key is known: {}", by_key.text());
        let by_nobody = one.send("GET", "/api/v1/recommendations/popular", &[("x-api-key", "other")], None);
        assert_eq!(by_nobody.status, 401);
    }
    assert_unavailable(&post(&one, "/api/v1/keys", &json!({"name": "late", "permission": "read"})));
    assert_unavailable(&post(&one, "/api/v1/entities", &json!({"entity_id": "b"})));
    assert_unavailable(&one.fetch("/api/v1/export/interactions"));
    assert_unavailable(&one.fetch("/api/v1/dead-letters"));
    assert_eq!(post(&one, "/api/v1/entities", &json!({})).status, 400, "what is wrong is told as ever");

    database.set(Wire::Whole);
    soon("a write", || write(&one));
    soon("a server that is ready", || ready(&one).0 == 200);
    assert!(taken(&two, "of another"));
    acknowledged.push("of another".to_owned());
    let counts = || stored(&one, &acknowledged);
    soon("another replica's event", || counts().iter().all(|count| *count == 1));
    let seen = |server: &Server| server.read("/api/v1/interactions/user/ada").as_array().unwrap().len();
    soon("the same view", || seen(&one) == seen(&two));
    assert!(one.send("POST", "/api/v1/keys", &[("x-api-key", key)], None).status != 503);
    let _ = one.stop();
    drop_schema(&two.stop());
}

#[test]
fn without_database_that_is_cut_off() {
    without_database(Wire::Cut);
}

#[test]
fn without_database_that_is_silent() {
    without_database(Wire::Frozen);
}

/// Every connection of the pool waits for a lock: the server is busy, and as ready as it was.
#[test]
fn a_busy_pool_is_not_a_database_that_is_away() {
    let place = Place::new();
    let home = home(&place.settings(&format!("{NO_LIMIT}{NO_TRAINING}")));
    home.run(&["migrate", "up"]).succeeded();
    let server =
        home.allowing("request failed").allowing("every connection to the database is in use").serve();
    soon("a server that is ready", || ready(&server).0 == 200);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let url = engine("WATERSHED_TEST_POSTGRES_URL");
    let (client, connection) =
        runtime.block_on(tokio_postgres::connect(&url, tokio_postgres::NoTls)).unwrap();
    runtime.spawn(connection);
    let lock = format!("BEGIN; LOCK TABLE \"{}\".records IN ACCESS EXCLUSIVE MODE", place.name);
    runtime.block_on(client.batch_execute(&lock)).unwrap();
    std::thread::scope(|scope| {
        // More than there are connections, until the statements' time is over.
        let asks: Vec<_> = (0..12).map(|_| scope.spawn(|| server.fetch("/api/v1/dead-letters"))).collect();
        soon("answers", || {
            let (status, told) = ready(&server);
            assert_eq!(status, 200, "{told}");
            asks.iter().all(|ask| ask.is_finished())
        });
        assert!(asks.into_iter().all(|ask| ask.join().unwrap().status >= 500), "the lock was held");
    });
    runtime.block_on(client.batch_execute("ROLLBACK")).unwrap();
    soon("a write", || taken(&server, "after"));
    drop_schema(&server.stop());
}

/// With Redis away, requests are answered and limits are counted by each server alone.
fn without_cache(wire: Wire) {
    let cache = Fault::before(&engine("WATERSHED_TEST_REDIS_URL"));
    let limits = "[server.rate_limit]\nrequests_per_minute = 1\nburst_size = 5\n";
    let place = Place::new().with_redis(&cache.url);
    let server = home(&place.settings(&format!("{limits}{NO_TRAINING}")));
    server.run(&["migrate", "up"]).succeeded();
    let server = server.serve();
    let admitted = |key: &str| {
        let ask =
            || server.send("GET", "/api/v1/recommendations/popular", &[("x-api-key", key)], None).status;
        let statuses: Vec<u16> = (0..8).map(|_| ask()).collect();
        assert!(statuses.iter().all(|status| [200, 429].contains(status)), "{statuses:?}");
        statuses.iter().filter(|status| **status == 200).count()
    };
    let keys: Vec<String> = (0..3)
        .map(|number| {
            let body = json!({"name": format!("shop-{number}"), "permission": "read"});
            server.create("/api/v1/keys", &body)["api_key"].as_str().unwrap().to_owned()
        })
        .collect();
    assert_eq!(admitted(&keys[0]), 5);
    cache.set(wire);
    assert_eq!(admitted(&keys[1]), 5, "nobody passes unlimited");
    soon("a check that tells", || ready(&server).1["checks"]["cache"] != "running");
    assert_eq!(ready(&server).0, 200, "it is not needed");
    assert_eq!(admitted(&keys[1]), 0);
    assert_eq!(admitted(&keys[0]), 5, "counted by this server alone");
    cache.set(Wire::Whole);
    soon("a check that tells", || ready(&server).1["checks"]["cache"] == "running");
    soon("a limit that is shared again", || admitted(&keys[0]) == 0);
    drop_schema(&server.stop());
}

#[test]
fn without_cache_that_is_cut_off() {
    without_cache(Wire::Cut);
}

#[test]
fn without_cache_that_is_silent() {
    without_cache(Wire::Frozen);
}

#[test]
fn a_start_waits_for_the_database_and_not_for_the_cache() {
    let database = Fault::before(&engine("WATERSHED_TEST_POSTGRES_URL"));
    let cache = Fault::before(&engine("WATERSHED_TEST_REDIS_URL"));
    let place = Place::new().with_postgres(&database.url, "").with_redis(&cache.url);
    let home = home(&place.settings(&format!("{NO_LIMIT}{NO_TRAINING}")));
    home.run(&["migrate", "up"]).succeeded();
    database.set(Wire::Cut);
    cache.set(Wire::Cut);
    let log = home.path("server.log");
    let server = std::thread::scope(|scope| {
        scope.spawn(|| {
            let told =
                || std::fs::read_to_string(&log).is_ok_and(|text| text.contains("needs does not answer"));
            soon("a start that says what it waits for", told);
            database.set(Wire::Whole);
        });
        home.serve()
    });
    assert!(server.log().contains("the database cannot be reached"), "{}", server.log());
    assert!(taken(&server, "first"));
    let (status, told) = ready(&server);
    assert!(status == 200 && told["checks"]["cache"] != "running", "{told}");
    cache.set(Wire::Whole);
    soon("the cache", || ready(&server).1["checks"]["cache"] == "running");
    let home = server.stop();
    database.set(Wire::Cut);
    let settings = place.settings(&format!("{NO_LIMIT}{NO_TRAINING}"));
    home.write("watershed.toml", format!("[storage]\nstartup_timeout_secs = 1\n{settings}"));
    home.run(&["serve"]).failed_with("the database cannot be reached; try again; gave up after");
    database.set(Wire::Whole);
    drop_schema(&home);
}

#[test]
fn without_bucket() {
    let bucket = Fault::before(&engine("WATERSHED_TEST_S3_URL"));
    let settings = |place: &Place| {
        format!(
            "{NO_LIMIT}[storage.s3]\nendpoint = \"{}\"\nallow_http = true\nregion = \"us-east-1\"\nbucket = \"{}\"\n\
         prefix = \"{}\"\naccess_key_id = \"{}\"\nsecret_access_key = \"{}\"\nrequest_timeout_secs = 2\n\
         retries = 1\nretry_timeout_secs = 2\nconnection_timeout_secs = 1\n\
         [recommend.schedule]\nincremental_update_interval_secs = 1\nmin_interactions = 30\n",
            bucket.url,
            engine("WATERSHED_TEST_S3_BUCKET"),
            place.name,
            engine("WATERSHED_TEST_S3_ACCESS_KEY_ID"),
            engine("WATERSHED_TEST_S3_SECRET_ACCESS_KEY"),
        )
    };
    for wire in [Wire::Cut, Wire::Frozen] {
        let place = Place::new();
        let home = home(&place.settings(&settings(&place)));
        home.run(&["migrate", "up"]).succeeded();
        bucket.set(Wire::Whole);
        let server = home.serve();
        bucket.set(wire);
        assert_eq!(post(&server, "/api/v1/interactions/bulk", &interactions(30)).status, 202);
        // A model is due; it cannot be kept, so that none is served, and everything else goes on.
        soon("an error that says why", || server.log().contains("the object store did not serve"));
        assert!(taken(&server, "meanwhile"));
        let answer = server.read("/api/v1/recommendations/user/u-1?exclude_seen=false");
        assert!(answer["model_version"].is_null() && !ids(&answer).is_empty(), "{answer}");
        assert_eq!(ready(&server).0, 200);
        bucket.set(Wire::Whole);
        let version =
            || server.read("/api/v1/recommendations/user/u-1?exclude_seen=false")["model_version"].as_u64();
        // A version that the bucket took after all, unseen, is not used again.
        soon("a model", || version().is_some());
        drop_schema(&server.stop());
    }
}
