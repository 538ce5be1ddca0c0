//! The database's versions: numbered steps inside this crate, a ledger of what was done inside the database.
//!
//! ClickHouse has no transactions and no locks. So every statement of a step may be done twice (`IF NOT EXISTS`), and a step
//! that was cut off, or that two processes do at once, is done by doing it again. A statement that names `{table}` is about
//! each table of columns: it is done for those that are there, and again for each table when a process first uses it, so that
//! a table that is new has all steps. `{view}` is the view over it (`columns/tables.rs`), `{database}` the database's name. Statements end with a semicolon at the end of a
//! line. The ledger only grows: the last line of a number says whether the step stands.
//!
//! What a step says of other releases is as in `store-postgres`: one whose newest step is 4 runs on a database at 6 when steps
//! 5 and 6 both say `compatible_with` 4 or less; none runs on a database that lacks one of its steps.
//!
//! To add a step: two files in `migrations/`, one entry in [`ALL`]. A step that was released never changes; its checksum is
//! in every ledger.

use std::sync::Arc;

use kernel::{Clock, Entropy, Error, Result, Timestamp, codes};

use crate::client::Client;
use crate::config::Settings;
use crate::encoding::Reader;
use crate::text::{literal, table};

/// One step of the database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Migration {
    /// Its place, from 1 on, without gaps.
    pub number: u32,
    /// What it does, as in its file's name.
    pub name: &'static str,
    /// The statements that do it.
    pub up: &'static str,
    /// The statements that take it back.
    pub down: &'static str,
    /// The oldest release that runs on the database after this step, by the newest step that release knows.
    pub compatible_with: u32,
}

/// Every step of this release.
pub const ALL: &[Migration] = &[Migration {
    number: 1,
    name: "columns",
    up: include_str!("../migrations/0001_columns.up.sql"),
    down: include_str!("../migrations/0001_columns.down.sql"),
    compatible_with: 1,
}];

/// The ledger that the release before leaves: the number and the checksum of each of its steps. Whoever makes a release adds
/// what is new in [`ALL`].
pub const RELEASED: &[(u32, &str)] = &[];

/// What the name of every table of columns begins with.
pub(crate) const TABLES: &str = "columns_";
/// The same of the views over them.
pub(crate) const VIEWS: &str = "current_";
const LEDGER: &str = "migrations";
const LEDGER_COLUMNS: &str = "(line UInt64, number UInt32, name String, checksum String, compatible_with UInt32, \
     is_done UInt8, at_ms Int64) ENGINE = MergeTree ORDER BY line \
     SETTINGS fsync_after_insert = 1, fsync_part_directory = 1";

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

/// The statements of a text, without its comments.
pub(crate) fn statements(text: &str) -> Vec<String> {
    let lines: Vec<&str> = text.lines().filter(|line| !line.starts_with("--")).collect();
    let statements = lines.join("\n");
    statements
        .split(";\n")
        .map(|one| one.trim().trim_end_matches(';').to_owned())
        .filter(|one| !one.is_empty())
        .collect()
}

/// What steps do to every table of columns, for one that is new.
pub(crate) fn statements_of_table(database: &str, name: &str) -> Vec<String> {
    let every = ALL.iter().flat_map(|step| statements(step.up));
    let name = table(database, name);
    every.filter(|one| one.contains("{table}")).map(|one| one.replace("{table}", &name)).collect()
}

/// A line of the ledger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Applied {
    /// The step.
    pub number: u32,
    /// Its name then.
    pub name: String,
    /// Its checksum then.
    pub checksum: String,
    /// The oldest release that runs on the database since.
    pub compatible_with: u32,
    /// When it was done.
    pub applied_at: Timestamp,
}

/// Where a database stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// What was done, by number.
    pub applied: Vec<Applied>,
    /// What is left to do, by number and name.
    pub pending: Vec<(u32, &'static str)>,
}

impl Status {
    /// The newest step that was done; 0 where none was.
    #[must_use]
    pub fn version(&self) -> u32 {
        self.applied.last().map_or(0, |applied| applied.number)
    }
}

/// Moves a database up and down.
#[derive(Debug)]
pub struct Migrator<'a> {
    client: Arc<Client>,
    database: String,
    clock: Arc<dyn Clock>,
    steps: &'a [Migration],
}

