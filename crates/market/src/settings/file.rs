//! A file of what is declared of sources and projections, apart from the settings of the server: `market.topology_file`.
//!
//! It has the same sections as `[market]`, of the same types, and holds beside it: feeds of the settings count first. It
//! refuses sections that it does not know, and a mapping where the settings have one.
//!
//! To add a section: a field, and what it is laid together with in [`TopologyFile::joined`].

use std::path::Path;

use kernel::Result;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{MarketSettings, invalid};
use crate::algorithms::feeds::Feed;
use crate::algorithms::projections::Projection;
use crate::algorithms::ticks::Mapping;

/// The setting that names the file.
const SETTING: &str = "market.topology_file";

/// What may be declared in a file of its own: `[mapping]`, `[[feeds]]`, `[[projections]]`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct TopologyFile {
    /// Where messages keep what, but for those of a feed.
    pub mapping: Option<Mapping>,
    /// Feeds that a mapping of paths cannot read.
    pub feeds: Vec<Feed>,
    /// What the newest price, quote or bar of each key makes, kept and answered.
    pub projections: Vec<Projection>,
}

/// What is declared in both places.
pub(super) struct Declared {
    pub(super) mapping: Mapping,
    pub(super) feeds: Vec<Feed>,
    pub(super) projections: Vec<Projection>,
}

impl TopologyFile {
    fn read(path: &Path) -> Result<Self> {
        let shown = path.display();
        let text = std::fs::read_to_string(path)
            .map_err(|cause| invalid(SETTING, format!("{shown} cannot be read: {cause}")))?;
        toml::from_str(&text).map_err(|cause| invalid(SETTING, format!("{shown}: {cause}")))
    }

    /// The settings and the file that they name, together.
    pub(super) fn joined(settings: &MarketSettings) -> Result<Declared> {
        let MarketSettings { mapping, feeds, projections, .. } = settings.clone();
        let mut declared = Declared { mapping, feeds, projections };
        let Some(path) = &settings.topology_file else { return Ok(declared) };
        let file = Self::read(path)?;
        if let Some(mapping) = file.mapping {
            if declared.mapping != Mapping::default() && declared.mapping != mapping {
                let rule = format!("{} has a mapping, and so has market.mapping; keep one", path.display());
                return Err(invalid(SETTING, rule));
            }
            declared.mapping = mapping;
        }
        declared.feeds.extend(file.feeds);
        declared.projections.extend(file.projections);
        Ok(declared)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::algorithms::ticks::Tenancy;

    fn settings(file: &str, rest: &str) -> (tempfile::TempDir, MarketSettings) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("topology.toml");
        std::fs::write(&path, file).unwrap();
        let settings = format!("topology_file = {:?}\n{rest}", path.display().to_string());
        (folder, toml::from_str(&settings).unwrap())
    }

    const FEED: &str = "[[feeds]]\nname = \"np\"\nsources = [\"np\"]\n\
                        [feeds.fields]\nsymbol = \"area\"\nprice = { cel = \"payload.cents / 100.0\" }\ntimestamp = \"at\"\n";
    const PROJECTION: &str =
        "[[projections]]\nname = \"last\"\nfrom = \"price\"\nfields = { price = \"event.price\" }\n";

    #[test]
    fn a_source_is_declared_in_a_file() {
        let (_folder, settings) = settings(&format!("{FEED}{PROJECTION}"), &FEED.replace("np", "other"));
        let rules = settings.rules().unwrap();
        let tenant = kernel::TenantId::new("desk").unwrap();
        for (source, price) in [("np", 0.5), ("other", 0.5)] {
            let message = format!(
                r#"{{"source_system":"{source}","area":"SE3","cents":50,"at":"2024-01-01T00:00:00Z"}}"#
            );
            let found = rules.read(message.as_bytes(), Tenancy::Only(&tenant), |tick, feed| {
                (tick.price, feed.map(str::to_owned))
            });
            assert_eq!(found.unwrap(), (Some(price), Some(source.to_owned())));
        }
        assert!(rules.projections.named("last").is_some());
    }

    #[test]
    fn what_is_wrong_with_a_file_is_told() {
        let check = |file: &str, rest: &str, field: &str, part: &str| {
            let (_folder, settings) = settings(file, rest);
            let error = settings.validate().unwrap_err();
            assert_eq!(error.field(), Some(field), "{file}");
            assert!(error.to_string().contains(part), "{error}");
        };
        check("[quality]\nprice_max = 1", "", SETTING, "unknown field `quality`");
        check("feeds = 1", "", SETTING, "topology.toml");
        check("[mapping]\nsymbol = [\"a\"]", "[mapping]\nsymbol = [\"b\"]", SETTING, "keep one");
        check(FEED, FEED, "market.feeds.np", "two feeds of this name");
        check(&PROJECTION.replace("event", "tick"), "", "market.projections.last.fields.price", "tick");
        let missing: MarketSettings = toml::from_str("topology_file = \"/none/topology.toml\"").unwrap();
        assert_eq!(missing.validate().unwrap_err().field(), Some(SETTING));
    }

    #[test]
    fn the_settings_and_the_file_have_one_schema() {
        let of = |schema: schemars::Schema, name: &str| schema.as_value()["$defs"][name].clone();
        for name in ["Feed", "Mapping", "Projection"] {
            let file = of(schemars::schema_for!(TopologyFile), name);
            assert!(file.is_object(), "{name}");
            assert_eq!(file, of(schemars::schema_for!(MarketSettings), name), "{name}");
        }
    }
}
