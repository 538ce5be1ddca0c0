//! `watershed keys`: the API keys of a tenant, straight in the store.

use std::fmt::Write;
use std::time::Duration;

use edge::ApiKey;
use edge::auth::NewKey;
use kernel::{Error, Result, Timestamp, codes};

use super::scope;
use crate::app::{self, Ambient};
use crate::cli::Keys;
use crate::config::Config;
use crate::engines::Engines;
use crate::terminal;

pub(super) async fn run(command: Keys, config: Config) -> Result<()> {
    let ambient = Ambient::of_system();
    let engines = Engines::open(&config.storage, &ambient).await?;
    let (_, keys) = app::access(&engines, &ambient).await?;
    let scope = scope(&config, "keys")?;
    match command {
        Keys::Create { name, permission, expires_in_days } => {
            let now = ambient.clock.now();
            let expires_at = expires_in_days.map(|days| after(now, days)).transpose()?;
            let (key, secret) = keys.create(&scope, NewKey { name, permission, expires_at }).await?;
            terminal::note(format!("key {} for tenant {}; it is shown this once:", key.id, key.tenant));
            terminal::say(secret);
        }
        Keys::List => terminal::say(table(&keys.list(&scope)?, ambient.clock.now()).trim_end()),
        Keys::Revoke { id } => {
            keys.revoke(&scope, &id).await?;
            terminal::note(format!("key {id} works no more"));
        }
        Keys::Rotate { id, grace_secs } => {
            let (key, secret) = keys.rotate(&scope, &id, Duration::from_secs(grace_secs)).await?;
            let told =
                format!("key {} has another secret; the one before works {grace_secs} s longer:", key.id);
            terminal::note(told);
            terminal::say(secret);
        }
    }
    Ok(())
}

fn after(now: Timestamp, days: u32) -> Result<Timestamp> {
    now.checked_add(Duration::from_secs(u64::from(days) * 86_400)).map_err(|_| {
        Error::new(codes::VALIDATION_ERROR, "is longer than time goes").with_field("--expires-in-days")
    })
}

fn table(keys: &[ApiKey], now: Timestamp) -> String {
    if keys.is_empty() {
        return "no keys; `watershed keys create --name NAME` makes one".to_owned();
    }
    let day = |time: Option<Timestamp>| {
        time.map_or_else(|| "-".to_owned(), |time| time.strftime("%F %T").to_string())
    };
    let mut text = format!(
        "{:<16}  {:<6}  {:<8}  {:<19}  {:<19}  {}\n",
        "id", "may", "state", "expires", "last used", "name"
    );
    for key in keys {
        let state = match (key.revoked_at, key.expires_at) {
            (Some(_), _) => "revoked",
            (None, Some(at)) if at <= now => "expired",
            _ => "valid",
        };
        let (expires, used) = (day(key.expires_at), day(key.last_used_at));
        let permission = key.permission.to_string();
        let _ = writeln!(
            text,
            "{:<16}  {permission:<6}  {state:<8}  {expires:<19}  {used:<19}  {}",
            key.id, key.name
        );
    }
    text
}
