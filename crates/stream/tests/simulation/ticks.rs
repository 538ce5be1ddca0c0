//! The topology under test, and a producer of everything that may come.

use kernel::{Event, EventDraft, Scope, TenantId, Timestamp};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};
use store::Topic;
use stream::{
    Deduplication, Emission, EventTime, KeyedFold, Partial, Punctuation, Rejection, Topology, WindowResult,
    Windows, read,
};

pub(crate) const INPUT: Topic = Topic::fixed("ticks");
pub(crate) const WINDOWS: Topic = Topic::fixed("windows");
pub(crate) const SLIDING: Topic = Topic::fixed("sliding");
pub(crate) const SESSIONS: Topic = Topic::fixed("sessions");
pub(crate) const SUMS: Topic = Topic::fixed("sums");
pub(crate) const DEAD: Topic = Topic::fixed("dead");

pub(crate) const RULE: EventTime =
    EventTime { delay_ms: 2_000, future_limit_ms: Some(100_000), believed_run: 4 };
pub(crate) const WINDOW_MS: i64 = 10_000;
pub(crate) const LATENESS_MS: i64 = 5_000;
pub(crate) const HOP_SIZE_MS: i64 = 6_000;
pub(crate) const HOP_MS: i64 = 2_000;
pub(crate) const HOP_LATENESS_MS: i64 = 1_000;
pub(crate) const GAP_MS: i64 = 1_500;
pub(crate) const HORIZON: Deduplication = Deduplication { horizon_ms: 60_000, bucket_ms: 7_000 };

pub(crate) fn outputs() -> [Topic; 5] {
    [WINDOWS, SLIDING, SESSIONS, SUMS, DEAD]
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Tick {
    pub(crate) instrument: String,
    pub(crate) stream: String,
    pub(crate) sequence: Option<u64>,
    pub(crate) identity: u64,
    pub(crate) amount: i64,
    pub(crate) time_ms: i64,
}

/// Count, sum, and the amounts in order: what is lost or doubled shows.
#[derive(Debug, Default, Clone, Serialize, Deserialize, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) count: u64,
    pub(crate) sum: i64,
}

impl Partial for Tally {
    type Item = Tick;
    type Output = Self;

    fn add(&mut self, _: i64, tick: &Tick) {
        self.count += 1;
        self.sum += tick.amount;
    }

    fn merge(&mut self, other: Self) {
        self.count += other.count;
        self.sum += other.sum;
    }

    fn finish(&self) -> Self {
        self.clone()
    }
}

struct Sum;

impl KeyedFold for Sum {
    type In = Tick;
    type State = i64;
    type Out = (String, i64, i64);

    fn key(&self, tick: &Tick, key: &mut Vec<u8>) {
        key.extend_from_slice(tick.instrument.as_bytes());
    }

    fn apply(&mut self, sum: &mut i64, tick: Tick, out: &mut Vec<Self::Out>) -> Result<(), Rejection> {
        if tick.amount == 13 {
            return Err(Rejection { code: "UNLUCKY", reason: "thirteen".to_owned() });
        }
        *sum += tick.amount;
        out.push((tick.instrument, tick.time_ms, *sum));
        Ok(())
    }
}

/// What a window says in its topic.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Said {
    pub(crate) key: String,
    pub(crate) start_ms: i64,
    pub(crate) end_ms: i64,
    pub(crate) revision: u32,
    pub(crate) is_retracted: bool,
    pub(crate) tally: Tally,
}

fn say(result: &WindowResult<Tally>) -> Result<Emission, Rejection> {
    let said = Said {
        key: String::from_utf8_lossy(&result.key).into_owned(),
        start_ms: result.start_ms,
        end_ms: result.end_ms,
        revision: result.revision,
        is_retracted: result.is_retracted,
        tally: result.value.clone(),
    };
    let time = Timestamp::from_millisecond(result.start_ms).unwrap();
    Ok(Emission::new("window", time, &said)?.about(said.key))
}

fn key(tick: &Tick, key: &mut Vec<u8>) {
    key.extend_from_slice(tick.instrument.as_bytes());
}

fn time_ms(tick: &Tick) -> i64 {
    tick.time_ms
}

