//! The text of a request: what it finds is what may be recommended.

use std::sync::Arc;

use kernel::{Error, Result, Scope, codes};

use super::{HttpState, RecommendParams};
use crate::candidates::{Candidates, NO_SEARCH};
use crate::service::Query;

/// The longest text, in bytes.
const TEXT_BYTES_MAX: usize = 4_096;

impl RecommendParams {
    /// The text, checked.
    pub(super) fn text(&self, state: &HttpState) -> Result<Option<String>> {
        let Some(text) = &self.query else { return Ok(None) };
        let refuse = |code, message: String| Err(Error::new(code, message).with_field("query"));
        if text.trim().is_empty() || text.len() > TEXT_BYTES_MAX {
            let message = format!("must be 1 to {TEXT_BYTES_MAX} bytes, not all of them spaces");
            return refuse(codes::VALIDATION_ERROR, message);
        }
        if state.candidates.is_none() {
            let message = "needs a binary that was built with the feature `search`; leave it out";
            return refuse(NO_SEARCH, message.to_owned());
        }
        Ok(Some(text.clone()))
    }
}

/// The same query with what its text finds; it is as it was where it has none.
pub(super) async fn find(state: &HttpState, scope: &Scope, query: Query) -> Result<Query> {
    let (Some(text), Some(source)) = (&query.text, &state.candidates) else { return Ok(query) };
    let entity_type = query.entity_type.as_deref();
    // Of a type that no entity has, nothing can be recommended: the source is not asked about texts that are no types.
    let is_known = |name| state.views.of(scope).read().entities.type_index(name).is_some();
    let found = match entity_type.is_none_or(is_known) {
        true => source.find(scope, text, entity_type).await?,
        false => Candidates::default(),
    };
    Ok(Query { candidates: Some(Arc::new(found)), ..query })
}
