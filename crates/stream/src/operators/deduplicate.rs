//! Leaves out what was seen before.
//!
//! Where producers number what they send, a stream is remembered as ranges of numbers, however long it is; the stream
//! must have a new name when its numbers begin again. Where they do not, the hashes of the identities are remembered
//! by event time for a horizon. What is too old to tell is not guessed at: it goes to the dead letters as
//! [`FORGOTTEN`].
//!
//! An item that everything after refuses is not remembered, so that it can be sent again once that was mended.

use std::convert::Infallible;

use kernel::Result;
use xxhash_rust::xxh3::xxh3_128;

use super::hashes::Hashes;
use super::keyed_map::KeyedMap;
use super::ranges::{Known, RangeSet};
use crate::operator::{Changed, Emit, Operator, Part, Site, State};
use crate::{Context, Rejection};

/// The code of a dead letter whose item is too old to tell whether it was seen.
pub const FORGOTTEN: &str = "FORGOTTEN";

/// For how long hashes are remembered.
#[derive(Debug, Clone, Copy)]
pub struct Deduplication {
    /// How far behind the watermark, at least, in milliseconds of event time.
    pub horizon_ms: i64,
    /// What is forgotten at once, in milliseconds of event time.
    pub bucket_ms: i64,
}

impl Default for Deduplication {
    fn default() -> Self {
        Self { horizon_ms: 24 * 60 * 60 * 1_000, bucket_ms: 10 * 60 * 1_000 }
    }
}

#[derive(Debug, Default)]
struct Memory {
    streams: KeyedMap<RangeSet>,
    hashes: Hashes,
}

/// Leaves out what was seen before.
#[derive(Debug)]
pub struct Deduplicate<F> {
    site: Site,
    settings: Deduplication,
    identify: F,
    memory: Memory,
    stream: Vec<u8>,
}

impl<F> Deduplicate<F> {
    pub(crate) fn new(name: &'static str, settings: Deduplication, identify: F) -> Self {
        assert!(settings.bucket_ms > 0, "hashes are forgotten by buckets of a positive size");
        Self { site: Site::new(name), settings, identify, memory: Memory::default(), stream: Vec::new() }
    }

    fn bucket(&self, time_ms: i64) -> i64 {
        time_ms.div_euclid(self.settings.bucket_ms)
    }

    /// The oldest bucket that is remembered at a watermark.
    fn oldest(&self, watermark_ms: i64) -> i64 {
        self.bucket(watermark_ms.saturating_sub(self.settings.horizon_ms.max(0)))
    }
}

/// What an item is remembered by.
#[derive(Clone, Copy)]
enum Identity {
    /// A number of the stream in [`Deduplicate::stream`].
    Number(u64),
    /// A bucket and a hash.
    Hash(i64, u128),
}

impl<F> Deduplicate<F> {
    /// Looks an identity up. A hash counts as seen from now on, a number from [`Deduplicate::settle`] on.
    fn look(&mut self, identity: Identity, context: &Context) -> Known {
        match identity {
            Identity::Number(number) => {
                self.memory.streams.get(&self.stream).map_or(Known::New, |seen| seen.look(number))
            }
            Identity::Hash(bucket, hash) => {
                let oldest = self.oldest(context.watermark_ms());
                self.memory.hashes.insert(context.tenant(), bucket, oldest, hash)
            }
        }
    }

    fn settle(&mut self, identity: Identity, is_kept: bool, context: &Context) {
        match identity {
            Identity::Number(number) if is_kept => {
                let remembered = self.memory.streams.change(&self.stream, |seen| {
                    seen.insert(number);
                    Ok::<(), Infallible>(())
                });
                let Ok(()) = remembered;
            }
            Identity::Hash(bucket, hash) if !is_kept => {
                self.memory.hashes.take_back(context.tenant(), bucket, hash);
            }
            _ => {}
        }
    }

    fn count(&mut self, known: Known, context: &mut Context) {
        let counts = &mut self.site.counts;
        counts.taken += 1;
        match known {
            Known::New => counts.passed += 1,
            Known::Seen => {
                counts.duplicates += 1;
                context.duplicate();
            }
            Known::Forgotten => {
                counts.rejected += 1;
                let reason =
                    "it is older than what is remembered, so that nobody knows whether it came before";
                context.reject(self.site.name, &Rejection { code: FORGOTTEN, reason: reason.to_owned() });
            }
        }
    }
}

impl<T, F> Operator<T> for Deduplicate<F>
where
    F: FnMut(&T, &mut Vec<u8>) -> Option<u64> + Send,
{
    type Out = T;

    fn push(&mut self, item: T, context: &mut Context, emit: &mut Emit<'_, T>) {
        let mut key = context.key();
        let tenant_bytes = key.len();
        let identity = match (self.identify)(&item, &mut key) {
            Some(number) => {
                self.stream.clear();
                self.stream.extend_from_slice(&key);
                Identity::Number(number)
            }
            None => Identity::Hash(self.bucket(context.time_ms()), xxh3_128(&key[tenant_bytes..])),
        };
        context.give_back(key);
        let known = self.look(identity, context);
        self.count(known, context);
        if known == Known::New {
            let before = context.fate;
            emit(item, context);
            let is_refused = context.fate.rejections > before.rejections;
            let is_kept = !is_refused || context.fate.arrivals > before.arrivals;
            self.settle(identity, is_kept, context);
        }
    }

    fn advance(&mut self, context: &mut Context, _: &mut Emit<'_, T>) {
        let oldest = self.oldest(context.watermark_ms());
        self.memory.hashes.forget(context.tenant(), oldest);
    }

    fn visit(&mut self, visitor: &mut dyn FnMut(Part<'_>)) {
        visitor(Part { site: &mut self.site, state: Some(&mut self.memory) });
    }
}

const STREAM: u8 = 0;
const HASH: u8 = 1;

fn tagged(tag: u8, key: &[u8]) -> Vec<u8> {
    [&[tag], key].concat()
}

impl State for Memory {
    fn drain(&mut self, see: &mut Changed<'_>) {
        self.streams.drain(&mut |key, value| see(&tagged(STREAM, key), value));
        self.hashes.drain(&mut |key, value| see(&tagged(HASH, key), value));
    }

    fn holds(&self, key: &[u8], value: &[u8]) -> bool {
        match key.split_first() {
            Some((&STREAM, key)) => self.streams.holds(key, value),
            Some((_, key)) => self.hashes.holds(key, value),
            None => false,
        }
    }

    fn load(&mut self, key: &[u8], value: Option<&[u8]>) -> Result<()> {
        match key.split_first() {
            Some((&STREAM, key)) => self.streams.load(key, value),
            Some((_, key)) => self.hashes.load(key, value),
            None => self.hashes.load(key, value),
        }
    }

    fn show(&self, see: &mut dyn FnMut(&[u8], &[u8])) {
        self.streams.show(&mut |key, value| see(&tagged(STREAM, key), value));
        self.hashes.show(&mut |key, value| see(&tagged(HASH, key), value));
    }

    fn len(&self) -> usize {
        self.streams.len() + self.hashes.len()
    }
}
