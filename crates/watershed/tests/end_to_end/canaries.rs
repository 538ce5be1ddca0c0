//! Canaries of recommendations: who gets what, the way to everyone, the way back, what is refused, the commands.

use serde_json::{Value, json};

use crate::support::{Home, Server, refused, wait};

fn shop() -> Server {
    let server = Server::new();
    for id in 0..30 {
        server.create(
            "/api/v1/entities",
            &json!({"entity_id": format!("e-{id}"), "attributes": {"kind": "k"}}),
        );
        let view = json!({"user_id": "somebody", "entity_id": format!("e-{id}"), "interaction_type": "view"});
        server.create("/api/v1/interactions", &view);
    }
    server
}

fn answer(server: &Server, user: usize) -> Value {
    server.read(&format!("/api/v1/recommendations/user/user-{user}?count=3"))
}

/// So many users ask; those of an arm in `choosing` choose the first thing that they are shown.
fn visit(server: &Server, users: std::ops::Range<usize>, choosing: &[&str]) {
    for user in users {
        let answer = answer(server, user);
        if choosing.contains(&answer["canary"]["arm"].as_str().unwrap_or("none")) {
            let first = &answer["recommendations"][0];
            let chosen = json!({"user_id": format!("user-{user}"), "entity_id": first["entity_id"],
                "entity_type": first["entity_type"], "interaction_type": "view", "answer_id": answer["answer_id"]});
            server.create("/api/v1/interactions", &chosen);
        }
    }
}

fn canary(server: &Server, name: &str) -> Value {
    server.read(&format!("/api/v1/canaries/{name}"))
}

fn start(server: &Server, name: &str, steps: &[u8]) {
    let body = json!({"name": name, "algorithm": "latest", "steps": steps, "sample_min": 15, "step_seconds_min": 0,
        "outcome_window_seconds": 1, "slow_ms": 60_000});
    let made = server.create("/api/v1/canaries", &body);
    assert_eq!((&made["stage"], &made["percent"]), (&json!("running"), &json!(steps[0])), "{made}");
}

#[test]
fn a_bad_candidate_goes_back_by_itself_and_says_why() {
    let mut server = shop();
    let webhook = json!({"url": "https://planted.example/", "events": ["canary.decided"]});
    server.create("/api/v1/webhooks", &webhook);
    start(&server, "bad", &[25, 50, 100]);
    visit(&server, 0..60, &["control"]);
    // What was seen is in the log.
    let seen = |server: &Server| {
        let reading = &canary(server, "bad")["reading"]["gates"][0];
        reading["control_count"].as_u64().unwrap_or(0) + reading["candidate_count"].as_u64().unwrap_or(0)
    };
    let before = canary(&server, "bad");
    if before["stage"] == "running" {
        assert!(wait(|| seen(&server) == 60 || canary(&server, "bad")["stage"] != "running"));
    }
    server.crash_and_restart();
    visit(&server, 60..200, &["control"]);
    assert!(wait(|| canary(&server, "bad")["stage"] == "rolled_back"), "{}", canary(&server, "bad"));
    let told = canary(&server, "bad");
    assert_eq!(told["percent"], 0);
    let last = told["decisions"].as_array().unwrap().last().unwrap();
    let loss = &last["evidence"]["gates"][2];
    assert_eq!((&loss["gate"], &loss["closed"]), (&json!("loss"), &json!(true)), "{told}");
    assert!(loss["difference_lower"].as_f64().unwrap() > 0.0, "{told}");
    assert!(loss["p_value"].as_f64().unwrap() <= loss["level"].as_f64().unwrap(), "{told}");
    assert!(last["reason"].as_str().unwrap().starts_with("loss: candidate 1.0000"), "{told}");
    let entries = || server.read("/api/v1/audit?limit=20")["entries"].as_array().unwrap().clone();
    assert!(
        wait(|| entries().iter().any(|entry| entry["action"] == "canary.rolled_back")),
        "{:?}",
        entries()
    );
    let back: Vec<_> =
        entries().into_iter().filter(|entry| entry["action"] == "canary.rolled_back").collect();
    assert_eq!(
        (back.len(), &back[0]["actor"], &back[0]["subject"]),
        (1, &json!("system:canary"), &json!("bad"))
    );
    assert!(back[0]["details"]["evidence"].as_str().unwrap().contains("log_evidence"));
    let sent = || server.read("/api/v1/webhook-deliveries").to_string();
    assert!(wait(|| sent().contains("canary.decided")), "{}", sent());
    // Everybody gets what was there before, and no arm is named.
    let after = answer(&server, 1);
    assert_eq!((&after["canary"], &after["algorithm"]), (&Value::Null, &json!("hybrid")));
    let home = server.stop();
    let status = home.run(&["rollout", "status"]).succeeded().stdout;
    assert!(status.contains("bad  rolled back  0 %") && status.contains("loss: candidate"), "{status}");
    assert!(home.run(&["audit", "verify"]).succeeded().stdout.starts_with("whole"));
    home.run(&["doctor", "--rebuild"]).succeeded();
}

