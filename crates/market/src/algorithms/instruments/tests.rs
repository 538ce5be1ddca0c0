//! The names of the guide, names that only look like others, and rules that disagree.

use proptest::prelude::*;

use super::*;

/// The names of the guide's notes, and what they are. Seneca is a mine in Colorado and places in five other states, so
/// that its name does not say a region.
const NAMES: &[(&str, &str, &str, &str)] = &[
    ("NG_HH_BALMO", "natural_gas", "southeast", "premium"),
    ("WTI_CUSHING", "crude_oil", "midwest", "premium"),
    ("NEW_ENGLAND_GAS", "natural_gas", "northeast", "standard"),
    ("SENECA_COAL", "coal", UNKNOWN, "standard"),
    ("TH_SP15_GEN-APND", "electricity", "west", "premium"),
    ("MISO_INDIANA_HUB", "electricity", "midwest", "premium"),
    ("PJM_WESTERN_HUB", "electricity", "northeast", "premium"),
    ("ERCOT_NORTH_HUB", "electricity", "texas", "premium"),
    ("NYISO_ZONE_J", "electricity", "northeast", "standard"),
    ("CAISO_NP15", "electricity", "west", "premium"),
    ("BRENT_M1", "crude_oil", "europe", "premium"),
    ("HENRY_HUB_M3", "natural_gas", "southeast", "premium"),
    ("RBOB_NYH", "refined_products", "northeast", "premium"),
    ("CCA_V24", "carbon", "west", "premium"),
];

#[test]
fn real_names_are_classified() {
    let taxonomy = Taxonomy::default();
    for (name, commodity, region, product_tier) in NAMES {
        let found = taxonomy.classify(name);
        let labels = [&found.commodity.label, &found.region.label, &found.product_tier.label];
        assert_eq!(labels, [commodity, region, product_tier], "{name}: {found:?}");
        assert!(!found.region.reason.is_empty() && found.confidence >= 0.5, "{name}: {found:?}");
        let lower = taxonomy.classify(&name.to_lowercase());
        assert_eq!((&lower.commodity.label, &lower.region.label), (labels[0], labels[1]), "{name}");
    }
}

#[test]
fn parts_of_words_say_nothing() {
    let taxonomy = Taxonomy::default();
    for name in ["", "___", "SENGAL", "MISOX", "WTIC", "ENGLAND", "WESTERN_NORTH", "GEN", "名前", "BRENTWOOD"]
    {
        let found = taxonomy.classify(name);
        for decision in [&found.commodity, &found.region, &found.product_tier] {
            assert_eq!(decision.label, UNKNOWN, "{name}: {found:?}");
            assert!(decision.reason.starts_with("no rule"), "{name}: {found:?}");
        }
        assert_eq!((found.method, found.confidence), (Method::Fallback, 0.1), "{name}");
    }
}

#[test]
fn what_is_said_counts_before_rules() {
    let mut rules = TaxonomyRules::default();
    rules.aliases.insert("hh front".to_owned(), "HENRY_HUB_M1".to_owned());
    let said =
        Override { region: Some("texas".to_owned()), reason: Some("desk".to_owned()), ..Override::default() };
    rules.overrides.insert("SENECA_COAL".to_owned(), said);
    let taxonomy = Taxonomy::new(rules).unwrap();
    let found = taxonomy.classify("SENECA_COAL");
    assert_eq!((found.region.label.as_str(), found.region.reason.as_str()), ("texas", "desk"));
    assert_eq!(
        (found.commodity.label.as_str(), found.method, found.confidence),
        ("coal", Method::Override, 0.95)
    );
    let found = taxonomy.classify("hh front");
    assert_eq!(
        (found.commodity.label.as_str(), found.alias_of.as_deref()),
        ("natural_gas", Some("HENRY_HUB_M1"))
    );
}

#[test]
fn rules_that_disagree_decide_nothing() {
    let found = Taxonomy::default().classify("MISO_PJM_INTERFACE");
    assert_eq!((found.commodity.label.as_str(), found.region.label.as_str()), ("electricity", UNKNOWN));
    assert!(found.region.reason.starts_with("rules disagree: midwest"), "{found:?}");
}

#[test]
fn rules_are_checked() {
    let vocabulary = "[vocabulary]\ncommodity=[\"coal\"]\nregion=[]\nproduct_tier=[]\n";
    let check = |rest: &str, is_good: bool| {
        assert_eq!(TaxonomyRules::from_toml(&format!("{vocabulary}{rest}")).is_ok(), is_good, "{rest}");
    };
    check("", true);
    check("[[rule]]\nwords=[\"A\"]\nrank=1\ncommodity=\"coal\"\nreason=\"r\"", true);
    check("[[rule]]\nwords=[\"M*\"]\nrank=1\nreason=\"r\"", true);
    check("[[rule]]\nwords=[\"A\"]\nrank=1\ncommodity=\"gold\"\nreason=\"r\"", false);
    check("[[rule]]\nwords=[]\nrank=1\nreason=\"r\"", false);
    check("[[rule]]\nwords=[\"a\"]\nrank=1\nreason=\"r\"", false);
    check("[aliases]\na=\"b\"\nb=\"c\"", false);
    check("[overrides.X]\nregion=\"moon\"", false);
    check("nonsense", false);
    TaxonomyRules::default().check().unwrap();
}

proptest! {
    #[test]
    fn any_name_is_answered(name in "\\PC{0,60}") {
        let found = Taxonomy::default().classify(&name);
        prop_assert!((0.0..=1.0).contains(&found.confidence));
        prop_assert!(!found.commodity.reason.is_empty());
    }
}
