//! Requests as the arm of a canary answers them.

use std::hash::Hash;

use kernel::Scope;

use super::{HttpState, RecommendParams};
use crate::canaries::Assigned;
use crate::events::ArmSettings;
use crate::service::Cursor;

impl RecommendParams {
    /// The same as the user's arm answers it, where the request leaves that open. A list that was begun goes on in the arm that
    /// began it.
    pub(super) fn in_canary(
        self,
        state: &HttpState,
        scope: &Scope,
        user_id: &str,
        subject: &impl Hash,
    ) -> (Self, Option<Assigned>) {
        let chosen = [&self.algorithm, &self.collaborative_weight, &self.content_weight, &self.diversity];
        if chosen.iter().any(|chosen| chosen.is_some()) {
            return (self, None);
        }
        let Some(assigned) = state.canaries.assigned(scope, user_id) else { return (self, None) };
        let own = self.as_arm(&assigned.settings);
        let goes_on = |params: &Self| {
            let fingerprint = params.fingerprint(scope, subject);
            self.cursor.as_deref().is_some_and(|text| Cursor::decode(text, fingerprint).is_ok())
        };
        if self.cursor.is_some() && !goes_on(&own) {
            let earlier = [self.as_arm(&assigned.other), self.clone()];
            // No arm is named: it is not the one that the user is in now.
            return (earlier.into_iter().find(goes_on).unwrap_or(own), None);
        }
        (own, Some(assigned))
    }

    fn as_arm(&self, arm: &ArmSettings) -> Self {
        Self {
            algorithm: arm.algorithm.clone(),
            collaborative_weight: arm.collaborative_weight.map(|weight| weight.to_string()),
            diversity: arm.diversity.map(|diversity| diversity.to_string()),
            ..self.clone()
        }
    }
}