#[test]
fn a_good_candidate_reaches_everyone_and_can_be_taken_back() {
    let mut server = shop();
    start(&server, "good", &[50, 80, 100]);
    // An arm is kept, and a list goes on in the arm that began it.
    let first = answer(&server, 3);
    assert_eq!(answer(&server, 3)["canary"], first["canary"]);
    let next = first["next_cursor"].as_str().unwrap();
    let more = server.read(&format!("/api/v1/recommendations/user/user-3?count=3&cursor={next}"));
    assert_eq!(more["algorithm"], first["algorithm"]);
    let named = server.read("/api/v1/recommendations/user/user-3?algorithm=popular");
    assert_eq!((&named["canary"], &named["algorithm"]), (&Value::Null, &json!("popular")));
    let (mut from, mut percents) = (10, Vec::new());
    let arrived = wait(|| {
        visit(&server, from..from + 20, &["control", "candidate"]);
        from += 20;
        let now = canary(&server, "good");
        percents.push(now["percent"].as_u64().unwrap());
        if percents.len() == 3 {
            server.restart();
        }
        now["stage"] == "complete"
    });
    assert!(arrived, "{percents:?} {}", canary(&server, "good"));
    let steps: Vec<_> = canary(&server, "good")["decisions"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["percent"].as_u64().unwrap())
        .collect();
    assert_eq!(steps, [80, 100]);
    assert!((0..20).all(|user| answer(&server, user)["algorithm"] == "latest"));
    // One that was begun before goes on as it was.
    if first["canary"]["arm"] == "control" {
        let more = server.read(&format!("/api/v1/recommendations/user/user-3?count=3&cursor={next}"));
        assert_eq!(more["algorithm"], "hybrid");
    }
    let (status, back) = server.post("/api/v1/canaries/good/rollback", &json!({"reason": "complaints"}));
    assert_eq!((status, &back["stage"]), (200, &json!("rolled_back")), "{back}");
    assert!((0..20).all(|user| answer(&server, user)["algorithm"] == "hybrid"));
    refused(&server.post("/api/v1/canaries/good/rollback", &json!({})), 409, "CONFLICT", Some("name"));
    let audit = server.read("/api/v1/audit?limit=1");
    assert_eq!(audit["entries"][0]["details"]["reason"], "complaints", "{audit}");
}

#[test]
fn an_ab_test_stays_where_it_is_until_someone_ends_it() {
    let mut server = shop();
    let body = json!({"name": "ab", "mode": "ab", "algorithm": "latest", "sample_min": 1, "step_seconds_min": 0,
        "outcome_window_seconds": 1, "slow_ms": 60_000});
    let made = server.create("/api/v1/canaries", &body);
    assert_eq!((&made["mode"], &made["percent"]), (&json!("ab"), &json!(50)), "{made}");
    visit(&server, 0..80, &["control"]);
    server.crash_and_restart();
    // The gates would have taken it back: nobody chooses anything of the candidate's.
    let differs = || {
        let found = canary(&server, "ab")["reading"]["comparison"].clone();
        let is_apart = found["control"]["upper"].as_f64() < found["candidate"]["lower"].as_f64();
        found["differs"] == true && is_apart
    };
    assert!(wait(differs), "{}", canary(&server, "ab"));
    let told = canary(&server, "ab");
    assert_eq!(
        (&told["stage"], &told["percent"], &told["decisions"]),
        (&json!("running"), &json!(50), &json!([]))
    );
    let found = &told["reading"]["comparison"];
    assert_eq!(found["candidate"]["share"], 1.0, "{told}");
    assert!(found["p_value"].as_f64() <= found["level"].as_f64(), "{told}");
    let (status, ended) =
        server.post("/api/v1/canaries/ab/promote", &json!({"reason": "we like new things"}));
    assert_eq!(
        (status, &ended["stage"], &ended["percent"]),
        (200, &json!("complete"), &json!(100)),
        "{ended}"
    );
    assert_eq!(ended["decisions"][0]["evidence"]["comparison"]["differs"], true, "{ended}");
    assert!((0..20).all(|user| answer(&server, user)["algorithm"] == "latest"));
    refused(&server.post("/api/v1/canaries/ab/promote", &json!({})), 409, "CONFLICT", Some("name"));
    let audit = server.read("/api/v1/audit?limit=1");
    assert_eq!(audit["entries"][0]["action"], "canary.completed", "{audit}");
    // What was promoted is what the next one is compared with.
    let again = json!({"algorithm": "latest"});
    refused(&server.post("/api/v1/canaries", &again), 400, "VALIDATION_ERROR", Some("algorithm"));
    let (status, _) = server.post("/api/v1/canaries/ab/rollback", &json!({}));
    assert_eq!((status, &answer(&server, 1)["algorithm"]), (200, &json!("hybrid")));
    let name = json!({"name": "ab", "algorithm": "latest"});
    refused(&server.post("/api/v1/canaries", &name), 409, "CONFLICT", Some("name"));
}