impl<'a> Migrator<'a> {
    /// With the steps of this release.
    ///
    /// # Errors
    /// `VALIDATION_ERROR` naming the setting.
    pub fn new(settings: &Settings, clock: Arc<dyn Clock>, entropy: Arc<dyn Entropy>) -> Result<Self> {
        let client = Arc::new(Client::new(settings, Arc::clone(&clock), entropy)?);
        Ok(Self::over(client, settings, clock))
    }

    pub(crate) fn over(client: Arc<Client>, settings: &Settings, clock: Arc<dyn Clock>) -> Self {
        Self { client, database: settings.database.clone(), clock, steps: ALL }
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
        let applied = self.read_ledger().await?;
        self.check(&applied)?;
        let version = applied.last().map_or(0, |applied| applied.number);
        let pending = self.steps.iter().filter(|step| step.number > version);
        let pending = pending.map(|step| (step.number, step.name)).collect();
        Ok(Status { applied, pending })
    }

    /// The statements of the steps that are left, each step under a line with its number and name.
    ///
    /// # Errors
    /// Those of [`Migrator::status`].
    pub async fn plan(&self) -> Result<String> {
        let pending = self.status().await?.pending;
        let steps = self.steps.iter().filter(|step| pending.contains(&(step.number, step.name)));
        Ok(steps.map(|step| format!("-- {:04} {}\n{}\n", step.number, step.name, step.up)).collect())
    }

    /// Does every step that is left; returns their numbers. Doing it twice, or two at once, does what doing it once does.
    ///
    /// # Errors
    /// `CONFLICT` when a step was done with other statements than this release has, or when the database is newer than this
    /// release can run on; `UNAVAILABLE` when the server is away. Steps before the failed one stay done.
    pub async fn up(&self) -> Result<Vec<u32>> {
        let pending = self.status().await?.pending;
        self.client.work(format!("CREATE DATABASE IF NOT EXISTS `{}`", self.database)).await?;
        self.client.work(format!("CREATE TABLE IF NOT EXISTS {} {LEDGER_COLUMNS}", self.ledger())).await?;
        let mut done = Vec::new();
        for step in self.steps.iter().filter(|step| pending.contains(&(step.number, step.name))) {
            self.run(step, step.up).await?;
            self.note(step, true).await?;
            tracing::info!(number = step.number, name = step.name, "a migration of ClickHouse was done");
            done.push(step.number);
        }
        Ok(done)
    }

    /// Takes back every step after `version`, newest first; returns their numbers. What the steps stored is lost.
    ///
    /// # Errors
    /// `CONFLICT` when the newest step is not one of this release; those of [`Migrator::up`].
    pub async fn down(&self, version: u32) -> Result<Vec<u32>> {
        let applied = self.status().await?.applied;
        let mut undone = Vec::new();
        for line in applied.iter().rev().take_while(|line| line.number > version) {
            let Some(step) = self.steps.iter().find(|step| step.number == line.number) else {
                let message = format!(
                    "step {} `{}` is not one of this release; take it back with the release that did it",
                    line.number, line.name
                );
                return Err(Error::new(codes::CONFLICT, message));
            };
            self.run(step, step.down).await?;
            self.note(step, false).await?;
            tracing::info!(
                number = step.number,
                name = step.name,
                "a migration of ClickHouse was taken back"
            );
            undone.push(step.number);
        }
        Ok(undone)
    }

    fn ledger(&self) -> String {
        table(&self.database, LEDGER)
    }

    async fn run(&self, step: &Migration, text: &str) -> Result<()> {
        for statement in statements(text) {
            let statement = statement.replace("{database}", &self.database);
            let every: Vec<String> = if statement.contains("{table}") || statement.contains("{view}") {
                let tables = tables(&self.client, &self.database).await?;
                let of = |name: &String| {
                    let statement = statement.replace("{table}", &table(&self.database, name));
                    statement.replace("{view}", &table(&self.database, &view_of(name)))
                };
                tables.iter().map(of).collect()
            } else {
                vec![statement]
            };
            for one in every {
                self.client.work(one).await.map_err(|found| {
                    let message = format!(
                        "step {} `{}` failed; mend what the log names and do it again",
                        step.number, step.name
                    );
                    Error::new(found.code(), message).with_source(found)
                })?;
            }
        }
        Ok(())
    }

