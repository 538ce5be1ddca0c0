//! `watershed reconcile`: what the topics hold beside what is served of it; fails where they differ.

use std::sync::Arc;

use kernel::{Error, Result, codes};
use market::reconcile::{Day, Reconciliation, reconcile};

use super::{say_json, scope};
use crate::app::Ambient;
use crate::cli::Reconcile;
use crate::config::Config;
use crate::engines::Engines;
use crate::terminal;

pub(super) async fn run(asked: &Reconcile, config: Config) -> Result<()> {
    let engines = Engines::open(&config.storage, &Ambient::of_system()).await?;
    let stages = market::topology::all(&Arc::new(config.market.rules()?))?;
    let scope = scope(&config, "reconcile")?;
    let (topics, records, columns) = (&engines.topics, &engines.records, engines.columns.as_ref());
    let found = reconcile(&scope, topics, records, columns, &stages).await?;
    if asked.json {
        say_json(&found)?;
    } else {
        say(&found);
    }
    match found.differences() {
        0 => Ok(()),
        count => {
            let message = format!(
                "{count} differences; rows that are missing are made again by `watershed projection rebuild`, those that are \
                 wrong by `watershed backfill`"
            );
            Err(Error::new(codes::CONFLICT, message))
        }
    }
}

fn say(found: &Reconciliation) {
    for part in &found.stages {
        let sign = if part.taken == part.accounted { "" } else { ": they differ" };
        terminal::say(format!(
            "{} {}: {} taken, {} accounted for, {} to be taken{sign}",
            part.stage, part.partition, part.taken, part.accounted, part.behind
        ));
    }
    for Day { table, day, told, served } in &found.days {
        let day = day.strftime("%Y-%m-%d");
        if told == served {
            terminal::say(format!(
                "{table} {day}: {} rows, sum {}",
                told.rows,
                billionths(told.sum_billionths)
            ));
        } else {
            terminal::say(format!(
                "{table} {day}: {} rows told, sum {}; {} served, sum {}: they differ",
                told.rows,
                billionths(told.sum_billionths),
                served.rows,
                billionths(served.sum_billionths)
            ));
        }
    }
}

fn billionths(sum: i128) -> String {
    let (sign, sum) = (if sum < 0 { "-" } else { "" }, sum.unsigned_abs());
    let text = format!("{sign}{}.{:09}", sum / 1_000_000_000, sum % 1_000_000_000);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sum_is_shown_as_a_decimal() {
        for (sum, text) in [(0, "0"), (-36_980_000_000, "-36.98"), (1, "0.000000001"), (10_000_000_000, "10")]
        {
            assert_eq!(billionths(sum), text);
        }
    }
}
