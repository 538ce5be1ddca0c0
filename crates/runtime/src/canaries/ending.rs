//! How a canary is decided and ends: by its gates, by a champion that moves, by people.
//!
//! What moves the champion moves the canary in the same transaction, and expects both to be what was decided on: of two that decide
//! at once one is told that it came second.

use std::collections::BTreeMap;

use edge::audit::Record;
use kernel::{Error, Permission, Result, Scope, codes};
use models::registered::{CHAMPION, Promotion, Wanted};
use rollout::decision::Stage;
use store::{Expect, Repository, Versioned};
use tracing::warn;

use super::documents::{Canary, Decision};
use super::{Mode, alias_of};
use crate::Runtime;

const REASON_BYTES_MAX: usize = 1_000;
/// What the registry's history takes of a reason, with the name of the canary before it.
const HISTORY_BYTES_MAX: usize = 900;
const ATTEMPTS: usize = 8;

impl Runtime {
    /// Ends a canary by hand: the candidate answers all, or none.
    ///
    /// # Errors
    /// `PERMISSION_DENIED`; `NOT_FOUND`; `CONFLICT` where it has ended, or the gates promote it; those of the engine.
    pub(crate) async fn end_canary(
        &self,
        scope: &Scope,
        (model, sequence): (&str, u64),
        stage: Stage,
        reason: &str,
    ) -> Result<Canary> {
        scope.require(Permission::Admin)?;
        if reason.len() > REASON_BYTES_MAX {
            let message = format!("has at most {REASON_BYTES_MAX} bytes");
            return Err(Error::new(codes::VALIDATION_ERROR, message).with_field("reason"));
        }
        let canaries = &self.0.canaries;
        let actor = scope.actor().to_string();
        let model_id = self.models().model(scope, model).await?.id;
        for _ in 0..ATTEMPTS {
            let found = canaries.found(scope, &model_id, sequence).await?;
            let canary = &found.document;
            if canary.stage != Stage::Running {
                let message = "it has ended; `watershed rollback` moves a champion back";
                return Err(Error::new(codes::CONFLICT, message));
            }
            if stage == Stage::Complete && canary.mode == Mode::Canary {
                let message = "it is promoted by its gates; only an A/B test or a shadow is promoted by hand";
                return Err(Error::new(codes::CONFLICT, message));
            }
            let decision = Decision {
                at_ms: canaries.now_ms(),
                stage,
                percent: if stage == Stage::Complete { 100 } else { 0 },
                actor: Some(actor.clone()),
                reason: reason.to_owned(),
                reading: canaries.reading(scope, canary).await?,
            };
            match self.settle(scope, &found, decision).await {
                Ok(canary) => {
                    self.look_again(scope).await;
                    return Ok(canary);
                }
                Err(error) if error.code() == codes::CONFLICT => {}
                Err(error) => return Err(error),
            }
        }
        Err(Error::new(codes::CONFLICT, "the canary or its champion moves too fast; try again"))
    }

    /// Takes a decision.
    pub(super) async fn settle(
        &self,
        scope: &Scope,
        found: &Versioned<Canary>,
        decision: Decision,
    ) -> Result<Canary> {
        let canaries = &self.0.canaries;
        let (stage, reason) = (decision.stage, decision.reason.clone());
        let record = record(&found.document, &decision)?;
        let canary = self.decided(scope, &found.document, decision).await?;
        let write = Repository::write(&canary, Expect::Version(found.version))?;
        let champion = match stage {
            Stage::Complete => {
                let model = self.models().model(scope, &canary.model).await?;
                model.aliases.get(CHAMPION).copied().filter(|champion| *champion != canary.candidate)
            }
            Stage::Running | Stage::RolledBack => None,
        };
        if champion.is_some() {
            let told = format!("canary {}: {reason}", canary.sequence);
            let promotion = Promotion {
                wanted: Wanted::Version(canary.candidate),
                alias: CHAMPION.to_owned(),
                expected: Some(canary.control),
                reason: told[..told.floor_char_boundary(HISTORY_BYTES_MAX)].to_owned(),
            };
            self.models().promote_with(scope, &canary.model, &promotion, &[write]).await?;
            // The promotion is in the audit already, with the same reason.
            canaries.audit.append(scope, record).await?;
        } else if is_taken_back(&canary) {
            let reason = format!("canary {} was rolled back", canary.sequence);
            let tried = (alias_of(canary.mode), canary.candidate);
            self.models().put_away(scope, &canary.model, tried, &reason, &[write]).await?;
            canaries.audit.append(scope, record).await?;
        } else {
            canaries.audit.append_with(scope, record, vec![write]).await?;
        }
        canaries.metrics.decided(stage);
        if stage != Stage::Running {
            self.clear_alias(scope, &canary).await;
        }
        Ok(canary)
    }

    /// The canary as it stands after a decision.
    async fn decided(&self, scope: &Scope, before: &Canary, decision: Decision) -> Result<Canary> {
        let mut canary = before.clone();
        (canary.stage, canary.percent, canary.step_began_ms) =
            (decision.stage, decision.percent, decision.at_ms);
        if canary.stage != Stage::Running {
            canary.key.clear();
            if canary.mode == Mode::Shadow {
                canary.shadow = Some(self.0.canaries.answers(scope, before).await?.shadow);
            }
        }
        canary.decisions.push(decision);
        Ok(canary)
    }

    /// The alias of what was tried goes, where it still names that; it does no harm where that fails.
    async fn clear_alias(&self, scope: &Scope, canary: &Canary) {
        let alias = alias_of(canary.mode);
        let is_ours = match self.models().model(scope, &canary.model).await {
            Ok(model) => model.id == canary.model_id && model.aliases.get(alias) == Some(&canary.candidate),
            Err(_) => false,
        };
        if is_ours && let Err(error) = self.models().remove_alias(scope, &canary.model, alias).await {
            warn!(model = %canary.model, alias, error = %error.chain(), "an alias of a canary that ended stays");
        }
    }
}

/// Whether gates or people took the candidate back: not where the champion moved beneath it, or it was only listened to.
fn is_taken_back(canary: &Canary) -> bool {
    let last = canary.decisions.last();
    last.is_some_and(|last| last.stage == Stage::RolledBack && last.reading.is_some())
}

/// The audit's entry of a decision.
fn record(canary: &Canary, decision: &Decision) -> Result<Record> {
    let mut details = BTreeMap::from([
        ("canary".to_owned(), canary.sequence.to_string()),
        ("candidate".to_owned(), canary.candidate.to_string()),
        ("percent".to_owned(), decision.percent.to_string()),
        ("reason".to_owned(), decision.reason.clone()),
    ]);
    if let Some(reading) = &decision.reading {
        details.insert("evidence".to_owned(), serde_json::to_string(reading).map_err(Error::internal)?);
    }
    let action = format!("model.canary_{}", decision.stage.decided());
    Ok(Record { action, subject: canary.model.clone(), details })
}
