//! A canary that runs, as this process serves it: who is in which arm, and what became of their answers.
//!
//! Of a subject the first answer counts, whichever arm it was in: what one subject asks hangs together, and counting it as many
//! would make chance look like proof. Who says nothing of who they are is another subject each time.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use kernel::TenantId;
use parking_lot::Mutex;
use rollout::assignment::is_candidate;
use rollout::canary::Arm;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::documents::{Answers, Canary, Member, Mode, Outcome};
use crate::monitoring::watch::number;
use crate::shelf::Place;
use crate::tensor::{Tensor, Values};

/// Requests that a shadow answers at once, in one process; more are left out.
const SHADOWS_AT_ONCE: usize = 8;
/// Subjects that count in one process; more do not.
const SUBJECTS_MAX: usize = 100_000;
/// How long a candidate may take before the champion answers: so many times what is slow, within these bounds.
const PATIENCE_FACTOR: u32 = 10;
const PATIENCE_LEAST: Duration = Duration::from_secs(1);
const PATIENCE_MOST: Duration = Duration::from_secs(10);
/// Values of an answer that are compared with the shadow's.
const COMPARED_MAX: usize = 64;
/// Examples of one request that are.
const ROWS_COMPARED_MAX: usize = 16;

/// Who asks, as far as a canary wants to know.
#[derive(Debug, Clone, Default)]
pub struct Asker {
    /// The same subject stays in the same arm; without one, each request is drawn.
    pub subject: Option<String>,
    /// Whether the prediction is written down, so that a truth may be joined to it later.
    pub keeps: bool,
}

/// Whether a subject came before.
enum Came {
    First,
    /// To the other arm.
    Moved,
    Again,
}

/// What is kept of a request beside its inputs.
#[derive(Debug)]
pub(crate) struct Asked<'a> {
    pub(crate) asker: &'a Asker,
    /// What persistence says, where the prediction is to be kept.
    pub(crate) persistence: BTreeMap<String, f64>,
}

/// The part that an answer has in a canary.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Part<'a> {
    pub(crate) running: &'a Running,
    pub(crate) arm: Arm,
    /// The candidate failed, and the champion answered in its place.
    pub(crate) failed: bool,
}

/// A canary that runs.
#[derive(Debug)]
pub(crate) struct Running {
    pub(super) tenant: TenantId,
    pub(super) canary: Canary,
    /// What this process saw, and whether it is to be written.
    pub(super) seen: Arc<Mutex<(Answers, bool)>>,
    /// The arm of each subject's last answer, by a hash of who it is.
    subjects: Arc<Mutex<HashMap<u64, Arm>>>,
    shadows: Arc<Semaphore>,
}

impl Running {
    pub(super) fn new(tenant: TenantId, canary: Canary, process: &str) -> Self {
        let seen = Answers {
            canary: store::Document::key(&canary),
            process: process.to_owned(),
            ..Answers::default()
        };
        let shadows = Arc::new(Semaphore::new(SHADOWS_AT_ONCE));
        Self { tenant, canary, seen: Arc::new(Mutex::new((seen, false))), subjects: Arc::default(), shadows }
    }

    /// The same at its next step, with what was seen.
    pub(super) fn moved(&self, canary: Canary) -> Self {
        let (seen, subjects) = (Arc::clone(&self.seen), Arc::clone(&self.subjects));
        Self { tenant: self.tenant.clone(), canary, seen, subjects, shadows: Arc::clone(&self.shadows) }
    }

    /// The version that the candidate is.
    pub(crate) fn candidate(&self) -> u64 {
        self.canary.candidate
    }

    /// Whether the champion that answers is the one that the candidate is compared with.
    pub(crate) fn is_control(&self, place: &Place) -> bool {
        self.canary.control == place.version && self.canary.model_id == place.model_id
    }

    /// How long the candidate may take.
    pub(crate) fn patience(&self) -> Duration {
        (Duration::from_millis(self.canary.slow_ms) * PATIENCE_FACTOR).clamp(PATIENCE_LEAST, PATIENCE_MOST)
    }

    /// Which arm answers; `draw` stands for who does not say who they are. Of a shadow: whether it is asked too.
    pub(crate) fn arm(&self, asker: &Asker, draw: u64) -> Arm {
        let drawn = || format!("{draw:016x}");
        let subject = asker.subject.clone().unwrap_or_else(drawn);
        match is_candidate(&self.canary.key, &subject, self.canary.percent) {
            true => Arm::Candidate,
            false => Arm::Control,
        }
    }

    pub(crate) fn is_shadow(&self) -> bool {
        self.canary.mode == Mode::Shadow
    }

    /// Counts an answer, or that there was none, where it is the first of its subject.
    pub(crate) fn note(&self, arm: Arm, asker: &Asker, failed: bool, took: Duration) {
        let before = asker.subject.as_ref().map(|subject| self.came(subject, arm));
        let (is_first, has_moved) = match before {
            None | Some(Came::First) => (true, false),
            Some(Came::Moved) => (false, true),
            Some(Came::Again) => return,
        };
        let share = |holds: bool| f64::from(u8::from(holds));
        let slow = took > Duration::from_millis(self.canary.slow_ms);
        let by_answer = self.canary.outcome == Outcome::Answer;
        let mut seen = self.seen.lock();
        let (seen, is_new) = &mut *seen;
        *is_new = true;
        if by_answer && arm == Arm::Candidate && (is_first || has_moved) {
            *seen.by_step.entry(self.canary.percent).or_default() += 1;
        }
        if is_first {
            let counts = match arm {
                Arm::Control => &mut seen.control,
                Arm::Candidate => &mut seen.candidate,
            };
            counts.errors.add(share(failed));
            counts.latency.add(share(slow));
            if by_answer {
                counts.loss.add(share(failed));
            }
        }
    }

