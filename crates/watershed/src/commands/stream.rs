//! `watershed stream`: the stages of market data, drawn, and how far each has come.

use std::fmt::Write;
use std::sync::Arc;

use kernel::{Error, Result};
use market::Rules;
use market::algorithms::feeds::Feed;
use market::algorithms::projections::Projection;
use market::topology::{KEPT, RAW_TICKS};
use stream::{Task, Topology};

use crate::app::Ambient;
use crate::cli::Stream;
use crate::config::Config;
use crate::engines::Engines;
use crate::terminal;

pub(super) async fn run(command: Stream, config: Config) -> Result<()> {
    if let Stream::Topology { schema: true } = command {
        return super::say_json(&schemars::schema_for!(market::TopologyFile));
    }
    let rules = Arc::new(config.market.rules()?);
    let mut stages = market::topology::all(&rules)?;
    stages.extend(market::topology::custom(&rules)?);
    match command {
        Stream::Topology { .. } => {
            terminal::say(drawing(&stages)?.trim_end());
            declared(&rules).into_iter().for_each(terminal::say);
        }
        Stream::Lag => {
            let engines = Engines::open(&config.storage, &Ambient::of_system()).await?;
            terminal::say(lag(&engines, &stages).await?.trim_end());
        }
    }
    Ok(())
}

/// Each stage below the topic that it reads, with its operators and the topics that it writes.
fn drawing(stages: &[Topology]) -> Result<String> {
    let mut text = String::new();
    for stage in stages {
        let draw = |text: &mut String| -> std::fmt::Result {
            writeln!(text, "{}", stage.input())?;
            writeln!(text, "  └─ {}: {}", stage.name(), stage.operators().join(" → "))?;
            for output in stage.outputs() {
                let what = if *output == KEPT { "values of projections" } else { output.as_str() };
                writeln!(text, "       ├▶ {what}")?;
            }
            writeln!(text, "       └▷ {} (dead letters)", stage.dead_letters())
        };
        draw(&mut text).map_err(Error::internal)?;
    }
    Ok(text)
}

/// The feeds and the projections of the settings, a line each.
fn declared(rules: &Rules) -> Vec<String> {
    let feed = |feed: &Feed| format!("feed {}: {} → {}", feed.name, feed.sources.join(", "), RAW_TICKS);
    let projection = |projection: &Projection| {
        let Projection { name, from, key, .. } = projection;
        let key = key.as_deref().unwrap_or("event.instrument_id");
        format!("projection {name}: {} by {key}", from.name())
    };
    rules.feeds.declared().map(feed).chain(rules.projections.declared().map(projection)).collect()
}

async fn lag(engines: &Engines, stages: &[Topology]) -> Result<String> {
    let mut text = format!("{:<16}{:>10}{:>12}{:>12}{:>12}\n", "stage", "partition", "next", "end", "lag");
    for stage in stages {
        for extent in engines.topics.log.extents(stage.input()).await? {
            let found = Task::look(stage, &engines.records, &engines.topics.task(), extent.partition).await?;
            let next = found.map_or(extent.first, |(next, _)| next);
            let (name, behind) = (stage.name(), extent.next.saturating_sub(next));
            writeln!(text, "{name:<16}{:>10}{next:>12}{:>12}{behind:>12}", extent.partition, extent.next)
                .map_err(Error::internal)?;
        }
    }
    Ok(text)
}
