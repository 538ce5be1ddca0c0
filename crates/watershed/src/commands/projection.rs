//! `watershed projection`: the rows of prices and bars, made again from the topics.

use kernel::Result;

use crate::app::Ambient;
use crate::cli::Projection;
use crate::config::Config;
use crate::engines::Engines;
use crate::terminal;

pub(super) async fn run(command: &Projection, config: Config) -> Result<()> {
    let Projection::Rebuild = command;
    let engines = Engines::open(&config.storage, &Ambient::of_system()).await?;
    let missing = market::projection::rebuild(engines.topics.log.as_ref(), engines.columns.as_ref()).await?;
    terminal::say(format!("{missing} rows were missing"));
    Ok(())
}
