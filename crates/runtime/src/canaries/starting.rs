//! How a canary begins, and what makes no sense.

use std::collections::BTreeMap;

use edge::audit::Record;
use kernel::{Error, Permission, Result, Scope, codes};
use models::registered::{CHAMPION, Promotion, RegisteredModel, Stage as RegistryStage, Wanted};
use rollout::decision::Stage;
use store::{Document, Expect, Repository, Versioned};
use tracing::warn;

use super::documents::Canary;
use super::{Mode, NewCanary, Outcome, alias_of};
use crate::model::Signature;
use crate::tensor::DataType;
use crate::{Runtime, Selector};

impl Runtime {
    /// Begins a canary of a version against the champion.
    ///
    /// # Errors
    /// `PERMISSION_DENIED`; `NOT_FOUND`; `VALIDATION_ERROR` where the candidate is the champion, or takes or gives other tensors;
    /// `CONFLICT` where one runs; `MODEL_UNUSABLE`; those of the engine.
    pub(crate) async fn start_canary(&self, scope: &Scope, model: &str, asked: NewCanary) -> Result<Canary> {
        scope.require(Permission::Admin)?;
        let canaries = &self.0.canaries;
        check(&asked)?;
        let found = self.models().model(scope, model).await?;
        let (control, candidate) = self.arms(scope, &found, &asked).await?;
        let last = canaries.list(scope, &found.id, 1).await?.pop().map(|last| last.document);
        if let Some(last) = last.as_ref().filter(|last| last.stage == Stage::Running) {
            let message =
                format!("canary {} of version {} is running; end it first", last.sequence, last.candidate);
            return Err(Error::new(codes::CONFLICT, message));
        }
        let now_ms = canaries.now_ms();
        let canary = Canary {
            model_id: found.id.clone(),
            model: model.to_owned(),
            sequence: last.map_or(1, |last| last.sequence + 1),
            mode: asked.mode,
            outcome: asked.outcome,
            control,
            candidate,
            key: canaries.entropy.id(canaries.clock.now()).as_hyphenated().to_string(),
            percent: asked.plan.first_percent(),
            plan: asked.plan,
            slow_ms: asked.slow_ms,
            output: asked.output,
            loss_scale: asked.loss_scale,
            started_ms: now_ms,
            stage: Stage::Running,
            step_began_ms: now_ms,
            decisions: Vec::new(),
            shadow: None,
        };
        canaries.clear(scope, &found.id, &canary.key()).await?;
        // Before the canary, so that none is missed.
        canaries.tenants.note(scope.tenant()).await?;
        let details = BTreeMap::from([
            ("canary".to_owned(), canary.sequence.to_string()),
            ("control".to_owned(), canary.control.to_string()),
            ("candidate".to_owned(), canary.candidate.to_string()),
            ("mode".to_owned(), serde_json::to_string(&canary.mode).map_err(Error::internal)?),
            ("plan".to_owned(), serde_json::to_string(&canary.plan).map_err(Error::internal)?),
        ]);
        let record = Record { action: "model.canary_started".to_owned(), subject: model.to_owned(), details };
        let writes = vec![Repository::write(&canary, Expect::Absent)?];
        canaries.audit.append_with(scope, record, writes).await?;
        self.look_again(scope).await;
        Ok(canary)
    }

