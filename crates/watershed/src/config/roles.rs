//! What a server of a deployment does: the roles of `server.roles`.
//!
//! To add one: a variant of [`Role`], what it does in `commands/serve.rs`, its row in `docs/deployment.md`.

use std::collections::BTreeSet;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Something that a server of a deployment does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Role {
    /// Answers requests.
    Api,
    /// Does what is done once for all: stages of market data, vectors of texts, checkpoints, dead letters, retention, backups, webhooks.
    Stream,
    /// Takes part in the election of who trains.
    Trainer,
}

impl Role {
    pub(crate) const ALL: [Self; 3] = [Self::Api, Self::Stream, Self::Trainer];

    /// As settings have it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Api => "api",
            Self::Stream => "stream",
            Self::Trainer => "trainer",
        }
    }

    /// What is not done where no server has it.
    pub(crate) fn loss(self) -> &'static str {
        match self {
            Self::Api => "requests are not answered",
            Self::Stream => {
                "nobody processes ticks, makes vectors of texts, writes checkpoints and dead letters, cuts the log, ships \
                 backups or sends webhooks"
            }
            Self::Trainer => "models are not trained",
        }
    }
}

/// The roles of a server; all of them where not said.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub(crate) struct Roles(BTreeSet<Role>);

impl Default for Roles {
    fn default() -> Self {
        Self(Role::ALL.into())
    }
}

impl Roles {
    pub(crate) fn has(&self, role: Role) -> bool {
        self.0.contains(&role)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Their names with commas between.
    pub(crate) fn names(&self) -> String {
        self.0.iter().map(|role| role.name()).collect::<Vec<_>>().join(", ")
    }
}
