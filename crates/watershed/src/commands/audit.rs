//! `watershed audit`: who changed what, and whether the record of it is whole.

use kernel::{Error, Result, codes};

use super::scope;
use crate::app::{self, Ambient};
use crate::cli::Audit;
use crate::config::Config;
use crate::engines::Engines;
use crate::terminal;

pub(super) async fn run(command: Audit, config: Config) -> Result<()> {
    let ambient = Ambient::of_system();
    let engines = Engines::open(&config.storage, &ambient).await?;
    let (audit, _) = app::access(&engines, &ambient).await?;
    let scope = scope(&config, "audit")?;
    match command {
        Audit::Verify { head } => {
            let verified = audit.verify(&scope).await?;
            if let Some(noted) = head
                && !audit.holds(&scope, &noted).await?
            {
                let message =
                    format!("the chain is whole, but no entry of it has the hash {noted}: it was rewritten");
                return Err(Error::new(codes::CORRUPTED, message));
            }
            terminal::say(format!("whole: {} entries, head {}", verified.sequence, verified.hash));
        }
        Audit::List { count } => {
            let (entries, _) = audit.list(&scope, None, count).await?;
            for entry in entries {
                let details: Vec<String> =
                    entry.details.iter().map(|(name, value)| format!("{name}={value}")).collect();
                let (at, actor, action) = (entry.at, entry.actor, entry.action);
                terminal::say(format!(
                    "{:>6}  {at}  {actor}  {action}  {}  {}",
                    entry.sequence,
                    entry.subject,
                    details.join(" ")
                ));
            }
        }
    }
    Ok(())
}
