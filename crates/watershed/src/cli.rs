//! What can be asked of the binary.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use clap_complete::Shell;
use kernel::Permission;

/// Turns streams of events into ranked decisions.
#[derive(Debug, Parser)]
#[command(name = "watershed", version, about, max_term_width = 100, after_help = AFTER_HELP)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub common: Common,
    #[command(subcommand)]
    pub command: Command,
}

const AFTER_HELP: &str = "Try it:\n  watershed demo\n\nSettings come from --config FILE (TOML), over it the \
                          environment (PORT, API_KEY, ...), over it the flags.";

/// What every command takes.
#[derive(Debug, Args)]
pub(crate) struct Common {
    /// Read settings from this TOML file
    #[arg(long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Keep everything in this folder
    #[arg(long, global = true, value_name = "FOLDER")]
    pub data_dir: Option<PathBuf>,
    /// Work for this tenant
    #[arg(long, global = true, value_name = "NAME")]
    pub tenant: Option<String>,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Serve over HTTP
    Serve(Serve),
    /// Serve a generated catalogue with users and live recommendations
    Demo(Demo),
    /// Take in a data set: MovieLens, LightGCN lists, gorse dumps, CSV, NDJSON, Parquet
    Import(Import),
    /// Train the models on what was taken in, and promote them
    Train(Train),
    /// Compare how algorithms rank held-out data
    Evaluate(Evaluate),
    /// Print recommendations for a user
    Recommend(Recommend),
    /// Make, list, rotate and revoke API keys
    #[command(subcommand)]
    Keys(Keys),
    /// Look at who changed what
    #[command(subcommand)]
    Audit(Audit),
    /// Check the data folder, the settings and the machine
    Doctor(Doctor),
    /// Print the settings that are in force, or the schema of the file
    Config(ConfigCommand),
    /// Print the OpenAPI document
    Openapi,
    /// Print a completion script for a shell
    Completions {
        /// The shell
        shell: Shell,
    },
}

/// `serve`
#[derive(Debug, Args)]
pub(crate) struct Serve {
    /// Listen on this address
    #[arg(long, value_name = "ADDRESS")]
    pub host: Option<String>,
    /// Listen on this port; 0 takes a free one
    #[arg(long, value_name = "PORT")]
    pub port: Option<u16>,
    /// Write the address that it listens on to this file, once it is ready
    #[arg(long, value_name = "FILE")]
    pub address_file: Option<PathBuf>,
}

/// `demo`
#[derive(Debug, Args)]
pub(crate) struct Demo {
    #[command(flatten)]
    pub serve: Serve,
    /// Users in the generated data
    #[arg(long, default_value_t = 1_000)]
    pub users: u32,
    /// Entities in the generated data
    #[arg(long, default_value_t = 2_000)]
    pub entities: u32,
    /// Interactions in the generated data
    #[arg(long, default_value_t = 60_000)]
    pub interactions: u64,
    /// Categories in the generated data
    #[arg(long, default_value_t = 24)]
    pub categories: u32,
    /// Seed of the generated data
    #[arg(long, default_value_t = 42)]
    pub seed: u64,
    /// Print the curl lines and leave, without serving
    #[arg(long)]
    pub prepare_only: bool,
}

/// `import`
#[derive(Debug, Args)]
pub(crate) struct Import {
    /// Files or folders
    #[arg(required = true, value_name = "PATH")]
    pub paths: Vec<PathBuf>,
    /// The format; found out from the names where missing
    #[arg(long, value_name = "NAME")]
    pub format: Option<String>,
    /// Which column is what, for CSV, NDJSON and Parquet: user_id=uid,entity_id=item,timestamp=ts:ms
    #[arg(long, value_name = "MAPPING")]
    pub map: Option<String>,
    /// Stop at the first line that cannot be used
    #[arg(long)]
    pub strict: bool,
    /// Begin again instead of going on where an earlier import of the same files was cut off
    #[arg(long)]
    pub restart: bool,
}

/// `train`
#[derive(Debug, Args)]
pub(crate) struct Train {
    /// Leave out the sequence model, which takes most of the time
    #[arg(long)]
    pub fast: bool,
}

