//! Market data: raw ticks in; classified instruments, bars, spreads and curves out.
//!
//! - [`events`]: the wire. What a normalised tick and a dead letter look like, and the topics they travel on.
//! - [`algorithms`]: pure functions and structs, each with its paper or its rule. Read these first.
//!
//! | question | answer |
//! |---|---|
//! | what does this message say? | [`algorithms::ticks::normalise`] |
//! | what is this instrument? | [`algorithms::instruments::Taxonomy::classify`] |
//! | is this tick to be trusted? | [`algorithms::quality::assess`] |
//! | open, high, low, close, volume? | [`algorithms::bars::BarSeries`] |
//! | what is money worth in ten years? | [`algorithms::curves::Curve::bootstrap`] |
//!
//! It refuses a number that is not finite, a time whose unit must be guessed, and a price that nobody quoted: what is
//! missing stays missing and says so.
//!
//! To add a feed: a [`algorithms::ticks::Mapping`] in configuration, no code. To add an algorithm: a file in
//! `algorithms/`, pure, with a brute-force oracle in its tests.

pub mod algorithms;
pub mod events;
