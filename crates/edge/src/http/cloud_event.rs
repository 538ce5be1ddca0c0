//! The shape of an event in the OpenAPI document. What is read is [`kernel::EventDraft`], which checks more than a schema
//! can say.

use utoipa::ToSchema;

/// A CloudEvent 1.0; attributes beside these are extensions.
#[derive(Debug, ToSchema)]
#[expect(dead_code, reason = "it documents the body, which is read as a draft of an event")]
pub struct CloudEvent {
    /// `1.0`.
    #[schema(schema_with = spec_version)]
    specversion: String,
    /// Unique within the source: sending it again stores nothing.
    id: String,
    /// Who made it, a URI reference.
    source: String,
    /// What happened.
    #[schema(rename = "type")]
    kind: String,
    /// What it happened to.
    subject: Option<String>,
    /// When; the time of arrival where missing.
    #[schema(format = DateTime)]
    time: Option<String>,
    /// Must be the credential's tenant where given.
    tenantid: Option<String>,
    /// Events with the same key stay in order.
    partitionkey: Option<String>,
    /// The media type of `data`.
    datacontenttype: Option<String>,
    /// The schema of `data`.
    dataschema: Option<String>,
    /// What the event says; its type tells what that must be.
    data: Option<serde_json::Value>,
    /// The same, where it is binary.
    data_base64: Option<String>,
}

fn spec_version() -> utoipa::openapi::Schema {
    crate::openapi::one_of(&["1.0"])
}

impl CloudEvent {
    /// One that the server takes.
    #[must_use]
    pub fn example(id: &str) -> serde_json::Value {
        serde_json::json!({
            "specversion": "1.0", "id": id, "source": "/shop", "type": "recommend.user.put.v1",
            "data": {"user_id": "grace", "attributes": {"country": "NL"}}
        })
    }
}
