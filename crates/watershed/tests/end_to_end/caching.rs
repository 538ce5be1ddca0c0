//! Kept answers: true counts, and nothing older than it may be.

use kernel::{Clock, SystemClock, Timestamp};
use serde_json::{Value, json};

use crate::questions::{busiest, shop};
use crate::support::{Home, KEY, Server, encode, ids, metric, wait};

const PERSONAL: &str = "recommendations";
const EVERYONE: &str = "trending";

/// A shop that keeps answers, by the names that operators know.
fn keeping() -> Server {
    let home = Home::with_shop();
    home.environment("RECOMMENDATION_CACHE_TTL_SECS", "300")
        .environment("TRENDING_CACHE_TTL_SECS", "3600")
        .serve()
}

/// Hits and misses.
fn counts(server: &Server, cache: &str) -> (f64, f64) {
    let label = format!("cache=\"{cache}\"");
    let count = |name: &str| metric(server, name, &[&label]);
    (count("redis_cache_hits_total"), count("redis_cache_misses_total"))
}

fn recommended(server: &Server, path: &str) -> Vec<String> {
    ids(&server.read(path))
}

fn buys(server: &Server, user: &str, entity: &str) {
    let body = json!({"user_id": user, "entity_id": entity, "entity_type": "product", "interaction_type": "purchase"});
    server.create("/api/v1/interactions", &body);
}

#[test]
fn nothing_is_kept_unless_a_time_is_set() {
    let server = shop();
    for _ in 0..2 {
        server.read("/api/v1/recommendations/popular");
    }
    assert_eq!((counts(&server, PERSONAL), counts(&server, EVERYONE)), ((0.0, 0.0), (0.0, 0.0)));
}

#[test]
fn an_equal_question_has_the_kept_answer_under_a_new_id() {
    let server = keeping();
    let user = busiest(&server);
    let path = format!("/api/v1/recommendations/user/{user}?count=7&attributes=*");
    let (first, second) = (server.read(&path), server.read(&path));
    assert_eq!(counts(&server, PERSONAL), (1.0, 1.0));
    assert_ne!(first["answer_id"], second["answer_id"]);
    let but_for_the_id = |answer: &Value| {
        let mut answer = answer.clone();
        answer.as_object_mut().unwrap().remove("answer_id");
        answer
    };
    assert_eq!(but_for_the_id(&first), but_for_the_id(&second));
    assert_eq!(server.fetch(&path).header("content-type"), "application/json");

    let others = [
        format!("/api/v1/recommendations/user/{user}?count=8&attributes=*"),
        format!("/api/v1/recommendations/user/{user}?count=7"),
        format!("/api/v1/recommendations/user/{user}?count=7&attributes=*&algorithm=content_based"),
        format!("/api/v1/recommendations/user/{user}?count=7&attributes=*&filter={}", encode("true")),
        "/api/v1/recommendations/user/nobody?count=7&attributes=*".to_owned(),
        format!("/api/v1/recommendations/entity/{}?entity_type=product", ids(&first)[0]),
        format!("/api/v1/recommendations/bought-together/{}?entity_type=product", ids(&first)[0]),
    ];
    for (number, other) in others.iter().enumerate() {
        server.read(other);
        assert_eq!(counts(&server, PERSONAL), (2.0, 2.0 + number as f64), "{other}");
    }
    assert_eq!(counts(&server, EVERYONE), (0.0, 0.0));
    for _ in 0..3 {
        server.read("/api/v1/recommendations/trending");
    }
    assert_eq!(counts(&server, EVERYONE), (2.0, 1.0));
    // What is refused is refused again, and neither kept nor counted.
    assert_eq!(server.get("/api/v1/recommendations/popular?count=0").0, 400);
    assert_eq!(counts(&server, EVERYONE), (2.0, 1.0));
}

