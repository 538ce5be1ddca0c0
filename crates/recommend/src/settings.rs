//! The `recommend` section of the configuration.

use std::collections::BTreeMap;

use kernel::{Error, Result, codes};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::events::kinds;
use crate::training::TrainingSettings;

/// Event types that can grow too old.
const RETAINED: [&str; 2] = [kinds::INTERACTION_RECORDED, kinds::USER_PUT];

/// How recommendations are made.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RecommendSettings {
    /// A rating below it is a dislike: it marks the entity as seen, takes earlier choices of it back and lowers its
    /// popularity by as much as it falls short. Where missing every rating above 0 is a choice. A change folds the log
    /// anew at the next start; `watershed evaluate` has its own `--min-rating`.
    pub rating_least: Option<f32>,
    /// What is taken in.
    pub ingest: IngestSettings,
    /// How answers are made.
    pub answers: AnswerSettings,
    /// How long answers are kept.
    pub cache: CacheSettings,
    /// What is trained.
    pub training: TrainingSettings,
    /// When models are trained.
    pub schedule: ScheduleSettings,
    /// Days after which events count no more, in views, exports and training: by the name of an interaction type, by
    /// `recommend.interaction.recorded.v1` for every interaction, or by `recommend.user.put.v1` for what is known of a
    /// user. Whole days (UTC). What grew too old does not come back when this is raised.
    pub retention_days: BTreeMap<String, u32>,
}

/// What is taken in.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct IngestSettings {
    /// Take interactions with entities that nobody described. Where false they are refused with 404.
    pub auto_register_entities: bool,
    /// Register an unknown interaction type with weight 1. Where false it is refused with 400.
    pub auto_register_interaction_types: bool,
}

impl Default for IngestSettings {
    fn default() -> Self {
        Self { auto_register_entities: true, auto_register_interaction_types: false }
    }
}

/// How answers are made.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct AnswerSettings {
    /// Recommendations where a request names no count.
    pub default_count: usize,
    /// The most a request may ask for.
    pub max_count: usize,
    /// The share of collaborative sources in the hybrid. With `content_based_weight` it replaces the learned blend.
    pub collaborative_weight: Option<f32>,
    /// The share of content in the hybrid. Must make 1 with `collaborative_weight`.
    pub content_based_weight: Option<f32>,
    /// Users with fewer interactions are answered as new ones (`cold_start` in the answer).
    pub cold_start_min_interactions: usize,
    /// The window of `trending`.
    pub trending_window_days: usize,
    /// A weight counts half in `trending` after so long.
    pub trending_half_life_days: f64,
    /// The work of the filter and the boosters for one answer, at most, counted as plain comparisons of an attribute.
    /// An answer that ends there says `complete: false`.
    pub max_expression_evaluations: usize,
}

impl Default for AnswerSettings {
    fn default() -> Self {
        Self {
            default_count: 10,
            max_count: 100,
            collaborative_weight: None,
            content_based_weight: None,
            cold_start_min_interactions: 5,
            trending_window_days: 7,
            trending_half_life_days: 2.0,
            max_expression_evaluations: 100_000,
        }
    }
}

/// How long answers are kept in the cache. An answer takes about as long to make as to fetch from another machine,
/// so nothing is kept unless a time is set. A user's own actions, changes of the catalogue and new models show in the
/// very next answer all the same; what others do shows in a user's kept answer once it has expired, and in every other
/// answer at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct CacheSettings {
    /// Seconds that answers for a user and about an entity are kept at most; 0 keeps none.
    pub recommendation_ttl_secs: u64,
    /// Seconds that trending, popular and latest are kept at most; 0 keeps none.
    pub trending_ttl_secs: u64,
}

/// When models are trained.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ScheduleSettings {
    /// Seconds between two looks at what changed: new entities, and whether training is due.
    pub incremental_update_interval_secs: u64,
    /// Hours after which the models are trained anew even if little changed.
    pub full_rebuild_interval_hours: u64,
    /// The models are trained anew when interactions grew by this share since the last training.
    pub rebuild_growth: f64,
    /// Interactions below which nothing is trained and answers come from popularity and content.
    pub min_interactions: u64,
    /// Threads for training; 0 takes half of the processors, at least one.
    pub threads: usize,
    /// Versions of the model that are kept.
    pub versions_kept: usize,
    /// Hours after an erasure in which the models that learned from the person may stay; then they are trained anew and
    /// every earlier version is removed. With 0 that begins at once.
    pub forget_within_hours: u32,
}