pub(crate) fn topology() -> Topology {
    let fold = || (key, time_ms);
    let built = Topology::new("simulated", INPUT, move || {
        read("decode", |event| event.data_as::<Tick>().map_err(Rejection::from))
            .map("check", |tick: Tick| {
                assert!(tick.amount != 99, "ninety-nine");
                if tick.amount >= 0 {
                    Ok(tick)
                } else {
                    Err(Rejection { code: "NEGATIVE", reason: "is negative".to_owned() })
                }
            })
            .deduplicate("once", HORIZON, |tick, identity| {
                identity.extend_from_slice(tick.stream.as_bytes());
                if tick.sequence.is_none() {
                    identity.extend_from_slice(&tick.identity.to_le_bytes());
                }
                tick.sequence
            })
            .filter("wanted", |tick| tick.amount != 7)
            .branch(|ticks| {
                let windows = Windows::tumbling(WINDOW_MS).with_lateness(LATENESS_MS);
                ticks.window::<Tally, _>("windows", windows, fold()).to("windows_out", WINDOWS, say)
            })
            .branch(|ticks| {
                let windows = Windows::sliding(HOP_SIZE_MS, HOP_MS).with_lateness(HOP_LATENESS_MS);
                ticks.window::<Tally, _>("sliding", windows, fold()).to("sliding_out", SLIDING, say)
            })
            .branch(|ticks| {
                let sessions = ticks.session::<Tally, _>("sessions", GAP_MS, LATENESS_MS, fold());
                sessions.to("sessions_out", SESSIONS, say)
            })
            .keyed("sum", Sum)
            .to("sums_out", SUMS, |(instrument, time_ms, sum)| {
                let time = Timestamp::from_millisecond(*time_ms).unwrap();
                Ok(Emission::new("sum", time, sum)?.about(instrument.clone()))
            })
    });
    built.unwrap().with_dead_letters(DEAD).with_event_time(RULE)
}

/// Makes events of two tenants: mostly in order, some late, some twice, some bad, some a year ahead.
pub(crate) struct Producer {
    rng: ChaCha8Rng,
    now_ms: i64,
    sent: u64,
    sequences: [u64; 4],
    recent: Vec<(TenantId, Tick)>,
}

impl Producer {
    pub(crate) fn new(seed: u64) -> Self {
        let rng = ChaCha8Rng::seed_from_u64(seed ^ 0x9d);
        Self { rng, now_ms: 1_000_000, sent: 0, sequences: [0; 4], recent: Vec::new() }
    }

    /// None, one or some events.
    pub(crate) fn some(&mut self) -> Vec<Event> {
        let count = if self.rng.random_bool(0.5) { 0 } else { self.rng.random_range(1..4) };
        (0..count).map(|_| self.one()).collect()
    }

    fn one(&mut self) -> Event {
        self.now_ms += self.rng.random_range(0..1_200);
        let tenant = TenantId::new(["acme", "zenith"][self.rng.random_range(0..2)]).unwrap();
        let kind = self.rng.random_range(0..100);
        match kind {
            0..2 => {
                let is_idle = self.rng.random_bool(0.5);
                let partition = self.rng.random_range(0..2);
                let punctuation = Punctuation { partition, now_ms: self.now_ms, is_idle };
                return punctuation.event(&tenant, &format!("p{}", self.rng.random_range(0..4))).unwrap();
            }
            2..8 if !self.recent.is_empty() => {
                let (tenant, tick) = self.recent[self.rng.random_range(0..self.recent.len())].clone();
                return self.event(
                    &tenant,
                    &serde_json::to_value(&tick).unwrap(),
                    tick.time_ms,
                    &tick.instrument,
                );
            }
            8..10 => {
                let time_ms = self.now_ms;
                return self.event(&tenant, &serde_json::json!({"amount": "NaN"}), time_ms, "bad");
            }
            _ => {}
        }
        let time_ms = match kind {
            10..13 => self.now_ms + 365 * 86_400_000,
            13..20 => self.now_ms - self.rng.random_range(0..40_000),
            20..22 => self.now_ms - 200_000,
            22 if self.rng.random_bool(0.2) => {
                self.now_ms += 300_000;
                self.now_ms
            }
            _ => self.now_ms - self.rng.random_range(0..2_500),
        };
        let stream = self.rng.random_range(0..self.sequences.len());
        self.sequences[stream] += self.rng.random_range(1..3);
        let tick = Tick {
            instrument: format!("i{}", self.rng.random_range(0..5)),
            stream: format!("s{stream}"),
            sequence: (stream % 2 == 0).then_some(self.sequences[stream]),
            identity: self.sent,
            amount: self.rng.random_range(-2..100),
            time_ms,
        };
        self.recent.push((tenant.clone(), tick.clone()));
        if self.recent.len() > 30 {
            self.recent.remove(0);
        }
        self.event(&tenant, &serde_json::to_value(&tick).unwrap(), time_ms, &tick.instrument)
    }

    fn event(&mut self, tenant: &TenantId, data: &serde_json::Value, time_ms: i64, subject: &str) -> Event {
        self.sent += 1;
        let draft = EventDraft {
            specversion: Some("1.0".to_owned()),
            id: Some(self.sent.to_string()),
            source: Some("/producer".to_owned()),
            kind: Some("tick".to_owned()),
            subject: Some(subject.to_owned()),
            time: Some(Timestamp::from_millisecond(time_ms).unwrap().to_string()),
            data: Some(serde_json::value::to_raw_value(data).unwrap()),
            ..EventDraft::default()
        };
        draft.seal(&Scope::system(tenant.clone(), "test"), Timestamp::UNIX_EPOCH).unwrap()
    }
}
