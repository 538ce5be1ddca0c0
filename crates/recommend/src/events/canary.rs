//! Events about canaries. The server alone makes them; their place in the log is their order, so those of a tenant share one
//! partition, but for what was shown.

use kernel::Id;
use rollout::canary::{Arm, Plan, Reading};
pub use rollout::decision::{Mode, Stage};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::EntityName;

/// How an arm answers requests that name no algorithm, no weights and no diversity of their own. What is missing is as
/// without a canary.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ArmSettings {
    /// The name of the algorithm.
    #[serde(default)]
    pub algorithm: Option<String>,
    /// The share of collaborative sources in a hybrid, 0 to 1.
    #[serde(default)]
    pub collaborative_weight: Option<f64>,
    /// How much variety counts against score, 0 to 1.
    #[serde(default)]
    pub diversity: Option<f64>,
}

/// A canary began.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CanaryStarted {
    /// Its name, unique within the tenant.
    pub canary: String,
    /// Who ends it.
    pub mode: Mode,
    /// What users are assigned by: another canary cuts them otherwise.
    pub key: String,
    /// What was served before.
    pub control: ArmSettings,
    /// What is tried.
    pub candidate: ArmSettings,
    /// Its steps and gates.
    pub plan: Plan,
    /// Seconds within which something that was shown must be chosen to count.
    pub outcome_window_seconds: u64,
    /// Milliseconds above which an answer is slow.
    pub slow_ms: u64,
}

/// A user was answered for the first time in an arm.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CanaryShown {
    /// The canary.
    pub canary: String,
    /// Who.
    pub user_id: Id,
    /// In which arm.
    pub arm: Arm,
    /// What was shown.
    pub entities: Vec<EntityName>,
    /// The answer failed, or was empty.
    pub failed: bool,
    /// The answer took longer than the canary allows.
    pub slow: bool,
}

/// A canary went on or back.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CanaryDecided {
    /// The canary.
    pub canary: String,
    /// 1 for its first decision.
    pub sequence: u64,
    /// How far it is from now on.
    pub stage: Stage,
    /// Percent of the users that get the candidate from now on.
    pub percent: u8,
    /// Who decided, where it was not the gates.
    pub actor: Option<String>,
    /// Why, in words.
    pub reason: String,
    /// What it rests on; none where what was seen is gone already.
    pub reading: Option<Reading>,
}
