//! `watershed projection`: the rows of prices and bars, and what custom projections keep, made again from the topics.

use std::sync::Arc;

use kernel::Result;

use crate::app::Ambient;
use crate::cli::Projection;
use crate::config::Config;
use crate::engines::Engines;
use crate::terminal;

pub(super) async fn run(command: &Projection, config: Config) -> Result<()> {
    let Projection::Rebuild = command;
    let (rules, ambient) = (Arc::new(config.market.rules()?), Ambient::of_system());
    let engines = Engines::open(&config.storage, &ambient).await?;
    let missing = market::projection::rebuild(engines.topics.log.as_ref(), engines.columns.as_ref()).await?;
    terminal::say(format!("{missing} rows were missing"));
    // Also where none is declared: there may have been some.
    let log = engines.topics.log.as_ref();
    let done = market::custom::rebuild(log, &engines.records, &rules, &ambient.clock).await?;
    if done.kept > 0 || rules.projections.declared().next().is_some() {
        terminal::say(format!("{} values of projections were missing or older", done.kept));
    }
    if done.removed > 0 {
        terminal::say(format!("{} values of former projections were removed", done.removed));
    }
    if done.ended > 0 {
        terminal::say(format!("{} values of projections past their time were removed", done.ended));
    }
    if done.refused > 0 {
        terminal::say(format!(
            "{} times a projection had no room for one more key: it has at most {}",
            done.refused,
            market::custom::MOST_KEYS
        ));
    }
    if done.failed > 0 {
        terminal::say(format!(
            "{} times an expression failed for an event, which is passed over",
            done.failed
        ));
    }
    Ok(())
}
