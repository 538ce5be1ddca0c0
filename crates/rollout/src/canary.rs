//! A canary: a candidate gets more and more of the subjects, one step after the other, and goes back by itself where it is
//! worse.
//!
//! A [`Plan`] says the steps and the gates; [`Plan::read`] reads the gates and says what to do. It never skips a step, never
//! goes on below the minimum of sample and time, and rolls back from any step. What it saw is kept with what it decided.
//!
//! Three gates ask the same question of three shares: whether the candidate's errors, its slow answers, or its loss (what a
//! subject did not take up) are more than the control's. Each is a one-sided test that holds at every look
//! ([`crate::sequential`]), at a third of the plan's level: a candidate that is no worse is rolled back with at most that
//! probability over the whole rollout, however often the gates are read, where subjects that come at later steps are like those
//! that came at first. Steps have different shares and are pooled: where later subjects lose more, whatever they are given, the
//! candidate, which has more of them, looks worse than it is.
//!
//! An observation is a subject's first answer in the canary, whichever arm that is in. A subject that moves into the candidate
//! counts for the sample of its step and for no gate: it saw the control before, as no subject of the control did, and what
//! it does hangs together with what it did.
//!
//! It refuses to keep state: the domain folds what was decided, and asks again.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::sequential::{Evidence, Interval, against_no_worse, difference_interval};
use crate::{Invalid, Tally, require};

/// Steps a plan may have.
const STEPS_MAX: usize = 20;

/// What is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Gate {
    /// Answers that failed.
    Errors,
    /// Answers that took too long.
    Latency,
    /// Answers that were not taken up.
    Loss,
}

impl Gate {
    /// Every gate.
    pub const ALL: [Self; 3] = [Self::Errors, Self::Latency, Self::Loss];

    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Errors => "errors",
            Self::Latency => "latency",
            Self::Loss => "loss",
        }
    }
}

/// One of two arms.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Arm {
    /// What was served before.
    Control,
    /// What is tried.
    Candidate,
}

impl Arm {
    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Control => "control",
            Self::Candidate => "candidate",
        }
    }
}

/// How a canary goes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// Percent of the subjects at each step, rising; the last is 100.
    pub steps_percent: Vec<u8>,
    /// Subjects whose outcome is known that each arm needs, the candidate since the step began, before the next.
    pub sample_min: u64,
    /// Seconds that a step takes at least.
    pub step_seconds_min: u64,
    /// The probability that a candidate which is no worse is rolled back, at most.
    pub false_alarm: f64,
    /// How much larger the candidate's share of failed answers may be.
    pub tolerance_errors: f64,
    /// How much larger its share of slow answers may be.
    pub tolerance_latency: f64,
    /// How much larger its share of answers that are not taken up may be.
    pub tolerance_loss: f64,
    /// Where given, the last step is taken only once the interval of the difference in loss lies below it.
    pub loss_margin: Option<f64>,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            steps_percent: vec![10, 25, 50, 100],
            sample_min: 100,
            step_seconds_min: 3_600,
            false_alarm: 0.05,
            tolerance_errors: 0.0,
            tolerance_latency: 0.0,
            tolerance_loss: 0.0,
            loss_margin: None,
        }
    }
}

/// What was seen of one arm.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Failed answers among all.
    pub errors: Tally,
    /// Slow answers among all.
    pub latency: Tally,
    /// Answers that were not taken up, among those whose time to be is over.
    pub loss: Tally,
}

impl Counts {
    /// The tally of a gate.
    #[must_use]
    pub fn of(&self, gate: Gate) -> Tally {
        match gate {
            Gate::Errors => self.errors,
            Gate::Latency => self.latency,
            Gate::Loss => self.loss,
        }
    }

    /// Adds the counts of another.
    pub fn merge(&mut self, other: &Self) {
        self.errors.merge(other.errors);
        self.latency.merge(other.latency);
        self.loss.merge(other.loss);
    }
}