#[test]
fn what_changes_now_changes_the_very_next_answer() {
    let server = keeping();
    let user = busiest(&server);
    let path = format!("/api/v1/recommendations/user/{user}?count=20");
    for _ in 0..3 {
        let before = recommended(&server, &path);
        assert_eq!(recommended(&server, &path), before);
        buys(&server, &user, &before[0]);
        assert!(!recommended(&server, &path).contains(&before[0]), "{} is recommended again", before[0]);
    }
    // What others do does not take the user's answer away.
    let (hits, _) = counts(&server, PERSONAL);
    let kept = recommended(&server, &path);
    buys(&server, "someone-else", &kept[0]);
    assert_eq!(recommended(&server, &path), kept);
    assert_eq!(counts(&server, PERSONAL).0, hits + 2.0);

    let hidden = &kept[1];
    let at = format!("/api/v1/entities/{hidden}?entity_type=product");
    assert_eq!(server.patch(&at, &json!({"hidden": true})).0, 200);
    assert!(!recommended(&server, &path).contains(hidden), "{hidden} is hidden");
    assert_eq!(server.patch(&at, &json!({"hidden": false})).0, 200);
    assert_eq!(recommended(&server, &path), kept);

    for (list, fans) in [("trending", 300), ("popular", 700)] {
        let path = format!("/api/v1/recommendations/{list}?count=100");
        let last = recommended(&server, &path).pop().unwrap();
        for number in 0..fans {
            buys(&server, &format!("fan-{list}-{number}"), &last);
        }
        assert_eq!(recommended(&server, &path)[0], last, "{list}");
    }
}

#[test]
fn time_alone_takes_an_answer_away() {
    let server = Home::new().environment("TRENDING_CACHE_TTL_SECS", "3600").serve();
    let clock = SystemClock::new();
    // Whole milliseconds, which is what a view keeps.
    let soon = Timestamp::from_millisecond(clock.now().as_millisecond() + 2_000).unwrap();
    server.create("/api/v1/entities", &json!({"entity_id": "stays"}));
    server.create("/api/v1/entities", &json!({"entity_id": "goes", "available_until": soon.to_string()}));
    let path = "/api/v1/recommendations/latest";
    assert_eq!(recommended(&server, path).len(), 2);
    assert!(wait(|| recommended(&server, path) == ["stays"]), "an entity stays beyond its time");
    assert!(clock.now() >= soon);
}

#[test]
fn of_equal_questions_at_once_one_is_answered() {
    let server = keeping();
    let user = busiest(&server);
    let filter = encode("attributes.price < 1000.0 && attributes.year >= 1900");
    let path = format!("/api/v1/recommendations/user/{user}?count=50&filter={filter}");
    let lists: Vec<Vec<String>> = std::thread::scope(|scope| {
        let ask = || recommended(&server, &path);
        let askers: Vec<_> = (0..16).map(|_| scope.spawn(ask)).collect();
        askers.into_iter().map(|asker| asker.join().unwrap()).collect()
    });
    assert!(lists.iter().all(|list| *list == lists[0]));
    let (hits, misses) = counts(&server, PERSONAL);
    let coalesced = metric(&server, "recommend_answers_coalesced_total", &[r#"cache="recommendations""#]);
    assert_eq!((hits + misses + coalesced, misses), (16.0, 1.0));
}

#[test]
fn tenants_do_not_share_answers() {
    let home = Home::new().environment("TRENDING_CACHE_TTL_SECS", "3600");
    let made =
        home.run(&["keys", "create", "--tenant", "other", "--name", "reader", "--permission", "write"]);
    let other = made.succeeded().stdout.trim().to_owned();
    let server = home.serve();
    let list = |key: &str| {
        let reply = server.send("GET", "/api/v1/recommendations/latest", &[("x-api-key", key)], None);
        ids(&reply.json())
    };
    let describe = |key: &str, id: &str| {
        let headers = [("x-api-key", key), ("content-type", "application/json")];
        let body = json!({"entity_id": id}).to_string();
        assert_eq!(server.send("POST", "/api/v1/entities", &headers, Some(body.as_bytes())).status, 201);
    };
    describe(KEY, "ours");
    describe(&other, "theirs");
    for _ in 0..2 {
        assert_eq!((list(KEY), list(&other)), (vec!["ours".to_owned()], vec!["theirs".to_owned()]));
    }
    assert_eq!(counts(&server, EVERYONE), (2.0, 2.0));
}
