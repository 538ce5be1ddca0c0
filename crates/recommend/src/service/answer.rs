//! What an answer says. These types are the wire form too: an answer is made to be shown.

use std::collections::BTreeMap;

use kernel::Timestamp;
use serde::Serialize;
use utoipa::ToSchema;

use crate::attributes::AttributeValue;

/// Ranked entities and where they come from.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Answer {
    /// Names this answer; send it back as `answer_id` with the interactions that follow from it.
    pub answer_id: String,
    /// The user it is for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user_id: Option<String>,
    /// Best first.
    pub recommendations: Vec<Recommendation>,
    /// How many there are in this page.
    pub count: usize,
    /// The algorithm that was asked for.
    pub algorithm: &'static str,
    /// The first algorithm that answered in its place or filled the page, because that one had nothing more to say. There
    /// may be several, one behind the other: each result's reason tells its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fallback: Option<&'static str>,
    /// Whether too little is known of the user for a personal answer.
    pub cold_start: bool,
    /// The user does not agree to personal answers: nothing that they did was looked at.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub without_consent: bool,
    /// The version of the model; none where no model was needed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model_version: Option<u64>,
    /// When it was made; for an answer from the cache that was a while ago.
    #[schema(value_type = String, format = DateTime)]
    pub generated_at: Timestamp,
    /// The arm of the canary that answered, where one is tried on users.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub canary: Option<AnswerCanary>,
    /// What `query` found, where one was given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub search: Option<AnswerSearch>,
    /// False when the filter or the boosters took so much work that not every entity could be looked at.
    pub complete: bool,
    /// Pass it as `cursor` to get the next page.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_cursor: Option<String>,
}

/// What a text found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct AnswerSearch {
    /// How many items, at most 100.
    pub found: usize,
    /// How many of them are entities; only these can be recommended.
    pub entities: usize,
    /// What was not looked for although it should have been, and why.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fallback: Option<&'static str>,
}

/// The arm of a canary.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct AnswerCanary {
    /// The canary.
    pub name: String,
    /// `control` for what was served before, `candidate` for what is tried. A user stays in the candidate once there.
    pub arm: &'static str,
}

/// One ranked entity.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Recommendation {
    /// The entity.
    pub entity_id: String,
    /// Its type.
    pub entity_type: String,
    /// Higher is better; comparable within one answer only, and there among what one algorithm gave.
    pub score: f32,
    /// What its place rests on most.
    pub reason: String,
    /// The attributes that were asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<std::collections::HashMap<String, AttributeValue>>)]
    pub attributes: Option<BTreeMap<String, AttributeValue>>,
    /// What each source added to the score; the parts make the score.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub explanation: Option<Explanation>,
}

/// What a score is made of.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct Explanation {
    /// What each source added.
    pub sources: Vec<SourceShare>,
    /// What boosters added (the logarithm of their factors).
    #[serde(skip_serializing_if = "is_zero")]
    pub boost: f32,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(value: &f32) -> bool {
    *value == 0.0
}

/// What one source added to a score.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct SourceShare {
    /// The source.
    pub source: &'static str,
    /// Its score, in its own unit.
    pub raw: f32,
    /// What it added to the final score.
    pub contribution: f32,
    /// The history items that its score rests on most, with what each added to `raw`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub because: Vec<Because>,
}

/// A history item that a score rests on.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct Because {
    /// The entity that the user chose.
    pub entity_id: String,
    /// Its type.
    pub entity_type: String,
    /// What it added.
    pub contribution: f32,
}

/// Users who are like one.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct SimilarUsers {
    /// Names this answer.
    pub answer_id: String,
    /// The user.
    pub user_id: String,
    /// Nearest first.
    pub users: Vec<SimilarUser>,
    /// The user does not agree to personal answers: there are none.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub without_consent: bool,
    /// The version of the model.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model_version: Option<u64>,
    /// When.
    #[schema(value_type = String, format = DateTime)]
    pub generated_at: Timestamp,
}

/// A user who is like another.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct SimilarUser {
    /// The user.
    pub user_id: String,
    /// The cosine of the angle between the two users' tastes.
    pub score: f32,
    /// Entities that both chose.
    pub in_common: usize,
}
