//! What changes now changes the very next answer.

use serde_json::{Value, json};

use crate::questions::{busiest, chosen, shop};
use crate::support::{Server, ids};

#[test]
fn an_interaction_changes_the_next_answer() {
    let server = shop();
    let user = busiest(&server);
    for subject in [user.as_str(), "newcomer"] {
        let path = format!("/api/v1/recommendations/user/{subject}?count=20");
        for _ in 0..3 {
            let before = ids(&server.read(&path));
            let body = json!({
                "user_id": subject, "entity_id": before[0], "entity_type": "product", "interaction_type": "purchase"
            });
            server.create("/api/v1/interactions", &body);
            let after = server.read(&path);
            assert!(!ids(&after).contains(&before[0]), "{} is recommended again", before[0]);
            assert_eq!(after["model_version"], 1, "three interactions are no reason to train");
        }
        assert!(chosen(&server, subject).len() >= 3);
    }
    let answer = server.read("/api/v1/recommendations/user/newcomer");
    assert_eq!((answer.get("fallback"), &answer["cold_start"]), (None, &json!(true)));
    let reason = answer["recommendations"][0]["reason"].as_str().unwrap();
    assert!(!reason.is_empty());
}

#[test]
fn a_known_user_reacts_to_a_new_taste() {
    let server = shop();
    let user = busiest(&server);
    let path = format!("/api/v1/recommendations/user/{user}?count=50&collaborative_weight=0.6");
    let before = server.read(&path);
    let last = ids(&before).pop().unwrap();
    let body =
        json!({"user_id": user, "entity_id": last, "entity_type": "product", "interaction_type": "purchase"});
    server.create("/api/v1/interactions", &body);
    let mut expected = ids(&before);
    expected.retain(|id| *id != last);
    let after = ids(&server.read(&path));
    assert_ne!(
        after[..expected.len().min(after.len())],
        expected[..],
        "only the seen item left, nothing moved"
    );
}

/// Every list in which an entity could appear.
fn everywhere(server: &Server, user: &str, like: &str) -> Vec<(String, Vec<String>)> {
    let paths = [
        format!("user/{user}?exclude_seen=false&"),
        format!("user/{user}?algorithm=content_based&exclude_seen=false&"),
        format!("user/{user}?algorithm=trending&exclude_seen=false&"),
        "user/newcomer?".to_owned(),
        format!("entity/{like}?"),
        format!("bought-together/{like}?"),
        "trending?window_days=31&".to_owned(),
        "popular?".to_owned(),
        "latest?".to_owned(),
    ];
    let get = |path: String| {
        let answer = server.read(&format!("/api/v1/recommendations/{path}count=100"));
        (path, ids(&answer))
    };
    let mut lists: Vec<_> = paths.into_iter().map(get).collect();
    let session =
        json!({"interactions": [{"entity_id": like, "entity_type": "product"}], "options": {"count": 100}});
    lists.push(("session".to_owned(), ids(&server.post("/api/v1/recommendations/session", &session).1)));
    lists
}

#[test]
fn what_must_not_be_shown_never_is() {
    let server = shop();
    let user = busiest(&server);
    let popular = ids(&server.read("/api/v1/recommendations/popular?count=2"));
    let (entity, like) = (&popular[0], &popular[1]);
    let path = format!("/api/v1/entities/{entity}");
    let appears =
        || everywhere(&server, &user, like).iter().filter(|(_, list)| list.contains(entity)).count();
    let shown = appears();
    assert!(shown >= 7, "the most popular entity is in {shown} lists");
    let cases = [
        (json!({"hidden": true}), json!({"hidden": false})),
        (json!({"available_until": "2020-01-01T00:00:00Z"}), json!({"available_until": null})),
        (json!({"available_from": "2100-01-01T00:00:00Z"}), json!({"available_from": null})),
    ];
    for (hide, show) in cases {
        assert_eq!(server.patch(&path, &hide).0, 200);
        for (list, ids) in everywhere(&server, &user, like) {
            assert!(!ids.contains(entity), "{list} shows what is {hide}");
        }
        assert_eq!(server.patch(&path, &show).0, 200);
        assert_eq!(appears(), shown, "after {show}");
    }
    assert_eq!(server.delete(&path).0, 204);
    for (list, ids) in everywhere(&server, &user, like) {
        assert!(!ids.contains(entity), "{list} shows what is deleted");
    }
    let known: Vec<Value> = server.read("/api/v1/export/entities").as_array().unwrap().clone();
    assert!(known.iter().all(|row| row["entity_id"] != json!(entity)));
}

#[test]
fn the_trainer_trains_by_itself_and_answers_go_on() {
    let settings = "
[server.rate_limit]
enabled = false
[recommend.training]
blend_users = 50
[recommend.training.algorithms]
sequence = false
[recommend.schedule]
incremental_update_interval_secs = 1
min_interactions = 30
rebuild_growth = 0.5
";
    let server = crate::support::Home::with_settings(settings).serve();
    let interactions = |offset: u32| -> Vec<Value> {
        let pairs = (0..12_u32).flat_map(|user| (0..5_u32).map(move |step| (user, step)));
        let one = |(user, step): (u32, u32)| {
            let entity = (user % 3) * 4 + (user / 3 + step + offset) % 6;
            json!({"user_id": format!("u-{user}"), "entity_id": format!("e-{entity}"), "interaction_type": "view"})
        };
        pairs.map(one).collect()
    };
    let record = |offset| {
        let body = json!({"interactions": interactions(offset)});
        assert_eq!(server.post("/api/v1/interactions/bulk", &body).1["failed"], 0);
    };
    let version = || {
        let answer = server.read("/api/v1/recommendations/user/u-1?exclude_seen=false");
        assert!(answer["count"].as_u64() > Some(0), "{answer}");
        answer["model_version"].as_u64().unwrap_or(0)
    };
    record(0);
    assert!(crate::support::wait(|| version() == 1), "{}", server.log());
    record(1);
    assert!(crate::support::wait(|| version() == 2), "{}", server.log());
}
