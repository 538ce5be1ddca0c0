//! `watershed rollout`: canaries of recommendations, straight in the log, or asked of the server that the settings or `--server`
//! name ([`served`]), which beside embedded engines is the only way: their folder has one owner. Versions of models are tried by
//! the server that answers for them, so that without one those are refused.

mod served;

use kernel::{Error, Result, Scope, Timestamp, codes};
use recommend::Recommend;
use recommend::canaries::NewCanary;
use recommend::events::{ArmSettings, Mode, Stage};
use rollout::canary::Plan;

use super::remote::{Remote, or_ask};
use super::scope;
use crate::app::App;
use crate::cli::{Canary, Rollout, Service};
use crate::config::Config;
use crate::terminal;

/// Seconds within which what was shown must be chosen, where nothing else is asked.
const OUTCOME_WINDOW_SECONDS: u64 = 86_400;
const NO_CANARY: &str = "there is no canary of recommendations; `--model NAME` tells of those of a model";
/// Milliseconds above which an answer is slow, where nothing else is asked.
const SLOW_MS: u64 = 100;

pub(super) async fn run(command: Rollout, config: Config) -> Result<()> {
    if let Rollout::Canary(asked) = &command {
        check(asked)?;
    }
    if let Some(server) = Remote::of(&config)? {
        return served::run(&server, command).await;
    }
    if let Some(model) = command.model() {
        let message = format!(
            "versions of `{model}` are tried by the server that answers for it; name that with `--server URL`, such as \
             http://localhost:8080, or in client.server"
        );
        return Err(Error::new(codes::VALIDATION_ERROR, message).with_field("--server"));
    }
    let app = App::open(&config).await.map_err(|error| or_ask(error, call_of(&command)))?;
    let done = match scope(&config, "rollout") {
        Ok(scope) => work(&app.recommend, &scope, command).await,
        Err(error) => Err(error),
    };
    app.recommend.stop().await;
    done
}

fn call_of(command: &Rollout) -> &'static str {
    match command {
        Rollout::Canary(_) => "POST /api/v1/canaries",
        Rollout::Promote(_) => "POST /api/v1/canaries/{name}/promote",
        Rollout::Status(_) => "GET /api/v1/canaries",
        Rollout::Rollback(_) => "POST /api/v1/canaries/{name}/rollback",
    }
}

/// Refuses flags that mean nothing for the service.
fn check(asked: &Canary) -> Result<()> {
    let of_recommendations = [
        ("--name", asked.name.is_some()),
        ("--collaborative-weight", asked.collaborative_weight.is_some()),
        ("--diversity", asked.diversity.is_some()),
        ("--outcome-window-seconds", asked.outcome_window_seconds.is_some()),
    ];
    let of_models = [
        ("--shadow", asked.shadow),
        ("--outcome", asked.outcome.is_some()),
        ("--output", asked.output.is_some()),
        ("--loss-scale", asked.loss_scale.is_some()),
    ];
    let (foreign, whose) = match asked.service {
        Service::Recommend => (of_models, "models/NAME"),
        Service::Model(_) => (of_recommendations, "recommend"),
    };
    match foreign.iter().find(|(_, is_given)| *is_given) {
        None => Ok(()),
        Some((flag, _)) => {
            let message = format!("is of `rollout canary {whose}` alone");
            Err(Error::new(codes::VALIDATION_ERROR, message).with_field(*flag))
        }
    }
}

async fn work(recommend: &Recommend, scope: &Scope, command: Rollout) -> Result<()> {
    let canaries = recommend.canaries();
    match command {
        Rollout::Canary(asked) => {
            terminal::note(format!("recommend: {} on some of the users", asked.candidate));
            let canary = canaries.start(scope, wanted(*asked)).await?;
            tell(&canary);
        }
        Rollout::Status(_) => {
            let known = canaries.list(scope);
            if known.is_empty() {
                terminal::note(NO_CANARY);
            }
            for canary in known {
                tell(&canary);
                let reading = canaries.reading(scope, &canary).await?;
                for read in reading.iter().flat_map(|reading| &reading.gates) {
                    terminal::say(format!("  now  {read}"));
                }
                let started = &canary.started;
                let waits = reading.filter(|_| started.mode == Mode::Canary);
                if let Some(reason) = waits.and_then(|reading| started.plan.wait_reason(&reading)) {
                    terminal::say(format!("  now  waits for {reason}"));
                }
            }
        }
        Rollout::Rollback(asked) => {
            let name = meant(recommend, scope, asked.name)?;
            tell(&canaries.roll_back(scope, &name, &asked.reason).await?);
        }
        Rollout::Promote(asked) => {
            let name = meant(recommend, scope, asked.name)?;
            tell(&canaries.promote(scope, &name, &asked.reason).await?);
        }
    }
    Ok(())
}

/// The canary of that name, or the one that began last.
fn meant(recommend: &Recommend, scope: &Scope, name: Option<String>) -> Result<String> {
    let last = || recommend.canaries().list(scope).first().map(|canary| canary.started.canary.clone());
    name.or_else(last).ok_or_else(no_canary)
}

fn no_canary() -> Error {
    Error::new(codes::NOT_FOUND, NO_CANARY)
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
            algorithm: Some(asked.candidate),
            collaborative_weight: asked.collaborative_weight,
            diversity: asked.diversity,
        },
        plan,
        outcome_window_seconds: asked.outcome_window_seconds.unwrap_or(OUTCOME_WINDOW_SECONDS),
        slow_ms: asked.slow_ms.unwrap_or(SLOW_MS),
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
