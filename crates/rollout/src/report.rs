//! What the gates say, as an answer over HTTP shows it. What is counted is users or requests: the domain says which.

use serde::Serialize;
use utoipa::ToSchema;

use crate::canary::{Gate, GateReading, Plan, Reading, Verdict, Waiting};
use crate::comparison::Comparison;
use crate::decision::Mode;
use crate::sequential::Interval;

/// What was seen of one gate.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = CanaryGate)]
pub struct GateReport {
    /// `errors`, `latency` or `loss`.
    gate: &'static str,
    /// How many of the control were looked at.
    control_count: u64,
    /// The share of them that failed, was slow, or was lost.
    control_share: f64,
    /// How many of the candidate were looked at.
    candidate_count: u64,
    /// The share of them.
    candidate_share: f64,
    /// Where the candidate's share less the control's lies, at every look: above the tolerance where the gate is closed, and
    /// only there.
    difference_lower: f64,
    /// Its upper end.
    difference_upper: f64,
    /// Of the candidate being no worse; holds at every look.
    p_value: f64,
    /// The gate closes at or below it.
    level: f64,
    /// Whether it is closed.
    closed: bool,
}

impl From<&GateReading> for GateReport {
    fn from(read: &GateReading) -> Self {
        Self {
            gate: read.gate.name(),
            control_count: read.control.count,
            control_share: read.control.mean(),
            candidate_count: read.candidate.count,
            candidate_share: read.candidate.mean(),
            difference_lower: read.difference.lower,
            difference_upper: read.difference.upper,
            p_value: read.p_value,
            level: read.level,
            closed: read.closed,
        }
    }
}

/// A share and where it lies, at every look.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = CanaryShare)]
pub struct ShareReport {
    share: f64,
    lower: f64,
    upper: f64,
}

impl From<(f64, Interval)> for ShareReport {
    fn from((share, Interval { lower, upper }): (f64, Interval)) -> Self {
        Self { share, lower, upper }
    }
}

/// What an A/B test says of the outcome: the share that was lost. It holds at every look.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = CanaryComparison)]
pub struct ComparisonReport {
    control: ShareReport,
    candidate: ShareReport,
    /// Where the candidate's share less the control's lies. It has 0 where the arms do not differ, and only there.
    difference_lower: f64,
    /// Its upper end. Below 0 the candidate is better.
    difference_upper: f64,
    /// Of both being the same.
    p_value: f64,
    /// The arms differ at or below it: `false_alarm`.
    level: f64,
    /// Whether they do.
    differs: bool,
}

impl ComparisonReport {
    fn of(reading: &Reading, level: f64) -> Option<Self> {
        let loss = reading.gates.iter().find(|read| read.gate == Gate::Loss)?;
        let found = Comparison { a: loss.control, b: loss.candidate }.outcome(level);
        Some(Self {
            control: found.a.into(),
            candidate: found.b.into(),
            difference_lower: found.difference.lower,
            difference_upper: found.difference.upper,
            p_value: found.p_value,
            level,
            differs: found.differs,
        })
    }
}

/// What the gates say.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = CanaryReading)]
pub struct ReadingReport {
    /// How many of the candidate have a known outcome since the step began.
    since_step: u64,
    /// Seconds since the step began.
    step_seconds: u64,
    gates: Vec<GateReport>,
    /// Of an A/B test.
    #[serde(skip_serializing_if = "Option::is_none")]
    comparison: Option<ComparisonReport>,
    /// `sample`, `time` or `margin` where it waits for that.
    #[serde(skip_serializing_if = "Option::is_none")]
    waits_for: Option<&'static str>,
    /// The same in words, with how far it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    wait_reason: Option<String>,
}

impl ReadingReport {
    /// Of a canary or test with this plan.
    #[must_use]
    pub fn of(mode: Mode, plan: &Plan, reading: &Reading) -> Self {
        let is_test = mode == Mode::Ab;
        Self {
            comparison: is_test.then(|| ComparisonReport::of(reading, plan.false_alarm)).flatten(),
            since_step: reading.since_step,
            step_seconds: reading.step_seconds,
            gates: reading.gates.iter().map(GateReport::from).collect(),
            wait_reason: if is_test { None } else { plan.wait_reason(reading) },
            waits_for: match reading.verdict {
                _ if is_test => None,
                Verdict::Wait(Waiting::Sample) => Some("sample"),
                Verdict::Wait(Waiting::Time) => Some("time"),
                Verdict::Wait(Waiting::Margin) => Some("margin"),
                Verdict::Advance(_) | Verdict::RollBack(_) => None,
            },
        }
    }
}

/// What the gates of a canary or an A/B test go by, as it was asked for.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = CanaryPlan)]
pub struct PlanReport {
    /// Subjects with a known outcome that a step needs in each arm.
    sample_min: u64,
    /// Seconds that a step takes at least.
    step_seconds_min: u64,
    /// The probability that a candidate which is no worse is rolled back, at most.
    false_alarm: f64,
    /// How much larger the candidate's share of failed answers may be.
    tolerance_errors: f64,
    /// How much larger its share of slow answers may be.
    tolerance_latency: f64,
    /// How much larger its loss may be.
    tolerance_loss: f64,
    /// The last step is taken only once it is certain that the loss is not larger by so much.
    #[serde(skip_serializing_if = "Option::is_none")]
    loss_margin: Option<f64>,
    /// Milliseconds above which an answer is slow.
    slow_ms: u64,
}

impl PlanReport {
    /// Of a plan whose answers are slow above so many milliseconds.
    #[must_use]
    pub fn of(plan: &Plan, slow_ms: u64) -> Self {
        Self {
            sample_min: plan.sample_min,
            step_seconds_min: plan.step_seconds_min,
            false_alarm: plan.false_alarm,
            tolerance_errors: plan.tolerance_errors,
            tolerance_latency: plan.tolerance_latency,
            tolerance_loss: plan.tolerance_loss,
            loss_margin: plan.loss_margin,
            slow_ms,
        }
    }
}
