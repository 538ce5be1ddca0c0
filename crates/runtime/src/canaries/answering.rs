//! A request that takes part in a canary, an A/B test or a shadow.
//!
//! Where the candidate fails, or takes far longer than is slow, the champion answers, and the failure counts. What both refuse is the
//! caller's fault and counts for neither; so does a candidate that cannot be loaded for now. A shadow is asked beside, and what
//! asks never waits for it.

use std::sync::Arc;
use std::time::Duration;

use kernel::{Error, ErrorKind, Result, Scope, codes};
use rollout::canary::Arm;
use tokio::sync::OwnedSemaphorePermit;

use super::running::{Asked, Part, Running};
use crate::model::MODEL_UNUSABLE;
use crate::shelf::Loaded;
use crate::tensor::Tensor;
use crate::{Inference, NOT_FINITE, Runtime, Selector, outputs_of};

/// What became of asking a candidate.
enum Tried {
    Answered(Arc<Loaded>, Vec<Tensor>),
    Failed,
    /// It could not be asked, which says nothing of it.
    Away,
}

impl Runtime {
    /// Answers in the arm of whoever asks; `control` is what answers without a canary.
    pub(crate) async fn answer_in(
        &self,
        running: &Arc<Running>,
        (scope, model): (&Scope, &str),
        control: &Arc<Loaded>,
        asked: Asked<'_>,
        inputs: Vec<Tensor>,
    ) -> Result<Inference> {
        let arm = running.arm(asked.asker, self.0.canaries.draw());
        if running.is_shadow() {
            return self.answer_beside(running, (scope, model), control, (asked, arm), inputs).await;
        }
        if arm == Arm::Control {
            let (answered, took) = self.timed(outputs_of(control, inputs)).await;
            if !answered.as_ref().is_err_and(is_callers) {
                running.note(Arm::Control, asked.asker, answered.is_err(), took);
            }
            let part = Part { running, arm, failed: false };
            return self.told(scope, control, asked, Some(part), answered?).await;
        }
        let (tried, took) = self.candidate(running, (scope, model), &asked, inputs.clone()).await;
        if let Tried::Answered(candidate, outputs) = tried {
            running.note(Arm::Candidate, asked.asker, false, took);
            let part = Part { running, arm, failed: false };
            return self.told(scope, &candidate, asked, Some(part), outputs).await;
        }
        let answered = outputs_of(control, inputs).await;
        let has_failed = matches!(tried, Tried::Failed) && !answered.as_ref().is_err_and(is_callers);
        if has_failed {
            running.note(Arm::Candidate, asked.asker, true, took);
        }
        let part = has_failed.then_some(Part { running, arm, failed: true });
        let told = self.told(scope, control, asked, part, answered?).await?;
        // The champion answered.
        Ok(Inference { arm: None, ..told })
    }

    /// The champion answers; a shadow is asked beside where there is room for it.
    async fn answer_beside(
        &self,
        running: &Arc<Running>,
        (scope, model): (&Scope, &str),
        control: &Arc<Loaded>,
        (asked, arm): (Asked<'_>, Arm),
        inputs: Vec<Tensor>,
    ) -> Result<Inference> {
        let shadow = if arm == Arm::Candidate { running.shadow() } else { None };
        let for_shadow = shadow.map(|permit| (permit, inputs.clone()));
        let outputs = outputs_of(control, inputs).await?;
        if let Some((permit, inputs)) = for_shadow {
            self.ask_shadow(running, (scope, model), inputs, outputs.clone(), permit);
        }
        self.told(scope, control, asked, None, outputs).await
    }

    /// Asks the candidate, and for how long; loading it does not count.
    async fn candidate(
        &self,
        running: &Running,
        (scope, model): (&Scope, &str),
        asked: &Asked<'_>,
        inputs: Vec<Tensor>,
    ) -> (Tried, Duration) {
        let loaded = match self.loaded(scope, model, Selector::Version(running.candidate())).await {
            Ok(loaded) => loaded,
            Err(error) if [MODEL_UNUSABLE, codes::CORRUPTED].contains(&error.code()) => {
                return (Tried::Failed, Duration::ZERO);
            }
            Err(_) => return (Tried::Away, Duration::ZERO),
        };
        let asking = tokio::time::timeout(running.patience(), outputs_of(&loaded, inputs));
        let (answered, took) = self.timed(asking).await;
        let tried = match answered {
            // A call that is made where it is asked for cannot be cut off.
            Ok(_) if took > running.patience() => Tried::Failed,
            Ok(Ok(outputs)) if !asked.asker.keeps || self.0.monitor.can_keep(&outputs) => {
                Tried::Answered(loaded, outputs)
            }
            _ => Tried::Failed,
        };
        (tried, took)
    }

    async fn timed<T>(&self, work: impl Future<Output = T>) -> (T, Duration) {
        let clock = &self.0.parts.clock;
        let begun = clock.elapsed();
        let done = work.await;
        (done, clock.elapsed().saturating_sub(begun))
    }

    fn ask_shadow(
        &self,
        running: &Arc<Running>,
        (scope, model): (&Scope, &str),
        inputs: Vec<Tensor>,
        served: Vec<Tensor>,
        permit: OwnedSemaphorePermit,
    ) {
        let (runtime, running) = (self.clone(), Arc::clone(running));
        let (scope, model) = (scope.clone(), model.to_owned());
        tokio::spawn(async move {
            let asker = super::Asker::default();
            let asked = Asked { asker: &asker, persistence: std::collections::BTreeMap::new() };
            match runtime.candidate(&running, (&scope, &model), &asked, inputs).await {
                (Tried::Answered(loaded, outputs), took) => {
                    let by_row = loaded.model.signature().has_batch_axis;
                    running.compare(&served, Some(&outputs), by_row, took);
                }
                (Tried::Failed, took) => running.compare(&served, None, false, took),
                (Tried::Away, _) => running.skip(),
            }
            drop(permit);
        });
    }
}

/// Whether another version would refuse the same.
fn is_callers(error: &Error) -> bool {
    error.code() != NOT_FINITE && matches!(error.kind(), ErrorKind::Invalid | ErrorKind::NotFound)
}
