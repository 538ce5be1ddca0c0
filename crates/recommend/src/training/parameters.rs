//! The settings of each algorithm: its defaults, and over them what `algorithm_settings` says by field name.
//!
//! Refuses: names of algorithms or fields that do not exist, values that the algorithm refuses.

use kernel::{Error, Result, codes};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::kind::Kind;
use super::settings::{Effort, TrainingSettings};
use crate::algorithms::AlgorithmError;
use crate::algorithms::als::AlsSettings;
use crate::algorithms::content::ContentSettings;
use crate::algorithms::ease::EaseSettings;
use crate::algorithms::graph_filter::GraphFilterSettings;
use crate::algorithms::neighbours::NeighboursSettings;
use crate::algorithms::sequence::SequenceSettings;
use crate::algorithms::sparse_ease::SparseEaseSettings;
use crate::algorithms::transitions::TransitionsSettings;
use crate::algorithms::user_neighbours::UserNeighboursSettings;
use crate::evaluation::tuning::SettingsMap;

/// Fields of [`SparseEaseSettings`] that dense EASE does not have.
const SPARSE_FIELDS: [&str; 2] = ["support", "neighbours"];

impl TrainingSettings {
    /// The field of the configuration that sets an algorithm.
    fn field(kind: Kind) -> String {
        format!("recommend.training.algorithm_settings.{}", kind.name())
    }

    /// `defaults` with those of the fields set for this algorithm that `belongs` picks by name.
    fn over<T: Serialize + DeserializeOwned>(
        &self,
        kind: Kind,
        defaults: T,
        belongs: impl Fn(&str) -> bool,
    ) -> Result<T> {
        let Some(changes) = self.algorithm_settings.get(kind.name()) else { return Ok(defaults) };
        let mut fields = fields_of(&defaults)?;
        let changes = changes.iter().filter(|(name, _)| belongs(name));
        fields.extend(changes.map(|(name, value)| (name.clone(), value.clone())));
        serde_json::from_value(Value::Object(fields)).map_err(|cause| {
            Error::new(codes::VALIDATION_ERROR, cause.to_string()).with_field(Self::field(kind))
        })
    }

    pub(super) fn neighbours(&self) -> Result<NeighboursSettings> {
        self.over(Kind::Neighbours, NeighboursSettings::default(), |_| true)
    }

    /// Of both forms; dense EASE takes its own from within.
    pub(super) fn linear(&self) -> Result<SparseEaseSettings> {
        let is_sparse = |name: &str| SPARSE_FIELDS.contains(&name);
        let ease = self.over(Kind::Linear, EaseSettings::default(), |name| !is_sparse(name))?;
        self.over(Kind::Linear, SparseEaseSettings { ease, ..SparseEaseSettings::default() }, is_sparse)
    }

    pub(super) fn factors(&self) -> Result<AlsSettings> {
        self.over(Kind::Factors, AlsSettings { seed: self.seed, ..AlsSettings::default() }, |_| true)
    }

    pub(super) fn graph(&self) -> Result<GraphFilterSettings> {
        self.over(
            Kind::Graph,
            GraphFilterSettings { seed: self.seed, ..GraphFilterSettings::default() },
            |_| true,
        )
    }

    pub(super) fn transitions(&self) -> Result<TransitionsSettings> {
        self.over(Kind::Transitions, TransitionsSettings::default(), |_| true)
    }

    pub(super) fn sequence(&self) -> Result<SequenceSettings> {
        let sequence = match self.effort {
            Effort::Full => SequenceSettings::default(),
            Effort::Light => SequenceSettings::light(),
        };
        self.over(Kind::Sequence, SequenceSettings { seed: self.seed, ..sequence }, |_| true)
    }

    pub(super) fn content(&self) -> Result<ContentSettings> {
        self.over(Kind::Content, ContentSettings::default(), |_| true)
    }

    pub(super) fn user_neighbours(&self) -> Result<UserNeighboursSettings> {
        self.over(Kind::UserNeighbours, UserNeighboursSettings::default(), |_| true)
    }

