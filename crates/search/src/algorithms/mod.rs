//! The pure part of search: scores, fusion of rankings, highlights, evaluation. No I/O, no clock, no index.
//!
//! An expert reads this first. It refuses to know where postings and vectors come from. To add a way to fuse rankings:
//! a variant of [`fusion::Fusion`]; to add a measure: a function in [`evaluation`], with `trec_eval` as its judge.

pub mod bm25;
pub mod evaluation;
pub mod fusion;
pub mod highlight;
pub mod typos;
