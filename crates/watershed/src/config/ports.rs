//! Further ports, each for a part of the API: those of a platform of several services, of which one process is all.
//!
//! They are off by default: the server's own port answers everything. To add a part: a variant of [`Part`], its field, and
//! what answers there (`crate::ports`).

use kernel::{Error, Result, codes};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A part of the API that may have a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    Registry,
    Serving,
    Embedding,
    Search,
}

impl Part {
    /// As settings have it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Registry => "registry",
            Self::Serving => "serving",
            Self::Embedding => "embedding",
            Self::Search => "search",
        }
    }

    /// The setting that names its port.
    pub(crate) fn setting(self) -> &'static str {
        match self {
            Self::Registry => "server.ports.registry",
            Self::Serving => "server.ports.serving",
            Self::Embedding => "server.ports.embedding",
            Self::Search => "server.ports.search",
        }
    }

    /// The port that operators know it at.
    fn usual_port(self) -> u16 {
        match self {
            Self::Registry => 5000,
            Self::Serving => 9005,
            Self::Embedding => 9006,
            Self::Search => 9007,
        }
    }

    fn is_built(self) -> bool {
        match self {
            Self::Registry | Self::Serving => true,
            Self::Embedding | Self::Search => cfg!(feature = "search"),
        }
    }

    /// Those that this build answers.
    pub(crate) fn built() -> impl Iterator<Item = Self> {
        let all = [Self::Registry, Self::Serving, Self::Embedding, Self::Search];
        all.into_iter().filter(|part| part.is_built())
    }
}

/// Ports beside the server's own, on which a part of the API answers under the same keys, limits and certificates. Each
/// answers the probes and `/metrics` too. None where missing; 0 takes a free one.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct PortSettings {
    /// Experiments, runs and models: MLflow's REST API and `/api/v1/models`. Usually 5000.
    pub registry: Option<u16>,
    /// Inference: the Open Inference Protocol, `/api/v1/predict`, `/api/v1/batch`, jobs, models, features. Usually 9005.
    pub serving: Option<u16>,
    /// Vectors of texts: `/api/v1/embed` and `/v1/embeddings`. `/api/v1/batch`, `/api/v1/models`, `/api/v1/jobs` and
    /// `/api/v1/reindex` are those of embeddings there. Usually 9006.
    pub embedding: Option<u16>,
    /// Search: `/api/v1/search`, and `/search` and `/index`. Usually 9007.
    pub search: Option<u16>,
}

impl PortSettings {
    /// The parts that have a port.
    pub(crate) fn asked(&self) -> Vec<(Part, u16)> {
        let all = [
            (Part::Registry, self.registry),
            (Part::Serving, self.serving),
            (Part::Embedding, self.embedding),
            (Part::Search, self.search),
        ];
        all.into_iter().filter_map(|(part, port)| Some((part, port?))).collect()
    }

    /// The usual port for each part that this build has and that has none.
    pub(super) fn fill(&mut self) {
        for part in Part::built() {
            let port = match part {
                Part::Registry => &mut self.registry,
                Part::Serving => &mut self.serving,
                Part::Embedding => &mut self.embedding,
                Part::Search => &mut self.search,
            };
            port.get_or_insert(part.usual_port());
        }
    }

    /// `main` is the server's own port.
    pub(super) fn validate(&self, main: u16) -> Result<()> {
        let mut taken = vec![("server.port", main)];
        for (part, port) in self.asked() {
            let refused =
                |rule: String| Err(Error::new(codes::VALIDATION_ERROR, rule).with_field(part.setting()));
            if !part.is_built() {
                return refused(
                    "this build has no search; build with `cargo build --features search`".to_owned(),
                );
            }
            if let Some((other, _)) = taken.iter().find(|(_, known)| *known == port && port != 0) {
                return refused(format!("must be another port than `{other}`, which is {port} too"));
            }
            taken.push((part.setting(), port));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_taken_once() {
        let check = |toml: &str, fault: Option<(&str, &str)>| {
            let settings: PortSettings = toml::from_str(toml).unwrap();
            let error = settings.validate(8080).err();
            let found = error.as_ref().map(|error| (error.field().unwrap_or_default(), error.message()));
            assert_eq!(found.map(|(field, _)| field), fault.map(|(field, _)| field), "{toml}");
            if let (Some((_, message)), Some((_, part))) = (found, fault) {
                assert!(message.contains(part), "{message}");
            }
        };
        check("", None);
        check("registry = 5000\nserving = 9005", None);
        check("registry = 0\nserving = 0", None);
        check("serving = 8080", Some(("server.ports.serving", "`server.port`, which is 8080 too")));
        check("registry = 9005\nserving = 9005", Some(("server.ports.serving", "`server.ports.registry`")));
        let needs_search =
            (!cfg!(feature = "search")).then_some(("server.ports.search", "--features search"));
        check("search = 9007", needs_search);
    }

    #[test]
    fn every_part_has_its_setting() {
        let settings =
            PortSettings { registry: Some(1), serving: Some(2), embedding: Some(3), search: Some(4) };
        for (part, _) in settings.asked() {
            assert_eq!(part.setting(), format!("server.ports.{}", part.name()));
        }
        assert_eq!(settings.asked().len(), 4);
        assert!(PortSettings::default().asked().is_empty());
    }
}
