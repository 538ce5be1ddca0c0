//! `watershed migrate`: the schema of the database.

use kernel::{Error, Result, codes};
use store_postgres::{MIGRATIONS, Migrator};

use crate::app::Ambient;
use crate::cli::Migrate;
use crate::config::Config;
use crate::{startup, terminal};

pub(super) async fn run(command: Migrate, config: Config) -> Result<()> {
    let ambient = Ambient::of_system();
    let storage = config.storage;
    let settings = storage.postgres.clone().filter(|postgres| postgres.url.is_some()).ok_or_else(|| {
        let message = "names no database; set DATABASE_URL or `storage.postgres.url`";
        Error::new(codes::VALIDATION_ERROR, message).with_field("storage.postgres.url")
    })?;
    let migrator = Migrator::new(&settings, &*ambient.clock);
    match command {
        Migrate::Up => match startup::patiently(&storage, &ambient, || migrator.up()).await?.as_slice() {
            [] => terminal::say("nothing to do"),
            done => done.iter().for_each(|number| terminal::say(format!("done: {}", name(*number)))),
        },
        Migrate::Down { to } => match migrator.down(to).await?.as_slice() {
            [] => terminal::say("nothing to do"),
            done => done.iter().for_each(|number| terminal::say(format!("taken back: {}", name(*number)))),
        },
        Migrate::Status => {
            let status = migrator.status().await?;
            for step in status.applied {
                terminal::say(format!("done     {:04} {:<24} {}", step.number, step.name, step.applied_at));
            }
            for (number, name) in status.pending {
                terminal::say(format!("pending  {number:04} {name}"));
            }
        }
        Migrate::Plan => terminal::say(migrator.plan().await?.trim_end()),
    }
    Ok(())
}

fn name(number: i32) -> String {
    let step = MIGRATIONS.iter().find(|step| step.number == number);
    format!("{number:04} {}", step.map_or("", |step| step.name))
}
