//! Several servers on one PostgreSQL and one Redis agree: on events, keys, limits and models.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use kernel::{Clock, SystemClock};
use serde_json::{Value, json};

use crate::support::{Home, KEY, Server, ids, wait};

/// What `scripts/with-engines` says of an engine.
#[expect(clippy::disallowed_methods, reason = "this is how a test learns of its servers")]
pub(crate) fn engine(variable: &str) -> String {
    std::env::var(variable).unwrap_or_else(|_| {
        panic!("{variable} is not set: run `scripts/with-engines cargo nextest run --all-features`, or `make test`")
    })
}

/// A schema and a prefix of their own, and how they are reached.
pub(crate) struct Place {
    pub(crate) name: String,
    postgres: String,
    redis: String,
}

impl Place {
    pub(crate) fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("e2e_{}_{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let none = Self { name, postgres: String::new(), redis: String::new() };
        none.with_postgres(&engine("WATERSHED_TEST_POSTGRES_URL"), "")
            .with_redis(&engine("WATERSHED_TEST_REDIS_URL"))
    }

    /// The same, over another way to the database, with more settings of it.
    pub(crate) fn with_postgres(&self, url: &str, extra: &str) -> Self {
        let sizes = "max_connections = 5\nmin_connections = 1";
        let postgres =
            format!("[storage.postgres]\nurl = \"{url}\"\nschema = \"{}\"\n{sizes}\n{extra}", self.name);
        Self { name: self.name.clone(), postgres, redis: self.redis.clone() }
    }

    /// The same, over another way to the cache.
    pub(crate) fn with_redis(&self, url: &str) -> Self {
        let redis = format!("[storage.redis]\nurl = \"{url}\"\nprefix = \"{}\"\n", self.name);
        Self { name: self.name.clone(), postgres: self.postgres.clone(), redis }
    }

    /// The settings of a server there.
    pub(crate) fn settings(&self, extra: &str) -> String {
        let training =
            "[recommend.training]\nblend_users = 50\n[recommend.training.algorithms]\nsequence = false\n";
        format!("{}{}{training}{extra}", self.postgres, self.redis)
    }
}

/// Settings of replicas that share a schema of their own.
pub(crate) fn shared(extra: &str) -> String {
    Place::new().settings(extra)
}

pub(crate) const NO_LIMIT: &str = "[server.rate_limit]\nenabled = false\n";
pub(crate) const NO_TRAINING: &str = "[recommend.schedule]\nincremental_update_interval_secs = 3600\n";

fn replicas(settings: &str) -> (Server, Server) {
    let home = Home::with_settings(settings);
    let done = home.run(&["migrate", "up"]).succeeded().stdout;
    assert!(done.contains("done: 0001"), "{done}");
    (home.serve(), Home::with_settings(settings).serve())
}

/// Takes the schema away again. Servers must have stopped.
pub(crate) fn drop_schema(home: &Home) {
    home.run(&["migrate", "down", "--to", "0"]).succeeded();
}

/// Fails unless it is so before long.
#[track_caller]
pub(crate) fn soon(what: &str, is_so: impl FnMut() -> bool) {
    assert!(wait(is_so), "{what}: never");
}

/// Fails unless it is so so soon after `act` was acknowledged, in one of three measurements: a machine that was paused in one
/// of them says nothing of the servers. Both are told which measurement it is.
#[track_caller]
fn within(limit: Duration, what: &str, act: impl Fn(usize), is_so: impl Fn(usize) -> bool) {
    let clock = SystemClock::new();
    let mut took = Vec::new();
    for round in 0..3 {
        act(round);
        let began = clock.elapsed();
        soon(what, || is_so(round));
        took.push(clock.elapsed() - began);
        if took[round] <= limit {
            return;
        }
    }
    panic!("{what}: {took:?}, and {limit:?} are allowed");
}

pub(crate) fn interactions(users: u32) -> Value {
    let pairs = (0..users).flat_map(|user| (0..6_u32).map(move |step| (user, step)));
    let one = |(user, step): (u32, u32)| {
        let entity = (user % 3) * 4 + (user / 3 + step) % 6;
        json!({"user_id": format!("u-{user}"), "entity_id": format!("e-{entity}"), "interaction_type": "view"})
    };
    json!({"interactions": pairs.map(one).collect::<Vec<_>>()})
}

