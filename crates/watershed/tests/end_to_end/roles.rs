//! Servers that do a part of the work each, on one PostgreSQL.

use serde_json::{Value, json};

use crate::fault::{Fault, Wire};
use crate::replicas::{NO_LIMIT, NO_TRAINING, Place, drop_schema, engine, interactions, shared, soon};
use crate::support::{Home, KEY, Server, ids, metric, refused};

const SCHEDULE: &str = "[recommend.schedule]\nincremental_update_interval_secs = 1\nmin_interactions = 30\nrebuild_growth = 5.0\n";
/// A server that is started first does not know of those that come.
const ALONE: &str = "no server has the role";

fn ready(server: &Server) -> Value {
    let reply = server.send("GET", "/ready", &[], None);
    assert_eq!(reply.status, 200, "{}", reply.text());
    reply.json()
}

fn roles(server: &Server) -> String {
    ready(server)["checks"]["roles"].as_str().unwrap().to_owned()
}

fn version(server: &Server) -> Option<u64> {
    server.read("/api/v1/recommendations/user/u-1?exclude_seen=false")["model_version"].as_u64()
}

#[test]
fn each_does_its_part_and_what_nobody_does_is_told() {
    let settings = shared(&format!("{NO_LIMIT}{SCHEDULE}"));
    let home = || Home::with_settings(&settings).allowing(ALONE);
    let api = home().environment("ROLES", "api");
    api.run(&["migrate", "up"]).succeeded();
    let api = api.serve();
    soon("a missing trainer", || {
        roles(&api).contains("no server has the role `trainer`: models are not trained")
    });
    assert!(roles(&api).contains("no server has the role `stream`"));
    assert_eq!(metric(&api, "deployment_role_filled", &["role=\"trainer\""]), 0.0);
    let own = |server: &Server, role: &str| metric(server, "server_role", &[&format!("role=\"{role}\"")]);
    assert_eq!((own(&api, "api"), own(&api, "trainer")), (1.0, 0.0));
    let (status, told) = api.post("/api/v1/interactions/bulk", &interactions(30));
    assert_eq!((status, told["successful"].as_u64()), (202, Some(180)), "{told}");

    let trainer = home().environment("ROLES", "trainer").allowing("request refused").serve();
    for path in ["/health", "/ready"] {
        assert_eq!(trainer.send("GET", path, &[], None).status, 200, "{path}");
    }
    for (method, path) in
        [("GET", "/api/v1/recommendations/popular"), ("POST", "/api/v1/events"), ("GET", "/x")]
    {
        let reply = trainer.send(method, path, &[("x-api-key", KEY)], None);
        let answer = (reply.status, reply.json());
        refused(&answer, 503, "UNAVAILABLE", None);
        let detail = answer.1["detail"].as_str().unwrap();
        assert!(detail.contains("its roles are: trainer; ask one that has the role `api`"), "{detail}");
    }
    soon("a model", || version(&api) == Some(1));
    let trained = |server: &Server| metric(server, "recommend_trainings_total", &["outcome=\"trained\""]);
    assert_eq!((trained(&trainer), trained(&api)), (1.0, 0.0));
    soon("a trainer", || !roles(&api).contains("trainer"));
    soon("a missing stream", || roles(&trainer).starts_with("no server has the role `stream`"));
    assert_eq!(metric(&api, "deployment_role_filled", &["role=\"trainer\""]), 1.0);

    // Who follows restores from what the stream wrote.
    let stream = home().environment("ROLES", "stream").serve();
    for server in [&api, &trainer, &stream] {
        soon("every role", || roles(server) == "running");
    }
    let _ = (stream.stop(), trainer.stop());
    let mut api = api;
    api.restart();
    assert_eq!(version(&api), Some(1));
    drop_schema(&api.stop());
}

#[test]
fn names_of_roles_are_checked() {
    let home = Home::new();
    home.run(&["serve", "--roles", "api,worker"])
        .failed_with("server.roles[1]: unknown variant `worker`, expected one of `api`, `stream`, `trainer`");
    home.run(&["serve", "--roles", ""]).failed_with("server.roles[0]: unknown variant ``");
    home.append_settings("[server]\nroles = []\n");
    home.run(&["serve"]).failed_with("server.roles: must name at least one of `api`, `stream` and `trainer`");
}

/// The log is cut past a replica that could not read it: it goes on from the newest checkpoint, without a restart.
#[test]
fn a_replica_that_was_overtaken_goes_on() {
    let database = Fault::before(&engine("WATERSHED_TEST_POSTGRES_URL"));
    let place = Place::new();
    let extra = format!("{NO_LIMIT}{NO_TRAINING}");
    let late = place.with_postgres(&database.url, "poll_seconds = 1.0\nacquire_timeout_seconds = 1.0\n");
    let late = crate::away::home(&late.settings(&extra)).allowing("going on from a newer checkpoint");
    late.run(&["migrate", "up"]).succeeded();
    let late = late.serve();
    let view = |server: &Server, number: u32, time: &str| {
        let entity = format!("e-{number}");
        let body =
            json!({"user_id": "ada", "entity_id": entity, "interaction_type": "view", "timestamp": time});
        server.create("/api/v1/interactions", &body);
    };
    view(&late, 0, "2020-01-01T00:00:00Z");
    database.set(Wire::Cut);
    let other = Home::with_settings(&place.settings(&extra)).serve();
    (1..4).for_each(|number| view(&other, number, "2020-01-02T00:00:00Z"));
    other.create(
        "/api/v1/interactions",
        &json!({"user_id": "ada", "entity_id": "e-4", "interaction_type": "view"}),
    );
    let cutting = place.settings(&extra) + "[storage]\nlog_retention_days = 30\n";
    let cutting = Home::with_settings(&cutting).serve();
    assert!(crate::support::wait(|| cutting.log().contains("removed from the log")), "nothing was cut");
    let popular = |server: &Server| {
        let mut ids = ids(&server.read("/api/v1/recommendations/popular"));
        ids.sort();
        ids
    };
    assert_eq!(popular(&late), ["e-0"], "it is behind");
    database.set(Wire::Whole);
    soon("what went", || popular(&late) == ["e-0", "e-1", "e-2", "e-3", "e-4"]);
    soon("readiness", || late.send("GET", "/ready", &[], None).status == 200);
    assert_eq!(metric(&late, "view_overtaken_total", &[]), 1.0);
    view(&late, 5, "2020-01-03T00:00:00Z");
    soon("what came since", || popular(&late) == popular(&other) && popular(&late).len() == 6);
    let _ = (cutting.stop(), other.stop());
    late.stop();
    drop_schema(&Home::with_settings(&place.settings(&extra)));
}
