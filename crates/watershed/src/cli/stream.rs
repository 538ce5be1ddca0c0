//! `stream`, `dlq`, `projection`, `backfill`, `quality`, `reconcile`, `sample`: what an operator asks of topologies. One more: an enum here, its work in `commands`.

use clap::{Args, Subcommand, ValueEnum};
use kernel::Timestamp;
use market::algorithms::ticks::time::{TimeUnit, from_text};

/// `stream`
#[derive(Debug, Subcommand)]
pub(crate) enum Stream {
    /// Draw the stages with their operators and topics, and what the settings declare
    Topology {
        /// Print the JSON schema of `market.topology_file` instead
        #[arg(long)]
        schema: bool,
    },
    /// Print how many events each stage has not taken
    Lag,
}

/// `dlq`
#[derive(Debug, Subcommand)]
pub(crate) enum Dlq {
    /// Print the newest dead letters of a stage: id, time, code, reason
    List {
        /// normalization, enrichment, aggregation or projection
        #[arg(long, default_value = "normalization", value_name = "NAME")]
        stage: String,
        /// How many
        #[arg(long, default_value_t = 20)]
        count: usize,
    },
    /// Print a dead letter with its message
    Show {
        /// From the list
        id: String,
    },
    /// Send the messages of dead letters through their stage again
    Replay {
        /// From the list
        #[arg(required = true)]
        ids: Vec<String>,
    },
}

/// `projection`
#[derive(Debug, Subcommand)]
pub(crate) enum Projection {
    /// Make rows and values of projections that are missing again from the topics
    Rebuild,
}

const BACKFILL_HELP: &str = "\
The stages run again over the raw ticks of the tenant, by the settings of now, in a folder beside the data; what they make \
of the range is compared with what is served. What differs gets the next revision, what is missing is added, what is no tick \
any more is withdrawn. Bars that live can still change are left to it. A backfill that was stopped goes on when it is called \
again.";

/// `backfill`
#[derive(Debug, Args)]
#[command(after_long_help = BACKFILL_HELP)]
pub(crate) struct Backfill {
    /// Prices that happened, and bars that begin, at this time or later: 2024-01-31 or 2024-01-31T09:30:00Z
    #[arg(long, value_name = "TIME", value_parser = moment)]
    pub from: Timestamp,
    /// And before this
    #[arg(long, value_name = "TIME", value_parser = moment)]
    pub to: Timestamp,
    /// Only of this instrument
    #[arg(long, value_name = "NAME")]
    pub instrument: Option<String>,
    /// Say what would change, and change nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Begin again instead of going on where an earlier one was stopped
    #[arg(long)]
    pub restart: bool,
    /// Print the report as JSON
    #[arg(long)]
    pub json: bool,
}

/// `quality`
#[derive(Debug, Subcommand)]
pub(crate) enum Quality {
    /// Print how many prices have which flag, by market, instrument or time
    Report(QualityReport),
}

/// `quality report`
#[derive(Debug, Args)]
pub(crate) struct QualityReport {
    /// Prices that happened at this time or later; all where missing
    #[arg(long, value_name = "TIME", value_parser = moment)]
    pub from: Option<Timestamp>,
    /// And before this
    #[arg(long, value_name = "TIME", value_parser = moment)]
    pub to: Option<Timestamp>,
    /// Only of this market
    #[arg(long, value_name = "NAME")]
    pub market: Option<String>,
    /// Only of this instrument
    #[arg(long, value_name = "NAME")]
    pub instrument: Option<String>,
    /// A line for each of these
    #[arg(long, default_value = "market", value_name = "WHAT")]
    pub by: QualityBy,
    /// Print the report as JSON
    #[arg(long)]
    pub json: bool,
}

/// What a line of the report is about.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum QualityBy {
    /// Each market
    Market,
    /// Each instrument
    Instrument,
    /// Each day of UTC
    Day,
    /// Each hour of UTC
    Hour,
}

/// `reconcile`
#[derive(Debug, Args)]
pub(crate) struct Reconcile {
    /// Print the report as JSON
    #[arg(long)]
    pub json: bool,
}

/// `sample`
#[derive(Debug, Args)]
pub(crate) struct Sample {
    /// What the ticks are like
    #[arg(long, default_value = "batch", value_name = "NAME")]
    pub mode: SampleMode,
    /// Seed: the same one gives the same ticks
    #[arg(long, default_value_t = 42)]
    pub seed: u64,
    /// How many; as the mode says where missing
    #[arg(long, value_name = "COUNT")]
    pub count: Option<u64>,
    /// When the first one happens; now for `continuous`
    #[arg(long, default_value = "2024-01-01", value_name = "TIME", value_parser = moment)]
    pub start: Timestamp,
    /// Ticks a second of `continuous`
    #[arg(long, default_value_t = 10, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub rate: u32,
    /// Post them to the server at this address, with the API key of the settings, instead of printing them
    #[arg(long, value_name = "URL")]
    pub post: Option<String>,
}

/// What generated ticks are like.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum SampleMode {
    /// 1,000 good ticks, one a second
    Batch,
    /// 43,200 good ticks over 30 days
    Historical,
    /// 1,000,000 good ticks within minutes
    HighVolume,
    /// 1,000 messages of which every fifth is no tick
    Malformed,
    /// 1,000 ticks of which every fifth comes late, some of them too late
    Late,
    /// Good ticks as time goes by, until it is stopped
    Continuous,
}

fn moment(text: &str) -> Result<Timestamp, String> {
    let time_us = from_text(text, TimeUnit::Auto).map_err(|fault| format!("`{text}` {fault}"))?;
    Timestamp::from_microsecond(time_us).map_err(|fault| fault.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_a_day_or_an_instant() {
        for text in ["2024-01-31", "2024-01-31T00:00:00Z", "2024-01-31T01:00:00+01:00"] {
            assert_eq!(moment(text).unwrap().as_second(), 1_706_659_200, "{text}");
        }
        assert!(moment("yesterday").is_err());
    }
}