/// What was seen.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    /// Of the control.
    pub control: Counts,
    /// Of the candidate.
    pub candidate: Counts,
    /// Subjects of the candidate with a known outcome since the step began, those among them that moved into it.
    pub since_step: u64,
    /// Seconds since the step began.
    pub step_seconds: u64,
}

/// A gate as it was read.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GateReading {
    /// Which.
    pub gate: Gate,
    /// The control's share.
    pub control: Tally,
    /// The candidate's.
    pub candidate: Tally,
    /// How much larger it may be.
    pub tolerance: f64,
    /// The logarithm of the e-value against the candidate being no worse.
    pub log_evidence: f64,
    /// The same as an always-valid p-value.
    pub p_value: f64,
    /// The gate closes at or below this p-value.
    pub level: f64,
    /// Where the candidate's share less the control's lies, at every look: above the tolerance where the gate is closed, and
    /// only there.
    pub difference: Interval,
    /// Whether the gate is closed.
    pub closed: bool,
}

impl fmt::Display for GateReading {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "{}: candidate {:.4} of {}, control {:.4} of {}; difference {:.4} to {:.4}; p {:.2e}, level {:.2e}",
            self.gate.name(),
            self.candidate.mean(),
            self.candidate.count,
            self.control.mean(),
            self.control.count,
            self.difference.lower,
            self.difference.upper,
            self.p_value,
            self.level
        )
    }
}

/// What a canary waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Waiting {
    /// More subjects.
    Sample,
    /// The step's time.
    Time,
    /// The interval of the difference in loss still reaches the margin.
    Margin,
}

/// What to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Nothing yet.
    Wait(Waiting),
    /// Give the candidate to so many percent.
    Advance(u8),
    /// Give it to nobody.
    RollBack(Gate),
}

/// The gates as they were read, and what to do.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Reading {
    /// Percent of the subjects that had the candidate.
    pub percent: u8,
    /// See [`Seen::since_step`].
    pub since_step: u64,
    /// See [`Seen::step_seconds`].
    pub step_seconds: u64,
    /// Each gate.
    pub gates: Vec<GateReading>,
    /// What to do.
    pub verdict: Verdict,
}

impl Plan {
    /// Passes when the plan makes sense.
    ///
    /// # Errors
    /// The setting that does not.
    pub fn validate(&self) -> Result<(), Invalid> {
        let steps = &self.steps_percent;
        let rises = steps.windows(2).all(|pair| pair[0] < pair[1]);
        require(
            rises && steps.first().is_some_and(|first| *first > 0) && steps.last() == Some(&100),
            "steps_percent",
            "must rise from above 0 to 100",
        )?;
        require(steps.len() <= STEPS_MAX, "steps_percent", "has at most 20 steps")?;
        require(self.sample_min >= 1, "sample_min", "must be at least 1")?;
        require((1e-6..=0.5).contains(&self.false_alarm), "false_alarm", "must be between 0.000001 and 0.5")?;
        let share = 0.0..1.0;
        require(
            share.contains(&self.tolerance_errors),
            "tolerance_errors",
            "must be at least 0 and below 1",
        )?;
        require(
            share.contains(&self.tolerance_latency),
            "tolerance_latency",
            "must be at least 0 and below 1",
        )?;
        require(share.contains(&self.tolerance_loss), "tolerance_loss", "must be at least 0 and below 1")?;
        let margin = self.loss_margin.is_none_or(|margin| margin > 0.0 && margin <= 1.0);
        require(margin, "loss_margin", "must be above 0 and at most 1")
    }

    /// Percent at the first step.
    #[must_use]
    pub fn first_percent(&self) -> u8 {
        self.steps_percent.first().copied().unwrap_or(100)
    }

    /// Percent at the step after `percent`; none at the last.
    #[must_use]
    pub fn next_percent(&self, percent: u8) -> Option<u8> {
        self.steps_percent.iter().copied().find(|step| *step > percent)
    }

