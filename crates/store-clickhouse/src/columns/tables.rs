//! The tables: made when they are first used, widened when a release adds columns, with the time to live of the settings.
//!
//! Beside each stands a view for people and for programs that read there: `current_NAME`, a row of it for each row, which is
//! the state of an aggregate (`argMax` of the whole row by revision and precedence), so that it is the same before a merge
//! and after.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use kernel::{Error, Result, Scope, codes};
use parking_lot::Mutex;
use store::{Column, ColumnTable};

use crate::client::Client;
use crate::columns::sql::Rows;
use crate::config::Settings;
use crate::encoding::{Reader, type_of};
use crate::migrations::{TABLES, statements_of_table, view_of};
use crate::text::{literal, table as quoted};

/// What a row is named by in the view.
const NAMES: [&str; 6] = ["tenant_id", "series", "time", "time_ns", "id", "revision"];

/// What the view calls a column of values: by its own name where that is free.
fn shown(column: &str) -> String {
    if NAMES.contains(&column) { format!("v_{column}") } else { column.to_owned() }
}

/// Which tables of a database are known to be there.
#[derive(Debug)]
pub(crate) struct Tables {
    client: Arc<Client>,
    database: String,
    retention_days: BTreeMap<String, u32>,
    open: Mutex<HashMap<&'static str, &'static [Column]>>,
}

impl Tables {
    pub(crate) fn new(client: Arc<Client>, settings: &Settings) -> Self {
        let retention_days = settings.retention_days.clone();
        Self { client, database: settings.database.clone(), retention_days, open: Mutex::default() }
    }

    pub(crate) fn database(&self) -> &str {
        &self.database
    }

    /// How long rows of a table are kept.
    pub(crate) fn retention_days(&self, name: &str) -> Option<u32> {
        self.retention_days.get(name).copied()
    }

    /// The statements about the rows of a tenant.
    pub(crate) fn rows<'a>(&self, scope: &'a Scope, table: ColumnTable) -> Rows<'a> {
        let quoted = quoted(&self.database, &format!("{TABLES}{}", table.name));
        Rows::new(self.database.clone(), quoted, scope.tenant().as_str(), table)
    }

    /// Sees to it that the table is there, has every column, and keeps its rows as long as the settings say.
    pub(crate) async fn open(&self, table: ColumnTable) -> Result<()> {
        if self.open.lock().get(table.name).is_some_and(|held| held.starts_with(table.columns)) {
            return Ok(());
        }
        let name = format!("{TABLES}{}", table.name);
        // Each may be done twice, by several processes at once.
        for statement in statements_of_table(&self.database, &name) {
            self.client.work(statement).await?;
        }
        self.widen(&name, table).await?;
        self.show(&name, table).await?;
        self.keep(&name, self.retention_days(table.name)).await?;
        self.open.lock().insert(table.name, table.columns);
        Ok(())
    }

    async fn widen(&self, name: &str, table: ColumnTable) -> Result<()> {
        let held = self.columns(name).await?;
        let mut missing = Vec::new();
        for column in table.columns {
            let wanted = type_of(column.kind);
            match held.get(&format!("v_{}", column.name)) {
                None => missing.push(format!("ADD COLUMN IF NOT EXISTS v_{} {wanted}", column.name)),
                Some(held) if held == wanted => {}
                Some(_) => {
                    let message =
                        format!("column `{}` of `{}` was stored as another kind", column.name, table.name);
                    return Err(Error::new(codes::CORRUPTED, message));
                }
            }
        }
        if missing.is_empty() {
            return Ok(());
        }
        self.client.work(format!("ALTER TABLE {} {}", quoted(&self.database, name), missing.join(", "))).await
    }

    /// Makes the view, unless there is one that shows every column: one of a later release shows more.
    async fn show(&self, name: &str, table: ColumnTable) -> Result<()> {
        let view = view_of(name);
        let held = self.columns(&view).await?;
        if table.columns.iter().all(|column| held.contains_key(&shown(column.name))) {
            return Ok(());
        }
        let (view, name) = (quoted(&self.database, &view), quoted(&self.database, name));
        let stored: String = table.columns.iter().map(|column| format!(", v_{}", column.name)).collect();
        let shown: String = (2..)
            .zip(table.columns)
            .map(|(place, column)| format!(", best.{place} AS {}", shown(column.name)))
            .collect();
        self.client
            .work(format!(
                "CREATE OR REPLACE VIEW {view} AS \
                 SELECT tenant AS tenant_id, series, fromUnixTimestamp64Nano(time_ns, 'UTC') AS time, time_ns, id, \
                     best.1 AS revision{shown} \
                 FROM (SELECT tenant, series, time_ns, id, \
                           argMax(tuple(revision{stored}), (revision, precedence)) AS best \
                       FROM {name} GROUP BY tenant, series, time_ns, id)"
            ))
            .await
    }

    async fn columns(&self, name: &str) -> Result<HashMap<String, String>> {
        let (database, name) = (literal(&self.database), literal(name));
        let select =
            format!("SELECT name, type FROM system.columns WHERE database = {database} AND table = {name}");
        let answer = self.client.read(select).await?;
        let mut reader = Reader(&answer);
        let mut held = HashMap::new();
        while !reader.is_empty() {
            held.insert(reader.text()?, reader.text()?);
        }
        Ok(held)
    }

    /// Sets the time to live, where it is another. The server drops rows a day after they are in no answer any more.
    async fn keep(&self, name: &str, days: Option<u32>) -> Result<()> {
        let (database, literal_name) = (literal(&self.database), literal(name));
        let select = format!(
            "SELECT engine_full FROM system.tables WHERE database = {database} AND name = {literal_name}"
        );
        let engine = Reader(&self.client.read(select).await?).text()?;
        let table = quoted(&self.database, name);
        let statement = match days.map(|days| format!("toIntervalDay({})", days + 1)) {
            None if engine.contains(" TTL ") => format!("ALTER TABLE {table} REMOVE TTL"),
            Some(interval) if !engine.contains(&interval) => {
                // Its dates are of 1970 to 2106: earlier ones are as old as can be, and those of after 2093 are as those of then.
                let second = "toDateTime(toUInt32(greatest(0, least(intDiv(time_ns, 1000000000), 3900000000))), 'UTC')";
                format!(
                    "ALTER TABLE {table} MODIFY TTL {second} + {interval} SETTINGS materialize_ttl_after_modify = 1"
                )
            }
            _ => return Ok(()),
        };
        self.client.work(statement).await
    }
}
