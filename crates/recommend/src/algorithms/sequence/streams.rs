//! Training data as parallel streams of events.
//!
//! Users are shuffled, and each goes whole to the stream that is shortest so far, so that all streams have about the
//! same length and nothing is padded but their ends (Hidasi et al. 2016, session-parallel batches). A window takes the
//! next steps of every stream; the recurrent state is carried from window to window and cut where a user begins.

use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

use super::network::NONE;

/// Rows of items in time order: user `u` has `items[offsets[u]..offsets[u + 1]]`.
#[derive(Clone, Copy)]
pub(super) struct Histories<'a> {
    pub offsets: &'a [usize],
    pub items: &'a [u32],
}

impl<'a> Histories<'a> {
    pub(super) fn users(&self) -> usize {
        self.offsets.len().saturating_sub(1)
    }

    pub(super) fn row(&self, user: usize) -> &'a [u32] {
        &self.items[self.offsets[user]..self.offsets[user + 1]]
    }
}

/// The users of one stream and how far they have been read.
#[derive(Default)]
pub(super) struct Stream {
    users: Vec<usize>,
    positions: usize,
    next_user: usize,
    next_event: usize,
}

/// One position: what is read, what should follow, and whether the state before it is kept.
struct Position {
    input: u32,
    target: u32,
    keep: f32,
}

impl Stream {
    fn next(&mut self, histories: Histories<'_>, held_out: &[bool]) -> Position {
        let Some(&user) = self.users.get(self.next_user) else {
            return Position { input: NONE, target: NONE, keep: 0.0 };
        };
        let row = training_row(histories, held_out, user);
        let event = self.next_event;
        self.next_event += 1;
        if self.next_event + 1 >= row.len() {
            (self.next_user, self.next_event) = (self.next_user + 1, 0);
        }
        let keep = if event == 0 { 0.0 } else { 1.0 };
        Position { input: row[event], target: row[event + 1], keep }
    }

    pub(super) fn is_finished(&self) -> bool {
        self.next_user >= self.users.len()
    }
}

/// The events of a user that training may see.
pub(super) fn training_row<'a>(histories: Histories<'a>, held_out: &[bool], user: usize) -> &'a [u32] {
    let row = histories.row(user);
    &row[..row.len() - usize::from(held_out[user])]
}

/// Deals the users that have something to predict into `count` streams of nearly equal length.
pub(super) fn deal(
    histories: Histories<'_>,
    held_out: &[bool],
    count: usize,
    rng: &mut ChaCha8Rng,
) -> Vec<Stream> {
    let mut users: Vec<usize> =
        (0..histories.users()).filter(|&user| training_row(histories, held_out, user).len() > 1).collect();
    users.shuffle(rng);
    let mut streams: Vec<Stream> = Vec::new();
    streams.resize_with(count, Stream::default);
    for user in users {
        let shortest = streams.iter_mut().min_by_key(|stream| stream.positions).expect("at least one stream");
        shortest.users.push(user);
        shortest.positions += training_row(histories, held_out, user).len() - 1;
    }
    streams
}

/// The next steps of some streams, time-major: position `step · streams + stream`.
#[derive(Default)]
pub(super) struct Batch {
    pub inputs: Vec<u32>,
    pub keep: Vec<f32>,
    /// Rows that have a next item, and that item.
    pub target_rows: Vec<usize>,
    pub targets: Vec<u32>,
}

impl Batch {
    pub(super) fn read(
        &mut self,
        streams: &mut [Stream],
        steps: usize,
        histories: Histories<'_>,
        held_out: &[bool],
    ) {
        self.inputs.clear();
        self.keep.clear();
        self.target_rows.clear();
        self.targets.clear();
        for row in 0..steps * streams.len() {
            let position = streams[row % streams.len()].next(histories, held_out);
            self.inputs.push(position.input);
            self.keep.push(position.keep);
            if position.target != NONE {
                self.target_rows.push(row);
                self.targets.push(position.target);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;

    #[test]
    fn every_transition_is_read_once_and_users_do_not_mix() {
        let (offsets, items) = (vec![0, 3, 3, 4, 9, 11], vec![1, 2, 3, 50, 10, 11, 12, 13, 14, 20, 21]);
        let histories = Histories { offsets: &offsets, items: &items };
        let held_out = [true, false, false, false, false];
        let mut streams = deal(histories, &held_out, 2, &mut ChaCha8Rng::seed_from_u64(1));
        let mut batch = Batch::default();
        let mut seen = Vec::new();
        let mut beginnings = 0;
        while !streams.iter().all(Stream::is_finished) {
            batch.read(&mut streams, 2, histories, &held_out);
            for (&row, &target) in batch.target_rows.iter().zip(&batch.targets) {
                seen.push((batch.inputs[row], target));
                beginnings += usize::from(batch.keep[row] == 0.0);
            }
        }
        seen.sort_unstable();
        assert_eq!(seen, [(1, 2), (10, 11), (11, 12), (12, 13), (13, 14), (20, 21)]);
        assert_eq!(beginnings, 3);
    }
}
