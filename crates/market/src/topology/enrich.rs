//! Ticks with what their instrument is, and how far they are to be trusted.

use std::sync::Arc;

use compact_str::CompactString;
use kernel::Result;
use rustc_hash::FxHashMap;
use stream::{Rejection, Topology, read};

use super::{ENRICHED_TICKS, NORMALISED_TICKS, decode, emission};
use crate::algorithms::instruments::{Classification, Method};
use crate::algorithms::quality::{Observed, assess};
use crate::events::{Labels, TickMessage, kinds};
use crate::settings::Rules;

/// Classifications that are kept, of which each is a few hundred bytes.
const MOST_KNOWN: usize = 100_000;

pub(super) fn topology(rules: &Arc<Rules>) -> Result<Topology> {
    let rules = Arc::clone(rules);
    Topology::new("enrichment", NORMALISED_TICKS, move || {
        let mut enricher = Enricher::new(Arc::clone(&rules));
        read("decode", decode)
            .map("enrich", move |tick| enricher.enrich(Arc::unwrap_or_clone(tick)).map(Arc::new))
            .to("enriched", ENRICHED_TICKS, |tick| emission(kinds::ENRICHED_TICK, tick))
    })
}

/// Adds to ticks what is known. What it keeps of instruments changes no answer.
#[derive(Debug)]
pub struct Enricher {
    rules: Arc<Rules>,
    known: FxHashMap<CompactString, Labels>,
}

impl Enricher {
    /// By these rules.
    #[must_use]
    pub fn new(rules: Arc<Rules>) -> Self {
        Self { rules, known: FxHashMap::default() }
    }

    /// The tick with its labels and flags.
    ///
    /// # Errors
    /// `FROM_THE_FUTURE`.
    pub fn enrich(&mut self, mut tick: TickMessage) -> Result<TickMessage, Rejection> {
        let instrument = &tick.payload.instrument_id;
        let labels = match self.known.get(instrument) {
            Some(known) => known.clone(),
            None => {
                let labels = Labels::from(&self.rules.taxonomy.classify(instrument));
                if self.known.len() == MOST_KNOWN {
                    self.known.clear();
                }
                self.known.insert(instrument.clone(), labels.clone());
                labels
            }
        };
        let is_known = labels.method != Method::Fallback.name() || self.rules.terms.knows(instrument);
        let observed = Observed {
            price: tick.payload.price,
            volume: tick.payload.volume,
            occurred_us: tick.occurred_at,
            arrived_us: tick.ingested_at,
            has_metadata: is_known,
            is_duplicate: false,
        };
        let flags = assess(&observed, &self.rules.quality)
            .map_err(|fault| Rejection { code: "FROM_THE_FUTURE", reason: fault.to_string() })?;
        tick.payload.quality_flags = Some(flags.names().map(CompactString::const_new).collect());
        tick.payload.taxonomy = Some(labels);
        Ok(tick)
    }
}

impl From<&Classification> for Labels {
    fn from(found: &Classification) -> Self {
        Self {
            commodity: found.commodity.label.as_str().into(),
            region: found.region.label.as_str().into(),
            product_tier: found.product_tier.label.as_str().into(),
            confidence: found.confidence,
            method: CompactString::const_new(found.method.name()),
        }
    }
}
