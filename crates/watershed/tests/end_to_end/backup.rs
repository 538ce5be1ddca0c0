//! `watershed backup` and `watershed restore`, and what a server ships by itself.

use std::path::Path;

use serde_json::{Value, json};

use crate::privacy::SEALED;
use crate::support::{Home, KEY, Server, files, wait};

/// Settings of a test's home, and a line that ships.
fn settings(extra: &str) -> String {
    format!(
        "[server.rate_limit]\nenabled = false\n[recommend.training]\nblend_users = 50\n\
         [recommend.training.algorithms]\nsequence = false\n\
         [recommend.schedule]\nincremental_update_interval_secs = 3600\n{extra}"
    )
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// The hash of all views, from a rebuild of the log.
fn views(home: &Home) -> String {
    let told = home.run(&["doctor", "--rebuild"]).succeeded().stdout;
    let line = told.lines().find(|line| line.starts_with("view hash")).unwrap_or_else(|| panic!("{told}"));
    line.to_owned()
}

fn answers(server: &Server) -> Vec<Value> {
    let ask = |user: usize| server.read(&format!("/api/v1/recommendations/user/user-{user:02}?count=20"));
    let list = |answer: Value| json!([answer["recommendations"], answer["model_version"]]);
    let keys = server.read("/api/v1/keys");
    (1..12).map(|user| list(ask(user))).chain([keys]).collect()
}

/// Fails at the first answer that differs.
#[track_caller]
fn same_answers(server: &Server, expected: &[Value]) {
    for (found, expected) in answers(server).iter().zip(expected) {
        assert_eq!(found, expected);
    }
}

/// A home that has nothing yet.
fn elsewhere() -> Home {
    Home::new()
}

#[test]
fn a_shop_comes_back_as_it_was() {
    let mut server = Home::with_shop().serve();
    server.create("/api/v1/keys", &json!({"name": "till", "permission": "read"}));
    server.create("/api/v1/entities", &json!({"entity_id": "late", "attributes": {"color": "red"}}));
    // A start takes the new entity into the model; else that waits for the trainer.
    server.restart();
    let expected = answers(&server);
    let home = server.stop();
    let place = home.path("vault");
    let place = text(&place);
    let made = home.run(&["backup", "create", "--to", place]).succeeded().stdout;
    assert!(made.starts_with("backup 1 in "), "{made}");
    // Opening the folder writes nothing that is backed up.
    let again = home.run(&["backup", "create", "--to", place]).succeeded().stdout;
    assert!(again.starts_with("nothing changed since backup 1"), "{again}");
    let listed = home.run(&["backup", "list", "--from", place]).succeeded().stdout;
    assert_eq!(listed.lines().count(), 2, "{listed}");
    assert!(
        home.run(&["backup", "verify", "--from", place]).succeeded().stdout.starts_with("whole: 1 backups")
    );

    let other = elsewhere();
    let trial = other.run(&["restore", "--from", place, "--dry-run"]).succeeded().stdout;
    assert!(trial.contains("recovery point") && trial.contains("nothing was written"), "{trial}");
    assert!(!other.path("data").exists(), "a trial makes no folder");
    let told = other.run(&["restore", "--from", place]).succeeded().stdout;
    assert!(told.contains("recovery point") && told.contains("recovery time"), "{told}");
    assert_eq!(views(&other), views(&home));
    assert!(other.run(&["audit", "verify"]).succeeded().stdout.contains("whole: 1 entries"));
    other.run(&["restore", "--from", place]).failed_with("empty data folder");
    other.run(&["restore", "--from", place, "--dry-run"]).failed_with("empty data folder");
    let server = other.serve();
    same_answers(&server, &expected);
    server.create("/api/v1/entities", &json!({"entity_id": "later", "attributes": {}}));
    // It goes on where the other stopped, in the same place.
    let other = server.stop();
    let next = other.run(&["backup", "create", "--to", place, "--keep", "1"]).succeeded().stdout;
    assert!(next.starts_with("backup 2 in ") && next.contains("1 older ones were removed"), "{next}");
    home.run(&["backup", "create", "--to", place]).failed_with("another log");
}

#[test]
fn a_key_that_was_revoked_since_stays_so() {
    let key_of = |made: &Value| made["api_key"].as_str().unwrap().to_owned();
    let server = Server::new();
    server.create("/api/v1/entities", &json!({"entity_id": "a", "attributes": {"color": "red"}}));
    let revoked = server.create("/api/v1/keys", &json!({"name": "stolen", "permission": "admin"}));
    let kept = server.create("/api/v1/keys", &json!({"name": "till", "permission": "read"}));
    let mut home = server.stop();
    let place = home.path("vault");
    home.run(&["backup", "create", "--to", text(&place)]).succeeded();
    let server = home.serve();
    assert_eq!(server.delete(&format!("/api/v1/keys/{}", revoked["id"].as_str().unwrap())).0, 204);
    let later = server.create("/api/v1/keys", &json!({"name": "late", "permission": "read"}));
    server.create("/api/v1/entities", &json!({"entity_id": "b", "attributes": {"color": "red"}}));
    home = server.stop();
    home.run(&["backup", "create", "--to", text(&place)]).succeeded();

    let other = elsewhere();
    let told = other.run(&["restore", "--from", text(&place), "--backup", "1"]).succeeded();
    assert!(told.stderr.contains("API keys are as in the newest backup"), "{}", told.stderr);
    let server = other.serve();
    assert_eq!(server.get("/api/v1/entities/b").0, 404, "it is the older backup");
    let status = |made: &Value| {
        server.send("GET", "/api/v1/recommendations/popular", &[("x-api-key", &key_of(made))], None).status
    };
    assert_eq!((status(&revoked), status(&kept), status(&later)), (401, 200, 200));
}

#[test]
fn a_restore_that_cannot_be_opened_goes_on_when_that_is_mended() {
    const KEYS: [&str; 2] =
        ["a-master-key-of-at-least-32-characters", "another-key-of-at-least-32-characters!"];
    let sealing = |key: &str| Home::with_settings(SEALED).environment("ENCRYPTION_KEYS", key);
    let server = sealing(KEYS[0]).serve();
    server.create("/api/v1/entities", &json!({"entity_id": "film"}));
    let act = json!({"user_id": "ada", "entity_id": "film", "interaction_type": "view"});
    server.create("/api/v1/interactions", &act);
    let home = server.stop();
    let place = home.path("vault");
    home.run(&["backup", "create", "--to", text(&place)]).succeeded();
    let other = sealing(KEYS[1]);
    let failed = other.run(&["restore", "--from", text(&place)]).failed_with("master key");
    assert!(failed.stderr.contains("run the same restore again"), "{}", failed.stderr);
    other.run(&["serve"]).failed_with("a restore into this store was cut off");
    let other = other.environment("ENCRYPTION_KEYS", KEYS[0]);
    other.run(&["restore", "--from", text(&place)]).succeeded();
    assert_eq!(views(&other), views(&home));
    assert!(other.serve().read("/api/v1/interactions/user/ada").to_string().contains("film"));
}

#[test]
fn a_damaged_backup_is_refused_and_nothing_is_written() {
    let server = Server::new();
    server.create("/api/v1/entities", &json!({"entity_id": "a", "attributes": {"color": "red"}}));
    let home = server.stop();
    let place = home.path("vault");
    home.run(&["backup", "create", "--to", text(&place)]).succeeded();
    for path in files(&place) {
        let whole = std::fs::read(&path).unwrap();
        let name = path.file_name().unwrap().to_str().unwrap();
        for at in [0, whole.len() / 2, whole.len() - 1] {
            let mut damaged = whole.clone();
            damaged[at] ^= 0x10;
            std::fs::write(&path, damaged).unwrap();
            home.run(&["backup", "verify", "--from", text(&place)]).failed_with(name);
            let other = elsewhere();
            other.run(&["restore", "--from", text(&place)]).failed_with(name);
            assert!(!other.path("data").exists(), "nothing is written");
        }
        std::fs::remove_file(&path).unwrap();
        if name.ends_with(".json") && name != "latest.json" {
            home.run(&["backup", "verify", "--from", text(&place)]).failed_with("there is no backup");
        } else {
            home.run(&["backup", "verify", "--from", text(&place)]).failed_with("is missing");
        }
        std::fs::write(&path, whole).unwrap();
    }
    home.run(&["backup", "verify", "--from", text(&place)]).succeeded();
}

#[test]
fn what_cannot_be_is_told() {
    let home = Home::new();
    home.run(&["backup", "create"]).failed_with("backup.to: names no place");
    home.run(&["backup", "create", "--to", "data/inside"]).failed_with("is in the data folder");
    assert!(!home.path("data").exists());
    home.run(&["backup", "list", "--from", "nowhere"]).failed_with("nowhere cannot be used");
    assert!(!home.path("nowhere").exists());
    home.write("empty/file", "");
    home.run(&["backup", "verify", "--from", "empty"]).failed_with("there is no backup in empty");
    home.run(&["restore", "--from", "empty", "--to-time", "noon"]).failed_with("--to-time");
    home.run(&["restore", "--from", "empty"]).failed_with("there is no backup in empty");
    let server = Home::with_settings(&settings("")).serve();
    server.home().run(&["backup", "create", "--to", "vault"]).failed_with("backup.every_secs");
    drop(server);
    Home::with_settings("[backup]\nevery_secs = 5\n").run(&["serve"]).failed_with("backup.to");
}

#[test]
fn the_log_is_cut_at_a_time() {
    let server = Server::new();
    for day in 1..=9 {
        let body = json!({"user_id": "ada", "entity_id": format!("e-{day}"), "interaction_type": "view",
            "timestamp": format!("2024-03-0{day}T00:00:00Z")});
        server.create("/api/v1/interactions", &body);
    }
    let home = server.stop();
    let place = home.path("vault");
    home.run(&["backup", "create", "--to", text(&place)]).succeeded();
    let other = elsewhere();
    let cut = ["restore", "--from", text(&place), "--to-time", "2024-03-05T12:00:00Z"];
    let told = other.run(&cut).succeeded();
    assert!(told.stdout.contains("restored         5 events"), "{}", told.stdout);
    assert!(told.stderr.contains("no backup is as old as that"), "{}", told.stderr);
    let server = other.serve();
    assert_eq!(server.read("/api/v1/interactions/user/ada").as_array().unwrap().len(), 5);
}

#[test]
fn a_server_ships_while_it_serves() {
    let vault = tempfile::tempdir().unwrap();
    let section = format!("[backup]\nto = \"{}\"\nevery_secs = 1\nkeep = 3\n", text(vault.path()));
    let mut server = Home::with_settings(&settings(&section)).serve();
    let post = |server: &Server, number: u32| {
        let body = json!({"user_id": format!("u-{}", number % 7), "entity_id": format!("e-{number}"), "interaction_type": "view"});
        server.create("/api/v1/interactions", &body);
    };
    let shipped = |server: &Server| {
        let listed = server.home().run(&["backup", "list"]).succeeded().stdout;
        listed
            .lines()
            .last()
            .and_then(|line| line.split_whitespace().nth(2)?.parse::<u32>().ok())
            .unwrap_or(0)
    };
    for number in 0..30 {
        post(&server, number);
    }
    assert!(wait(|| shipped(&server) == 30), "the first are shipped");
    let metrics = server.send("GET", "/metrics", &[], None);
    let value = |name: &str| {
        let line = metrics.text().lines().find(|line| line.starts_with(name)).unwrap().to_owned();
        line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()
    };
    assert!(value("backups_taken_total ") >= 1.0 && value("backup_last_success_timestamp_seconds ") > 1e9);
    assert_eq!(value("backups_failed_total "), 0.0);
    post(&server, 30);
    server.crash_and_restart();
    post(&server, 31);
    assert!(wait(|| shipped(&server) == 32), "it goes on after a crash");
    let home = server.stop();
    assert!(home.run(&["backup", "verify"]).succeeded().stdout.starts_with("whole: "));
    let other = elsewhere();
    other.run(&["restore", "--from", text(vault.path())]).succeeded();
    assert_eq!(views(&other), views(&home));
    let config = home.run(&["config"]).succeeded().stdout;
    assert!(config.contains("every_secs") && !config.contains(KEY), "{config}");
}

#[cfg(all(feature = "postgres", feature = "s3"))]
mod engines {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[expect(clippy::disallowed_methods, reason = "this is how a test learns of its servers")]
    fn variable(name: &str) -> String {
        std::env::var(name).unwrap_or_else(|_| {
            panic!("{name} is not set: run `scripts/with-engines cargo nextest run --all-features`, or `make test`")
        })
    }

    fn unique() -> String {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        format!("backup_{}_{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
    }

    /// How the bucket of the tests is reached, without its name.
    fn bucket(section: &str) -> String {
        format!(
            "[{section}]\nendpoint = \"{}\"\nallow_http = true\naccess_key_id = \"{}\"\nsecret_access_key = \"{}\"\n",
            variable("WATERSHED_TEST_S3_URL"),
            variable("WATERSHED_TEST_S3_ACCESS_KEY_ID"),
            variable("WATERSHED_TEST_S3_SECRET_ACCESS_KEY"),
        )
    }

    fn postgres() -> String {
        let url = variable("WATERSHED_TEST_POSTGRES_URL");
        let schema = unique();
        format!(
            "[storage.postgres]\nurl = \"{url}\"\nschema = \"{schema}\"\nmax_connections = 5\nmin_connections = 1\n"
        )
    }

    fn migrated(extra: &str) -> Home {
        let home = Home::with_settings(&settings(&format!("{}{extra}", postgres())));
        home.run(&["migrate", "up"]).succeeded();
        home
    }

    #[test]
    fn every_engine_takes_what_every_other_gave() {
        let name = variable("WATERSHED_TEST_S3_BUCKET");
        let server = Home::with_shop().serve();
        server.create("/api/v1/keys", &json!({"name": "till", "permission": "read"}));
        let expected = answers(&server);
        let shop = server.stop();
        let hash = views(&shop);
        // From the folder over a bucket to PostgreSQL, which keeps objects in a bucket too.
        let place = format!("s3://{name}/{}", unique());
        shop.write("watershed.toml", settings(&bucket("backup.s3")));
        let made = shop.run(&["backup", "create", "--to", &place]).succeeded().stdout;
        assert!(made.starts_with("backup 1 in s3://"), "{made}");
        let objects = format!("{}bucket = \"{name}\"\nprefix = \"{}\"\n", bucket("storage.s3"), unique());
        let one = migrated(&objects);
        one.run(&["restore", "--from", &place, "--dry-run"]).succeeded();
        one.run(&["restore", "--from", &place]).succeeded();
        assert_eq!(views(&one), hash);
        one.run(&["restore", "--from", &place]).failed_with("storage.postgres.schema");
        let server = one.serve();
        same_answers(&server, &expected);
        // While it serves: another process may make the backup here.
        let vault = shop.path("from-postgres");
        let beside = server.home().run(&["backup", "create", "--to", text(&vault)]).succeeded().stdout;
        assert!(beside.starts_with("backup 1 in "), "{beside}");
        let one = server.stop();
        // From PostgreSQL over a folder to PostgreSQL alone, and from there back to a folder.
        let two = migrated("");
        two.run(&["restore", "--from", text(&vault)]).succeeded();
        assert_eq!(views(&two), hash);
        let vault = shop.path("from-postgres-alone");
        two.run(&["backup", "create", "--to", text(&vault)]).succeeded();
        let back = elsewhere();
        back.run(&["restore", "--from", text(&vault)]).succeeded();
        assert_eq!(views(&back), hash);
        assert!(back.run(&["audit", "verify"]).succeeded().stdout.contains("whole: 1 entries"));
        let server = back.serve();
        same_answers(&server, &expected);
        for home in [one, two] {
            home.run(&["migrate", "down", "--to", "0"]).succeeded();
        }
    }

    #[test]
    fn a_bucket_that_does_not_answer_is_told() {
        let home = Home::with_settings(&settings(
            "[backup.s3]\nendpoint = \"http://127.0.0.1:9\"\nallow_http = true\nregion = \"x\"\naccess_key_id = \"a\"\n\
             secret_access_key = \"b\"\nretries = 0\n",
        ));
        home.run(&["keys", "create", "--name", "any", "--permission", "read"]).succeeded();
        home.run(&["backup", "create", "--to", "s3://nobody/here"]).failed_with("object store did not serve");
        home.run(&["restore", "--from", "s3://nobody/here"]).failed_with("object store did not serve");
    }
}
