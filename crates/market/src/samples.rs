//! Raw ticks that are made up, to try things on: the same seed gives the same bytes.
//!
//! Prices walk around the level of their instrument, power through zero and below. What a [`Mode`] spoils is every fifth
//! message, so that what should become of a run can be told beforehand.
//!
//! To add a mode: a variant, what differs in [`Samples::new`] and [`Samples::message`].

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};

/// Symbol, market, level, largest step.
const INSTRUMENTS: [(&str, &str, f64, f64); 8] = [
    ("MISO_INDIANA_HUB", "MISO", 31.0, 6.0),
    ("PJM_WESTERN_HUB", "PJM", 35.0, 6.0),
    ("ERCOT_NORTH_HUB", "ERCOT", 28.0, 20.0),
    ("CAISO_NP15", "CAISO", 42.0, 9.0),
    ("NYISO_ZONE_J", "NYISO", 38.0, 6.0),
    ("BRENT_M1", "ICE", 81.0, 0.4),
    ("HENRY_HUB_M3", "NYMEX", 2.6, 0.03),
    ("CCA_V24", "ICE", 36.0, 0.2),
];

/// Every one of so many is spoilt, where a mode spoils.
const SPOILT_ONE_IN: u64 = 5;

const SECOND_US: i64 = 1_000_000;

/// What the ticks are like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Good, one a second.
    Batch,
    /// Good, one a minute.
    Historical,
    /// Good, a thousand a second.
    HighVolume,
    /// Every fifth is no tick.
    Malformed,
    /// Every fifth comes 400 to 2,000 seconds late.
    Late,
    /// Good, each at the time that it is asked for.
    Continuous,
}

impl Mode {
    /// How many there are where nobody says; none for without end.
    #[must_use]
    pub fn count(self) -> Option<u64> {
        match self {
            Self::Batch | Self::Malformed | Self::Late => Some(1_000),
            Self::Historical => Some(43_200),
            Self::HighVolume => Some(1_000_000),
            Self::Continuous => None,
        }
    }
}

/// Makes messages.
#[derive(Debug)]
pub struct Samples {
    mode: Mode,
    random: ChaCha8Rng,
    source: String,
    start_us: i64,
    made: u64,
    prices: [f64; INSTRUMENTS.len()],
}

impl Samples {
    /// Of a mode, the first one at `start_us`, microseconds since 1970.
    #[must_use]
    pub fn new(mode: Mode, seed: u64, start_us: i64) -> Self {
        let prices = INSTRUMENTS.map(|(_, _, level, _)| level);
        // Numbers begin again with each seed, and so the source has another name.
        let source = format!("sample-{seed}");
        Self { mode, random: ChaCha8Rng::seed_from_u64(seed), source, start_us, made: 0, prices }
    }

    /// The next message, as JSON in one line; of [`Mode::Continuous`] it happens at `now_us`.
    pub fn message(&mut self, now_us: i64) -> String {
        let (number, is_spoilt) = (self.made, self.made % SPOILT_ONE_IN == SPOILT_ONE_IN - 1);
        self.made += 1;
        let place = self.random.random_range(0..INSTRUMENTS.len());
        let (symbol, market, level, step) = INSTRUMENTS[place];
        let price = &mut self.prices[place];
        *price += (level - *price) * 0.05 + self.random.random_range(-step..step);
        let after_us = i64::try_from(number).unwrap_or(i64::MAX);
        let mut time_us = match self.mode {
            Mode::Continuous => now_us,
            Mode::Historical => self.start_us.saturating_add(after_us.saturating_mul(60 * SECOND_US)),
            Mode::HighVolume => self.start_us.saturating_add(after_us.saturating_mul(SECOND_US / 1_000)),
            _ => self.start_us.saturating_add(after_us.saturating_mul(SECOND_US)),
        };
        if self.mode == Mode::Late && is_spoilt {
            time_us -= self.random.random_range(400..2_000) * SECOND_US;
        }
        let mut message = json!({
            "source_system": self.source,
            "market": market,
            "symbol": symbol,
            "sequence": number + 1,
            "timestamp": time_us,
            "price": (*price * 100.0).round() / 100.0,
            "volume": self.random.random_range(1..50),
        });
        if self.mode == Mode::Malformed && is_spoilt {
            self.spoil(&mut message);
        }
        message.to_string()
    }

    /// What feeds do, and no tick can be made of.
    fn spoil(&mut self, message: &mut Value) {
        let (field, value) = match self.random.random_range(0..7) {
            0 => ("price", json!("NaN")),
            1 => ("price", json!(null)),
            2 => ("price", json!(true)),
            3 => ("symbol", json!("")),
            4 => ("timestamp", json!("soon")),
            5 => ("volume", json!("-Infinity")),
            _ => ("sequence", json!(-1)),
        };
        message[field] = value;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::algorithms::ticks::{Mapping, NoReference, Normaliser, Tenancy, normalise};
    use kernel::TenantId;

    const START_US: i64 = 1_704_067_200_000_000;

    fn messages(mode: Mode, seed: u64) -> Vec<String> {
        let mut samples = Samples::new(mode, seed, START_US);
        (0..500).map(|number| samples.message(START_US + number)).collect()
    }

    #[test]
    fn a_mode_spoils_what_it_says_and_a_seed_is_a_seed() {
        let normaliser = Normaliser::new(Mapping::default()).unwrap();
        let tenant = TenantId::new("desk").unwrap();
        let check = |mode: Mode, refused: usize, late: usize| {
            let all = messages(mode, 7);
            assert_eq!(all, messages(mode, 7), "{mode:?}");
            assert_ne!(all, messages(mode, 8), "{mode:?}");
            let (mut newest_us, mut found) = (i64::MIN, (0, 0));
            for text in &all {
                match normalise(text.as_bytes(), &normaliser, Tenancy::Only(&tenant), &NoReference) {
                    Ok(tick) => {
                        found.1 += usize::from(tick.occurred_us < newest_us.saturating_sub(300 * SECOND_US));
                        newest_us = newest_us.max(tick.occurred_us);
                    }
                    Err(_) => found.0 += 1,
                }
            }
            assert_eq!(found, (refused, late), "{mode:?}");
        };
        check(Mode::Batch, 0, 0);
        check(Mode::Historical, 0, 0);
        check(Mode::HighVolume, 0, 0);
        check(Mode::Continuous, 0, 0);
        check(Mode::Malformed, 100, 0);
        check(Mode::Late, 0, 100);
        let all = messages(Mode::Historical, 7);
        assert!(all.iter().any(|text| text.contains("\"price\":-")), "power is below zero at times");
    }
}
