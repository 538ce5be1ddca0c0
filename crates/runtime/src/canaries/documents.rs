//! What is written down of canaries of versions.

use std::collections::BTreeMap;

use rollout::Tally;
use rollout::canary::{Arm, Counts, Plan, Reading};
use rollout::decision::Stage;
use rollout::shadow::Shadow;
use serde::{Deserialize, Serialize};
use store::{Document, IndexValue, Table};
use utoipa::ToSchema;

/// The index of canaries that run, by when they began.
pub(super) const RUNNING: &str = "running_since";
/// The tenants that have, or had, a canary of a version.
pub(super) const TENANTS: Table = Table { name: "model_canary_tenants", indexes: &[] };

/// What is done with the candidate, and who ends it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = ModelCanaryMode)]
pub(crate) enum Mode {
    /// It answers some, then more; the gates take it on and back.
    #[default]
    Canary,
    /// It answers some; an operator ends it. The gates of errors and latency still take it back.
    Ab,
    /// It is asked too and never heard; an operator ends it.
    Shadow,
}

impl Mode {
    /// As the gates know it; none for a shadow, which has none.
    pub(crate) fn gated(self) -> Option<rollout::decision::Mode> {
        match self {
            Self::Canary => Some(rollout::decision::Mode::Canary),
            Self::Ab => Some(rollout::decision::Mode::Ab),
            Self::Shadow => None,
        }
    }
}

/// What a loss is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = ModelCanaryOutcome)]
pub(crate) enum Outcome {
    /// How far a prediction that was kept is from its truth, as a share of `loss_scale`.
    #[default]
    Truth,
    /// An answer that failed: for models whose truth nobody tells.
    Answer,
}

/// A decision, and what it rests on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Decision {
    pub(crate) at_ms: i64,
    pub(crate) stage: Stage,
    pub(crate) percent: u8,
    /// Who decided, where it was not the gates.
    pub(crate) actor: Option<String>,
    pub(crate) reason: String,
    pub(crate) reading: Option<Reading>,
}

/// A canary of a version.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Canary {
    pub(crate) model_id: String,
    /// The model's name when it began.
    pub(crate) model: String,
    /// 1 for the model's first.
    pub(crate) sequence: u64,
    pub(crate) mode: Mode,
    pub(crate) outcome: Outcome,
    /// The champion when it began.
    pub(crate) control: u64,
    pub(crate) candidate: u64,
    /// What subjects are assigned by; empty once it ended, so that nobody can be looked for among them.
    pub(crate) key: String,
    pub(crate) plan: Plan,
    pub(crate) slow_ms: u64,
    /// The output whose loss counts; the first by name where missing.
    pub(crate) output: Option<String>,
    /// An error of so much or more is a whole loss.
    pub(crate) loss_scale: f64,
    pub(crate) started_ms: i64,
    pub(crate) stage: Stage,
    pub(crate) percent: u8,
    pub(crate) step_began_ms: i64,
    pub(crate) decisions: Vec<Decision>,
    /// What a shadow said, once it ended.
    pub(crate) shadow: Option<Shadow>,
}

impl Document for Canary {
    const TABLE: Table = Table { name: "model_canaries", indexes: &[RUNNING] };

    fn key(&self) -> String {
        key_of(&self.model_id, self.sequence)
    }

    fn indexes(&self) -> Vec<(&'static str, IndexValue)> {
        match self.stage {
            Stage::Running => vec![(RUNNING, IndexValue::Integer(self.started_ms))],
            Stage::Complete | Stage::RolledBack => Vec::new(),
        }
    }
}

pub(super) fn key_of(model_id: &str, sequence: u64) -> String {
    format!("{model_id}/{sequence:020}")
}