    /// Reads the gates at a step that is not the last.
    #[must_use]
    pub fn read(&self, percent: u8, seen: &Seen) -> Reading {
        let gates: Vec<GateReading> = Gate::ALL.iter().map(|gate| self.read_gate(*gate, seen)).collect();
        let verdict = match gates.iter().find(|gate| gate.closed) {
            Some(closed) => Verdict::RollBack(closed.gate),
            None => self.go_on(percent, seen, &gates),
        };
        Reading { percent, since_step: seen.since_step, step_seconds: seen.step_seconds, gates, verdict }
    }

    fn read_gate(&self, gate: Gate, seen: &Seen) -> GateReading {
        let (control, candidate) = (seen.control.of(gate), seen.candidate.of(gate));
        let tolerance = match gate {
            Gate::Errors => self.tolerance_errors,
            Gate::Latency => self.tolerance_latency,
            Gate::Loss => self.tolerance_loss,
        };
        // Bonferroni: the gates look at the same subjects.
        let level = self.false_alarm / Gate::ALL.len() as f64;
        let evidence: Evidence = against_no_worse(control, candidate, tolerance);
        GateReading {
            gate,
            control,
            candidate,
            tolerance,
            log_evidence: evidence.0,
            p_value: evidence.p_value(),
            level,
            difference: difference_interval(control, candidate, level),
            closed: evidence.rejects(level),
        }
    }

    /// What a canary that was read so waits for, and how far that is; none where it does not wait.
    #[must_use]
    pub fn wait_reason(&self, reading: &Reading) -> Option<String> {
        let Verdict::Wait(waiting) = reading.verdict else { return None };
        let loss = reading.gates.iter().find(|read| read.gate == Gate::Loss);
        Some(match waiting {
            Waiting::Sample => format!(
                "the sample: {1} of {0} with a known outcome of the candidate since the step began, {2} of {0} of the control",
                self.sample_min,
                reading.since_step,
                loss.map_or(0, |read| read.control.count)
            ),
            Waiting::Time => {
                format!("the time: {} of {} seconds of the step", reading.step_seconds, self.step_seconds_min)
            }
            Waiting::Margin => format!(
                "the margin: the difference in loss may be {:.4}, and must be below {:.4} for certain",
                loss.map_or(1.0, |read| read.difference.upper),
                self.loss_margin.unwrap_or(1.0)
            ),
        })
    }

