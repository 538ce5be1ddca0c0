//! The binary beside its neighbours, as a rolling upgrade has them: the schema of the release before, and that of the next.

use kernel::SystemClock;
use serde_json::json;
use store_postgres::{DatabaseUrl, MIGRATIONS, Migration, Migrator, RELEASED, Settings};

use crate::replicas::{NO_LIMIT, NO_TRAINING, Place, drop_schema, engine};
use crate::support::{Home, Server};

/// Moves the schema with the steps of another release.
fn migrate(place: &Place, steps: &[Migration], down_to: Option<i32>) {
    let url = Some(DatabaseUrl::new(engine("WATERSHED_TEST_POSTGRES_URL")));
    let settings = Settings { url, schema: place.name.clone(), ..Settings::default() };
    let clock = SystemClock::new();
    let migrator = Migrator::new(&settings, &clock).with_steps(steps);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        match down_to {
            None => migrator.up().await.unwrap(),
            Some(step) => migrator.down(step).await.unwrap(),
        }
    });
}

/// The steps of this release and one more.
fn and_then(name: &'static str, compatible_with: i32) -> Vec<Migration> {
    let next = Migration {
        number: MIGRATIONS.last().unwrap().number + 1,
        name,
        up: "ALTER TABLE records ADD COLUMN next_note text; ALTER TABLE events ADD COLUMN next_count int DEFAULT 7",
        down: "ALTER TABLE records DROP COLUMN next_note; ALTER TABLE events DROP COLUMN next_count",
        compatible_with,
    };
    MIGRATIONS.iter().copied().chain([next]).collect()
}

#[test]
fn a_server_lives_on_the_schemas_that_an_upgrade_brings() {
    let place = Place::new();
    let settings = place.settings(&format!("{NO_LIMIT}{NO_TRAINING}"));
    migrate(&place, &MIGRATIONS[..RELEASED.len()], None);
    let home = Home::with_settings(&settings);
    if let Some(step) = MIGRATIONS.get(RELEASED.len()) {
        home.run(&["serve"])
            .failed_with(&format!("lacks step {} `{}`; run `watershed migrate up`", step.number, step.name));
    }
    home.run(&["migrate", "up"]).succeeded();
    let newest = MIGRATIONS.last().unwrap().number;
    let mut server = home.serve();
    let mut known = 0;
    let mut works = |server: &Server| {
        server.create("/api/v1/entities", &json!({"entity_id": format!("e-{known}")}));
        known += 1;
        for number in 0..known {
            server.read(&format!("/api/v1/entities/e-{number}?entity_type=item"));
        }
    };
    works(&server);
    // The next release moves the schema while this one still serves, and this one may be started again.
    migrate(&place, &and_then("only_adds", newest), None);
    works(&server);
    server.restart();
    works(&server);
    let other = Home::with_settings(&settings);
    other.run(&["migrate", "up"]).succeeded();
    other.run(&["migrate", "down", "--to", "0"]).failed_with("take it back with the release that did it");
    // And back.
    migrate(&place, &and_then("only_adds", newest), Some(newest));
    works(&server);
    // What takes away is not for this release.
    let home = server.stop();
    migrate(&place, &and_then("takes_away", newest + 1), None);
    home.run(&["serve"]).failed_with("`takes_away`, this release knows steps up to");
    migrate(&place, &and_then("takes_away", newest + 1), Some(newest));
    let server = home.serve();
    works(&server);
    drop_schema(&server.stop());
}
