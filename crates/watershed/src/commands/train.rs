//! `watershed train`

use kernel::Result;
use recommend::training::{TrainingProgress, TrainingReport};

use super::scope;
use crate::app::App;
use crate::cli::Train;
use crate::config::Config;
use crate::terminal;

pub(super) async fn run(train: Train, mut config: Config) -> Result<()> {
    if train.fast {
        config.recommend.training.algorithms.sequence = false;
    }
    let app = App::open(&config).await?;
    let scope = scope(&config, "train")?;
    let trained = app.recommend.train(&scope, report).await;
    app.recommend.stop().await;
    terminal::say(summary(&trained?));
    Ok(())
}

/// Tells how far training is.
pub(super) fn report(progress: &TrainingProgress) {
    terminal::note(format!("  {progress}"));
}

/// What training made, as a table.
pub(super) fn summary(report: &TrainingReport) -> String {
    report.to_string()
}
