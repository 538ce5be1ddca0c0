//! Trains the parts, learns the blend on held-out choices, trains again on everything.

use std::ops::ControlFlow;
use std::sync::Arc;

use kernel::{Clock, Error, ErrorCode, ErrorKind, Result};

use super::kind::Kind;
use super::report::{PartReport, TrainingProgress, TrainingReport};
use super::set::{TrainingSet, held_out};
use super::settings::TrainingSettings;
use crate::algorithms::als::Als;
use crate::algorithms::blend::{Blend, FitSettings, Hybrid, Source};
use crate::algorithms::content::ContentModel;
use crate::algorithms::ease::Ease;
use crate::algorithms::graph_filter::GraphFilter;
use crate::algorithms::neighbours::{Neighbours, NeighboursSettings};
use crate::algorithms::popularity::Popularity;
use crate::algorithms::sequence::{SequenceModel, SequenceSettings};
use crate::algorithms::sparse_ease::SparseEase;
use crate::algorithms::topk::{ItemSet, top_k};
use crate::algorithms::transitions::Transitions;
use crate::algorithms::user_neighbours::UserNeighbours;
use crate::algorithms::{Interactions, Recommender, Scratch};
use crate::serving::{Part, Trained};

/// A model could not be trained.
pub const TRAINING_FAILED: ErrorCode =
    ErrorCode { name: "TRAINING_FAILED", kind: ErrorKind::Internal, title: "A model could not be trained" };

/// A tenant without entities asked for a model.
pub const NOTHING_TO_TRAIN_ON: ErrorCode = ErrorCode {
    name: "NOTHING_TO_TRAIN_ON",
    kind: ErrorKind::Conflict,
    title: "There is nothing to train a model on",
};

/// Users on whom each part is measured.
const MEASURED_USERS: usize = 2_000;
/// Held-out users below which a learned blend would be noise.
const MIN_BLEND_USERS: usize = 20;

/// Trains one part.
///
/// # Errors
/// `TRAINING_FAILED` with the algorithm's own error.
pub fn fit_part(
    kind: Kind,
    interactions: &Interactions,
    set: &TrainingSet,
    settings: &TrainingSettings,
    progress: &mut dyn FnMut(&TrainingProgress),
) -> Result<Part> {
    let failed = |cause: Box<dyn std::error::Error + Send + Sync>| {
        Error::new(TRAINING_FAILED, format!("{} cannot be trained: {cause}", kind.name())).with_source(cause)
    };
    let item_count = interactions.item_count();
    Ok(match kind {
        Kind::Popularity => Part::Popularity(Popularity::train(interactions)),
        Kind::Neighbours => Part::Neighbours(
            Neighbours::train(interactions, &settings.neighbours()?).map_err(|e| failed(e.into()))?,
        ),
        Kind::Linear if item_count <= settings.dense_items => {
            Part::Ease(Ease::train(interactions, &settings.linear()?.ease).map_err(|e| failed(e.into()))?)
        }
        Kind::Linear => Part::SparseEase(
            SparseEase::train(interactions, &settings.linear()?).map_err(|e| failed(e.into()))?,
        ),
        Kind::Factors => {
            Part::Als(Als::train(interactions, &settings.factors()?).map_err(|e| failed(e.into()))?)
        }
        Kind::Graph => Part::GraphFilter(
            GraphFilter::train(interactions, &settings.graph()?).map_err(|e| failed(e.into()))?,
        ),
        Kind::Transitions => Part::Transitions(
            Transitions::train(interactions, &settings.transitions()?).map_err(|e| failed(e.into()))?,
        ),
        Kind::Sequence => Part::Sequence(
            fit_sequence(interactions, settings.sequence()?, progress).map_err(|e| failed(e.into()))?,
        ),
        Kind::Content => Part::Content(
            ContentModel::fit(&set.attributes, set.embedder.as_deref(), settings.content()?)
                .map_err(|e| failed(e.into()))?,
        ),
        Kind::UserNeighbours => Part::UserNeighbours(
            UserNeighbours::train(interactions, &settings.user_neighbours()?)
                .map_err(|e| failed(e.into()))?,
        ),
    })
}

fn fit_sequence(
    interactions: &Interactions,
    settings: SequenceSettings,
    progress: &mut dyn FnMut(&TrainingProgress),
) -> Result<SequenceModel, crate::algorithms::sequence::SequenceError> {
    let mut told = -1.0_f32;
    let mut tell = |state: crate::algorithms::sequence::Progress| {
        if state.done >= told + 0.1 {
            told = state.done;
            progress(&TrainingProgress { step: "training sequence".to_owned(), done: state.done });
        }
        ControlFlow::Continue(())
    };
    SequenceModel::fit(
        interactions.user_offsets(),
        interactions.items(),
        interactions.item_count(),
        settings,
        &mut tell,
    )
}

