//! What training tells: how far it is, and what came of it.

use std::fmt;

use serde::Serialize;

/// How far training is.
#[derive(Debug, Clone, PartialEq)]
pub struct TrainingProgress {
    /// What is being trained.
    pub step: String,
    /// How far that is, 0 to 1.
    pub done: f32,
}

impl fmt::Display for TrainingProgress {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} {:.0} %", self.step, self.done * 100.0)
    }
}

/// What came of a training.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct TrainingReport {
    /// The version of the model; 0 before it is published.
    pub version: u64,
    /// Users with at least one choice.
    pub users: usize,
    /// Items.
    pub items: usize,
    /// Choices.
    pub interactions: usize,
    /// Users whose latest choice was held out.
    pub held_out_users: usize,
    /// Each part, then the hybrid.
    pub parts: Vec<PartReport>,
}

/// One part of a model.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PartReport {
    /// Its name.
    pub name: String,
    /// Seconds that its training took.
    pub fit_seconds: f64,
    /// NDCG@10 of the held-out choices, against the whole catalogue.
    pub ndcg_at_10: f64,
    /// The share of held-out choices among the first ten.
    pub hit_rate_at_10: f64,
    /// Its weight in the blend for the longest histories.
    pub weight: f32,
}

impl fmt::Display for TrainingReport {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            formatter,
            "Model version {}: {} users, {} items, {} choices. The latest choice of {} users was held out to learn \
             the blend. What each reaches on those choices follows; the hybrid's figures are flattered, as its blend was \
             learned on the same ones: `watershed evaluate` measures on others.",
            self.version, self.users, self.items, self.interactions, self.held_out_users
        )?;
        write!(
            formatter,
            "  {:<14} {:>9} {:>9} {:>9} {:>9}",
            "part", "ndcg@10", "hr@10", "weight", "seconds"
        )?;
        for part in &self.parts {
            write!(
                formatter,
                "\n  {:<14} {:>9.4} {:>9.4} {:>9.3} {:>9.1}",
                part.name, part.ndcg_at_10, part.hit_rate_at_10, part.weight, part.fit_seconds
            )?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_says_that_the_hybrid_is_flattered() {
        let text = TrainingReport { version: 3, held_out_users: 40, ..TrainingReport::default() }.to_string();
        for part in
            ["Model version 3", "of 40 users", "the hybrid's figures are flattered", "watershed evaluate"]
        {
            assert!(text.contains(part), "no `{part}` in {text}");
        }
    }
}