    /// The versions of both arms, ready to answer. The registry is asked where aliases point: what answers may be a second behind.
    async fn arms(&self, scope: &Scope, model: &RegisteredModel, asked: &NewCanary) -> Result<(u64, u64)> {
        let points = |alias: &str| {
            model.aliases.get(alias).copied().ok_or_else(|| {
                let message =
                    format!("`{}` has no alias `{}`; promote a version", model.name, alias.escape_debug());
                Error::new(codes::NOT_FOUND, message)
            })
        };
        let champion = points(CHAMPION)?;
        let candidate = match &asked.candidate {
            Selector::Version(version) => *version,
            Selector::Alias(alias) => {
                points(RegistryStage::parse(alias).and_then(RegistryStage::alias).unwrap_or(alias))?
            }
        };
        let refused = |message: String| Error::new(codes::VALIDATION_ERROR, message).with_field("version");
        if champion == candidate {
            return Err(refused("is the champion already".to_owned()));
        }
        let control = self.describe(scope, &model.name, Selector::Version(champion)).await?;
        let tried = self.describe(scope, &model.name, Selector::Version(candidate)).await?;
        if control.signature != tried.signature {
            let message = format!("takes or gives other tensors than version {champion}, the champion");
            return Err(refused(message));
        }
        check_output(&control.signature, asked)?;
        Ok((champion, candidate))
    }

    /// The alias of what is tried goes to the candidate, if the canary still is as it was found; whether it went. It does no harm
    /// where that fails, and the next look does it.
    pub(super) async fn point_canary(
        &self,
        scope: &Scope,
        found: &Versioned<Canary>,
        model: &RegisteredModel,
    ) -> bool {
        let canary = &found.document;
        let alias = alias_of(canary.mode);
        if model.aliases.get(alias) == Some(&canary.candidate) {
            return false;
        }
        let promotion = Promotion {
            wanted: Wanted::Version(canary.candidate),
            alias: alias.to_owned(),
            expected: None,
            reason: format!("canary {} runs", canary.sequence),
        };
        let unchanged = Repository::write(canary, Expect::Version(found.version));
        let pointed = match unchanged {
            Ok(write) => self.models().promote_with(scope, &canary.model, &promotion, &[write]).await,
            Err(error) => Err(error),
        };
        if let Err(error) = &pointed {
            warn!(model = %canary.model, alias, error = %error.chain(), "an alias does not point at what is tried");
        }
        pointed.is_ok()
    }

    /// Follows at once what was changed here; the next look does it where this fails.
    pub(super) async fn look_again(&self, scope: &Scope) {
        if let Err(error) = self.tend_tenant(scope.tenant()).await {
            self.0.canaries.metrics.failed_looks.inc();
            warn!(error = %error.chain(), "canaries of versions are not looked after for now");
        }
    }
}

fn check(asked: &NewCanary) -> Result<()> {
    let refused = |field: &'static str, rule: &str| {
        Err(Error::new(codes::VALIDATION_ERROR, rule.to_owned()).with_field(field))
    };
    if let Err(invalid) = asked.plan.validate() {
        let field = if invalid.field == "steps_percent" { "steps" } else { invalid.field };
        return refused(field, invalid.rule);
    }
    if asked.mode != Mode::Shadow && asked.plan.first_percent() == 100 {
        return refused("steps", "must begin below 100");
    }
    if !(asked.loss_scale.is_finite() && asked.loss_scale > 0.0) {
        return refused("loss_scale", "must be above 0");
    }
    Ok(())
}

/// Passes where a loss can be counted of the output.
fn check_output(signature: &Signature, asked: &NewCanary) -> Result<()> {
    let refused = |field: &'static str, message: String| {
        Err(Error::new(codes::VALIDATION_ERROR, message).with_field(field))
    };
    let mut numbers = signature.outputs.iter().filter(|output| output.kind != DataType::Bytes);
    match &asked.output {
        Some(name) if !signature.outputs.iter().any(|output| output.name == *name) => {
            refused("output", format!("the model gives no `{}`", name.escape_debug()))
        }
        Some(name) if !numbers.any(|output| output.name == *name) => {
            refused("output", "is text, of which there is no loss; take an output of numbers".to_owned())
        }
        None if asked.outcome == Outcome::Truth && asked.mode != Mode::Shadow && numbers.next().is_none() => {
            let message = "the model gives no numbers, and so no loss; take `answer`";
            refused("outcome", message.to_owned())
        }
        _ => Ok(()),
    }
}
