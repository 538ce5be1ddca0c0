//! `watershed rollout`: canaries of a tenant, straight in the log. Beside a server on embedded engines, ask
//! `/api/v1/canaries` instead: its folder has one owner.

use kernel::{Error, Result, Scope, Timestamp, codes};
use recommend::Recommend;
use recommend::canaries::NewCanary;
use recommend::events::{ArmSettings, Mode, Stage};
use rollout::canary::Plan;

use super::scope;
use crate::app::App;
use crate::cli::{Canary, Rollout};
use crate::config::Config;
use crate::terminal;

pub(super) async fn run(command: Rollout, config: Config) -> Result<()> {
    let app = App::open(&config).await?;
    let done = match scope(&config, "rollout") {
        Ok(scope) => work(&app.recommend, &scope, command).await,
        Err(error) => Err(error),
    };
    app.recommend.stop().await;
    done
}

async fn work(recommend: &Recommend, scope: &Scope, command: Rollout) -> Result<()> {
    let canaries = recommend.canaries();
    match command {
        Rollout::Canary(asked) => {
            terminal::note(format!("{}: {} on some of the users", asked.service, asked.algorithm));
            let canary = canaries.start(scope, wanted(asked)).await?;
            tell(&canary);
        }
        Rollout::Status => {
            for canary in canaries.list(scope) {
                tell(&canary);
                let reading = canaries.reading(scope, &canary).await?;
                for read in reading.iter().flat_map(|reading| &reading.gates) {
                    terminal::say(format!("  now  {read}"));
                }
            }
        }
        Rollout::Rollback { name, reason } => {
            let name = meant(recommend, scope, name)?;
            tell(&canaries.roll_back(scope, &name, &reason).await?);
        }
        Rollout::Promote { name, reason } => {
            let name = meant(recommend, scope, name)?;
            tell(&canaries.promote(scope, &name, &reason).await?);
        }
    }
    Ok(())
}

/// The canary of that name, or the one that began last.
fn meant(recommend: &Recommend, scope: &Scope, name: Option<String>) -> Result<String> {
    let last = || recommend.canaries().list(scope).first().map(|canary| canary.started.canary.clone());
    name.or_else(last).ok_or_else(|| Error::new(codes::NOT_FOUND, "there is no canary"))
}

fn wanted(asked: Canary) -> NewCanary {
    let usual = if asked.ab { vec![50, 100] } else { Plan::default().steps_percent };
    let plan = Plan {
        steps_percent: asked.steps.unwrap_or(usual),
        sample_min: asked.sample_min,
        step_seconds_min: asked.step_seconds_min,
        ..Plan::default()
    };
    NewCanary {
        name: asked.name,
        mode: if asked.ab { Mode::Ab } else { Mode::Canary },
        candidate: ArmSettings {
            algorithm: Some(asked.algorithm),
            collaborative_weight: asked.collaborative_weight,
            diversity: asked.diversity,
        },
        plan,
        outcome_window_seconds: asked.outcome_window_seconds,
        slow_ms: asked.slow_ms,
    }
}

fn tell(canary: &recommend::views::Canary) {
    terminal::say(format!("{}  {}  {} %", canary.started.canary, named(canary.stage), canary.percent));
    for decision in &canary.decisions {
        let at = Timestamp::from_millisecond(decision.at_ms).unwrap_or(Timestamp::UNIX_EPOCH);
        let data = &decision.data;
        let actor = data.actor.as_deref().unwrap_or("gates");
        terminal::say(format!("  {at}  {actor}  {}  {} %  {}", named(data.stage), data.percent, data.reason));
    }
}

fn named(stage: Stage) -> &'static str {
    match stage {
        Stage::Running => "running",
        Stage::Complete => "complete",
        Stage::RolledBack => "rolled back",
    }
}
