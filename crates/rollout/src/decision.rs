//! What becomes of a canary or an A/B test after its gates were read.
//!
//! It refuses to promote an A/B test, or to take one back on its outcome: that is for people to decide.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::canary::{Gate, Reading, Verdict};

/// Who ends it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = CanaryMode)]
pub enum Mode {
    /// The gates: one step after the other, and back.
    #[default]
    Canary,
    /// An operator: an A/B test, which stays at its first step. The gates of errors and latency still take it back.
    Ab,
}

/// How far a canary is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = CanaryStage)]
pub enum Stage {
    /// Some get the candidate.
    Running,
    /// All do.
    Complete,
    /// None does.
    RolledBack,
}

impl Stage {
    /// A decision by what it led to.
    #[must_use]
    pub fn decided(self) -> &'static str {
        match self {
            Self::Running => "advanced",
            Self::Complete => "completed",
            Self::RolledBack => "rolled_back",
        }
    }
}

/// Where a canary goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// How far it is from now on.
    pub stage: Stage,
    /// Percent that get the candidate from now on.
    pub percent: u8,
    /// Why, in words.
    pub reason: String,
}

/// What a reading of a running canary decides; none where it waits.
#[must_use]
pub fn decide(mode: Mode, reading: &Reading) -> Option<Decision> {
    let is_test = mode == Mode::Ab;
    let (stage, percent) = match reading.verdict {
        Verdict::Wait(_) => return None,
        Verdict::Advance(_) | Verdict::RollBack(Gate::Loss) if is_test => return None,
        Verdict::Advance(100) => (Stage::Complete, 100),
        Verdict::Advance(percent) => (Stage::Running, percent),
        Verdict::RollBack(_) => (Stage::RolledBack, 0),
    };
    let said = |gate| reading.gates.iter().find(|read| read.gate == gate).map(ToString::to_string);
    let reason = match reading.verdict {
        Verdict::RollBack(gate) => said(gate).unwrap_or_default(),
        _ => {
            let loss = said(Gate::Loss).unwrap_or_default();
            format!("no gate closed on {} of the candidate; {loss}", reading.since_step)
        }
    };
    Some(Decision { stage, percent, reason })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Tally;
    use crate::canary::{Counts, Plan, Seen};

    #[test]
    fn gates_move_a_canary_and_people_end_a_test() {
        let plan = Plan { step_seconds_min: 0, ..Plan::default() };
        let counts = |loss: u64| Counts { loss: Tally::of(loss, 400), ..Counts::default() };
        let read = |percent, candidate: Counts| {
            let seen = Seen { control: counts(40), candidate, since_step: 400, step_seconds: 1 };
            plan.read(percent, &seen)
        };
        let check = |mode, reading: &Reading, expected: Option<(Stage, u8)>| {
            let decided = decide(mode, reading);
            assert_eq!(decided.as_ref().map(|one| (one.stage, one.percent)), expected, "{decided:?}");
        };
        let (good, last, bad) = (read(10, counts(40)), read(50, counts(40)), read(10, counts(200)));
        check(Mode::Canary, &good, Some((Stage::Running, 25)));
        check(Mode::Canary, &last, Some((Stage::Complete, 100)));
        check(Mode::Canary, &bad, Some((Stage::RolledBack, 0)));
        [&good, &last, &bad].into_iter().for_each(|reading| check(Mode::Ab, reading, None));
        let failing = |errors| Counts { errors: Tally::of(errors, 400), ..counts(40) };
        let seen = Seen { control: failing(0), candidate: failing(300), since_step: 400, step_seconds: 1 };
        check(Mode::Ab, &plan.read(50, &seen), Some((Stage::RolledBack, 0)));
        assert!(decide(Mode::Canary, &bad).unwrap().reason.starts_with("loss: candidate 0.5000 of 400"));
    }
}
