//! How soon an answer reflects what a user did.
//!
//! A round: ask for a user, take the first recommendation, post a `like` of it, and ask again until it is gone from the
//! list. What is measured begins when the post is sent and ends when the first answer that reflects it is whole. How
//! often the rest of the list changed too is told as well: a filter alone would not do that.

use std::time::Duration;

use bench::latencies::{Latencies, Summary};
use clap::Args;
use kernel::Clock;
use serde::{Deserialize, Serialize};

use crate::Fault;
use crate::connection::{Connection, Target};

/// After this a round has failed.
const PATIENCE: Duration = Duration::from_secs(2);
const ROUNDS_MAX: usize = 100_000;

/// `freshness`
#[derive(Debug, Args)]
pub(crate) struct Freshness {
    /// A file with a user a line, taken in this order
    #[arg(long)]
    users: std::path::PathBuf,
    /// Rounds
    #[arg(long, default_value_t = 500)]
    rounds: usize,
}

#[derive(Debug, Serialize)]
struct Told {
    /// From the start of the post to the end of the first answer that reflects it.
    reflected: Summary,
    /// Of these, the post.
    posted: Summary,
    rounds: usize,
    /// Rounds whose very next answer reflected the post.
    at_once: usize,
    /// Rounds that never did.
    never: usize,
    /// Rounds in which the list differed although nothing was posted: with these the rest would mean nothing.
    unsteady: usize,
    /// Rounds in which the others of the list changed their order or made room.
    others_moved: usize,
}

#[derive(Debug, Deserialize)]
struct Answer {
    recommendations: Vec<Line>,
}

#[derive(Debug, PartialEq, Deserialize)]
struct Line {
    entity_id: String,
    entity_type: String,
}

impl Freshness {
    pub(crate) fn run(&self, target: &Target, clock: &dyn Clock) -> Result<String, Fault> {
        let users = std::fs::read_to_string(&self.users)?;
        let users: Vec<&str> = users.lines().collect();
        if users.is_empty() || self.rounds > ROUNDS_MAX {
            return Err(format!("there must be a user, and at most {ROUNDS_MAX} rounds").into());
        }
        let mut connection = Connection::open(target)?;
        let (mut reflected, mut posted) = (Latencies::default(), Latencies::default());
        let (mut at_once, mut never, mut unsteady, mut others_moved) = (0, 0, 0, 0);
        for round in 0..self.rounds {
            let user = users[round % users.len()];
            let path = format!("/api/v1/recommendations/user/{user}?count=10");
            let before = ask(&mut connection, &path)?;
            unsteady += usize::from(ask(&mut connection, &path)? != before);
            let Some(first) = before.first() else {
                return Err(format!("{user} has no recommendations").into());
            };
            let body = serde_json::to_vec(&serde_json::json!({
                "user_id": user, "entity_id": first.entity_id, "entity_type": first.entity_type,
                "interaction_type": "like",
            }))?;
            let began = clock.elapsed();
            connection.post("/api/v1/interactions", "application/json", &body)?.ok()?;
            posted.add(clock.elapsed().saturating_sub(began));
            let mut asked = 0;
            let after = loop {
                let after = ask(&mut connection, &path)?;
                asked += 1;
                if !after.contains(first) {
                    reflected.add(clock.elapsed().saturating_sub(began));
                    break Some(after);
                }
                if clock.elapsed().saturating_sub(began) > PATIENCE {
                    break None;
                }
            };
            at_once += usize::from(asked == 1 && after.is_some());
            never += usize::from(after.is_none());
            others_moved += usize::from(after.is_some_and(|after| moved(&before, &after)));
        }
        let told = Told {
            reflected: reflected.summary(),
            posted: posted.summary(),
            rounds: self.rounds,
            at_once,
            never,
            unsteady,
            others_moved,
        };
        Ok(serde_json::to_string(&told)?)
    }
}

fn ask(connection: &mut Connection, path: &str) -> Result<Vec<Line>, Fault> {
    let answer: Answer = serde_json::from_slice(connection.get(path)?.ok()?.body)?;
    Ok(answer.recommendations)
}

/// Whether more happened than that the first line went and another came in at the end.
fn moved(before: &[Line], after: &[Line]) -> bool {
    let rest = before.get(1..).unwrap_or_default();
    !after.starts_with(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shift_alone_is_no_move() {
        let list = |ids: &str| -> Vec<Line> {
            ids.chars().map(|id| Line { entity_id: id.to_string(), entity_type: String::new() }).collect()
        };
        let check = |before: &str, after: &str, expected: bool| {
            assert_eq!(moved(&list(before), &list(after)), expected, "{before} {after}");
        };
        check("abc", "bcd", false);
        check("abc", "cbd", true);
        check("abc", "bdc", true);
        check("a", "b", false);
        check("a", "", false);
    }
}
