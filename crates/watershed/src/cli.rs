//! What can be asked of the binary.

mod distill;
mod forecast;
mod models;
mod rollout;
mod stream;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use kernel::Permission;

pub(crate) use distill::Distill;
pub(crate) use forecast::{EvaluateCurve, EvaluatePower, Registering, TrainCurve, TrainPower};
pub(crate) use models::{CleanupArtifacts, History, Promote, Rollback};
pub(crate) use rollout::{Canary, End, Outcome, Rollout, Service};
pub(crate) use stream::{
    Backfill, Dlq, Projection, Quality, QualityBy, QualityReport, Reconcile, Sample, SampleMode, Stream,
};

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

/// A running server that a command may ask.
#[derive(Debug, Clone, Args)]
pub(crate) struct AtServer {
    /// Ask the server at this address, with the API key of the settings (API_KEY), in place of opening the data; that of the
    /// setting client.server where missing
    #[arg(long, value_name = "URL")]
    pub server: Option<String>,
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
    /// Make a light sentence encoder, a static table of its tokens, out of a layered one
    ///
    /// The table is of model2vec's form. It encodes texts without regard to the order of their words, in a small part of the
    /// time; search.model_path names it as it names any encoder.
    Distill(Distill),
    /// Compare how algorithms rank held-out data
    Evaluate(Box<Evaluate>),
    /// Point an alias of a registered model at a version
    Promote(Promote),
    /// Point an alias of a registered model back at where it pointed before
    Rollback(Rollback),
    /// Print what was done to a registered model
    History(History),
    /// Remove versions without an alias, deleted runs and broken uploads that are old
    ///
    /// The newest version of a model stays, and so does the one that a rollback of an alias would go to; `kept` of the answer
    /// lists what is old enough and stays, with the reason. The models that recommendations are made with are left alone.
    CleanupArtifacts(CleanupArtifacts),
    /// Try other recommendations, or another version of a model, on some of the users, and go back
    #[command(subcommand)]
    Rollout(Rollout),
    /// Print recommendations for a user
    Recommend(Recommend),
    /// Move the schemas of the database and of ClickHouse
    #[command(subcommand)]
    Migrate(Migrate),
    /// Make, list and check backups
    #[command(subcommand)]
    Backup(Backup),
    /// Bring a backup back into an empty data folder or schema
    Restore(Restore),
    /// Make, list, rotate and revoke API keys
    #[command(subcommand)]
    Keys(Keys),
    /// Look at the stages of market data
    #[command(subcommand)]
    Stream(Stream),
    /// Look at what the stages of market data refused, and send it through them again
    #[command(subcommand)]
    Dlq(Dlq),
    /// Look after the rows of prices and bars
    #[command(subcommand)]
    Projection(Projection),
    /// Make prices and bars of a time range again from the raw ticks, by the settings of now
    Backfill(Backfill),
    /// Look at how far prices are to be trusted
    #[command(subcommand)]
    Quality(Quality),
    /// Compare what the topics of market data hold with what is served; fails where they differ
    Reconcile(Reconcile),
    /// Make ticks up, to try things on
    Sample(Sample),
    /// Look after the keys that personal data is sealed under
    #[command(subcommand)]
    Encryption(Encryption),
    /// Look at who changed what
    #[command(subcommand)]
    Audit(Audit),
    /// Check the data folder, the models, champions of registered models too, the settings and the machine; fails where
    /// something is wrong
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

impl Command {
    /// The server that it is told to ask; none of a command that asks none.
    pub(crate) fn at(&self) -> Option<&AtServer> {
        Some(match self {
            Self::Promote(asked) => &asked.at,
            Self::Rollback(asked) => &asked.at,
            Self::History(asked) => &asked.at,
            Self::CleanupArtifacts(asked) => &asked.at,
            Self::Rollout(asked) => asked.at(),
            Self::Train(Train { of: Some(of), .. }) => return of.registering().at(),
            _ => return None,
        })
    }
}

/// `serve`
#[derive(Debug, Args)]
pub(crate) struct Serve {
    /// Do only this for the deployment, separated by commas: api, stream, trainer; all where missing
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    pub roles: Option<Vec<String>>,
    /// Listen on this address
    #[arg(long, value_name = "ADDRESS")]
    pub host: Option<String>,
    /// Listen on this port; 0 takes a free one
    #[arg(long, value_name = "PORT")]
    pub port: Option<u16>,
    /// Answer also on the ports of the platform's services: registry 5000, serving 9005, embedding 9006, search 9007
    #[arg(long)]
    pub all: bool,
    /// Write the addresses that it listens on to this file, once it is ready
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
    /// Generate and train, then leave without serving
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
    /// What the import is remembered as, in place of the path: FOLDER/FILE, or FILE as earlier releases did
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
}

/// `train`
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Train {
    /// Something other than the recommender
    #[command(subcommand)]
    pub of: Option<TrainOf>,
    /// Leave out the sequence model, which takes most of the time
    #[arg(long)]
    pub fast: bool,
}

/// `train`, of what
#[derive(Debug, Subcommand)]
pub(crate) enum TrainOf {
    /// Forecast the next days of a curve, compare with persistence, write the model to a file
    CurveForecaster(TrainCurve),
    /// Forecast the 24 power prices of tomorrow, compare with the naive forecast, write the model to a file
    PowerForecaster(TrainPower),
}

const EVALUATE_HELP: &str = "\
Algorithms: popularity (popular in tables, and always there), neighbours, linear (ease), factors (als), graph \
(graph_filter), transitions, sequence, content (content_based), user_neighbours, hybrid. Both names are taken. neighbours, graph and \
user_neighbours are off in recommend.training.algorithms where nothing else is set: name them to see them.

Nothing is chosen on the test part. --tune fits each algorithm on the training part, compares settings by NDCG at the \
longest cutoff on the validation part (of at most 5,000 users), and begins with the settings in force; then the \
algorithm is fitted anew with the best. It searches all but sequence, which takes too long, and popularity, which has \
nothing to find. The table and the JSON tell what was found; \
recommend.training.algorithm_settings trains with it.

Where targets come after the history (last-item-out, temporal, and given with later or ordered lists) the order counts: \
transitions and sequence are compared, and tuning may let old history fade. Under liang, and given without order, it \
does not.";

/// `evaluate`
#[derive(Debug, Args)]
#[command(after_long_help = EVALUATE_HELP, args_conflicts_with_subcommands = true)]
pub(crate) struct Evaluate {
    /// Something other than recommendations
    #[command(subcommand)]
    pub of: Option<EvaluateOf>,
    /// Evaluate on this data set instead of on what was taken in
    #[arg(long, value_name = "PATH")]
    pub data: Option<PathBuf>,
    /// The format of the data set; found out where missing
    #[arg(long, value_name = "NAME", requires = "data")]
    pub format: Option<String>,
    /// Which column is what, for CSV, NDJSON and Parquet
    #[arg(long, value_name = "MAPPING", requires = "data")]
    pub map: Option<String>,
    /// How the data are split
    #[arg(long, default_value = "last-item-out", value_name = "NAME",
          value_parser = ["last-item-out", "liang", "temporal", "given"])]
    pub protocol: String,
    /// The test part, for `given`; without it what the data set marks as held out, such as the test.txt beside a train.txt
    #[arg(long, value_name = "PATH", requires = "data")]
    pub test: Option<PathBuf>,
    /// The lists of the data set are in the order of time and those of the test part are later, for `given`; where there
    /// are times this is found out
    #[arg(long, requires = "data")]
    pub ordered_lists: bool,
    /// The algorithms, separated by commas, such as linear,factors,hybrid: the hybrid is of those named. Where missing,
    /// the parts of recommend.training.algorithms that fit the data, and the hybrid that is served
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    pub algorithms: Vec<String>,
    /// Only ratings of at least this count, and each counts 1
    #[arg(long, value_name = "VALUE", requires = "data")]
    pub min_rating: Option<f64>,
    /// Ratings that are kept count as much as they are, also with --min-rating
    #[arg(long, requires = "min_rating")]
    pub keep_weights: bool,
    /// The measures are taken at these lengths of list
    #[arg(long, value_delimiter = ',', default_values_t = [10, 20], value_parser = cutoff)]
    pub cutoffs: Vec<usize>,
    /// Search for better settings of each algorithm on the validation part
    #[arg(long)]
    pub tune: bool,
    /// How long to search for each algorithm: trials, minutes or both, such as 30, 5min or 100,10min. With trials alone
    /// twice is the same
    #[arg(long, default_value = "20", value_name = "BUDGET", value_parser = TuneBudget::parse, requires = "tune")]
    pub tune_budget: TuneBudget,
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
    /// Write the split to this folder as lists `user item item ...`, for other programs: train, test-known and test, and
    /// the same for validation
    #[arg(long, value_name = "FOLDER")]
    pub export_split: Option<PathBuf>,
}

