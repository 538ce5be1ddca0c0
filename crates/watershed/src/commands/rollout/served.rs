//! Canaries, asked of a running server: of recommendations, and of versions of models. What is printed of recommendations is
//! what the store prints.

use std::fmt;

use kernel::{Error, Result, Timestamp, codes};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::no_canary;
use crate::cli::{Canary, End, Outcome, Rollout, Service};
use crate::commands::remote::Remote;
use crate::terminal;

/// The canaries of a model, or of recommendations.
struct Canaries<'a> {
    server: &'a Remote,
    /// Where they are.
    path: Vec<&'a str>,
}

impl<'a> Canaries<'a> {
    fn of(server: &'a Remote, model: Option<&'a str>) -> Self {
        let path = model.map_or_else(|| vec!["canaries"], |name| vec!["models", name, "canaries"]);
        Self { server, path }
    }

    fn at<'b>(&'b self, steps: &[&'b str]) -> Vec<&'b str> {
        [&self.path[..], steps].concat()
    }

    fn none(&self) -> Error {
        match self.path[..] {
            ["models", name, ..] => {
                Error::new(codes::NOT_FOUND, format!("there is no canary of the model `{name}`"))
            }
            _ => no_canary(),
        }
    }

    async fn list(&self) -> Result<Vec<Shown>> {
        let page: Page = self.server.get(&self.path, &[]).await?;
        Ok(page.canaries)
    }

    async fn end(&self, asked: &End, how: &str) -> Result<()> {
        let name = match &asked.name {
            Some(name) => name.clone(),
            None => self.list().await?.first().map(Shown::key).ok_or_else(|| self.none())?,
        };
        let body = json!({"reason": asked.reason});
        let ended: Shown = self.server.post(&self.at(&[&name, how]), &body).await?;
        ended.say();
        Ok(())
    }

    async fn status(&self) -> Result<()> {
        let canaries = self.list().await?;
        if canaries.is_empty() {
            terminal::note(self.none().message());
        }
        for mut canary in canaries {
            if canary.stage == "running" {
                canary = self.server.get(&self.at(&[&canary.key()]), &[]).await?;
            }
            canary.say();
        }
        Ok(())
    }
}

pub(super) async fn run(server: &Remote, command: Rollout) -> Result<()> {
    let canaries = Canaries::of(server, command.model());
    match &command {
        Rollout::Canary(asked) => {
            let begun: Shown = server.post(&canaries.path, &body_of(asked)).await?;
            begun.say();
            Ok(())
        }
        Rollout::Promote(asked) => canaries.end(asked, "promote").await,
        Rollout::Rollback(asked) => canaries.end(asked, "rollback").await,
        Rollout::Status(_) => canaries.status().await,
    }
}

/// What the server is asked; what was not said is as the server has it.
fn body_of(asked: &Canary) -> Value {
    let mode = match asked {
        Canary { shadow: true, .. } => "shadow",
        Canary { ab: true, .. } => "ab",
        _ => "canary",
    };
    let outcome = asked.outcome.map(|outcome| match outcome {
        Outcome::Truth => "truth",
        Outcome::Answer => "answer",
    });
    let tried = match asked.service {
        Service::Recommend => "algorithm",
        Service::Model(_) => "version",
    };
    let fields = [
        (tried, json!(asked.candidate)),
        ("mode", json!(mode)),
        ("steps", json!(asked.steps)),
        ("sample_min", json!(asked.sample_min)),
        ("step_seconds_min", json!(asked.step_seconds_min)),
        ("slow_ms", json!(asked.slow_ms)),
        ("name", json!(asked.name)),
        ("collaborative_weight", json!(asked.collaborative_weight)),
        ("diversity", json!(asked.diversity)),
        ("outcome_window_seconds", json!(asked.outcome_window_seconds)),
        ("outcome", json!(outcome)),
        ("output", json!(asked.output)),
        ("loss_scale", json!(asked.loss_scale)),
    ];
    let given = fields.into_iter().filter(|(_, value)| !value.is_null());
    given.map(|(name, value)| (name.to_owned(), value)).collect::<Map<_, _>>().into()
}

#[derive(Debug, Deserialize)]
struct Page {
    canaries: Vec<Shown>,
}

/// A canary, as the server tells of it.
#[derive(Debug, Deserialize)]
struct Shown {
    /// Of recommendations.
    name: Option<String>,
    /// Of a model, with what follows.
    #[serde(default)]
    model: String,
    #[serde(default)]
    sequence: u64,
    #[serde(default)]
    control_version: u64,
    #[serde(default)]
    candidate_version: u64,
    mode: String,
    stage: String,
    percent: u8,
    reading: Option<Reading>,
    shadow: Option<Shadow>,
    decisions: Vec<Decision>,
}

#[derive(Debug, Deserialize)]
struct Decision {
    at: Timestamp,
    stage: String,
    percent: u8,
    actor: Option<String>,
    reason: String,
    /// What the gates said.
    evidence: Option<serde::de::IgnoredAny>,
}

#[derive(Debug, Deserialize)]
struct Reading {
    gates: Vec<Gate>,
    comparison: Option<Comparison>,
    wait_reason: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Gate {
    gate: String,
    control_count: u64,
    control_share: f64,
    candidate_count: u64,
    candidate_share: f64,
    difference_lower: f64,
    difference_upper: f64,
    p_value: f64,
    level: f64,
}

impl fmt::Display for Gate {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { gate, control_count, control_share, candidate_count, candidate_share, .. } = self;
        write!(
            formatter,
            "{gate}: candidate {candidate_share:.4} of {candidate_count}, control {control_share:.4} of {control_count}; \
             difference {:.4} to {:.4}; p {:.2e}, level {:.2e}",
            self.difference_lower, self.difference_upper, self.p_value, self.level
        )
    }
}

/// What an A/B test says.
#[derive(Debug, Deserialize)]
struct Comparison {
    difference_lower: f64,
    difference_upper: f64,
    p_value: f64,
    differs: bool,
}

#[derive(Debug, Deserialize)]
struct Shadow {
    compared: u64,
    mismatched: u64,
    asked: Option<u64>,
    failed: Option<u64>,
    outputs: Vec<Difference>,
}

#[derive(Debug, Deserialize)]
struct Difference {
    output: String,
    count: u64,
    equal: u64,
    mean_absolute: f64,
    p95_absolute: f64,
    largest_absolute: f64,
}

impl Shown {
    /// What it is ended by.
    fn key(&self) -> String {
        self.name.clone().unwrap_or_else(|| self.sequence.to_string())
    }

