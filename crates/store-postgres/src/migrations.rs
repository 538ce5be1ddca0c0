//! The schema's versions: numbered steps inside this crate, a ledger of what was done inside the database.
//!
//! Each step is one transaction together with its line in the ledger, so that one that is cut off leaves nothing
//! behind. Replicas that start together wait for each other on an advisory lock. A step says which releases can run
//! on the schema it leaves (`compatible_with`): one that only adds (expand) names the step before it, or an earlier
//! one; one that takes away (contract) names itself. So a release whose newest step is 4 runs on a schema at 6 when
//! steps 5 and 6 both say 4 or less, and refuses it otherwise. A release never runs on a schema that lacks one of its
//! steps: the schema is moved first, under the servers of the release before, then the servers are replaced. So every
//! step suits the release before ([`RELEASED`]).
//!
//! To add a step: two files in `migrations/`, one entry in [`ALL`]. A step that was released never changes; its
//! checksum is in every ledger.

use std::time::Duration;

use kernel::{Clock, Error, Result, Timestamp, codes};
use tokio_postgres::{Client, Transaction};

use crate::config::Settings;
use crate::database::{Background, connect_alone};
use crate::failure::Failure;

/// One step of the schema.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Migration {
    /// Its place, from 1 on, without gaps.
    pub number: i32,
    /// What it does, as in its file's name.
    pub name: &'static str,
    /// The statements that do it.
    pub up: &'static str,
    /// The statements that take it back.
    pub down: &'static str,
    /// The oldest release that runs on the schema after this step, by the newest step that release knows.
    pub compatible_with: i32,
}

/// Every step of this release.
pub const ALL: &[Migration] = &[
    Migration {
        number: 1,
        name: "initial",
        up: include_str!("../migrations/0001_initial.up.sql"),
        down: include_str!("../migrations/0001_initial.down.sql"),
        compatible_with: 1,
    },
    Migration {
        number: 2,
        name: "columns",
        up: include_str!("../migrations/0002_columns.up.sql"),
        down: include_str!("../migrations/0002_columns.down.sql"),
        compatible_with: 1,
    },
];

/// The ledger that the release before leaves: the number and the checksum of each of its steps. Whoever makes a release
/// adds what is new in [`ALL`].
pub const RELEASED: &[(i32, &str)] = &[(1, "75f4671d86f9f1b320c22e40cc8e9993")];

// Any number will do that nothing else locks.
const LOCK: i64 = 0x7761_7465_7273_6865;
const LOCK_TIMEOUT: Duration = Duration::from_secs(60);
const STEP_TIMEOUT: Duration = Duration::from_secs(3_600);

const LEDGER: &str = "CREATE TABLE IF NOT EXISTS migrations (
    number          int         PRIMARY KEY,
    name            text        NOT NULL,
    checksum        text        NOT NULL,
    compatible_with int         NOT NULL,
    applied_at      timestamptz NOT NULL
)";

impl Migration {
    /// The first 128 bits of BLAKE3 over both files.
    #[must_use]
    pub fn checksum(&self) -> String {
        let mut hasher = blake3::Hasher::new();
        for part in [self.up, "\0", self.down] {
            hasher.update(part.as_bytes());
        }
        hasher.finalize().to_hex()[..32].to_owned()
    }
}

/// A line of the ledger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Applied {
    /// The step.
    pub number: i32,
    /// Its name then.
    pub name: String,
    /// Its checksum then.
    pub checksum: String,
    /// The oldest release that runs on the schema since.
    pub compatible_with: i32,
    /// When it was done.
    pub applied_at: Timestamp,
}

/// Where a schema stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// What was done, by number.
    pub applied: Vec<Applied>,
    /// What is left to do, by number and name.
    pub pending: Vec<(i32, &'static str)>,
}

impl Status {
    /// The newest step that was done; 0 where none was.
    #[must_use]
    pub fn version(&self) -> i32 {
        self.applied.last().map_or(0, |applied| applied.number)
    }
}

/// Moves a schema up and down, on a connection of its own.
#[derive(Debug)]
pub struct Migrator<'a> {
    settings: &'a Settings,
    clock: &'a dyn Clock,
    steps: &'a [Migration],
}

impl<'a> Migrator<'a> {
    /// With the steps of this release.
    #[must_use]
    pub fn new(settings: &'a Settings, clock: &'a dyn Clock) -> Self {
        Self { settings, clock, steps: ALL }
    }