/// `evaluate`, of what
#[derive(Debug, Subcommand)]
pub(crate) enum EvaluateOf {
    /// Score a curve forecaster on days that it did not learn from, beside persistence
    CurveForecaster(EvaluateCurve),
    /// Score a forecaster of power prices on days that it did not learn from, beside the naive forecast
    PowerForecaster(EvaluatePower),
}

/// What a search for settings may cost for each algorithm.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct TuneBudget {
    /// Settings that are tried.
    pub trials: usize,
    /// Minutes after which no further trial begins.
    pub minutes: Option<f64>,
}

impl TuneBudget {
    /// More than any patience.
    const MOST_TRIALS: usize = 100_000;

    fn parse(text: &str) -> Result<Self, String> {
        let (mut trials, mut minutes) = (None, None);
        for word in text.split(',').map(str::trim) {
            let refused = || format!("`{word}` is neither trials, such as 30, nor minutes, such as 5min");
            if let Some(number) = word.strip_suffix("min") {
                let value: f64 = number.trim().parse().map_err(|_| refused())?;
                if !(value > 0.0 && value.is_finite()) {
                    return Err(refused());
                }
                minutes = Some(value);
            } else {
                let value = word.parse().ok().filter(|value| (1..=Self::MOST_TRIALS).contains(value));
                trials = Some(value.ok_or_else(refused)?);
            }
        }
        Ok(Self { trials: trials.unwrap_or(Self::MOST_TRIALS), minutes })
    }
}