    /// Every field of an algorithm's settings as they are in force, by name.
    ///
    /// # Errors
    /// `VALIDATION_ERROR` where `algorithm_settings` cannot be read.
    pub(super) fn fields(&self, kind: Kind) -> Result<SettingsMap> {
        match kind {
            Kind::Popularity => Ok(SettingsMap::new()),
            Kind::Neighbours => fields_of(&self.neighbours()?),
            Kind::Linear => {
                let mut fields = fields_of(&self.linear()?)?;
                if let Some(Value::Object(ease)) = fields.remove("ease") {
                    fields.extend(ease);
                }
                Ok(fields)
            }
            Kind::Factors => fields_of(&self.factors()?),
            Kind::Graph => fields_of(&self.graph()?),
            Kind::Transitions => fields_of(&self.transitions()?),
            Kind::Sequence => fields_of(&self.sequence()?),
            Kind::Content => fields_of(&self.content()?),
            Kind::UserNeighbours => fields_of(&self.user_neighbours()?),
        }
    }

    /// Passes when the settings of every algorithm make sense.
    ///
    /// # Errors
    /// `VALIDATION_ERROR` naming the algorithm and the field.
    pub(super) fn validate_algorithms(&self) -> Result<()> {
        for (name, changes) in &self.algorithm_settings {
            let kind = Kind::named(name).filter(|kind| *kind != Kind::Popularity || changes.is_empty());
            let kind = kind.ok_or_else(|| {
                let known: Vec<_> = Kind::ALL[1..].iter().map(|kind| kind.name()).collect();
                let message = format!("`{name}` is not one of {}", known.join(", "));
                let field = "recommend.training.algorithm_settings";
                Error::new(codes::VALIDATION_ERROR, message).with_field(field)
            })?;
            let refused = |cause: AlgorithmError| {
                Error::new(codes::VALIDATION_ERROR, cause.to_string()).with_field(Self::field(kind))
            };
            match kind {
                Kind::Popularity => {}
                Kind::Neighbours => self.neighbours()?.validate().map_err(refused)?,
                Kind::Linear => self.linear()?.ease.validate().map_err(refused)?,
                Kind::Factors => self.factors()?.validate().map_err(refused)?,
                Kind::Graph => self.graph()?.validate().map_err(refused)?,
                Kind::Transitions => self.transitions()?.validate().map_err(refused)?,
                // That has checks of its own, which fitting makes.
                Kind::Sequence => self.sequence().map(|_| ())?,
                Kind::Content => self.content()?.validate().map_err(refused)?,
                Kind::UserNeighbours => self.user_neighbours()?.validate().map_err(refused)?,
            }
        }
        Ok(())
    }
}

fn fields_of<T: Serialize>(settings: &T) -> Result<SettingsMap> {
    match serde_json::to_value(settings).map_err(Error::internal)? {
        Value::Object(fields) => Ok(fields),
        _ => Ok(SettingsMap::new()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn fields_are_laid_over_the_defaults() {
        let check = |settings: Value, field: Option<&str>| {
            let settings = json!({ "algorithm_settings": settings });
            let settings: TrainingSettings = serde_json::from_value(settings).unwrap();
            let found = settings.validate().err();
            assert_eq!(found.as_ref().and_then(Error::field), field, "{found:?}");
            settings
        };
        check(json!({}), None);
        let settings =
            check(json!({"linear": {"l2": 200.0, "support": 50}, "factors": {"factor_count": 32}}), None);
        let linear = settings.linear().unwrap();
        assert_eq!((linear.ease.l2, linear.support, linear.ease.user_exponent), (200.0, 50, 0.5));
        assert_eq!(settings.factors().unwrap().factor_count, 32);
        assert_eq!(settings.factors().unwrap().seed, settings.seed, "the seed stays that of the training");
        assert_eq!(settings.fields(Kind::Linear).unwrap()["l2"], json!(200.0));
        check(json!({"neighbours": {"weighting": {"bm25": {"k1": 1.0, "b": 0.2}}}}), None);

        let field = |name: &str| format!("recommend.training.algorithm_settings.{name}");
        check(json!({"linear": {"lambda": 1.0}}), Some(&field("linear")));
        check(json!({"linear": {"l2": -1.0}}), Some(&field("linear")));
        check(json!({"factors": {"factor_count": "many"}}), Some(&field("factors")));
        check(json!({"content": {"similarity_threshold": 1.5}}), Some(&field("content")));
        check(json!({"magic": {}}), Some("recommend.training.algorithm_settings"));
        check(json!({"popularity": {"half_life": 1}}), Some("recommend.training.algorithm_settings"));
    }

    #[test]
    fn every_algorithm_has_its_name_and_fields() {
        let settings = TrainingSettings::default();
        for kind in Kind::ALL {
            assert_eq!(Kind::named(kind.name()), Some(*kind));
            assert_eq!(settings.fields(*kind).unwrap().is_empty(), *kind == Kind::Popularity);
        }
        assert_eq!(Kind::named("magic"), None);
    }
}
