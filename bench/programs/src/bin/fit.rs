//! Fits one algorithm on a list file and prints what it cost and how well it ranks, as one line of JSON in the form of
//! the scripts in `bench/peers`, so that one can be held against the other.
//!
//! A list file has a user a line, `user item item ...`; items are numbered from 0. With `--fold-in` the users of the
//! test file are ranked from the items of that file, without it from their training items.
//! To add an algorithm: a variant of [`Algorithm`], a line in [`fit`].

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use bench::process::processor_seconds;
use clap::{Parser, ValueEnum};
use kernel::{Clock, SystemClock};
use rayon::prelude::*;
use recommend::algorithms::als::{Als, AlsSettings};
use recommend::algorithms::ease::{Ease, EaseSettings};
use recommend::algorithms::neighbours::{Neighbours, NeighboursSettings};
use recommend::algorithms::sparse_ease::{SparseEase, SparseEaseSettings};
use recommend::algorithms::topk::{ItemSet, top_k};
use recommend::algorithms::{Interactions, Recommender, Scratch};
use recommend::evaluation::metrics::{Judged, Kind, Measure};
use serde::de::DeserializeOwned;

/// As the product has it.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

type Fault = Box<dyn std::error::Error + Send + Sync>;

/// Fits one algorithm and tells what it cost.
#[derive(Debug, Parser)]
#[command(name = "bench-fit")]
struct Arguments {
    /// The algorithm
    #[arg(long)]
    algorithm: Algorithm,
    /// Its settings as a JSON object; those that are missing have their defaults
    #[arg(long, default_value = "{}")]
    settings: String,
    /// List file to train on
    #[arg(long)]
    train: PathBuf,
    /// List file of what is held out; without it only the fit is measured
    #[arg(long)]
    test: Option<PathBuf>,
    /// List file of the known items of the test users
    #[arg(long)]
    fold_in: Option<PathBuf>,
    /// The size of the catalogue
    #[arg(long)]
    item_count: usize,
    /// Length of the lists that are judged
    #[arg(long, default_value_t = 20)]
    cutoff: usize,
    /// Threads
    #[arg(long, default_value_t = 1)]
    threads: usize,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Algorithm {
    Als,
    Ease,
    Neighbours,
    SparseEase,
}

fn main() -> ExitCode {
    bench::tell(run(&Arguments::parse()))
}

fn run(arguments: &Arguments) -> Result<serde_json::Value, Fault> {
    let train = read_lists(&arguments.train, arguments.item_count)?;
    let pool = rayon::ThreadPoolBuilder::new().num_threads(arguments.threads).build()?;
    pool.install(|| {
        let clock = SystemClock::new();
        let began = processor_seconds(None)?;
        let model = fit(arguments.algorithm, &arguments.settings, &train)?;
        let wall_seconds = clock.elapsed().as_secs_f64();
        let mut told = serde_json::json!({
            "algorithm": model.name(),
            "cpu_seconds": processor_seconds(None)? - began,
            "wall_seconds": wall_seconds,
            "threads": arguments.threads,
        });
        if let Some(test) = &arguments.test {
            let test = read_lists(test, arguments.item_count)?;
            let fold_in = arguments.fold_in.as_deref().map(|path| read_lists(path, arguments.item_count));
            let known = fold_in.transpose()?;
            told["quality"] =
                quality(model.as_ref(), known.as_ref().unwrap_or(&train), &test, arguments.cutoff);
        }
        Ok(told)
    })
}

fn fit(algorithm: Algorithm, settings: &str, train: &Interactions) -> Result<Box<dyn Recommender>, Fault> {
    fn read<T: DeserializeOwned>(settings: &str) -> Result<T, Fault> {
        Ok(serde_json::from_str(settings)?)
    }
    Ok(match algorithm {
        Algorithm::Als => Box::new(Als::train(train, &read::<AlsSettings>(settings)?)?),
        Algorithm::Ease => Box::new(Ease::train(train, &read::<EaseSettings>(settings)?)?),
        Algorithm::Neighbours => Box::new(Neighbours::train(train, &read::<NeighboursSettings>(settings)?)?),
        Algorithm::SparseEase => Box::new(SparseEase::train(train, &read::<SparseEaseSettings>(settings)?)?),
    })
}

/// Rows are at the number of their user; those without a line are empty.
fn read_lists(path: &Path, item_count: usize) -> Result<Interactions, Fault> {
    let text = std::fs::read_to_string(path).map_err(|cause| format!("{}: {cause}", path.display()))?;
    let mut rows: Vec<Vec<u32>> = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        let fault =
            || format!("{}:{number}: a line is `user item item ...`, in whole numbers", path.display());
        let numbers: Vec<u32> =
            line.split_whitespace().map(str::parse).collect::<Result<_, _>>().map_err(|_| fault())?;
        let (user, items) = numbers.split_first().ok_or_else(fault)?;
        let user = *user as usize;
        rows.resize(rows.len().max(user + 1), Vec::new());
        rows[user].extend_from_slice(items);
    }
    Ok(Interactions::from_rows(&rows, item_count)?)
}

/// Means over the users of `test` who have something to find; items of their history are not ranked.
fn quality(
    model: &dyn Recommender,
    known: &Interactions,
    test: &Interactions,
    cutoff: usize,
) -> serde_json::Value {
    let measures = [Measure::at(Kind::Recall, cutoff), Measure::at(Kind::Ndcg, cutoff)];
    let users: Vec<usize> =
        (0..test.user_count().min(known.user_count())).filter(|user| !test.row(*user).is_empty()).collect();
    let buffers = || (Scratch::default(), vec![0.0; model.item_count()]);
    let of_user = |(scratch, scores): &mut (Scratch, Vec<f32>), user: &usize| {
        let history = known.row(*user);
        model.score(history, scratch, scores);
        let seen = ItemSet::from_items(history.items.iter().copied());
        let ranked: Vec<u32> = top_k(scores, &seen, cutoff).iter().map(|found| found.item).collect();
        let held_out = test.row(*user);
        let judged = Judged::new(&ranked, held_out.items, held_out.weights);
        measures.map(|measure| measure.of(&judged))
    };
    let values: Vec<[f64; 2]> = users.par_iter().map_init(buffers, of_user).collect();
    let mean =
        |place: usize| values.iter().map(|value| value[place]).sum::<f64>() / values.len().max(1) as f64;
    serde_json::json!({ format!("recall@{cutoff}"): mean(0), format!("ndcg@{cutoff}"): mean(1) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_read_fitted_and_judged() {
        let folder = std::env::temp_dir().join(format!("watershed-bench-fit-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let (train, test, broken) = (folder.join("train"), folder.join("test"), folder.join("broken"));
        std::fs::write(&train, "0 0 1\n1 0 1 2\n3 1 2\n").unwrap();
        std::fs::write(&test, "0 2\n").unwrap();
        std::fs::write(&broken, "0 1\n\nx\n").unwrap();
        for algorithm in ["als", "ease", "neighbours", "sparse-ease"] {
            let words =
                ["bench-fit", "--algorithm", algorithm, "--item-count", "3", "--cutoff", "1", "--train"];
            let words = words.map(std::ffi::OsString::from);
            let rest = [train.clone().into(), "--test".into(), test.clone().into()];
            let told = run(&Arguments::parse_from(words.into_iter().chain(rest))).unwrap();
            assert_eq!(told["quality"]["recall@1"], 1.0, "{algorithm}");
        }
        let fault = read_lists(&broken, 3).unwrap_err().to_string();
        assert!(fault.contains("broken:2"), "{fault}");
        std::fs::remove_dir_all(folder).unwrap();
    }
}
