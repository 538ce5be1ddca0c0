//! The names of the guide's notes, and what they are.

use market::algorithms::instruments::{Taxonomy, UNKNOWN};
use serde_json::{Value, json};

/// Name, commodity, region. Seneca is taken for the mine in Colorado.
const NAMES: [(&str, &str, &str); 14] = [
    ("NG_HH_BALMO", "natural_gas", "southeast"),
    ("WTI_CUSHING", "crude_oil", "midwest"),
    ("NEW_ENGLAND_GAS", "natural_gas", "northeast"),
    ("SENECA_COAL", "coal", "west"),
    ("TH_SP15_GEN-APND", "electricity", "west"),
    ("MISO_INDIANA_HUB", "electricity", "midwest"),
    ("PJM_WESTERN_HUB", "electricity", "northeast"),
    ("ERCOT_NORTH_HUB", "electricity", "texas"),
    ("NYISO_ZONE_J", "electricity", "northeast"),
    ("CAISO_NP15", "electricity", "west"),
    ("BRENT_M1", "crude_oil", "europe"),
    ("HENRY_HUB_M3", "natural_gas", "southeast"),
    ("RBOB_NYH", "refined_products", "northeast"),
    ("CCA_V24", "carbon", "west"),
];

pub(crate) fn run() -> Value {
    let taxonomy = Taxonomy::default();
    let (mut right, mut wrong, mut unknown) = (0, 0, Vec::new());
    for (name, commodity, region) in NAMES {
        let found = taxonomy.classify(name);
        let mut is_right = true;
        for (decision, expected) in [(&found.commodity, commodity), (&found.region, region)] {
            is_right &= decision.label == expected;
            if decision.label == UNKNOWN && !decision.reason.is_empty() {
                unknown.push(format!("{name}: {}", decision.reason));
            } else if decision.label != expected {
                wrong += 1;
            }
        }
        right += i32::from(is_right);
    }
    json!({ "names": NAMES.len(), "right": right, "wrong_labels": wrong, "unknown": unknown })
}
