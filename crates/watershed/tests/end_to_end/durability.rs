//! Stopping and crashing: what was acknowledged is there afterwards, and the same model answers the same.

use serde_json::{Value, json};

use crate::questions::{busiest, shop};
use crate::support::{Home, Server, files, ids, wait};

/// What must survive.
fn facts(server: &Server, user: &str) -> Value {
    let path = format!("/api/v1/recommendations/user/{user}?count=20&collaborative_weight=0.6");
    let answer = server.read(&path);
    json!({
        "entity": server.read("/api/v1/entities/survivor"),
        "interactions": server.read(&format!("/api/v1/interactions/user/{user}?limit=1000")),
        "types": server.read("/api/v1/interaction-types"),
        "exported": server.read("/api/v1/export/entities"),
        "letters": server.read("/api/v1/dead-letters"),
        "model_version": answer["model_version"],
        "recommendations": ids(&answer),
    })
}

fn change_things(server: &Server, user: &str) {
    server.create("/api/v1/interaction-types", &json!({"interaction_type": "share", "weight": 2.5}));
    for number in 10..20 {
        let body = json!({
            "user_id": user, "entity_id": format!("item-{number}"), "entity_type": "product", "interaction_type": "share"
        });
        server.create("/api/v1/interactions", &body);
    }
    assert_eq!(server.post_as("application/json", "/api/v1/events", "{}").0, 400);
}

#[test]
fn nothing_acknowledged_is_lost_by_a_crash_or_a_stop() {
    let mut server = shop();
    let user = busiest(&server);
    server.create("/api/v1/entities", &json!({"entity_id": "survivor", "attributes": {"price": 1.5}}));
    assert_eq!(server.patch("/api/v1/entities/survivor", &json!({"attributes": {"tags": ["x"]}})).0, 200);
    // The start takes the new entity into the content model, which the trainer would do somewhat later.
    server.restart();
    change_things(&server, &user);
    let before = facts(&server, &user);
    assert_eq!(before["model_version"], 1);
    server.crash_and_restart();
    assert_eq!(facts(&server, &user), before, "after a crash");
    server.restart();
    assert_eq!(facts(&server, &user), before, "after a stop");
    assert_eq!(server.read("/ready")["status"], "ready");
    let home = server.stop();
    let doctor = home.run(&["doctor", "--rebuild"]).succeeded();
    assert!(
        doctor.stdout.contains("byte for byte") && doctor.stdout.contains("all is well"),
        "{}",
        doctor.stdout
    );
}

#[test]
fn a_stop_leaves_a_checkpoint() {
    let server = Server::new();
    server.create("/api/v1/entities", &json!({"entity_id": "a"}));
    server.read("/api/v1/entities/a");
    let home = server.stop();
    let log = std::fs::read_to_string(home.path("server.log")).unwrap();
    assert!(log.contains("stopping") && log.trim_end().ends_with("stopped"), "{log}");
    let checkpoints = home.path("data/blobs/_system/checkpoints");
    assert!(!files(&checkpoints).is_empty(), "no checkpoint");
}

#[test]
fn a_damaged_checkpoint_costs_time_and_nothing_else() {
    let server = Server::new();
    for number in 0..20 {
        server.create("/api/v1/entities", &json!({"entity_id": format!("e-{number}")}));
    }
    let before = server.read("/api/v1/export/entities");
    let home = server.stop();
    for path in files(&home.path("data/blobs/_system/checkpoints")) {
        let mut bytes = std::fs::read(&path).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 0xff;
        std::fs::write(&path, bytes).unwrap();
    }
    let server = home.allowing("checkpoint is damaged").serve();
    assert!(server.log().contains("checkpoint is damaged"), "{}", server.log());
    assert_eq!(server.read("/api/v1/export/entities"), before);
}

#[test]
fn a_folder_is_served_once() {
    let server = Server::new();
    let ran = server.home().run(&["doctor"]).failed_with("data");
    assert!(ran.stderr.lines().count() <= 2, "{}", ran.stderr);
}

#[test]
fn a_request_in_flight_is_finished_before_the_stop() {
    let server = Server::new();
    let entities: Vec<Value> = (0..3_000).map(|number| json!({"entity_id": format!("e-{number}")})).collect();
    let body = json!({"entities": entities});
    std::thread::scope(|scope| {
        let asked = scope.spawn(|| server.post("/api/v1/entities/bulk", &body));
        let begun = || {
            let text = server.send("GET", "/metrics", &[], None).text().to_owned();
            let gauge = text.lines().find_map(|line| line.strip_prefix("http_requests_in_flight "));
            gauge.is_some_and(|value| value != "1")
        };
        crate::support::wait(|| begun() || asked.is_finished());
        server.ask_to_stop();
        let (status, result) = asked.join().unwrap();
        assert_eq!((status, &result["successful"]), (202, &json!(3_000)), "{result}");
    });
}

