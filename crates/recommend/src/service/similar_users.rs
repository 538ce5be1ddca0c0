//! Users who are like one: by the angle between their factors.

use kernel::{Result, Scope};

use super::Service;
use super::answer::{SimilarUser, SimilarUsers};
use super::context::Context;
use crate::algorithms::topk::ItemSet;
use crate::http::users::user_not_found;

impl Service {
    /// The users whose taste is nearest to one user's, as of the last training; the one user's as of now. Who agrees to no
    /// profile is shown to nobody.
    ///
    /// # Errors
    /// `USER_NOT_FOUND` when nothing is known of the user.
    pub fn similar_users(&self, scope: &Scope, user_id: &str, count: usize) -> Result<SimilarUsers> {
        let view = self.views.of(scope);
        let view = view.read();
        let index = view.users.find(user_id).ok_or_else(|| user_not_found(user_id))?;
        let user = view.users.get(index).ok_or_else(|| user_not_found(user_id))?;
        let agreed = user.consent.personalisation;
        let history = if agreed { &user.history[..] } else { &[] };
        let context = Context::of_user(&view, history);
        let model = self.model(scope, &view, None)?;
        let may_be_shown = |other: u32| {
            view.users.get(other).is_some_and(|other| other.consent.personalisation && other.consent.training)
        };
        let nearest = model
            .as_ref()
            .map(|model| model.similar_users(context.history(), index, count, may_be_shown))
            .unwrap_or_default();
        let in_common = |other: u32| {
            let history = view.users.get(other).map_or(&[][..], |other| &other.history);
            let both =
                history.iter().map(|entry| entry.entity).filter(|entity| context.seen.contains(*entity));
            let mut counted = ItemSet::default();
            both.filter(|entity| {
                let is_new = !counted.contains(*entity);
                counted.insert(*entity);
                is_new
            })
            .count()
        };
        let named = nearest.into_iter().filter_map(|(other, score)| {
            let user_id = view.users.get(other)?.id.to_string();
            Some(SimilarUser { user_id, score, in_common: in_common(other) })
        });
        let now = self.clock.now();
        Ok(SimilarUsers {
            answer_id: self.entropy.id(now).as_hyphenated().to_string(),
            user_id: user_id.to_owned(),
            users: named.collect(),
            without_consent: !agreed,
            model_version: model.map(|model| model.version),
            generated_at: now,
        })
    }
}
