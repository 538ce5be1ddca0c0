//! `promote`, `rollback`, `history`, `cleanup-artifacts`, with the flags of the ML platform's scripts. One more: its flags
//! here, its work in `commands::models`.

use clap::Args;

use super::AtServer;

/// `promote`
#[derive(Debug, Args)]
pub(crate) struct Promote {
    /// The registered model; `curve_v2` is version 2 of `curve` where no model is called so
    #[arg(long, value_name = "NAME")]
    pub model: String,
    /// The version; where neither it nor a run is given, the canary, else the newest
    #[arg(long, value_name = "NUMBER", conflicts_with = "run_id")]
    pub version: Option<u64>,
    /// The newest version that came from this run
    #[arg(long, value_name = "ID")]
    pub run_id: Option<String>,
    /// Production (the alias champion) or Staging (canary)
    #[arg(long, default_value = "Production", value_name = "STAGE", conflicts_with = "alias")]
    pub stage: String,
    /// Move this alias, such as shadow, in place of a stage's
    #[arg(long, value_name = "NAME")]
    pub alias: Option<String>,
    /// Do nothing unless the alias points at this version now; 0 for none
    #[arg(long, value_name = "NUMBER")]
    pub expect: Option<u64>,
    /// Why, for the history
    #[arg(long, value_name = "TEXT", default_value = "")]
    pub reason: String,
    #[command(flatten)]
    pub at: AtServer,
}

/// `rollback`
#[derive(Debug, Args)]
pub(crate) struct Rollback {
    /// The registered model
    #[arg(long, value_name = "NAME")]
    pub model: String,
    /// The alias that goes back
    #[arg(long, value_name = "NAME", default_value = "champion")]
    pub alias: String,
    /// Why, for the history
    #[arg(long, value_name = "TEXT", default_value = "")]
    pub reason: String,
    #[command(flatten)]
    pub at: AtServer,
}

/// `history`
#[derive(Debug, Args)]
pub(crate) struct History {
    /// The registered model
    #[arg(long, value_name = "NAME")]
    pub model: String,
    /// How many, from the newest
    #[arg(long, default_value_t = 20)]
    pub count: usize,
    #[command(flatten)]
    pub at: AtServer,
}

/// `cleanup-artifacts`
#[derive(Debug, Args)]
pub(crate) struct CleanupArtifacts {
    /// Leave what is younger than so many days
    #[arg(long, value_name = "DAYS", default_value_t = 30)]
    pub days: u32,
    /// Print what would be removed, and remove nothing
    #[arg(long)]
    pub dry_run: bool,
    #[command(flatten)]
    pub at: AtServer,
}
