//! `rollout`: canaries of recommendations and of versions of models. One more: its flags here, its work in
//! `commands::rollout`.

use clap::{Args, Subcommand, ValueEnum};

use super::AtServer;

/// `rollout`
#[derive(Debug, Subcommand)]
pub(crate) enum Rollout {
    /// Begin a canary against what is served now
    Canary(Box<Canary>),
    /// Give the candidate of an A/B test, or of a shadow, to everyone
    Promote(End),
    /// Print the canaries, newest first, with what the gates say and what was decided on what evidence
    Status(Of),
    /// Give the candidate of a canary to nobody any more
    Rollback(End),
}

impl Rollout {
    /// The model whose versions are meant; none for recommendations.
    pub(crate) fn model(&self) -> Option<&str> {
        match self {
            Self::Canary(asked) => match &asked.service {
                Service::Recommend => None,
                Service::Model(name) => Some(name),
            },
            Self::Promote(asked) | Self::Rollback(asked) => asked.of.model.as_deref(),
            Self::Status(of) => of.model.as_deref(),
        }
    }

    pub(super) fn at(&self) -> &AtServer {
        match self {
            Self::Canary(asked) => &asked.at,
            Self::Promote(asked) | Self::Rollback(asked) => &asked.of.at,
            Self::Status(asked) => &asked.at,
        }
    }
}

/// Whose canaries are meant.
#[derive(Debug, Args)]
pub(crate) struct Of {
    /// Those of versions of this registered model; those of recommendations where missing
    #[arg(long, value_name = "NAME")]
    pub model: Option<String>,
    #[command(flatten)]
    pub at: AtServer,
}

/// `rollout promote` and `rollback`
#[derive(Debug, Args)]
pub(crate) struct End {
    /// The canary, or its number where it is of a model; the one that began last where missing
    pub name: Option<String>,
    /// Why, for the audit
    #[arg(long, value_name = "TEXT", default_value = "")]
    pub reason: String,
    #[command(flatten)]
    pub of: Of,
}

/// What counts as a loss of a model's answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Outcome {
    /// How far a kept prediction is from its truth
    Truth,
    /// That the answer failed
    Answer,
}

const CANARY_HELP: &str = "\
watershed rollout canary recommend collaborative --steps 10,25,50,100
watershed rollout canary models/churn 2 --steps 10,50,100 --server http://localhost:8080

Versions of a model are tried by the server that answers for it: name that with --server.";

/// `rollout canary`
#[derive(Debug, Args)]
#[command(after_long_help = CANARY_HELP)]
pub(crate) struct Canary {
    /// What answers: recommend, or models/NAME for the registered model NAME
    #[arg(value_name = "SERVICE")]
    pub service: Service,
    /// What is tried: an algorithm, such as collaborative; or a version of the model, by number or alias
    #[arg(value_name = "CANDIDATE")]
    pub candidate: String,
    /// An A/B test: it stays at the first step until an operator ends it
    #[arg(long)]
    pub ab: bool,
    /// Of a model: the version is asked too, and never heard, until an operator ends it
    #[arg(long, conflicts_with = "ab")]
    pub shadow: bool,
    /// Percent of the users at each step; 10,25,50,100 where missing, 50,100 of an A/B test and 100 of a shadow
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    pub steps: Option<Vec<u8>>,
    /// Of recommendations: its name; made where missing
    #[arg(long)]
    pub name: Option<String>,
    /// Of recommendations: the share of collaborative sources, for hybrid
    #[arg(long, value_name = "SHARE", value_parser = finite)]
    pub collaborative_weight: Option<f64>,
    /// Of recommendations: how much variety counts against score
    #[arg(long, value_name = "SHARE", value_parser = finite)]
    pub diversity: Option<f64>,
    /// Users with a known outcome that a step needs in each arm
    #[arg(long, value_name = "COUNT", default_value_t = 100)]
    pub sample_min: u64,
    /// Seconds that a step takes at least
    #[arg(long, value_name = "SECONDS", default_value_t = 3_600)]
    pub step_seconds_min: u64,
    /// Of recommendations: seconds within which something that was shown must be chosen to count; 86400 where missing
    #[arg(long, value_name = "SECONDS")]
    pub outcome_window_seconds: Option<u64>,
    /// Milliseconds above which an answer is slow; 100 where missing, 120 of a model
    #[arg(long, value_name = "MILLISECONDS")]
    pub slow_ms: Option<u64>,
    /// Of a model: what a loss is; truth where missing
    #[arg(long, value_name = "NAME")]
    pub outcome: Option<Outcome>,
    /// Of a model: the output whose loss counts; the first by name where missing
    #[arg(long, value_name = "NAME")]
    pub output: Option<String>,
    /// Of a model: an absolute error of so much or more counts as a whole loss; 1 where missing
    #[arg(long, value_name = "ERROR", value_parser = finite)]
    pub loss_scale: Option<f64>,
    #[command(flatten)]
    pub at: AtServer,
}

/// What answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Service {
    /// Recommendations.
    Recommend,
    /// This registered model.
    Model(String),
}

impl std::str::FromStr for Service {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match (text, text.strip_prefix("models/")) {
            ("recommend", _) => Ok(Self::Recommend),
            (_, Some(name)) if !name.is_empty() => Ok(Self::Model(name.to_owned())),
            _ => Err("a service is recommend, or models/NAME for a registered model".to_owned()),
        }
    }
}

/// A number that JSON has: `NaN` would go to the server as what was not said.
fn finite(text: &str) -> Result<f64, String> {
    text.parse()
        .ok()
        .filter(|number: &f64| number.is_finite())
        .ok_or_else(|| "must be a finite number".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_finite() {
        assert_eq!(finite("0.5"), Ok(0.5));
        for text in ["NaN", "inf", "-inf", "1e999", "half", ""] {
            assert!(finite(text).is_err(), "{text}");
        }
    }
}
