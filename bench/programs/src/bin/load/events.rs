//! The events that are posted: interactions of a made-up shop, written without a JSON library because the client must
//! cost next to nothing beside the server.

use std::io::Write as _;

use kernel::Clock;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

const KINDS: [&str; 4] = ["view", "like", "add_to_cart", "purchase"];

/// Makes batches of events.
#[derive(Debug)]
pub(crate) struct Maker {
    random: ChaCha8Rng,
    /// Of all events, so that none is refused for being in the future.
    time: String,
    users: u32,
    entities: u32,
    text: Vec<u8>,
}

impl Maker {
    /// Events of so many users and entities; another `stream` gives others.
    pub(crate) fn new(clock: &dyn Clock, users: u32, entities: u32, stream: u64) -> Self {
        let mut random = ChaCha8Rng::seed_from_u64(42);
        random.set_stream(stream);
        Self { random, time: clock.now().to_string(), users, entities, text: Vec::new() }
    }

    /// A JSON array of `count` events whose ids are `prefix-NUMBER` from `first` on.
    pub(crate) fn batch(&mut self, prefix: &str, first: u64, count: u64) -> &[u8] {
        self.text.clear();
        self.text.push(b'[');
        for number in first..first + count {
            if number > first {
                self.text.push(b',');
            }
            self.event(prefix, number);
        }
        self.text.push(b']');
        &self.text
    }

    /// One event with the id `prefix-NUMBER`.
    pub(crate) fn single(&mut self, prefix: &str, number: u64) -> &[u8] {
        self.text.clear();
        self.event(prefix, number);
        &self.text
    }

    fn event(&mut self, prefix: &str, number: u64) {
        let (user, entity) = (self.random.next_u32() % self.users, self.random.next_u32() % self.entities);
        let kind = KINDS[self.random.next_u32() as usize % KINDS.len()];
        let time = &self.time;
        write!(
            self.text,
            r#"{{"specversion":"1.0","id":"{prefix}-{number}","source":"/bench","type":"recommend.interaction.recorded.v1","time":"{time}","data":{{"user_id":"user-{user:06}","entity_id":"item-{entity:05}","entity_type":"product","interaction_type":"{kind}"}}}}"#
        )
        .expect("memory takes every write");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_json_with_ids_in_order() {
        let mut maker = Maker::new(&kernel::SystemClock::new(), 10, 10, 0);
        let batch: Vec<serde_json::Value> = serde_json::from_slice(maker.batch("a", 5, 3)).unwrap();
        let ids: Vec<_> = batch.iter().map(|event| event["id"].as_str().unwrap()).collect();
        assert_eq!(ids, ["a-5", "a-6", "a-7"]);
        let none: Vec<serde_json::Value> = serde_json::from_slice(maker.batch("a", 5, 0)).unwrap();
        assert!(none.is_empty());
        let single: serde_json::Value = serde_json::from_slice(maker.single("b", 1)).unwrap();
        assert_eq!(single["data"]["entity_type"], "product");
    }
}
