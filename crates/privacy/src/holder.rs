//! Who else holds something of a person, and removes it when the person is forgotten.

use std::fmt::Debug;

use async_trait::async_trait;
use kernel::{Result, Scope};

/// Holds something of persons under their user ids, unsealed. The binary plugs it into the domain that forgets, which asks it
/// before the person's keys go: what fails is tried again with the whole erasure.
#[async_trait]
pub trait Holder: Send + Sync + Debug {
    /// What it holds, as the audit names it, such as `feature_rows`.
    fn what(&self) -> &'static str;

    /// How much is held of a person, for the audit, which is written before anything is removed.
    ///
    /// # Errors
    /// Those of its engine.
    async fn held(&self, scope: &Scope, user_id: &str) -> Result<u64>;

    /// Removes all that is held of a person; how much that was. To be asked again does no harm.
    ///
    /// # Errors
    /// Those of its engine.
    async fn forget(&self, scope: &Scope, user_id: &str) -> Result<u64>;
}