#[test]
fn what_one_is_told_the_others_know() {
    let (one, two) = replicas(&shared(&format!("{NO_LIMIT}{NO_TRAINING}")));
    let ready = one.send("GET", "/ready", &[], None).json();
    assert_eq!(
        (&ready["checks"]["database"], &ready["checks"]["cache"]),
        (&json!("running"), &json!("running"))
    );
    one.create("/api/v1/entities", &json!({"entity_id": "a", "attributes": {"color": "red"}}));
    one.create(
        "/api/v1/interactions",
        &json!({"user_id": "ada", "entity_id": "a", "interaction_type": "view"}),
    );
    soon("an entity", || two.get("/api/v1/entities/a?entity_type=item").0 == 200);
    soon("an interaction", || {
        let (status, body) = two.get("/api/v1/interactions/user/ada");
        status == 200 && body.as_array().unwrap().len() == 1
    });
    soon("an answer", || ids(&two.read("/api/v1/recommendations/popular")) == ["a"]);
    // The same event again, to the other one: stored once.
    let event = json!({"specversion": "1.0", "id": "same", "source": "/t", "type": "recommend.interaction.recorded.v1",
        "data": {"user_id": "bob", "entity_id": "a", "interaction_type": "view"}});
    for server in [&one, &two] {
        let (status, _) = server.post_as("application/cloudevents+json", "/api/v1/events", event.to_string());
        assert!(status < 300, "{status}");
    }
    for server in [&one, &two] {
        soon("an event sent twice", || {
            let (status, body) = server.get("/api/v1/interactions/user/bob");
            status == 200 && body.as_array().unwrap().len() == 1
        });
    }
    let _ = one.stop();
    drop_schema(&two.stop());
}

#[test]
fn keys_and_limits_are_shared() {
    let limits = "[server.rate_limit]\nrequests_per_minute = 1\nburst_size = 4\n";
    let (one, two) = replicas(&shared(&format!("{limits}{NO_TRAINING}")));
    let status = |server: &Server, key: &str| {
        server.send("GET", "/api/v1/export/users", &[("x-api-key", key)], None).status
    };
    let made = one.create("/api/v1/keys", &json!({"name": "shop", "permission": "read"}));
    let key = made["api_key"].as_str().unwrap();
    assert_eq!(status(&one, key), 200);
    soon("a key", || status(&two, key) == 200);
    assert_eq!((status(&one, key), status(&two, key)), (200, 200), "four in all");
    assert_eq!((status(&one, key), status(&two, key)), (429, 429));
    assert_eq!(one.delete(&format!("/api/v1/keys/{}", made["id"].as_str().unwrap())).0, 204);
    assert_eq!(status(&one, key), 401);
    soon("a revocation", || status(&two, key) == 401);
    let _ = one.stop();
    let home = two.stop();
    assert!(home.run(&["audit", "verify"]).succeeded().stdout.contains("whole: 2 entries"));
    drop_schema(&home);
}

#[test]
fn without_a_key_in_the_settings_those_that_are_made_let_in() {
    let settings = shared(&format!("{NO_LIMIT}{NO_TRAINING}"));
    let home = || {
        let home = Home::with_settings(&settings).environment("API_KEY", "");
        home.allowing("set API_KEY or run `watershed keys create`")
    };
    let one = home();
    one.run(&["migrate", "up"]).succeeded();
    let (one, two) = (one.serve(), home().serve());
    for server in [&one, &two] {
        assert!(server.log().contains("no key lets anyone in; set API_KEY or run"), "{}", server.log());
        assert_eq!(server.get("/api/v1/keys").0, 401);
    }
    let made = one.home().run(&["keys", "create", "--name", "first", "--permission", "admin"]).succeeded();
    let key = made.stdout.trim();
    for server in [&one, &two] {
        let status = || server.send("GET", "/api/v1/keys", &[("x-api-key", key)], None).status;
        soon("a key of every replica", || status() == 200);
        assert!(!server.home().path("data").exists(), "nothing is kept on this machine");
    }
    let _ = one.stop();
    drop_schema(&two.stop());
}

#[test]
fn it_takes_no_more_than_a_second() {
    let (one, two) = replicas(&shared(&format!("{NO_LIMIT}{NO_TRAINING}")));
    let second = Duration::from_secs(1);
    let entity = |round: usize| format!("film-{round}");
    let sees = |user: &str, round: usize| {
        let body = json!({"user_id": user, "entity_id": entity(round), "interaction_type": "view"});
        one.create("/api/v1/interactions", &body);
    };
    let is_offered = |round: usize| {
        ids(&two.read("/api/v1/recommendations/user/ada?exclude_seen=true&count=10")).contains(&entity(round))
    };
    for round in 0..3 {
        one.create("/api/v1/entities", &json!({"entity_id": entity(round)}));
        sees("bob", round);
        soon("what another saw is offered", || is_offered(round));
    }
    within(
        second,
        "an interaction in the other's answer",
        |round| sees("ada", round),
        |round| !is_offered(round),
    );
    let keys = [0; 3].map(|_| one.create("/api/v1/keys", &json!({"name": "shop", "permission": "read"})));
    for made in keys {
        let key = made["api_key"].as_str().unwrap();
        let status = || two.send("GET", "/api/v1/export/users", &[("x-api-key", key)], None).status;
        assert_eq!(status(), 200, "a key that the other made a moment ago");
        assert_eq!(one.delete(&format!("/api/v1/keys/{}", made["id"].as_str().unwrap())).0, 204);
        assert_eq!(status(), 401, "ended everywhere when that is answered");
    }
    let _ = one.stop();
    drop_schema(&two.stop());
}

