//! What other domains hold of a person, for the domain that forgets. One more: an implementation of `privacy::Holder`, and a
//! line where the domains are opened.

use std::sync::Arc;

use async_trait::async_trait;
use kernel::{Result, Scope};
use models::features::Features;
use privacy::Holder;

use crate::app::Ambient;
use crate::engines::Engines;

/// The type of the entities of feature sets that are users.
const USER: &str = "user";

/// Features of users.
#[derive(Debug)]
pub(crate) struct FeaturesOfUsers(Features);

impl FeaturesOfUsers {
    /// Over the engine that holds them.
    pub(crate) fn new(engines: &Engines, ambient: &Ambient) -> Self {
        Self(Features::new(Arc::clone(&engines.records), Arc::clone(&ambient.clock)))
    }
}

#[async_trait]
impl Holder for FeaturesOfUsers {
    fn what(&self) -> &'static str {
        "feature_rows"
    }

    async fn held(&self, scope: &Scope, user_id: &str) -> Result<u64> {
        self.0.count_everywhere(scope, USER, user_id).await
    }

    async fn forget(&self, scope: &Scope, user_id: &str) -> Result<u64> {
        self.0.forget_everywhere(scope, USER, user_id).await
    }
}