    async fn note(&self, step: &Migration, is_done: bool) -> Result<()> {
        let ledger = self.ledger();
        self.client
            .work(format!(
                "INSERT INTO {ledger} SELECT max(line) + 1, {}, {}, {}, {}, {}, {} FROM {ledger}",
                step.number,
                literal(step.name),
                literal(&step.checksum()),
                step.compatible_with,
                u8::from(is_done),
                self.clock.now().as_millisecond()
            ))
            .await
    }

    async fn read_ledger(&self) -> Result<Vec<Applied>> {
        if count(&self.client, &self.database, &format!("name = '{LEDGER}'")).await? == 0 {
            return Ok(Vec::new());
        }
        let select = format!(
            "SELECT number, argMax(name, line), argMax(checksum, line), argMax(compatible_with, line), \
             argMax(at_ms, line) FROM {} GROUP BY number HAVING argMax(is_done, line) = 1 ORDER BY number",
            self.ledger()
        );
        let answer = self.client.read(select).await?;
        let mut reader = Reader(&answer);
        let mut applied = Vec::new();
        while !reader.is_empty() {
            applied.push(Applied {
                number: reader.u32()?,
                name: reader.text()?,
                checksum: reader.text()?,
                compatible_with: reader.u32()?,
                applied_at: Timestamp::from_millisecond(reader.i64()?).map_err(Error::internal)?,
            });
        }
        Ok(applied)
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
                        "ClickHouse is at step {} `{}`, this release knows steps up to {newest_known}; use a newer one",
                        line.number, line.name
                    );
                    return Err(Error::new(codes::CONFLICT, message));
                }
            }
        }
        Ok(())
    }
}

/// How many tables of a database are so.
async fn count(client: &Client, database: &str, filter: &str) -> Result<u64> {
    let database = literal(database);
    let select = format!("SELECT count() FROM system.tables WHERE database = {database} AND {filter}");
    Reader(&client.read(select).await?).u64()
}

/// The name of the view over a table of columns.
pub(crate) fn view_of(table: &str) -> String {
    format!("{VIEWS}{}", table.strip_prefix(TABLES).unwrap_or(table))
}

/// The tables of columns, by name.
pub(crate) async fn tables(client: &Client, database: &str) -> Result<Vec<String>> {
    let database = literal(database);
    let select = format!(
        "SELECT name FROM system.tables WHERE database = {database} AND startsWith(name, '{TABLES}') ORDER BY name"
    );
    let answer = client.read(select).await?;
    let mut reader = Reader(&answer);
    let mut names = Vec::new();
    while !reader.is_empty() {
        names.push(reader.text()?);
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_numbered_without_gaps_and_say_whom_they_suit() {
        for (place, step) in (1..).zip(ALL) {
            assert_eq!(step.number, place);
            assert!((1..=step.number).contains(&step.compatible_with), "{}", step.name);
            assert!(!statements(step.up).is_empty() && !statements(step.down).is_empty());
            assert_eq!(step.checksum().len(), 32);
        }
    }

    #[test]
    fn released_steps_stay_as_they_were() {
        assert!(RELEASED.len() <= ALL.len(), "a released step never goes");
        for ((number, checksum), step) in RELEASED.iter().zip(ALL) {
            assert_eq!((*number, *checksum), (step.number, step.checksum().as_str()));
        }
        let before = RELEASED.last().map_or(1, |(number, _)| *number);
        for step in ALL.iter().filter(|step| step.number > before) {
            assert!(
                step.compatible_with <= before,
                "step {} takes away what the release before uses",
                step.number
            );
        }
    }

    #[test]
    fn statements_end_at_lines() {
        assert_eq!(statements("-- a; b;\nONE\n  ;\nTWO 'x;y';\n"), ["ONE", "TWO 'x;y'"]);
        assert!(
            statements_of_table("d", "columns_t")[0]
                .starts_with("CREATE TABLE IF NOT EXISTS `d`.`columns_t` (")
        );
    }
}
