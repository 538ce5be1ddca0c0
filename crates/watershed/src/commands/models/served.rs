//! The commands about registered models, asked of a running server. What they print is what those in the store print.

use std::collections::BTreeMap;

use kernel::{Error, Result, Timestamp, codes};
use models::registered::{Change, name_and_version};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{alias_of, say_change, tell, version_of};
use crate::cli::{CleanupArtifacts, Promote, Rollback};
use crate::commands::remote::Remote;
use crate::commands::say_json;

/// Changes of one page.
const PAGE: usize = 1_000;

/// Where the aliases of a model point.
#[derive(Debug, Deserialize)]
struct Aliases {
    name: String,
    aliases: BTreeMap<String, u64>,
}

/// The model that a name means, and the version where the name ends in one.
///
/// # Errors
/// `NOT_FOUND`; those of the server.
async fn meant(server: &Remote, name: &str) -> Result<(String, Option<u64>)> {
    let whole: Result<Aliases> = server.get(&["models", name], &[]).await;
    let whole = match whole {
        Ok(found) => return Ok((found.name, None)),
        Err(error) => error,
    };
    let Some((model, version)) = name_and_version(name).filter(|_| whole.code() == codes::NOT_FOUND) else {
        return Err(whole);
    };
    let found: Result<Aliases> = server.get(&["models", model], &[]).await;
    match found {
        Ok(found) => Ok((found.name, Some(version))),
        Err(error) if error.code() == codes::NOT_FOUND => Err(whole),
        Err(error) => Err(error),
    }
}

pub(super) async fn promote(server: &Remote, asked: &Promote) -> Result<()> {
    let (model, named) = meant(server, &asked.model).await?;
    let (version, alias) = (version_of(asked, named)?, alias_of(asked)?);
    let body = json!({"version": version, "run_id": asked.run_id, "alias": alias,
        "expected_version": asked.expect, "reason": asked.reason});
    let moved: Aliases = server.post(&["models", &model, "promote"], &body).await?;
    tell(&moved.name, &moved.aliases, &alias);
    Ok(())
}

pub(super) async fn rollback(server: &Remote, asked: &Rollback) -> Result<()> {
    let (model, _) = meant(server, &asked.model).await?;
    let body = json!({"alias": asked.alias, "reason": asked.reason});
    let moved: Aliases = server.post(&["models", &model, "rollback"], &body).await?;
    tell(&moved.name, &moved.aliases, &asked.alias);
    Ok(())
}

#[derive(Debug, Deserialize)]
struct Page {
    changes: Vec<ServedChange>,
    next_cursor: Option<String>,
}

#[derive(Debug, Deserialize)]
struct ServedChange {
    sequence: u64,
    at: Timestamp,
    actor: String,
    action: String,
    alias: Option<String>,
    from_version: Option<u64>,
    to_version: Option<u64>,
    reason: String,
}

impl From<ServedChange> for Change {
    fn from(change: ServedChange) -> Self {
        Self {
            // Of no use to who prints it.
            model_id: String::new(),
            sequence: change.sequence,
            at_ms: change.at.as_millisecond(),
            actor: change.actor,
            action: change.action,
            alias: change.alias,
            from: change.from_version,
            to: change.to_version,
            reason: change.reason,
        }
    }
}

pub(super) async fn history(server: &Remote, name: &str, count: usize) -> Result<()> {
    let (model, _) = meant(server, name).await?;
    let (mut left, mut cursor) = (count, None::<String>);
    while left > 0 {
        let limit = left.min(PAGE).to_string();
        let mut query = vec![("limit", limit.as_str())];
        query.extend(cursor.as_deref().map(|cursor| ("cursor", cursor)));
        let page: Page = server.get(&["models", &model, "history"], &query).await?;
        left = left.saturating_sub(page.changes.len().max(1));
        page.changes.into_iter().map(Change::from).for_each(|change| say_change(&change));
        cursor = page.next_cursor;
        if cursor.is_none() {
            break;
        }
    }
    Ok(())
}

pub(super) async fn clean_up(server: &Remote, asked: &CleanupArtifacts) -> Result<()> {
    let body = json!({"days": asked.days, "dry_run": asked.dry_run});
    let done: Result<Value> = server.post(&["artifacts", "cleanup"], &body).await;
    let done = done.map_err(|error| {
        if !error.message().contains("answers 504") {
            return error;
        }
        let message =
            format!("{}; it goes on: ask again with --dry-run to see what is left", error.message());
        Error::new(error.code(), message).with_source(error)
    })?;
    say_json(&done)
}
