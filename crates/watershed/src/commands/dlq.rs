//! `watershed dlq`: what the stages of market data refused, and replay. Over a data folder that no server has open, or over
//! brokers; a server has the same under `/api/v1/market/dead-letters`.

use std::sync::Arc;

use kernel::Result;
use market::service::StageLetters;

use super::{say_json, scope};
use crate::app::Ambient;
use crate::cli::Dlq;
use crate::config::Config;
use crate::engines::Engines;
use crate::terminal;

pub(super) async fn run(command: Dlq, config: Config) -> Result<()> {
    let ambient = Ambient::of_system();
    let engines = Engines::open(&config.storage, &ambient).await?;
    let letters = StageLetters::new(Arc::clone(&engines.topics.log));
    let scope = scope(&config, "dlq")?;
    match command {
        Dlq::List { stage, count } => {
            let (found, more) = letters.list(&scope, &stage, None, count).await?;
            for one in found {
                terminal::say(format!(
                    "{}  {}  {}  {}",
                    one.id, one.occurred_at, one.letter.code, one.letter.reason
                ));
            }
            if more.is_some() {
                terminal::note("there may be more; ask for a higher --count");
            }
        }
        Dlq::Show { id } => say_json(&letters.get(&scope, &id).await?.letter)?,
        Dlq::Replay { ids } => {
            for id in ids {
                let place = letters.replay(&scope, &id, ambient.clock.now()).await?;
                terminal::say(format!("{id} is event {} of partition {}", place.offset, place.partition));
            }
        }
    }
    Ok(())
}