#[test]
fn one_trains_and_all_serve_it() {
    let schedule = "[recommend.schedule]\nincremental_update_interval_secs = 1\nmin_interactions = 30\nrebuild_growth = 5.0\n";
    let (one, two) = replicas(&shared(&format!("{NO_LIMIT}{schedule}")));
    let (status, told) = one.post("/api/v1/interactions/bulk", &interactions(30));
    assert_eq!((status, told["successful"].as_u64()), (202, Some(180)), "{told}");
    let version = |server: &Server| {
        server.read("/api/v1/recommendations/user/u-1?exclude_seen=false")["model_version"].as_u64()
    };
    for server in [&one, &two] {
        assert!(wait(|| version(server) == Some(1)), "{:?}", version(server));
    }
    let answers = |server: &Server| {
        let answer = server.read("/api/v1/recommendations/user/u-1?exclude_seen=false&count=12");
        ids(&answer)
    };
    assert_eq!(answers(&one), answers(&two));
    // A replica that comes later serves the same at once.
    let home = one.stop();
    let late = home.serve();
    assert_eq!((version(&late), answers(&late)), (Some(1), answers(&two)));
    let _ = late.stop();
    drop_schema(&two.stop());
}

#[test]
fn a_schema_that_is_not_there_is_told_with_what_to_do() {
    let home = Home::with_settings(&shared(NO_LIMIT));
    home.run(&["serve"]).failed_with("watershed migrate up");
    let status = home.run(&["migrate", "status"]).succeeded().stdout;
    assert!(status.contains("pending  0001"), "{status}");
    assert!(home.run(&["migrate", "plan"]).succeeded().stdout.to_lowercase().contains("create table"));
    let config = home.run(&["config"]).succeeded().stdout;
    let password = engine("WATERSHED_TEST_REDIS_URL");
    let password = password.split(['@', ':']).nth(2).unwrap_or("none-in-the-address");
    assert!(!config.contains(password) && !config.contains(KEY), "{config}");
}

/// What a program that asks Redis itself is told.
fn get(key: &str) -> String {
    let url = engine("WATERSHED_TEST_REDIS_URL");
    let (password, address) = url.trim_start_matches("redis://:").split_once('@').unwrap();
    let mut socket = TcpStream::connect(address.split('/').next().unwrap()).unwrap();
    write!(socket, "AUTH {password}\r\nGET {key}\r\nQUIT\r\n").unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).unwrap();
    answer
}

/// What is in an answer of Redis; null where there is nothing.
fn snapshot(answer: &str) -> Value {
    let (from, to) = (answer.find('{').unwrap_or(0), answer.rfind('}').map_or(0, |end| end + 1));
    serde_json::from_str(answer.get(from..to).unwrap_or_default()).unwrap_or_default()
}

/// One of the two writes, and it is the newest price or curve, whichever was told of it.
#[test]
fn newest_prices_and_curves_stand_in_redis() {
    let place = Place::new();
    let (one, two) = replicas(&place.settings(&format!(
        "{NO_TRAINING}[market.cache]\nenabled = true\n[[market.projections]]\nname = \"double\"\nfrom = \"price\"\n\
         fields = {{ price = \"2.0 * event.price\" }}\n"
    )));
    let tick = |sequence: u64, price: f64| {
        json!({"source_system": "feed", "market": "MISO", "symbol": "HUB", "sequence": sequence, "price": price,
            "timestamp": format!("2024-01-01T00:00:{sequence:02}Z"), "volume": 1})
    };
    let key = format!("{}:default:v:served:latest_price:HUB", place.name);
    for (server, sequence, price) in [(&one, 1, -31.25), (&two, 2, 7.5), (&one, 3, 8.5)] {
        server.create("/api/v1/market/ticks", &tick(sequence, price));
        soon("the price in Redis", || get(&key).contains(&format!("\"price\":{price}")));
        let key = key.replace("latest_price", "custom:double");
        soon("the projection in Redis", || get(&key).contains(&format!("{{\"price\":{:?}}}", 2.0 * price)));
    }
    assert!(get(&key.replace(":default:", ":other:")).contains("$-1"), "no other tenant has it");
    let curve = |rate: f64| {
        json!({"as_of": "2022-12-30T00:00:00Z",
            "quotes": [{"tenor": "6m", "rate": rate}, {"tenor": "1y", "rate": rate}, {"tenor": "10y", "rate": rate}]})
    };
    for (server, rate) in [(&one, 0.0475), (&two, 0.0125)] {
        server.create("/api/v1/market/curves/UST/quotes", &curve(rate));
        for horizon in ["1y", "1m"] {
            let told = server.read(&format!("/api/v1/market/curves/UST?horizon={horizon}"));
            assert!(told["points"].is_array() && told["revision"].is_u64(), "{told}");
            let key = format!("{}:default:v:served:curve_snapshot:UST:{horizon}", place.name);
            // That of the round before has another revision and other points.
            soon("the curve in Redis", || {
                let found = snapshot(&get(&key));
                found["projection_type"] == "curve_snapshot"
                    && found["data"]["revision"] == told["revision"]
                    && found["data"]["points"] == told["points"]
            });
        }
    }
    let _ = one.stop();
    drop_schema(&two.stop());
}
