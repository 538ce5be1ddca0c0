//! `stream`, `dlq`, `projection`: what an operator asks of topologies. One more: an enum here, its work in `commands`.

use clap::Subcommand;

/// `stream`
#[derive(Debug, Subcommand)]
pub(crate) enum Stream {
    /// Draw the stages with their operators and topics
    Topology,
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
    /// Make rows that are missing again from the topics
    Rebuild,
}