/// What one process saw of a canary.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Answers {
    /// The canary's key.
    pub(crate) canary: String,
    pub(crate) process: String,
    pub(crate) control: Counts,
    pub(crate) candidate: Counts,
    /// Answers of the candidate by the percent of the step.
    pub(crate) by_step: BTreeMap<u8, u64>,
    /// What the shadow said.
    pub(crate) shadow: Shadow,
    /// Requests that the shadow was not asked, because too much was under way.
    pub(crate) skipped: u64,
}

impl Answers {
    pub(super) fn merge(&mut self, other: &Self) {
        self.control.merge(&other.control);
        self.candidate.merge(&other.candidate);
        for (percent, count) in &other.by_step {
            *self.by_step.entry(*percent).or_default() += count;
        }
        self.shadow.merge(&other.shadow);
        self.skipped += other.skipped;
    }
}

impl Document for Answers {
    const TABLE: Table = Table { name: "model_canary_answers", indexes: &[] };

    fn key(&self) -> String {
        format!("{}/{}", self.canary, self.process)
    }
}

/// The losses of a canary's predictions, by their truths.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Losses {
    /// The canary's key.
    pub(crate) canary: String,
    pub(crate) control: Tally,
    pub(crate) candidate: Tally,
    /// Predictions of the candidate whose truth is known, by the percent of the step.
    pub(crate) by_step: BTreeMap<u8, u64>,
}

impl Losses {
    /// Adds the loss of a prediction.
    pub(crate) fn add(&mut self, member: &Member, loss: f64) {
        match member.arm {
            Arm::Control => self.control.add(loss),
            Arm::Candidate => {
                if !member.moved {
                    self.candidate.add(loss);
                }
                *self.by_step.entry(member.percent).or_default() += 1;
            }
        }
    }
}

impl Document for Losses {
    const TABLE: Table = Table { name: "model_canary_losses", indexes: &[] };

    fn key(&self) -> String {
        self.canary.clone()
    }
}

/// A subject whose first prediction was kept: what one subject does hangs together, and only the first counts.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Counted {
    /// The canary's key.
    pub(crate) canary: String,
    /// A keyed hash of who it is; the key goes when the canary ends.
    pub(crate) subject: String,
    /// The arm that it was in last.
    pub(crate) arm: Arm,
    /// When it is forgotten, in unix milliseconds.
    pub(crate) remove_ms: i64,
}

impl Document for Counted {
    const TABLE: Table = Table { name: "model_canary_subjects", indexes: &["remove"] };

    fn key(&self) -> String {
        format!("{}/{}", self.canary, self.subject)
    }

    fn indexes(&self) -> Vec<(&'static str, IndexValue)> {
        vec![("remove", IndexValue::Integer(self.remove_ms))]
    }
}

/// What a kept prediction is to a canary.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Member {
    /// The canary's key.
    pub(crate) canary: String,
    pub(crate) arm: Arm,
    pub(crate) percent: u8,
    pub(crate) output: Option<String>,
    pub(crate) loss_scale: f64,
    /// The candidate failed, and the champion answered: a whole loss.
    pub(crate) failed: bool,
    /// Its subject was in the other arm before: it counts for the sample of its step, and for no gate.
    pub(crate) moved: bool,
}

impl Member {
    /// The loss of a prediction, once all of the output's truth is known: the mean of absolute errors as shares of the scale, each
    /// one at most.
    pub(crate) fn loss(
        &self,
        outputs: &BTreeMap<String, Vec<f64>>,
        truth: &BTreeMap<String, Vec<Option<f64>>>,
    ) -> Option<f64> {
        let output = self.output.as_ref().or_else(|| outputs.keys().next())?;
        let (predicted, truth) = (outputs.get(output)?, truth.get(output)?);
        let mut sum = 0.0;
        for (predicted, truth) in predicted.iter().zip(truth) {
            sum += ((predicted - (*truth)?).abs() / self.loss_scale).min(1.0);
        }
        let mean = if self.failed { 1.0 } else { sum / predicted.len() as f64 };
        (!predicted.is_empty()).then_some(mean)
    }
}
