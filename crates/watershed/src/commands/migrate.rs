//! `watershed migrate`: the schemas of the servers, the database's first.
//!
//! To add a server with a ledger: a module beside `postgres`, and a line in [`schemas`].

use std::sync::Arc;

use async_trait::async_trait;
use kernel::{Error, Result, Timestamp, codes};

use crate::app::Ambient;
use crate::cli::{Migrate, MigrateEngine};
use crate::config::{Config, StorageSettings};
use crate::{startup, terminal};

/// A server whose schema has numbered steps. A step is told as a text: number and name, behind the server's name where that is
/// not the database.
#[async_trait]
trait Schema {
    fn engine(&self) -> MigrateEngine;
    /// Does what is left; tells what was done.
    async fn up(&self) -> Result<Vec<String>>;
    /// Takes back what is after a step; tells what was taken back.
    async fn down(&self, to: u32) -> Result<Vec<String>>;
    /// What was done and when, and what is left.
    async fn status(&self) -> Result<(Vec<(String, Timestamp)>, Vec<String>)>;
    /// What `up` would do.
    async fn plan(&self) -> Result<String>;
}

pub(super) async fn run(command: Migrate, config: Config) -> Result<()> {
    let ambient = Ambient::of_system();
    let schemas = schemas(&config.storage, &ambient)?;
    match command {
        Migrate::Up => {
            // What was done stays told, where a server after it is away for a while.
            let mut done = Vec::new();
            let up = async || -> Result<()> {
                for schema in &schemas {
                    done.extend(schema.up().await?);
                }
                Ok(())
            };
            startup::patiently(&config.storage, &ambient, up).await?;
            say("done", &done);
        }
        Migrate::Down { to, engine } => {
            let asked = |schema: &&dyn Schema| engine.is_none_or(|engine| schema.engine() == engine);
            let schema = schemas.iter().map(Box::as_ref).find(asked).ok_or_else(nothing_there)?;
            say("taken back", &schema.down(to).await?);
        }
        Migrate::Status => {
            for schema in &schemas {
                let (applied, pending) = schema.status().await?;
                for (step, applied_at) in applied {
                    terminal::say(format!("done     {step:<29} {applied_at}"));
                }
                pending.iter().for_each(|step| terminal::say(format!("pending  {step}")));
            }
        }
        Migrate::Plan => {
            for schema in &schemas {
                terminal::say(schema.plan().await?.trim_end());
            }
        }
    }
    Ok(())
}

fn say(what: &str, steps: &[String]) {
    if steps.is_empty() {
        terminal::say("nothing to do");
    }
    steps.iter().for_each(|step| terminal::say(format!("{what}: {step}")));
}

/// Those that the settings name.
fn schemas(storage: &StorageSettings, ambient: &Ambient) -> Result<Vec<Box<dyn Schema>>> {
    let mut schemas: Vec<Box<dyn Schema>> = Vec::new();
    #[cfg(feature = "postgres")]
    if let Some(settings) = storage.postgres.clone().filter(|postgres| postgres.url.is_some()) {
        schemas.push(Box::new(postgres::Database { settings, clock: Arc::clone(&ambient.clock) }));
    }
    #[cfg(feature = "clickhouse")]
    if let Some(settings) = storage.clickhouse.as_ref().filter(|clickhouse| !clickhouse.url.is_empty()) {
        let (clock, entropy) = (Arc::clone(&ambient.clock), Arc::clone(&ambient.entropy));
        let migrator = store_clickhouse::Migrator::new(settings, clock, entropy)?;
        schemas.push(Box::new(clickhouse::ColumnStore(migrator)));
    }
    if schemas.is_empty() { Err(nothing_there()) } else { Ok(schemas) }
}

fn nothing_there() -> Error {
    let message = "names no database; set DATABASE_URL or `storage.postgres.url`, or `storage.clickhouse.url` for ClickHouse";
    Error::new(codes::VALIDATION_ERROR, message).with_field("storage.postgres.url")
}

#[cfg(feature = "postgres")]
mod postgres {
    //! The database.

    use kernel::Clock;
    use store_postgres::{MIGRATIONS, Migrator, Settings};

    use super::*;

    pub(super) struct Database {
        pub(super) settings: Settings,
        pub(super) clock: Arc<dyn Clock>,
    }

    impl Database {
        fn migrator(&self) -> Migrator<'_> {
            Migrator::new(&self.settings, &*self.clock)
        }
    }

    fn told(number: i32) -> String {
        let step = MIGRATIONS.iter().find(|step| step.number == number);
        format!("{number:04} {}", step.map_or("", |step| step.name))
    }

    #[async_trait]
    impl Schema for Database {
        fn engine(&self) -> MigrateEngine {
            MigrateEngine::Postgres
        }

        async fn up(&self) -> Result<Vec<String>> {
            Ok(self.migrator().up().await?.into_iter().map(told).collect())
        }

        async fn down(&self, to: u32) -> Result<Vec<String>> {
            let to = i32::try_from(to).unwrap_or(i32::MAX);
            Ok(self.migrator().down(to).await?.into_iter().map(told).collect())
        }

        async fn status(&self) -> Result<(Vec<(String, Timestamp)>, Vec<String>)> {
            let status = self.migrator().status().await?;
            let applied = status
                .applied
                .iter()
                .map(|step| (format!("{:04} {}", step.number, step.name), step.applied_at));
            let pending = status.pending.iter().map(|(number, name)| format!("{number:04} {name}"));
            Ok((applied.collect(), pending.collect()))
        }

        async fn plan(&self) -> Result<String> {
            self.migrator().plan().await
        }
    }
}

#[cfg(feature = "clickhouse")]
mod clickhouse {
    //! The column store.

    use store_clickhouse::{MIGRATIONS, Migrator};

    use super::*;

    pub(super) struct ColumnStore(pub(super) Migrator<'static>);

    fn named(number: u32, name: &str) -> String {
        format!("clickhouse {number:04} {name}")
    }

    fn told(number: u32) -> String {
        let step = MIGRATIONS.iter().find(|step| step.number == number);
        named(number, step.map_or("", |step| step.name))
    }

    #[async_trait]
    impl Schema for ColumnStore {
        fn engine(&self) -> MigrateEngine {
            MigrateEngine::Clickhouse
        }

        async fn up(&self) -> Result<Vec<String>> {
            Ok(self.0.up().await?.into_iter().map(told).collect())
        }

        async fn down(&self, to: u32) -> Result<Vec<String>> {
            Ok(self.0.down(to).await?.into_iter().map(told).collect())
        }

        async fn status(&self) -> Result<(Vec<(String, Timestamp)>, Vec<String>)> {
            let status = self.0.status().await?;
            let applied = status.applied.iter().map(|step| (named(step.number, &step.name), step.applied_at));
            let pending = status.pending.iter().map(|(number, name)| named(*number, name));
            Ok((applied.collect(), pending.collect()))
        }

        async fn plan(&self) -> Result<String> {
            self.0.plan().await
        }
    }
}