    /// With other steps: those of another release, in tests.
    #[must_use]
    pub fn with_steps(self, steps: &'a [Migration]) -> Self {
        Self { steps, ..self }
    }

    /// What was done and what is left. Changes nothing.
    ///
    /// # Errors
    /// `UNAVAILABLE` when the server is away; those of [`Migrator::up`] for a ledger that does not fit.
    pub async fn status(&self) -> Result<Status> {
        let (mut client, _connection) = self.connect().await?;
        let transaction = begin(&mut client).await?;
        let applied = self.read_ledger(&transaction).await?;
        transaction.rollback().await.map_err(failed)?;
        self.check(&applied)?;
        let version = applied.last().map_or(0, |applied| applied.number);
        let pending = self.steps.iter().filter(|step| step.number > version);
        let pending = pending.map(|step| (step.number, step.name)).collect();
        Ok(Status { applied, pending })
    }

    /// The statements that [`Migrator::up`] would run, each step under a line with its number and name.
    ///
    /// # Errors
    /// Those of [`Migrator::status`].
    pub async fn plan(&self) -> Result<String> {
        let pending = self.status().await?.pending;
        let steps = self.steps.iter().filter(|step| pending.contains(&(step.number, step.name)));
        Ok(steps.map(|step| format!("-- {:04} {}\n{}\n", step.number, step.name, step.up)).collect())
    }

    /// Does every step that is left; returns their numbers. Another process that does the same is waited for.
    ///
    /// # Errors
    /// `CONFLICT` when a step was done with other statements than this release has, or when the schema is newer than
    /// this release can run on; `UNAVAILABLE` when the server is away. Steps before the failed one stay done.
    pub async fn up(&self) -> Result<Vec<i32>> {
        let (mut client, _connection) = self.connect().await?;
        let mut done = Vec::new();
        for step in self.steps {
            let transaction = self.begin_locked(&mut client).await?;
            let applied = self.read_ledger(&transaction).await?;
            self.check(&applied)?;
            if applied.iter().any(|applied| applied.number >= step.number) {
                continue;
            }
            self.run(&transaction, step, step.up).await?;
            let insert = "INSERT INTO migrations VALUES ($1, $2, $3, $4, to_timestamp($5::float8 / 1000))";
            let line = (step.number, step.name, step.checksum(), step.compatible_with);
            #[expect(clippy::cast_precision_loss, reason = "milliseconds fit for 285,000 years")]
            let now_ms = self.clock.now().as_millisecond() as f64;
            transaction
                .execute(insert, &[&line.0, &line.1, &line.2, &line.3, &now_ms])
                .await
                .map_err(failed)?;
            transaction.commit().await.map_err(failed)?;
            tracing::info!(number = step.number, name = step.name, "a migration was done");
            done.push(step.number);
        }
        Ok(done)
    }

    /// Takes back every step after `version`, newest first; returns their numbers. What the steps stored is lost.
    ///
    /// # Errors
    /// `CONFLICT` when the newest step is not one of this release; those of [`Migrator::up`].
    pub async fn down(&self, version: i32) -> Result<Vec<i32>> {
        let (mut client, _connection) = self.connect().await?;
        let mut undone = Vec::new();
        loop {
            let transaction = self.begin_locked(&mut client).await?;
            let applied = self.read_ledger(&transaction).await?;
            self.check(&applied)?;
            let Some(newest) = applied.last().filter(|applied| applied.number > version.max(0)) else {
                return Ok(undone);
            };
            let Some(step) = self.steps.iter().find(|step| step.number == newest.number) else {
                let message = format!(
                    "step {} `{}` is not one of this release; take it back with the release that did it",
                    newest.number, newest.name
                );
                return Err(Error::new(codes::CONFLICT, message));
            };
            self.run(&transaction, step, step.down).await?;
            transaction
                .execute("DELETE FROM migrations WHERE number = $1", &[&step.number])
                .await
                .map_err(failed)?;
            transaction.commit().await.map_err(failed)?;
            tracing::info!(number = step.number, name = step.name, "a migration was taken back");
            undone.push(step.number);
        }
    }

