//! `watershed quality report`: how many prices have which flag, and what was refused.

use std::sync::Arc;

use kernel::Result;
use market::quality_report::{self, By, Question, Report};

use super::{say_json, scope};
use crate::app::Ambient;
use crate::cli::{QualityBy, QualityReport};
use crate::config::Config;
use crate::engines::Engines;
use crate::terminal;

pub(super) async fn report(asked: QualityReport, config: Config) -> Result<()> {
    let engines = Engines::open(&config.storage, &Ambient::of_system()).await?;
    let question = Question {
        from: asked.from,
        to: asked.to,
        market: asked.market.map(|market| market.to_uppercase()),
        instrument: asked.instrument,
        by: match asked.by {
            QualityBy::Market => By::Market,
            QualityBy::Instrument => By::Instrument,
            QualityBy::Day => By::Day,
            QualityBy::Hour => By::Hour,
        },
    };
    let scope = scope(&config, "quality")?;
    let log = Arc::clone(&engines.topics.log);
    let report = quality_report::report(&scope, engines.columns.as_ref(), log, &question).await?;
    if asked.json {
        return say_json(&report);
    }
    say(&report);
    Ok(())
}

fn say(report: &Report) {
    for (about, line) in &report.lines {
        let share = |count: u64| 100.0 * count as f64 / line.prices as f64;
        let flags = line.flags.iter().map(|(flag, count)| format!("{flag} {count} ({:.1} %)", share(*count)));
        terminal::say(format!("{about}: {} prices: {}", line.prices, flags.collect::<Vec<_>>().join(", ")));
    }
    for (stage, codes) in &report.refused {
        let codes = codes.iter().map(|(code, count)| format!("{code} {count}"));
        terminal::say(format!("refused by {stage}: {}", codes.collect::<Vec<_>>().join(", ")));
    }
}