/// Trains everything.
///
/// # Errors
/// `TRAINING_FAILED` when a part cannot be trained.
pub fn train(
    set: &TrainingSet,
    settings: &TrainingSettings,
    clock: &dyn Clock,
    progress: &mut dyn FnMut(&TrainingProgress),
) -> Result<(Trained, TrainingReport)> {
    let (rest, histories, targets) = held_out(&set.interactions, settings.blend_users)?;
    let kinds = settings.algorithms.kinds();
    let steps = kinds.len() as f32;
    let mut parts = Vec::new();
    let mut seconds = Vec::new();
    for (step, kind) in kinds.iter().enumerate() {
        progress(&TrainingProgress { step: format!("training {}", kind.name()), done: step as f32 / steps });
        let began = clock.elapsed();
        parts.push(Arc::new(fit_part(*kind, &rest, set, settings, progress)?));
        seconds.push((clock.elapsed() - began).as_secs_f64());
    }
    progress(&TrainingProgress { step: "learning the blend".to_owned(), done: 0.9 });
    let sources = sources_of(&parts, &rest);
    let blend = learn_blend(&sources, &histories, &targets, None, &FitSettings::default())?;
    let mut report = TrainingReport {
        version: 0,
        users: set.interactions.rows().filter(|row| !row.is_empty()).count(),
        items: set.items.len(),
        interactions: set.interactions.len(),
        held_out_users: histories.user_count(),
        parts: measure(&sources, &blend, &histories, &targets)?,
    };
    for (part, seconds) in report.parts.iter_mut().zip(seconds) {
        part.fit_seconds = seconds;
    }
    for (step, kind) in kinds.iter().enumerate() {
        if !matches!(kind, Kind::Sequence | Kind::Content) {
            progress(&TrainingProgress {
                step: format!("training {} on all", kind.name()),
                done: step as f32 / steps,
            });
            parts[step] = Arc::new(fit_part(*kind, &set.interactions, set, settings, progress)?);
        }
    }
    let together = (!set.baskets.is_empty())
        .then(|| Neighbours::train(&set.baskets, &NeighboursSettings::default()))
        .transpose()
        .map_err(|cause| Error::new(TRAINING_FAILED, "baskets cannot be trained on").with_source(cause))?;
    let trained = Trained {
        silent_items: unused_items(&set.interactions),
        parts,
        blend,
        together: together.map(Arc::new),
        items: set.items.clone(),
        users: set.users.clone(),
        basis: set.basis,
        embedder: set
            .embedder
            .as_ref()
            .filter(|_| kinds.iter().any(|kind| matches!(kind, Kind::Content)))
            .map(|embedder| embedder.version().to_owned()),
    };
    Ok((trained, report))
}

/// Items that nobody chose, rising: only content says something of them.
fn unused_items(interactions: &Interactions) -> Vec<u32> {
    let counts = interactions.item_frequencies();
    (0..).zip(counts).filter(|(_, count)| *count == 0).map(|(item, _)| item).collect()
}

pub(super) fn sources_of(parts: &[Arc<Part>], interactions: &Interactions) -> Vec<Source> {
    let source = |part: &Arc<Part>| {
        let recommender: Arc<dyn Recommender> = Arc::clone(part) as Arc<dyn Recommender>;
        if part.knows_unused_items() {
            Source::new(recommender)
        } else {
            Source::collaborative(recommender, interactions)
        }
    };
    parts.iter().map(source).collect()
}

pub(super) fn learn_blend(
    sources: &[Source],
    histories: &Interactions,
    targets: &Interactions,
    people: Option<&[u32]>,
    fit: &FitSettings,
) -> Result<Blend> {
    let failed = |cause| Error::new(TRAINING_FAILED, "the blend cannot be learned").with_source(cause);
    if histories.user_count() < MIN_BLEND_USERS {
        return Blend::fixed(&vec![1.0; sources.len()]).map_err(failed);
    }
    let fitted = Blend::fit(sources, histories, targets, people, fit).map_err(failed)?;
    Ok(fitted.blend)
}

/// How well each part and the hybrid find the held-out choices.
fn measure(
    sources: &[Source],
    blend: &Blend,
    histories: &Interactions,
    targets: &Interactions,
) -> Result<Vec<PartReport>> {
    let failed = |cause| Error::new(TRAINING_FAILED, "the blend does not fit the parts").with_source(cause);
    let hybrid = Hybrid::new(sources.to_vec(), blend.clone()).map_err(failed)?;
    let weights = blend.buckets.last().map(|bucket| bucket.weights.clone()).unwrap_or_default();
    let parts = sources.iter().map(|source| source.recommender.as_ref()).zip(weights);
    let all = parts.chain([(&hybrid as &dyn Recommender, 1.0)]);
    Ok(all
        .map(|(recommender, weight)| {
            let (ndcg_at_10, hit_rate_at_10) = find(recommender, histories, targets);
            PartReport {
                name: recommender.name().to_owned(),
                fit_seconds: 0.0,
                ndcg_at_10,
                hit_rate_at_10,
                weight,
            }
        })
        .collect())
}

fn find(recommender: &dyn Recommender, histories: &Interactions, targets: &Interactions) -> (f64, f64) {
    let mut scratch = Scratch::default();
    let mut scores = vec![0.0; recommender.item_count()];
    let users = histories.user_count().min(MEASURED_USERS);
    let (mut ndcg, mut hits) = (0.0, 0.0);
    for index in 0..users {
        let user = index * histories.user_count() / users;
        recommender.score(histories.row(user), &mut scratch, &mut scores);
        let seen = ItemSet::from_items(histories.row(user).items.iter().copied());
        let wanted = targets.row(user).items.first().copied();
        if let Some(rank) = top_k(&scores, &seen, 10).iter().position(|found| Some(found.item) == wanted) {
            ndcg += 1.0 / ((rank + 2) as f64).log2();
            hits += 1.0;
        }
    }
    let users = users.max(1) as f64;
    (ndcg / users, hits / users)
}