fn cutoff(text: &str) -> Result<usize, String> {
    text.parse()
        .ok()
        .filter(|cutoff| *cutoff > 0)
        .ok_or_else(|| "a length is a whole number from 1".to_owned())
}

fn answer_count(text: &str) -> Result<usize, String> {
    text.parse()
        .ok()
        .filter(|count| (1..=100).contains(count))
        .ok_or_else(|| "a count is a whole number from 1 to 100".to_owned())
}

/// `recommend`
#[derive(Debug, Args)]
pub(crate) struct Recommend {
    /// The user
    pub user_id: String,
    /// How many, 1 to 100
    #[arg(long, default_value_t = 10, value_parser = answer_count)]
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

/// `migrate`
#[derive(Debug, Subcommand)]
pub(crate) enum Migrate {
    /// Do every step that is left
    Up,
    /// Take back every step after this one; what the steps stored is lost
    Down {
        /// The step to go back to; 0 for none
        #[arg(long, value_name = "STEP")]
        to: u32,
        /// The server whose steps they are; the database where missing, or ClickHouse where there is none
        #[arg(long)]
        engine: Option<MigrateEngine>,
    },
    /// Print what was done and what is left
    Status,
    /// Print the statements that `up` would run
    Plan,
}

/// A server whose schema has steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum MigrateEngine {
    /// The database
    Postgres,
    /// The column store
    Clickhouse,
}

/// `backup`
#[derive(Debug, Subcommand)]
pub(crate) enum Backup {
    /// Send what is new since the backup before
    Create {
        /// A folder or s3://bucket/prefix; the one of the settings where missing
        #[arg(long, value_name = "PLACE")]
        to: Option<String>,
        /// Keep so many, the newest; 0 for all; as the settings say where missing
        #[arg(long, value_name = "COUNT")]
        keep: Option<usize>,
        /// Send everything anew, trusting nothing that is there
        #[arg(long)]
        full: bool,
    },
    /// Print the backups of a place
    List {
        /// A folder or s3://bucket/prefix; the one of the settings where missing
        #[arg(long, alias = "to", value_name = "PLACE")]
        from: Option<String>,
    },
    /// Read every byte of a place and check it
    Verify {
        /// A folder or s3://bucket/prefix; the one of the settings where missing
        #[arg(long, alias = "to", value_name = "PLACE")]
        from: Option<String>,
    },
}

/// `restore`
#[derive(Debug, Args)]
pub(crate) struct Restore {
    /// A folder or s3://bucket/prefix; the one of the settings where missing
    #[arg(long, value_name = "PLACE")]
    pub from: Option<String>,
    /// Restore this backup instead of the newest
    #[arg(long, value_name = "NUMBER", conflicts_with = "to_time")]
    pub backup: Option<u64>,
    /// Restore to this time, such as 2026-02-01T09:30:00Z: events up to the last one whose own time is not later, never
    /// beyond the first backup after it; records and models as in the backup before
    #[arg(long, value_name = "TIME")]
    pub to_time: Option<String>,
    /// Check the backup and whether it could be restored, and write nothing
    #[arg(long)]
    pub dry_run: bool,
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

/// `encryption`
#[derive(Debug, Subcommand)]
pub(crate) enum Encryption {
    /// Print whether personal data is sealed, and which master keys are in use
    Status,
    /// Wrap every key anew under the newest master key, so that the older ones may go; begun again, it goes on
    Rotate,
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
    /// Print every setting with its variable and default, as Markdown
    #[arg(long, conflicts_with = "schema")]
    pub reference: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tuning_budget_is_trials_or_minutes_or_both() {
        let check = |text: &str, expected: Option<(usize, Option<f64>)>| {
            let found = TuneBudget::parse(text).ok().map(|budget| (budget.trials, budget.minutes));
            assert_eq!(found, expected, "{text}");
        };
        check("30", Some((30, None)));
        check("5min", Some((TuneBudget::MOST_TRIALS, Some(5.0))));
        check("100, 0.5min", Some((100, Some(0.5))));
        for text in ["", "0", "-1", "5 hours", "NaNmin", "0min", "infmin", "20,"] {
            check(text, None);
        }
    }
}