#[test]
fn what_makes_no_sense_is_refused() {
    let server = shop();
    let check = |body: Value, field: &str| {
        refused(&server.post("/api/v1/canaries", &body), 400, "VALIDATION_ERROR", Some(field));
    };
    check(json!({"algorithm": "unknown"}), "algorithm");
    check(json!({}), "algorithm");
    check(json!({"algorithm": "latest", "name": "a b"}), "name");
    check(json!({"algorithm": "latest", "diversity": 0.5}), "diversity");
    check(json!({"algorithm": "latest", "collaborative_weight": 0.5}), "collaborative_weight");
    check(json!({"algorithm": "latest", "steps": [50, 25, 100]}), "steps");
    check(json!({"algorithm": "latest", "steps": []}), "steps");
    check(json!({"algorithm": "latest", "steps": [100]}), "steps");
    check(json!({"algorithm": "hybrid"}), "algorithm");
    check(json!({"algorithm": "latest", "false_alarm": 0.9}), "false_alarm");
    check(json!({"algorithm": "latest", "outcome_window_seconds": 0}), "outcome_window_seconds");
    check(json!({"algorithm": "latest", "sample_min": 0}), "sample_min");
    refused(&server.post("/api/v1/canaries/none/rollback", &json!({})), 404, "NOT_FOUND", None);
    assert_eq!(server.get("/api/v1/canaries/none").0, 404);
    start(&server, "one", &[10, 100]);
    refused(&server.post("/api/v1/canaries", &json!({"algorithm": "popular"})), 409, "CONFLICT", None);
    refused(&server.post("/api/v1/canaries/one/promote", &json!({})), 409, "CONFLICT", Some("name"));
    // Nobody else makes such events.
    let event = json!({"specversion": "1.0", "id": "x", "source": "/t", "type": "recommend.canary.decided.v1",
        "data": {"canary": "one", "sequence": 1, "stage": "complete", "percent": 100, "reason": ""}});
    refused(&server.post("/api/v1/events", &event), 400, "UNKNOWN_EVENT_TYPE", Some("type"));
    // Who does not agree to personal answers takes no part.
    server.put("/api/v1/users/user-9/consent", &json!({"personalisation": false}));
    assert_eq!(answer(&server, 9)["canary"], Value::Null);
}

#[test]
fn the_commands_begin_and_take_back() {
    let home = Home::new();
    let begin = ["rollout", "canary", "recommend", "popular", "--name", "one", "--steps", "10,25,50,100"];
    home.run(&begin).failed_with("data");
    let home = shop().stop();
    assert!(home.run(&begin).succeeded().stdout.starts_with("one  running  10 %"));
    home.run(&begin).failed_with("is running");
    home.run(&["rollout", "canary", "recommend", "none"]).failed_with("is not one of");
    let status = home.run(&["rollout", "status"]).succeeded().stdout;
    assert!(status.contains("now  loss: candidate 0.0000 of 0, control 0.0000 of 0"), "{status}");
    let back = home.run(&["rollout", "rollback", "--reason", "enough"]).succeeded().stdout;
    assert!(back.starts_with("one  rolled back  0 %") && back.contains("enough"), "{back}");
    home.run(&["rollout", "rollback"]).failed_with("not in force");
    let test = ["rollout", "canary", "recommend", "popular", "--name", "two", "--ab"];
    assert!(home.run(&test).succeeded().stdout.starts_with("two  running  50 %"));
    assert!(home.run(&["rollout", "promote"]).succeeded().stdout.starts_with("two  complete  100 %"));
}