/// `evaluate`
#[derive(Debug, Args)]
pub(crate) struct Evaluate {
    /// Evaluate on this data set instead of on what was taken in
    #[arg(long, value_name = "PATH")]
    pub data: Option<PathBuf>,
    /// The format of the data set; found out where missing
    #[arg(long, value_name = "NAME")]
    pub format: Option<String>,
    /// Which column is what, for CSV, NDJSON and Parquet
    #[arg(long, value_name = "MAPPING")]
    pub map: Option<String>,
    /// How the data are split
    #[arg(long, default_value = "last-item-out", value_name = "NAME",
          value_parser = ["last-item-out", "liang", "temporal", "given"])]
    pub protocol: String,
    /// The test part, for `given`
    #[arg(long, value_name = "PATH", required_if_eq("protocol", "given"))]
    pub test: Option<PathBuf>,
    /// The algorithms, separated by commas
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    pub algorithms: Vec<String>,
    /// Only ratings of at least this count
    #[arg(long, value_name = "VALUE")]
    pub min_rating: Option<f64>,
    /// The measures are taken at these lengths of list
    #[arg(long, value_delimiter = ',', default_values_t = [10, 20])]
    pub cutoffs: Vec<usize>,
    /// Tune each algorithm on the validation part with this many trials
    #[arg(long, default_value_t = 0, value_name = "TRIALS")]
    pub tune: usize,
    /// Rank against this many sampled negatives instead of the whole catalogue; labelled as such
    #[arg(long, value_name = "COUNT")]
    pub sampled_negatives: Option<usize>,
    /// Train the sequence model with a fifth of the effort
    #[arg(long)]
    pub light: bool,
    /// Seed of everything random
    #[arg(long, default_value_t = 42)]
    pub seed: u64,
    /// Write the results as JSON to this file
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Draw the results as SVG to this file
    #[arg(long, value_name = "FILE")]
    pub plot: Option<PathBuf>,
}

/// `recommend`
#[derive(Debug, Args)]
pub(crate) struct Recommend {
    /// The user
    pub user_id: String,
    /// How many
    #[arg(long, default_value_t = 10)]
    pub count: usize,
    /// How: hybrid, collaborative, content_based, sequence, trending, popular, latest
    #[arg(long, default_value = "hybrid")]
    pub algorithm: String,
    /// Only entities of which this CEL expression is true
    #[arg(long, value_name = "CEL")]
    pub filter: Option<String>,
    /// Tell what each recommendation rests on
    #[arg(long)]
    pub explain: bool,
}

/// `keys`
#[derive(Debug, Subcommand)]
pub(crate) enum Keys {
    /// Make a key and print it; it cannot be printed again
    Create {
        /// What it is for
        #[arg(long)]
        name: String,
        /// What it may do: read, write or admin; each includes those before it
        #[arg(long, default_value = "write")]
        permission: Permission,
        /// Days after which it stops to work; never where missing
        #[arg(long, value_name = "DAYS")]
        expires_in_days: Option<u32>,
    },
    /// Print the keys of the tenant
    List,
    /// End a key for good
    Revoke {
        /// The key's id
        id: String,
    },
    /// Give a key another secret and print it
    Rotate {
        /// The key's id
        id: String,
        /// Seconds for which the secret before still works
        #[arg(long, default_value_t = 3_600)]
        grace_secs: u64,
    },
}

/// `audit`
#[derive(Debug, Subcommand)]
pub(crate) enum Audit {
    /// Check that no entry was changed or removed; print the head of the chain
    Verify {
        /// The head that was noted earlier must be part of the chain
        #[arg(long, value_name = "HASH")]
        head: Option<String>,
    },
    /// Print the latest entries
    List {
        /// How many
        #[arg(long, default_value_t = 20)]
        count: usize,
    },
}

/// `doctor`
#[derive(Debug, Args)]
pub(crate) struct Doctor {
    /// Also rebuild the views from the log and compare them with the checkpoint
    #[arg(long)]
    pub rebuild: bool,
}

/// `config`
#[derive(Debug, Args)]
pub(crate) struct ConfigCommand {
    /// Print the JSON schema of the file
    #[arg(long)]
    pub schema: bool,
}
