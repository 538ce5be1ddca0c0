//! What is personal: sealed at rest, exported, forgotten, agreed to, too old; and what a restore does not bring back.

use std::path::Path;

use serde_json::{Value, json};

use crate::support::{Home, Server, files, ids, wait};

/// Stands in everything that is said of the person.
const MARKER: &str = "mrkr7q";
const PERSON: &str = "ada-mrkr7q";

pub(crate) const SEALED: &str = "[compliance]\nencrypt_personal = true\n";

fn settings(extra: &str) -> String {
    format!(
        "[server.rate_limit]\nenabled = false\n[recommend.training]\nblend_users = 50\n\
         [recommend.training.algorithms]\nsequence = false\n\
         [recommend.schedule]\nincremental_update_interval_secs = 3600\nmin_interactions = 5\n{extra}"
    )
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// The files below a folder that hold a text.
fn holding(folder: &Path, text: &str) -> Vec<String> {
    let holds =
        |path: &Path| std::fs::read(path).unwrap().windows(text.len()).any(|part| part == text.as_bytes());
    let found = files(folder).into_iter().filter(|path| holds(path));
    found.map(|path| path.display().to_string()).collect()
}

fn act(user: &str, entity: &str) -> Value {
    json!({"user_id": user, "entity_id": entity, "interaction_type": "view", "metadata": {"note": MARKER}})
}

/// Says everything that can be said of the person, and something of others.
pub(crate) fn plant(server: &Server) {
    let path = format!("/api/v1/users/{PERSON}");
    server.put(&path, &json!({"attributes": {"note": MARKER}}));
    server.put(&format!("{path}/consent"), &json!({"training": true}));
    for user in [PERSON, "bob", "eve"] {
        for entity in ["film-1", "film-2", "film-3"] {
            server.create("/api/v1/interactions", &act(user, entity));
        }
    }
    let refused = json!({"specversion": "1.0", "id": MARKER, "source": "/t", "type": "recommend.user.put.v1",
        "data": {"user_id": PERSON, "no such field": MARKER}});
    let (status, _) = server.post("/api/v1/events", &refused);
    assert_eq!(status, 400);
    server.read(&format!("/api/v1/recommendations/user/{PERSON}"));
}

/// Forgets the person and waits until that is complete.
#[track_caller]
pub(crate) fn forget(server: &Server) -> Value {
    let (status, outcome) = server.delete(&format!("/api/v1/users/{PERSON}/data"));
    assert_eq!(status, 200, "{outcome}");
    let done = || server.read("/api/v1/erasures")["erasures"][0]["status"] == "complete";
    assert!(wait(done), "{}", server.read("/api/v1/erasures"));
    outcome
}

/// Fails where anything that the server says names the person.
#[track_caller]
pub(crate) fn unknown(server: &Server) {
    for path in ["", "/consent"] {
        let (status, found) = server.get(&format!("/api/v1/users/{PERSON}{path}"));
        assert!(status == 404 || found["training"] == true, "{path}: {found}");
    }
    assert_eq!(server.get(&format!("/api/v1/interactions/user/{PERSON}")).0, 404);
    for path in [
        "/api/v1/export/users",
        "/api/v1/export/interactions",
        "/api/v1/interactions/entity/film-1?entity_type=item",
        "/api/v1/dead-letters",
        "/api/v1/erasures",
        "/api/v1/audit",
        "/api/v1/recommendations/similar-users/bob",
    ] {
        let reply = server.fetch(path);
        assert!(!reply.text().contains(PERSON), "{path}: {}", reply.text());
    }
    let export = server.read(&format!("/api/v1/users/{PERSON}/data-export"));
    assert_eq!(
        (&export["events"], export.get("profile"), &export["dead_letters"]),
        (&json!([]), None, &json!([]))
    );
    let answer = server.read(&format!("/api/v1/recommendations/user/{PERSON}?exclude_seen=false"));
    assert_eq!((&answer["cold_start"], ids(&answer).len()), (&json!(true), 3), "counts stay");
}

/// A key of another tenant, made before the server starts.
fn key_of_other(home: &Home) -> String {
    let made = home.run(&["keys", "create", "--name", "o", "--permission", "admin", "--tenant", "other"]);
    made.succeeded().stdout.trim().to_owned()
}

#[test]
fn what_a_canary_showed_is_sealed_exported_and_forgotten() {
    let mut server = Home::with_settings(&settings(SEALED)).serve();
    server.create(
        "/api/v1/interactions",
        &json!({"user_id": "bob", "entity_id": "film", "interaction_type": "view"}),
    );
    server.create("/api/v1/canaries", &json!({"name": "one", "algorithm": "latest"}));
    server.read(&format!("/api/v1/recommendations/user/{PERSON}"));
    let shown = |server: &Server| {
        let gate = &server.read("/api/v1/canaries/one")["reading"]["gates"][0];
        gate["control_count"].as_u64().unwrap() + gate["candidate_count"].as_u64().unwrap()
    };
    assert!(wait(|| shown(&server) == 1), "{}", server.read("/api/v1/canaries/one"));
    let export = server.read(&format!("/api/v1/users/{PERSON}/data-export"));
    assert_eq!(export["events"][0]["type"], "recommend.canary.shown.v1", "{export}");
    // A checkpoint with the person in it.
    server.restart();
    assert_eq!(shown(&server), 1);
    assert_eq!(forget(&server)["keys_dropped"], 1);
    assert_eq!(shown(&server), 0);
    let home = server.stop();
    assert_eq!(holding(&home.path("data"), MARKER), Vec::<String>::new());
    home.run(&["doctor", "--rebuild"]).succeeded();
    assert_eq!(shown(&home.serve()), 0);
}

#[test]
fn a_forgotten_person_is_in_no_answer_and_no_file() {
    for extra in [SEALED, ""] {
        let is_sealed = !extra.is_empty();
        let home = Home::with_settings(&settings(extra));
        let other = key_of_other(&home);
        let mut server = home.serve();
        plant(&server);
        let headers = [("x-api-key", other.as_str()), ("content-type", "application/json")];
        let body =
            json!({"user_id": "ada-mrkr7q", "entity_id": "film", "interaction_type": "view"}).to_string();
        assert_eq!(server.send("POST", "/api/v1/interactions", &headers, Some(body.as_bytes())).status, 201);
        // A checkpoint and a model with the person in them.
        server.restart();
        let export = server.read(&format!("/api/v1/users/{PERSON}/data-export"));
        assert_eq!(export["profile"]["history"].as_array().unwrap().len(), 3, "{export}");
        let events: Vec<_> =
            export["events"].as_array().unwrap().iter().map(|event| &event["type"]).collect();
        assert_eq!(events.len(), 5, "{events:?}");
        assert_eq!(export["events"][0]["data"]["attributes"]["note"], MARKER);
        assert_eq!(export["dead_letters"].as_array().unwrap().len(), 1);
        assert!(!export.to_string().contains("bob"));
        let home = server.stop();
        home.run(&["train"]).succeeded();
        // All of it was sealed from the first byte on.
        assert_eq!(holding(&home.path("data"), MARKER).is_empty(), is_sealed);
        let server = home.serve();

        let outcome = forget(&server);
        assert_eq!(outcome["keys_dropped"], i32::from(is_sealed), "{outcome}");
        assert_eq!(
            (&outcome["dead_letters_removed"], &outcome["unsealed_events"]),
            (&json!(1), &json!(!is_sealed))
        );
        unknown(&server);
        let audit = server.read("/api/v1/audit");
        assert!(audit.to_string().contains("person.erased"), "{audit}");
        let theirs = server.send("GET", "/api/v1/users/ada-mrkr7q", &headers, None);
        assert_eq!((theirs.status, &theirs.json()["interactions"]), (200, &json!(1)), "of another tenant");
        let (status, again) = server.delete(&format!("/api/v1/users/{PERSON}/data"));
        assert_eq!((status, again.get("erasure_id")), (200, None), "{again}");
        assert_eq!(server.read("/api/v1/erasures")["erasures"].as_array().unwrap().len(), 1);

        let home = server.stop();
        if is_sealed {
            assert_eq!(holding(&home.path("data"), MARKER), Vec::<String>::new());
        }
        // Folded again from the log, the view is the same, byte for byte.
        home.run(&["doctor", "--rebuild"]).succeeded();
        let server = home.serve();
        unknown(&server);
        // They may come back, as somebody new.
        server.create("/api/v1/interactions", &act(PERSON, "film-2"));
        assert_eq!(server.read(&format!("/api/v1/users/{PERSON}"))["interactions"], 1);
        server.stop().run(&["doctor", "--rebuild"]).succeeded();
    }
}

#[test]
fn a_backup_from_before_does_not_bring_a_person_back() {
    for extra in [SEALED, ""] {
        let is_sealed = !extra.is_empty();
        let server = Home::with_settings(&settings(extra)).serve();
        plant(&server);
        let home = server.stop();
        let place = home.path("vault");
        home.run(&["backup", "create", "--to", text(&place)]).succeeded();
        let server = home.serve();
        forget(&server);
        let home = server.stop();
        home.run(&["backup", "create", "--to", text(&place)]).succeeded();
        if is_sealed {
            assert_eq!(holding(&place, MARKER), Vec::<String>::new());
        }
        for backup in ["1", "2"] {
            let target = Home::with_settings(&settings(extra));
            let restore = || target.run(&["restore", "--from", text(&place), "--backup", backup]);
            if is_sealed {
                restore().failed_with("encryption-key");
                std::fs::copy(home.path("data/encryption-key"), target.path("data/encryption-key")).unwrap();
            }
            restore().succeeded();
            let server = target.serve();
            assert_eq!(server.read("/api/v1/erasures")["erasures"].as_array().unwrap().len(), 1);
            unknown(&server);
            assert_eq!(server.read("/api/v1/users/bob")["interactions"], 3);
            server.stop().run(&["doctor", "--rebuild"]).succeeded();
        }
    }
}

#[test]
fn keys_rotate_and_a_start_without_them_is_refused() {
    let server = Home::with_settings(&settings(SEALED)).serve();
    plant(&server);
    let home = server.stop();
    let file = home.path("data/encryption-key");
    let old = std::fs::read(&file).unwrap();
    let told = home.run(&["encryption", "rotate"]).succeeded().stdout;
    // The store's secret, the tenant's, and three persons.
    assert!(told.starts_with("5 keys wrapped anew, 0 were already"), "{told}");
    let new = std::fs::read(&file).unwrap();
    assert!(old != new && home.run(&["encryption", "status"]).succeeded().stdout.contains("wraps 5 keys"));
    std::fs::write(&file, &old).unwrap();
    home.run(&["doctor"]).failed_with("compliance.encryption_keys");
    std::fs::write(&file, &new).unwrap();
    let server = home.serve();
    assert_eq!(server.read(&format!("/api/v1/users/{PERSON}"))["attributes"]["note"], MARKER);
    // What is sealed stays readable when no more is.
    let home = server.stop();
    std::fs::write(home.path("watershed.toml"), settings("")).unwrap();
    let server = home.serve();
    assert_eq!(server.read(&format!("/api/v1/users/{PERSON}"))["attributes"]["note"], MARKER);
    server.create("/api/v1/interactions", &act(PERSON, "film-1"));
    assert_eq!(forget(&server)["unsealed_events"], true);
    unknown(&server);
    server.stop().run(&["doctor", "--rebuild"]).succeeded();
}

#[test]
fn consent_is_heeded_by_answers_and_training() {
    let server = Home::with_settings(&settings("")).serve();
    plant(&server);
    let path = format!("/api/v1/users/{PERSON}/consent");
    let (status, said) = server.put(&path, &json!({"personalisation": false, "training": false}));
    assert_eq!((status, &said["personalisation"], &said["training"]), (200, &json!(false), &json!(false)));
    assert_eq!(server.read(&path), said);
    assert!(said["updated_at"].is_string());
    let unknown = server.read("/api/v1/users/nobody/consent");
    assert_eq!((&unknown["training"], unknown.get("updated_at")), (&json!(true), None));
    let home = server.stop();
    let trained = home.run(&["train"]).succeeded().stdout;
    assert!(trained.contains("2 users"), "{trained}");
    let server = home.serve();
    let answer = server.read(&format!("/api/v1/recommendations/user/{PERSON}"));
    assert_eq!(
        (&answer["without_consent"], &answer["fallback"]),
        (&json!(true), &json!("trending")),
        "{answer}"
    );
    assert_eq!(ids(&answer).len(), 3, "not even what was seen is looked at");
    let similar = server.read(&format!("/api/v1/recommendations/similar-users/{PERSON}"));
    assert_eq!((&similar["without_consent"], &similar["users"]), (&json!(true), &json!([])));
    let bob = server.read("/api/v1/recommendations/user/bob");
    assert_eq!(bob.get("without_consent"), None);
    let wrong = server.put(&path, &json!({"training": "no"}));
    assert_eq!(wrong.0, 400);
    let kept = server.put(&path, &json!({"personalisation": true})).1;
    assert_eq!((&kept["personalisation"], &kept["training"]), (&json!(true), &json!(false)));
    assert_eq!(server.read(&format!("/api/v1/recommendations/user/{PERSON}")).get("without_consent"), None);
}

#[test]
fn what_is_too_old_counts_no_more() {
    let server = Home::with_settings(&settings(SEALED)).serve();
    let old = json!({"user_id": "bob", "entity_id": "old", "interaction_type": "view",
        "timestamp": "2020-01-01T00:00:00Z"});
    server.create("/api/v1/interactions", &old);
    server.create("/api/v1/interactions", &act("bob", "new"));
    let home = server.stop();
    home.append_settings("[recommend.retention_days]\nview = 30\n");
    let server = home.serve();
    assert!(wait(|| server.read("/api/v1/users/bob")["interactions"] == 1));
    let exported = server.read("/api/v1/export/interactions");
    assert_eq!(exported.as_array().unwrap().len(), 1, "{exported}");
    assert_eq!(server.read("/api/v1/interactions/entity/old?entity_type=item"), json!([]));
    // One that comes late is taken and does not count.
    server.create("/api/v1/interactions", &old);
    assert_eq!(server.read("/api/v1/users/bob")["interactions"], 1);
    server.stop().run(&["doctor", "--rebuild"]).succeeded();
}

#[cfg(all(feature = "postgres", feature = "redis"))]
mod shared {
    use kernel::Clock;

    use super::*;
    use crate::replicas::{NO_LIMIT, Place, drop_schema, engine, soon};

    /// The tables of a schema that hold the marker, as text or as bytes.
    fn tables_holding(schema: &str) -> Vec<String> {
        let hex: String = MARKER.bytes().map(|byte| format!("{byte:02x}")).collect();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let url = engine("WATERSHED_TEST_POSTGRES_URL");
            let (client, connection) = tokio_postgres::connect(&url, tokio_postgres::NoTls).await.unwrap();
            tokio::spawn(connection);
            let listed = "SELECT table_name::text FROM information_schema.tables WHERE table_schema = $1";
            let mut found = Vec::new();
            for row in client.query(listed, &[&schema]).await.unwrap() {
                let table: String = row.get(0);
                let sql = format!(
                    "SELECT count(*) FROM \"{schema}\".\"{table}\" t \
                     WHERE t::text LIKE '%{MARKER}%' OR t::text LIKE '%{hex}%'"
                );
                let count: i64 = client.query_one(&sql, &[]).await.unwrap().get(0);
                if count > 0 {
                    found.push(table);
                }
            }
            found
        })
    }

    #[test]
    fn every_replica_forgets_and_no_table_holds_the_person() {
        let place = Place::new();
        let keys = "encryption_keys = [\"one-key-of-32-characters-for-all-of-them\"]\n";
        let schedule = "[recommend.schedule]\nincremental_update_interval_secs = 1\nmin_interactions = 5\n\
            forget_within_hours = 0\n[recommend.cache]\nrecommendation_ttl_secs = 60\n";
        let settings = place.settings(&format!("{NO_LIMIT}{schedule}{SEALED}{keys}"));
        let home = Home::with_settings(&settings);
        home.run(&["migrate", "up"]).succeeded();
        let (one, two) = (home.serve(), Home::with_settings(&settings).serve());
        plant(&one);
        let knows = |server: &Server| server.get(&format!("/api/v1/users/{PERSON}")).0 == 200;
        soon("the other replica knows the person", || knows(&two));
        two.read(&format!("/api/v1/recommendations/user/{PERSON}"));
        assert_eq!(tables_holding(&place.name), Vec::<String>::new());
        let (status, outcome) = one.delete(&format!("/api/v1/users/{PERSON}/data"));
        assert_eq!(status, 200, "{outcome}");
        let (clock, patience) = (kernel::SystemClock::new(), std::time::Duration::from_secs(1));
        let began = clock.elapsed();
        soon("the other replica forgets", || !knows(&two));
        assert!(clock.elapsed() - began < patience, "{:?}", clock.elapsed() - began);
        forget_complete(&one);
        unknown(&one);
        unknown(&two);
        assert_eq!(tables_holding(&place.name), Vec::<String>::new());
        // They come back through the replica that knew them, and no erased key is used again.
        two.create("/api/v1/interactions", &act(PERSON, "film-1"));
        soon("the first replica knows them again", || knows(&one));
        one.stop();
        drop_schema(&two.stop());
    }

    fn forget_complete(server: &Server) {
        soon("complete", || server.read("/api/v1/erasures")["erasures"][0]["status"] == "complete");
    }

    #[test]
    fn a_shared_store_needs_given_keys() {
        let settings = Place::new().settings(&format!("{NO_LIMIT}{SEALED}"));
        Home::with_settings(&settings).run(&["doctor"]).failed_with("compliance.encryption_keys");
    }
}
