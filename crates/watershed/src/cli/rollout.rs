//! `rollout`: canaries. One more: its flags here, its work in `commands::rollout`.

use clap::{Args, Subcommand};

/// `rollout`
#[derive(Debug, Subcommand)]
pub(crate) enum Rollout {
    /// Begin a canary against what is served now
    Canary(Canary),
    /// Give the candidate of an A/B test to everyone
    Promote {
        /// The A/B test; the one that began last where missing
        name: Option<String>,
        /// Why, for the audit
        #[arg(long, value_name = "TEXT", default_value = "")]
        reason: String,
    },
    /// Print the canaries, newest first, with what the gates say and what was decided on what evidence
    Status,
    /// Give the candidate of a canary to nobody any more
    Rollback {
        /// The canary; the one that began last where missing
        name: Option<String>,
        /// Why, for the audit
        #[arg(long, value_name = "TEXT", default_value = "")]
        reason: String,
    },
}

/// `rollout canary`
#[derive(Debug, Args)]
pub(crate) struct Canary {
    /// What answers
    #[arg(value_name = "SERVICE", value_parser = ["recommend"])]
    pub service: String,
    /// The algorithm that is tried, such as collaborative
    #[arg(value_name = "ALGORITHM")]
    pub algorithm: String,
    /// An A/B test: it stays at the first step until an operator ends it
    #[arg(long)]
    pub ab: bool,
    /// Percent of the users at each step; 10,25,50,100 where missing, and 50,100 of an A/B test
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    pub steps: Option<Vec<u8>>,
    /// Its name; made where missing
    #[arg(long)]
    pub name: Option<String>,
    /// The share of collaborative sources, for hybrid
    #[arg(long, value_name = "SHARE")]
    pub collaborative_weight: Option<f64>,
    /// How much variety counts against score
    #[arg(long, value_name = "SHARE")]
    pub diversity: Option<f64>,
    /// Users with a known outcome that a step needs in each arm
    #[arg(long, value_name = "COUNT", default_value_t = 100)]
    pub sample_min: u64,
    /// Seconds that a step takes at least
    #[arg(long, value_name = "SECONDS", default_value_t = 3_600)]
    pub step_seconds_min: u64,
    /// Seconds within which something that was shown must be chosen to count
    #[arg(long, value_name = "SECONDS", default_value_t = 86_400)]
    pub outcome_window_seconds: u64,
    /// Milliseconds above which an answer is slow
    #[arg(long, value_name = "MILLISECONDS", default_value_t = 100)]
    pub slow_ms: u64,
}