    async fn connect(&self) -> Result<(Client, Background)> {
        let (client, connection) = connect_alone(self.settings).await?;
        let connection = Background::start(async move {
            if let Err(cause) = connection.await {
                tracing::debug!(%cause, "the connection of the migrations ended");
            }
        });
        let session = format!(
            "SET search_path = \"{}\", public, extensions; SET client_min_messages = warning; \
             SET statement_timeout = {}; SET lock_timeout = {}",
            self.settings.schema,
            STEP_TIMEOUT.as_millis(),
            LOCK_TIMEOUT.as_millis(),
        );
        client.batch_execute(&session).await.map_err(failed)?;
        Ok((client, connection))
    }

    /// A transaction that no other migration of this database runs beside; the schema and the ledger are there.
    async fn begin_locked<'client>(&self, client: &'client mut Client) -> Result<Transaction<'client>> {
        let transaction = begin(client).await?;
        let start = format!(
            "SELECT pg_advisory_xact_lock({LOCK}); CREATE SCHEMA IF NOT EXISTS \"{}\"; {LEDGER}",
            self.settings.schema
        );
        transaction.batch_execute(&start).await.map_err(failed)?;
        Ok(transaction)
    }

    async fn run(&self, transaction: &Transaction<'_>, step: &Migration, statements: &str) -> Result<()> {
        transaction.batch_execute(statements).await.map_err(|cause| {
            let found = failed(cause);
            let message = format!("step {} `{}` failed; nothing of it was kept", step.number, step.name);
            Error::new(found.code(), message).with_source(found)
        })
    }

    async fn read_ledger(&self, transaction: &Transaction<'_>) -> Result<Vec<Applied>> {
        let is_there = "SELECT to_regclass(format('%I.migrations', $1::text)) IS NOT NULL";
        let found = transaction.query_one(is_there, &[&self.settings.schema]).await.map_err(failed)?;
        if !found.get::<_, bool>(0) {
            return Ok(Vec::new());
        }
        let select = "SELECT number, name, checksum, compatible_with, \
                      (extract(epoch FROM applied_at) * 1000)::int8 FROM migrations ORDER BY number";
        let rows = transaction.query(select, &[]).await.map_err(failed)?;
        let applied = rows.iter().map(|row| {
            Ok(Applied {
                number: row.get(0),
                name: row.get(1),
                checksum: row.get(2),
                compatible_with: row.get(3),
                applied_at: Timestamp::from_millisecond(row.get(4)).map_err(Error::internal)?,
            })
        });
        applied.collect()
    }

    /// Whether this release can run on what the ledger says.
    fn check(&self, applied: &[Applied]) -> Result<()> {
        let newest_known = self.steps.last().map_or(0, |step| step.number);
        for line in applied {
            match self.steps.iter().find(|step| step.number == line.number) {
                Some(step) if step.checksum() == line.checksum => {}
                Some(step) => {
                    let message = format!(
                        "step {} `{}` was done with other statements (checksum {}, here {})",
                        step.number,
                        line.name,
                        line.checksum,
                        step.checksum()
                    );
                    return Err(Error::new(codes::CONFLICT, message));
                }
                None if line.compatible_with <= newest_known => {}
                None => {
                    let message = format!(
                        "the schema is at step {} `{}`, this release knows steps up to {newest_known}; use a newer one",
                        line.number, line.name
                    );
                    return Err(Error::new(codes::CONFLICT, message));
                }
            }
        }
        Ok(())
    }
}

async fn begin(client: &mut Client) -> Result<Transaction<'_>> {
    client.transaction().await.map_err(failed)
}

fn failed(cause: tokio_postgres::Error) -> Error {
    Failure::from(cause).error
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_numbered_without_gaps_and_say_whom_they_suit() {
        for (place, step) in (1..).zip(ALL) {
            assert_eq!(step.number, place);
            assert!((1..=step.number).contains(&step.compatible_with), "{}", step.name);
            assert!(!step.up.is_empty() && !step.down.is_empty());
            assert_eq!(step.checksum().len(), 32);
        }
    }

    #[test]
    fn the_release_before_runs_on_every_step() {
        for ((number, checksum), step) in RELEASED.iter().zip(ALL) {
            assert_eq!(
                (*number, *checksum),
                (step.number, step.checksum().as_str()),
                "a released step never changes"
            );
        }
        assert!(RELEASED.len() <= ALL.len(), "a released step never goes");
        let before = RELEASED.last().map_or(0, |(number, _)| *number);
        for step in ALL.iter().filter(|step| step.number > before) {
            let least = step.compatible_with;
            assert!(
                least <= before,
                "step {} `{}` takes away what the release before uses",
                step.number,
                step.name
            );
        }
    }
}