    fn say(&self) {
        let stage = self.stage.replace('_', " ");
        let head = format!("{}  {stage}  {} %", self.key(), self.percent);
        match &self.name {
            Some(_) => terminal::say(head),
            None => terminal::say(format!(
                "{} {head}  {}: version {} beside {}",
                self.model, self.mode, self.candidate_version, self.control_version
            )),
        }
        for decision in &self.decisions {
            let Decision { at, percent, reason, .. } = decision;
            let by_itself = if decision.evidence.is_some() { "gates" } else { "service" };
            let (actor, stage) =
                (decision.actor.as_deref().unwrap_or(by_itself), decision.stage.replace('_', " "));
            terminal::say(format!("  {at}  {actor}  {stage}  {percent} %  {reason}"));
        }
        if let Some(reading) = &self.reading {
            reading.say();
        }
        if let Some(shadow) = &self.shadow {
            shadow.say();
        }
    }
}

impl Reading {
    fn say(&self) {
        for gate in &self.gates {
            terminal::say(format!("  now  {gate}"));
        }
        if let Some(reason) = &self.wait_reason {
            terminal::say(format!("  now  waits for {reason}"));
        }
        if let Some(found) = &self.comparison {
            let said = if found.differs { "the arms differ" } else { "the arms may be the same" };
            terminal::say(format!(
                "  now  {said}: loss of the candidate less that of the control {:.4} to {:.4}; p {:.2e}",
                found.difference_lower, found.difference_upper, found.p_value
            ));
        }
    }
}

impl Shadow {
    fn say(&self) {
        let Self { compared, mismatched, .. } = self;
        let asked =
            self.asked.map(|asked| format!("asked {asked} times, failed {}; ", self.failed.unwrap_or(0)));
        let asked = asked.unwrap_or_default();
        terminal::say(format!("  shadow  {asked}{compared} answers compared, {mismatched} of other shape"));
        for one in &self.outputs {
            terminal::say(format!(
                "  shadow  {}: {} values, {} equal; absolute difference {:.4e} in the mean, {:.4e} at 95 %, {:.4e} at most",
                one.output, one.count, one.equal, one.mean_absolute, one.p95_absolute, one.largest_absolute
            ));
        }
    }
}