impl Default for ScheduleSettings {
    fn default() -> Self {
        Self {
            incremental_update_interval_secs: 10,
            full_rebuild_interval_hours: 24,
            rebuild_growth: 0.2,
            min_interactions: 50,
            threads: 0,
            versions_kept: 5,
            forget_within_hours: 24,
        }
    }
}

impl RecommendSettings {
    /// Passes when every setting makes sense.
    ///
    /// # Errors
    /// `VALIDATION_ERROR` naming the setting.
    pub fn validate(&self) -> Result<()> {
        let is_number = self.rating_least.is_none_or(f32::is_finite);
        require(is_number, "rating_least", "must be a number")?;
        let answers = &self.answers;
        require(answers.max_count >= 1, "answers.max_count", "must be at least 1")?;
        require(
            (1..=answers.max_count).contains(&answers.default_count),
            "answers.default_count",
            "must be between 1 and max_count",
        )?;
        match (answers.collaborative_weight, answers.content_based_weight) {
            (None, None) => {}
            (Some(one), Some(two)) => require(
                one >= 0.0 && two >= 0.0 && (one + two - 1.0).abs() < 1e-3,
                "answers.collaborative_weight",
                "must be 0 to 1 and make 1 with content_based_weight",
            )?,
            _ => require(false, "answers.content_based_weight", "give both weights or none")?,
        }
        require(
            (1..crate::views::activity::DAYS_KEPT).contains(&answers.trending_window_days),
            "answers.trending_window_days",
            "must be between 1 and 31",
        )?;
        require(
            answers.trending_half_life_days > 0.0 && answers.trending_half_life_days.is_finite(),
            "answers.trending_half_life_days",
            "must be above 0",
        )?;
        let long_enough = self.retention_days.values().all(|days| *days >= 1);
        require(long_enough, "retention_days", "must be at least 1 day each")?;
        let known = |name: &&String| !name.contains('.') || RETAINED.contains(&name.as_str());
        require(
            self.retention_days.keys().all(|name| known(&name)),
            "retention_days",
            "names an interaction type, `recommend.interaction.recorded.v1` or `recommend.user.put.v1`",
        )?;
        self.training.validate()?;
        let schedule = &self.schedule;
        require(
            schedule.incremental_update_interval_secs >= 1,
            "schedule.incremental_update_interval_secs",
            "must be at least 1",
        )?;
        require(
            schedule.full_rebuild_interval_hours >= 1,
            "schedule.full_rebuild_interval_hours",
            "must be at least 1",
        )?;
        require(schedule.rebuild_growth > 0.0, "schedule.rebuild_growth", "must be above 0")?;
        require(schedule.versions_kept >= 2, "schedule.versions_kept", "must be at least 2")
    }
}

fn require(holds: bool, setting: &str, rule: &str) -> Result<()> {
    if holds {
        return Ok(());
    }
    Err(Error::new(codes::VALIDATION_ERROR, rule).with_field(format!("recommend.{setting}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_checked() {
        let check = |toml: &str, field: Option<&str>| {
            let settings: RecommendSettings = serde_json::from_str(toml).unwrap();
            let found = settings.validate().err();
            assert_eq!(found.as_ref().and_then(Error::field), field, "{toml}");
        };
        check("{}", None);
        check(r#"{"answers":{"collaborative_weight":0.6,"content_based_weight":0.4}}"#, None);
        check(
            r#"{"answers":{"collaborative_weight":0.6,"content_based_weight":0.6}}"#,
            Some("recommend.answers.collaborative_weight"),
        );
        check(r#"{"answers":{"collaborative_weight":0.6}}"#, Some("recommend.answers.content_based_weight"));
        check(r#"{"answers":{"default_count":200}}"#, Some("recommend.answers.default_count"));
        check(r#"{"answers":{"trending_window_days":0}}"#, Some("recommend.answers.trending_window_days"));
        check(r#"{"schedule":{"versions_kept":1}}"#, Some("recommend.schedule.versions_kept"));
    }
}