    fn came(&self, subject: &str, arm: Arm) -> Came {
        let hash = blake3::hash(subject.as_bytes());
        let hash = hash.as_bytes().first_chunk::<8>().map_or(0, |bytes| u64::from_le_bytes(*bytes));
        let mut subjects = self.subjects.lock();
        let is_full = subjects.len() >= SUBJECTS_MAX;
        match subjects.entry(hash) {
            Entry::Vacant(_) if is_full => Came::Again,
            Entry::Vacant(vacant) => {
                vacant.insert(arm);
                Came::First
            }
            Entry::Occupied(mut known) if *known.get() != arm => {
                known.insert(arm);
                Came::Moved
            }
            Entry::Occupied(_) => Came::Again,
        }
    }

    /// What a prediction that is kept is to the canary, and the subject that it counts for, hashed; nothing where no loss counts.
    pub(crate) fn member(&self, arm: Arm, asker: &Asker, failed: bool) -> Option<(Member, Option<String>)> {
        let counts = self.canary.outcome == Outcome::Truth && !self.is_shadow();
        counts.then(|| {
            let member = Member {
                canary: store::Document::key(&self.canary),
                arm,
                percent: self.canary.percent,
                output: self.canary.output.clone(),
                loss_scale: self.canary.loss_scale,
                failed,
                moved: false,
            };
            let hash = |subject: &String| {
                let key = blake3::derive_key(
                    "watershed runtime 2026 subject of a canary",
                    self.canary.key.as_bytes(),
                );
                blake3::keyed_hash(&key, subject.as_bytes()).to_hex().to_string()
            };
            (member, asker.subject.as_ref().map(hash))
        })
    }

    /// Counts what the shadow said to what was served; none where it failed. Where the first axis is that of examples, each of
    /// the first ones is compared by itself.
    pub(crate) fn compare(&self, served: &[Tensor], shadow: Option<&[Tensor]>, by_row: bool, took: Duration) {
        // Each request that is asked beside: nobody is in its arm.
        self.note(Arm::Candidate, &Asker::default(), shadow.is_none(), took);
        let Some(shadow) = shadow else { return };
        let rows = served.first().map_or(1, |tensor| if by_row { tensor.rows() } else { 1 });
        let mut seen = self.seen.lock();
        for row in 0..rows.min(ROWS_COMPARED_MAX) {
            let row = by_row.then_some(row);
            seen.0.shadow.add(&values(served, None, row), &values(shadow, Some(served), row));
        }
    }

    /// Room for asking the shadow; counts that it was not asked where there is none.
    pub(crate) fn shadow(&self) -> Option<OwnedSemaphorePermit> {
        let permit = Arc::clone(&self.shadows).try_acquire_owned().ok();
        if permit.is_none() {
            self.skip();
        }
        permit
    }

    /// Counts a request that the shadow was not asked.
    pub(crate) fn skip(&self) {
        let mut seen = self.seen.lock();
        seen.0.skipped += 1;
        seen.1 = true;
    }
}

/// The first values of an answer, or of a row of it, by name. A text is 0 where it is that of `like`, and no number where it is
/// another.
fn values(tensors: &[Tensor], like: Option<&[Tensor]>, row: Option<usize>) -> BTreeMap<String, f64> {
    let mut found = BTreeMap::new();
    for tensor in tensors {
        let other = like.and_then(|like| like.iter().find(|other| other.name == tensor.name));
        let width = match row {
            Some(_) => tensor.shape.get(1..).unwrap_or_default().iter().product(),
            None => tensor.values.len(),
        };
        let first = row.unwrap_or(0) * width;
        for at in 0..width.min(COMPARED_MAX) {
            if found.len() >= COMPARED_MAX {
                return found;
            }
            let name = if width == 1 { tensor.name.clone() } else { format!("{}[{at}]", tensor.name) };
            found.insert(name, value(tensor, other, first + at));
        }
    }
    found
}

fn value(tensor: &Tensor, other: Option<&Tensor>, at: usize) -> f64 {
    match (&tensor.values, other.map(|other| &other.values)) {
        (Values::Bytes(own), Some(Values::Bytes(others))) if own.get(at) != others.get(at) => f64::NAN,
        (Values::Bytes(_), _) => 0.0,
        (own, _) => number(own, at),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_told_apart_by_row_and_place() {
        let tensor = |name: &str, shape: &[usize], values| Tensor::new(name, shape.to_vec(), values).unwrap();
        let y = tensor("y", &[2, 2], Values::Fp32(vec![1.0, 2.0, 3.0, 4.0]));
        let told = |row| values(std::slice::from_ref(&y), None, row).into_iter().collect::<Vec<_>>();
        assert_eq!(told(Some(1)), [("y[0]".to_owned(), 3.0), ("y[1]".to_owned(), 4.0)]);
        assert_eq!(told(None).len(), 4);
        let text = |text: &str| vec![tensor("label", &[1], Values::Bytes(vec![text.to_owned()]))];
        let labels = |own: &str, like: Option<&str>| {
            let like = like.map(text);
            values(&text(own), like.as_deref(), None)["label"]
        };
        assert_eq!((labels("a", None), labels("a", Some("a"))), (0.0, 0.0));
        assert!(labels("a", Some("b")).is_nan());
        let wide = tensor("y", &[1, 100], Values::Fp64(vec![0.0; 100]));
        assert_eq!(values(&[wide], None, Some(0)).len(), COMPARED_MAX);
    }
}