/// A log with events of long ago and one of now, under settings that say to cut it.
fn with_history() -> Home {
    let server = Server::new();
    for (number, time) in (0..).zip(["2020-01-01T00:00:00Z", "2020-01-02T00:00:00Z", "2020-01-03T00:00:00Z"])
    {
        let body = json!({
            "user_id": "ada", "entity_id": format!("e-{number}"), "interaction_type": "view", "timestamp": time
        });
        server.create("/api/v1/interactions", &body);
    }
    let now = json!({"user_id": "ada", "entity_id": "e-now", "interaction_type": "view"});
    server.create("/api/v1/interactions", &now);
    let home = server.stop();
    home.append_settings("[storage]\nlog_retention_days = 30\n");
    home
}

/// What only the view knows once the events are gone.
fn of_view(server: &Server) -> (Vec<String>, Value) {
    let popular = server.read("/api/v1/recommendations/popular");
    (ids(&popular), server.read("/api/v1/export/users")[0]["interactions"].clone())
}

#[test]
fn a_log_that_was_cut_before_its_first_backup_comes_back_with_its_view() {
    let home = with_history();
    let server = home.serve();
    assert!(wait(|| server.log().contains("removed from the log")), "the start cuts nothing");
    let kept = of_view(&server);
    assert_eq!((kept.0.len(), &kept.1), (4, &json!(4)));
    let home = server.stop();
    let place = home.path("vault");
    let place = place.to_str().unwrap();
    home.run(&["backup", "create", "--to", place]).succeeded();
    assert!(
        home.run(&["backup", "verify", "--from", place]).succeeded().stdout.starts_with("whole: 1 backups")
    );
    let other = Home::new();
    other.run(&["restore", "--from", place, "--dry-run"]).succeeded();
    let cut = ["restore", "--from", place, "--to-time", "2020-01-02T12:00:00Z"];
    other.run(&cut).failed_with("views of a later time");
    other.run(&["restore", "--from", place]).succeeded();
    let server = other.serve();
    assert_eq!(of_view(&server), kept);
    server.create(
        "/api/v1/interactions",
        &json!({"user_id": "ada", "entity_id": "e-more", "interaction_type": "view"}),
    );
    assert_eq!(of_view(&server).1, json!(5), "it goes on");
}

#[test]
fn views_outlive_the_events_that_retention_removes() {
    let home = with_history();
    let before = home.run(&["doctor", "--rebuild"]).succeeded();
    assert!(before.stdout.contains("partition 0: 0 to 4"), "{}", before.stdout);
    let mut server = home.serve();
    assert!(wait(|| server.log().contains("removed from the log")), "the start cuts nothing");
    let kept = of_view(&server);
    assert_eq!((kept.0.len(), &kept.1), (4, &json!(4)));
    let told = server.read("/api/v1/interactions/user/ada");
    assert_eq!(told.as_array().unwrap().len(), 1, "the log itself has only what is young");
    server.restart();
    assert_eq!(of_view(&server), kept);
    server.crash_and_restart();
    assert_eq!(of_view(&server), kept);
    let home = server.stop();
    let doctor = home.run(&["doctor", "--rebuild"]).succeeded();
    for part in ["partition 0: 3 to 4", "4 interactions", "cannot be compared: the first 3 events were cut"] {
        assert!(doctor.stdout.contains(part), "no `{part}` in {}", doctor.stdout);
    }
}

#[test]
fn a_view_without_its_history_is_not_served_in_silence() {
    let home = with_history();
    let server = home.serve();
    assert!(wait(|| server.log().contains("removed from the log")), "the start cuts nothing");
    let home = server.stop().allowing("the view lacks events");
    std::fs::remove_dir_all(home.path("data/blobs/_system/checkpoints")).unwrap();
    home.run(&["serve", "--host", "127.0.0.1", "--port", "0"])
        .failed_with("events 0 to 2 of partition 0 were cut");
    home.run(&["doctor"]).failed_with("accept_partial_history");
    home.append_settings("accept_partial_history = true\n");
    let server = home.serve();
    assert_eq!(ids(&server.read("/api/v1/recommendations/popular")), ["e-now"]);
    assert!(server.log().contains("the view lacks events that were cut from the log"));
}
