//! Rolls candidates out to made-up users by the gates of the product, and prints what became of them as one line of JSON.
//!
//! The bar stands in `bench/bars/models_canary.py`. Candidates that are as good as the control, which nothing should take back,
//! and some that lose more; users come again and choose less of a later page, and the gates are read after every so many
//! visits. What was seen of the loss at each look is printed for the healthy ones, for a peer to judge. Beside it, what becomes
//! of healthy ones where the first page in each arm counts, as the product does not. It refuses to judge.

use std::process::ExitCode;

use clap::Parser;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rollout::assignment::is_candidate;
use rollout::canary::{Plan, Seen, Verdict};
use serde_json::{Value, json};

/// As the product has it.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const VISITS_BETWEEN_LOOKS: usize = 200;
const VISITS_MAX: usize = 200_000;
/// The share of visits that are of users who came before.
const RETURNS: f64 = 0.5;
/// How much more a later page is not taken up.
const HABITUATION: f64 = 0.10;
/// The shares of answers that fail, are slow, and are not taken up, in the control.
const SHARES: [f64; 3] = [0.01, 0.05, 0.80];
/// How much more a bad candidate is not taken up.
const HARM: f64 = 0.10;

/// Rolls candidates out.
#[derive(Debug, Parser)]
#[command(name = "bench-canary")]
struct Arguments {
    /// A small size, to see that it works
    #[arg(long)]
    quick: bool,
}

/// Which pages of a user the gates count.
#[derive(Clone, Copy, PartialEq)]
enum Counting {
    /// The first, as the product does.
    First,
    /// The first in each arm.
    FirstInArm,
}

/// What became of a rollout.
struct Run {
    end: Verdict,
    /// Steps that were taken before it ended.
    steps: usize,
    users_of_candidate: u64,
    /// Users and lost answers of the control and of the candidate, at each look.
    looks: Vec<[u64; 4]>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    bench::tell(plan().validate().map(|()| run(&arguments)))
}

fn plan() -> Plan {
    Plan { sample_min: 1_000, step_seconds_min: 0, ..Plan::default() }
}

fn run(arguments: &Arguments) -> Value {
    let runs: u64 = if arguments.quick { 40 } else { 1_000 };
    let plan = plan();
    let roll = |harm: f64, counting: Counting| {
        (0..runs).map(|seed| roll_out(&plan, harm, counting, seed)).collect::<Vec<_>>()
    };
    let (healthy, bad) = (roll(0.0, Counting::First), roll(HARM, Counting::First));
    let by_arm = roll(0.0, Counting::FirstInArm);
    let share = |runs: &[Run], is_so: &dyn Fn(&Run) -> bool| {
        runs.iter().filter(|run| is_so(run)).count() as f64 / runs.len() as f64
    };
    let went_back = |run: &Run| matches!(run.end, Verdict::RollBack(_));
    let mut needed: Vec<u64> = bad.iter().map(|run| run.users_of_candidate).collect();
    needed.sort_unstable();
    json!({
        "runs": runs, "false_alarm": plan.false_alarm, "harm": HARM, "loss": SHARES[2],
        "healthy_rolled_back": share(&healthy, &went_back),
        "healthy_rolled_back_by_arm": share(&by_arm, &went_back),
        "healthy_completed": share(&healthy, &|run| matches!(run.end, Verdict::Advance(100))),
        "bad_rolled_back": share(&bad, &went_back),
        "bad_within_two_steps": share(&bad, &|run| went_back(run) && run.steps < 2),
        "bad_users_median": needed[needed.len() / 2],
        "looks": healthy.iter().map(|run| &run.looks).collect::<Vec<_>>(),
    })
}

/// Rolls one candidate out until it is everywhere or taken back.
fn roll_out(plan: &Plan, harm: f64, counting: Counting, seed: u64) -> Run {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let (mut seen, mut percent) = (Seen::default(), plan.first_percent());
    let mut run = Run { end: Verdict::Advance(percent), steps: 0, users_of_candidate: 0, looks: Vec::new() };
    let key = format!("rollout-{seed}");
    // By user: whether there was a page in the control, and in the candidate.
    let mut pages: Vec<[bool; 2]> = Vec::new();
    for visit in 1..=VISITS_MAX {
        let comes_again = !pages.is_empty() && random.random::<f64>() < RETURNS;
        let user = if comes_again { random.random_range(0..pages.len()) } else { pages.len() };
        if !comes_again {
            pages.push([false; 2]);
        }
        let candidate = is_candidate(&key, &format!("user-{user}"), percent);
        let before = pages[user];
        pages[user][usize::from(candidate)] = true;
        let is_first_in_arm = !before[usize::from(candidate)];
        seen.since_step += u64::from(candidate && is_first_in_arm);
        run.users_of_candidate += u64::from(candidate && is_first_in_arm);
        let is_first = before == [false; 2];
        if is_first || (is_first_in_arm && counting == Counting::FirstInArm) {
            let tired = if is_first { 0.0 } else { HABITUATION };
            let loss = SHARES[2] + tired + if candidate { harm } else { 0.0 };
            let counts = if candidate { &mut seen.candidate } else { &mut seen.control };
            let mut draw = |share: f64| f64::from(u8::from(random.random::<f64>() < share));
            counts.errors.add(draw(SHARES[0]));
            counts.latency.add(draw(SHARES[1]));
            counts.loss.add(draw(loss));
        }
        if visit % VISITS_BETWEEN_LOOKS != 0 {
            continue;
        }
        let of = |counts: rollout::Tally| [counts.count, counts.total().round() as u64];
        let ([control, lost], [tried, missed]) = (of(seen.control.loss), of(seen.candidate.loss));
        run.looks.push([control, lost, tried, missed]);
        run.end = plan.read(percent, &seen).verdict;
        match run.end {
            Verdict::Wait(_) => {}
            Verdict::RollBack(_) | Verdict::Advance(100) => break,
            Verdict::Advance(next) => {
                (percent, seen.since_step) = (next, 0);
                run.steps += 1;
            }
        }
    }
    run
}
