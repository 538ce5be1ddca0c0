//! Dead letters: what was refused at the door or could not be folded, kept with the reason.
//!
//! A letter's id is derived from where it came from, so that a replay of the log does not write it twice.

use std::sync::Arc;

use kernel::{Error, Event, Result, Scope, Timestamp};
use serde::{Deserialize, Serialize};

use crate::{Document, Expect, IndexValue, Query, Records, Repository, Selection, Table};

/// The most bytes of a refused body that are kept.
const MAX_BODY_BYTES: usize = 16 << 10;

/// Something that was refused, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeadLetter {
    /// Unique in the tenant.
    pub id: String,
    /// When it was refused.
    pub refused_at: Timestamp,
    /// Where: `edge` or the topic of the log.
    pub stage: String,
    /// The stable code of the reason.
    pub code: String,
    /// The reason, for people.
    pub reason: String,
    /// The event's type, where it had one.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none", default)]
    pub kind: Option<String>,
    /// The event's id, where it had one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub event_id: Option<String>,
    /// What was sent, cut to 16 KiB.
    pub body: String,
}

impl DeadLetter {
    /// A letter for a stored event.
    #[must_use]
    pub fn of_event(id: String, event: &Event, code: &str, reason: String, now: Timestamp) -> Self {
        let stage = id.split(':').next().unwrap_or_default().to_owned();
        Self {
            id,
            refused_at: now,
            stage,
            code: code.to_owned(),
            reason,
            kind: Some(event.kind.clone()),
            event_id: Some(event.id.clone()),
            body: shorten(&String::from_utf8_lossy(&event.to_json())),
        }
    }

    /// A letter for text that did not become an event.
    #[must_use]
    pub fn of_text(id: String, text: &str, error: &Error, now: Timestamp) -> Self {
        Self {
            id,
            refused_at: now,
            stage: "edge".to_owned(),
            code: error.code().name.to_owned(),
            reason: error.to_string(),
            kind: None,
            event_id: None,
            body: shorten(text),
        }
    }
}

fn shorten(text: &str) -> String {
    let mut end = text.len().min(MAX_BODY_BYTES);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text[..end].to_owned()
}

impl Document for DeadLetter {
    const TABLE: Table = Table { name: "dead_letters", indexes: &["refused_at"] };

    fn key(&self) -> String {
        self.id.clone()
    }

    fn indexes(&self) -> Vec<(&'static str, IndexValue)> {
        vec![("refused_at", IndexValue::Integer(self.refused_at.as_millisecond()))]
    }
}

/// The dead letters of every tenant.
#[derive(Debug, Clone)]
pub struct DeadLetters {
    records: Arc<dyn Records>,
    letters: Repository<DeadLetter>,
}

impl DeadLetters {
    /// Over an engine.
    #[must_use]
    pub fn new(records: Arc<dyn Records>) -> Self {
        Self { letters: Repository::new(Arc::clone(&records)), records }
    }

    /// Keeps letters, replacing those with the same id.
    ///
    /// # Errors
    /// Those of the engine.
    pub async fn add(&self, scope: &Scope, letters: Vec<DeadLetter>) -> Result<()> {
        if letters.is_empty() {
            return Ok(());
        }
        let writes = letters
            .iter()
            .map(|letter| Repository::write(letter, Expect::Any))
            .collect::<Result<Vec<_>>>()?;
        self.records.commit(scope, writes).await.map(drop)
    }

    /// One page, newest first, and the cursor of the next.
    ///
    /// # Errors
    /// Those of [`Records::list`].
    pub async fn list(
        &self,
        scope: &Scope,
        cursor: Option<String>,
        limit: usize,
    ) -> Result<(Vec<DeadLetter>, Option<String>)> {
        let whole =
            Selection::Between("refused_at", IndexValue::Integer(i64::MIN), IndexValue::Integer(i64::MAX));
        let query = Query { selection: whole, descending: true, cursor, limit };
        let (letters, cursor) = self.letters.list(scope, &query).await?;
        Ok((letters.into_iter().map(|letter| letter.document).collect(), cursor))
    }

    /// One letter.
    ///
    /// # Errors
    /// Those of the engine.
    pub async fn get(&self, scope: &Scope, id: &str) -> Result<Option<DeadLetter>> {
        Ok(self.letters.get(scope, id).await?.map(|letter| letter.document))
    }

    /// Forgets one letter.
    ///
    /// # Errors
    /// Those of the engine.
    pub async fn remove(&self, scope: &Scope, id: &str) -> Result<()> {
        self.letters.delete(scope, id, Expect::Any).await
    }
}