    fn go_on(&self, percent: u8, seen: &Seen, gates: &[GateReading]) -> Verdict {
        if seen.since_step < self.sample_min || seen.control.loss.count < self.sample_min {
            return Verdict::Wait(Waiting::Sample);
        }
        if seen.step_seconds < self.step_seconds_min {
            return Verdict::Wait(Waiting::Time);
        }
        let next = self.next_percent(percent).unwrap_or(100);
        let reaches =
            |margin: f64| gates.iter().any(|gate| gate.gate == Gate::Loss && gate.difference.upper >= margin);
        if next == 100 && self.loss_margin.is_some_and(reaches) {
            return Verdict::Wait(Waiting::Margin);
        }
        Verdict::Advance(next)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;
    use crate::assignment::is_candidate;

    fn counts(count: u64, lost: u64) -> Counts {
        Counts { errors: Tally::of(0, count), latency: Tally::of(0, count), loss: Tally::of(lost, count) }
    }

    #[test]
    fn plans_are_checked() {
        let check = |change: fn(&mut Plan), field: &str| {
            let mut plan = Plan::default();
            assert_eq!(plan.validate(), Ok(()));
            change(&mut plan);
            assert_eq!(plan.validate().unwrap_err().field, field);
        };
        check(|plan| plan.steps_percent = vec![], "steps_percent");
        check(|plan| plan.steps_percent = vec![10, 50], "steps_percent");
        check(|plan| plan.steps_percent = vec![0, 100], "steps_percent");
        check(|plan| plan.steps_percent = vec![50, 25, 100], "steps_percent");
        check(|plan| plan.sample_min = 0, "sample_min");
        check(|plan| plan.false_alarm = f64::NAN, "false_alarm");
        check(|plan| plan.tolerance_loss = 1.0, "tolerance_loss");
        check(|plan| plan.tolerance_errors = f64::NAN, "tolerance_errors");
        check(|plan| plan.loss_margin = Some(0.0), "loss_margin");
    }

    #[test]
    fn what_it_waits_for_is_said_in_words() {
        let plan = Plan { sample_min: 50, step_seconds_min: 60, loss_margin: Some(0.05), ..Plan::default() };
        let (control, candidate) = (counts(450, 315), counts(50, 34));
        let check = |percent, since_step, step_seconds, expected: Option<&str>| {
            let reading = plan.read(percent, &Seen { control, candidate, since_step, step_seconds });
            let said = plan.wait_reason(&reading);
            assert_eq!(said.is_some(), expected.is_some(), "{said:?}");
            assert!(said.unwrap_or_default().starts_with(expected.unwrap_or_default()), "{reading:?}");
        };
        check(
            10,
            49,
            0,
            Some(
                "the sample: 49 of 50 with a known outcome of the candidate since the step began, 450 of 50",
            ),
        );
        check(10, 50, 59, Some("the time: 59 of 60 seconds"));
        check(50, 50, 60, Some("the margin: the difference in loss may be 0."));
        check(10, 50, 60, None);
    }

    #[test]
    fn a_step_needs_its_sample_its_time_and_open_gates() {
        let plan = Plan { sample_min: 50, step_seconds_min: 60, ..Plan::default() };
        let good =
            Seen { control: counts(450, 315), candidate: counts(50, 34), since_step: 50, step_seconds: 60 };
        let check = |seen: Seen, expected: Verdict| assert_eq!(plan.read(10, &seen).verdict, expected);
        check(good, Verdict::Advance(25));
        check(Seen { since_step: 49, ..good }, Verdict::Wait(Waiting::Sample));
        check(Seen { step_seconds: 59, ..good }, Verdict::Wait(Waiting::Time));
        check(Seen { control: counts(49, 34), ..good }, Verdict::Wait(Waiting::Sample));
        check(Seen { candidate: counts(50, 50), since_step: 1, ..good }, Verdict::RollBack(Gate::Loss));
        let failing = Counts { errors: Tally::of(25, 50), ..good.candidate };
        check(Seen { candidate: failing, ..good }, Verdict::RollBack(Gate::Errors));
        let slow = Counts { latency: Tally::of(25, 50), ..good.candidate };
        check(Seen { candidate: slow, ..good }, Verdict::RollBack(Gate::Latency));
        assert_eq!(plan.read(50, &good).verdict, Verdict::Advance(100));
        let strict = Plan { loss_margin: Some(0.05), ..plan.clone() };
        assert_eq!(strict.read(50, &good).verdict, Verdict::Wait(Waiting::Margin));
        assert_eq!(strict.read(25, &good).verdict, Verdict::Advance(50));
        assert_eq!(plan.read(10, &Seen::default()).verdict, Verdict::Wait(Waiting::Sample));
    }

    /// A whole rollout: people with tastes of their own come again and again, and their first page is observed; the gates are
    /// read after every fifth. Returns the percent that was reached, none where it was rolled back.
    fn rollout(seed: u64, harm: f64) -> Option<u8> {
        let plan = Plan { sample_min: 100, step_seconds_min: 0, false_alarm: 0.1, ..Plan::default() };
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let losses: Vec<f64> = (0..2_000).map(|_| random.random::<f64>()).collect();
        let (mut percent, mut seen) = (plan.first_percent(), Seen::default());
        let mut observed = vec![[false; 2]; losses.len()];
        let key = seed.to_string();
        for _ in 0..6_000 {
            let person = random.random_range(0..losses.len());
            let arm = usize::from(is_candidate(&key, &person.to_string(), percent));
            if std::mem::replace(&mut observed[person][arm], true) {
                continue;
            }
            seen.since_step += arm as u64;
            if observed[person] == [true; 2] {
                continue;
            }
            let loss = losses[person] + harm * arm as f64;
            let is_lost = random.random::<f64>() < loss;
            let counts = if arm == 1 { &mut seen.candidate } else { &mut seen.control };
            counts.merge(&super::tests::counts(1, u64::from(is_lost)));
            if !(seen.control.loss.count + seen.candidate.loss.count).is_multiple_of(5) {
                continue;
            }
            match plan.read(percent, &seen).verdict {
                Verdict::RollBack(_) => return None,
                Verdict::Advance(100) => return Some(100),
                Verdict::Advance(next) => (percent, seen.since_step) = (next, 0),
                Verdict::Wait(_) => {}
            }
        }
        Some(percent)
    }

    #[test]
    fn whole_rollouts_keep_the_level_also_where_people_move_between_arms() {
        let runs: Vec<Option<u8>> = (0..80).map(|seed| rollout(seed, 0.0)).collect();
        let rolled_back = runs.iter().filter(|end| end.is_none()).count();
        let complete = runs.iter().filter(|end| **end == Some(100)).count();
        assert!(rolled_back <= 8 && complete >= 70, "{rolled_back} {complete}");
    }

    #[test]
    fn a_bad_candidate_does_not_arrive() {
        let arrived = (0..20).filter(|seed| rollout(*seed, 0.45).is_some()).count();
        assert_eq!(arrived, 0);
    }

    proptest! {
        #[test]
        fn no_step_is_skipped(
            steps in proptest::collection::btree_set(1..100_u8, 0..10),
            looks in proptest::collection::vec((0..400_u64, 0..400_u64, 0..400_u64, 0..400_u64), 1..40),
            tolerance in prop_oneof![Just(0.0), 0.0..0.5_f64],
        ) {
            let mut steps: Vec<u8> = steps.into_iter().collect();
            steps.push(100);
            let plan = Plan {
                steps_percent: steps.clone(), sample_min: 20, step_seconds_min: 0, tolerance_loss: tolerance, ..Plan::default()
            };
            prop_assert_eq!(plan.validate(), Ok(()));
            let mut at = 0;
            for (count, lost, others, others_lost) in looks {
                let seen = Seen {
                    control: counts(others, others_lost), candidate: counts(count, lost), since_step: count, step_seconds: 0,
                };
                let reading = plan.read(steps[at], &seen);
                for gate in &reading.gates {
                    let above = gate.difference.lower - gate.tolerance;
                    prop_assert!(if gate.closed { above > -1e-9 } else { above <= 1e-9 }, "{}", gate);
                }
                match reading.verdict {
                    Verdict::Advance(percent) => {
                        prop_assert!(count >= 20 && others >= 20 && reading.gates.iter().all(|gate| !gate.closed));
                        prop_assert_eq!(Some(&percent), steps.get(at + 1).or_else(|| steps.last()));
                        at = (at + 1).min(steps.len() - 1);
                    }
                    Verdict::RollBack(gate) => {
                        let found = reading.gates.iter().find(|found| found.gate == gate).unwrap();
                        prop_assert!(found.closed && found.p_value <= found.level);
                    }
                    Verdict::Wait(_) => {}
                }
            }
        }

        #[test]
        fn a_reading_survives_being_stored(count in 0..99_u64, lost in 0..99_u64) {
            let seen = Seen { control: counts(99, 9), candidate: counts(count, lost), ..Seen::default() };
            let reading = Plan::default().read(10, &seen);
            let text = serde_json::to_string(&reading).unwrap();
            prop_assert_eq!(serde_json::from_str::<Reading>(&text).unwrap(), reading);
        }
    }
}
