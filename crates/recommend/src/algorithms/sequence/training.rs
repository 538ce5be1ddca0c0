//! Training: epochs over streams, gradients by shard, and the choice of the best epoch.
//!
//! The streams of a batch are split into a fixed number of shards, each with its own gradient, tape and random
//! generator, and gradients are added in shard order. The result therefore does not depend on the number of threads.

use std::ops::ControlFlow;

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;

use super::adam::Adam;
use super::kernels::Matrix;
use super::network::{DropoutDraw, Network, Tape, Window};
use super::objective::{
    Candidates, Output, OutputGradient, Positions, Workspace, full_cross_entropy, sampled_cross_entropy,
};
use super::streams::{Batch, Histories, Stream, deal, training_row};
use super::validation::Holdout;
use super::{Progress, SequenceError, SequenceModel, SequenceSettings};

/// Parts of a batch that are computed side by side; more cores than this are not used.
const SHARDS: usize = 4;
/// Small data get smaller batches, to take at least this many steps an epoch.
const FEWEST_STEPS: usize = 50;
/// But no gradient through time is cut earlier than this, or the recurrence would not learn what to remember.
const SHORTEST_WINDOW: usize = 16;

/// One part of every batch, with buffers reused from batch to batch.
struct Shard {
    streams: Vec<Stream>,
    carried: Vec<Matrix>,
    batch: Batch,
    tape: Tape,
    hidden: Matrix,
    position_gradient: Matrix,
    workspace: Workspace,
    gradient: Network,
    rng: ChaCha8Rng,
    loss: f64,
}

/// What is the same for every shard and batch.
struct Task<'a> {
    settings: &'a SequenceSettings,
    histories: Histories<'a>,
    holdout: Holdout,
    /// Each item's share of the events; empty under the full softmax.
    frequency: Vec<f32>,
    /// Positions of an epoch that have a next item.
    positions: usize,
    streams_per_shard: usize,
    /// Length of a window.
    steps: usize,
}

/// Trains a model. The caller has checked the settings and the histories.
pub(super) fn train(
    histories: Histories<'_>,
    item_count: usize,
    settings: SequenceSettings,
    progress: &mut dyn FnMut(Progress) -> ControlFlow<()>,
) -> Result<SequenceModel, SequenceError> {
    let network = Network::random(item_count, &settings);
    let mut model = SequenceModel { settings, network };
    let task = Task::new(histories, item_count, &model.settings);
    let mut shards: Vec<Shard> = (0..SHARDS).map(|index| Shard::new(index, &model.network, &task)).collect();
    let mut adam = Adam::new(&model.network);
    let mut rng = random_stream(task.settings.seed, 0);
    let mut best: Option<Best> = None;
    for epoch in 0..task.settings.epochs {
        task.deal(&mut shards, &mut rng);
        let loss = task.run_epoch(epoch, &mut model.network, &mut shards, &mut adam, progress)?;
        if !loss.is_finite() {
            return Err(SequenceError::Diverged { epoch });
        }
        let Some(validation) = task.holdout.measure(&model, histories) else { continue };
        let done = (epoch + 1) as f32 / task.settings.epochs as f32;
        report(progress, Progress { epoch, done, loss, validation: Some(validation) })?;
        match &best {
            Some(best) if validation <= best.validation => {
                if epoch >= best.epoch + task.settings.patience {
                    break;
                }
            }
            _ => best = Some(Best { validation, epoch, network: model.network.clone() }),
        }
    }
    if let Some(best) = best {
        model.network = best.network;
    }
    Ok(model)
}

/// The network at the epoch with the best validation so far.
struct Best {
    validation: f32,
    epoch: usize,
    network: Network,
}

fn report(
    progress: &mut dyn FnMut(Progress) -> ControlFlow<()>,
    current: Progress,
) -> Result<(), SequenceError> {
    match progress(current) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(()) => Err(SequenceError::Cancelled),
    }
}

impl<'a> Task<'a> {
    fn new(histories: Histories<'a>, item_count: usize, settings: &'a SequenceSettings) -> Self {
        let holdout = Holdout::choose(histories, settings.validation_users);
        let sampled = item_count > settings.full_softmax_items;
        let frequency = if sampled { frequencies(histories.items, item_count) } else { Vec::new() };
        let positions = (0..histories.users())
            .map(|user| training_row(histories, &holdout.held_out, user).len().saturating_sub(1))
            .sum::<usize>();
        let batch_positions = (positions / FEWEST_STEPS).clamp(1, settings.batch_positions);
        let streams_per_shard = batch_positions.div_ceil(settings.window * SHARDS);
        let steps = batch_positions.div_ceil(streams_per_shard * SHARDS);
        let steps = steps.max(SHORTEST_WINDOW).min(settings.window);
        Self { settings, histories, holdout, frequency, positions, streams_per_shard, steps }
    }

    /// Fresh streams for an epoch, with states of zero.
    fn deal(&self, shards: &mut [Shard], rng: &mut ChaCha8Rng) {
        let count = SHARDS * self.streams_per_shard;
        let mut streams = deal(self.histories, &self.holdout.held_out, count, rng).into_iter();
        for shard in shards {
            shard.streams = streams.by_ref().take(self.streams_per_shard).collect();
            shard.carried.iter_mut().for_each(|carried| carried.values.fill(0.0));
        }
    }

    /// Takes one step of Adam per batch until the streams end; returns the mean loss.
    fn run_epoch(
        &self,
        epoch: usize,
        network: &mut Network,
        shards: &mut [Shard],
        adam: &mut Adam,
        progress: &mut dyn FnMut(Progress) -> ControlFlow<()>,
    ) -> Result<f32, SequenceError> {
        let (mut total, mut seen) = (0.0, 0usize);
        let mean = |total: f64, seen: usize| (total / seen.max(1) as f64) as f32;
        while !shards.iter().all(Shard::is_finished) {
            for shard in &mut *shards {
                shard.batch.read(&mut shard.streams, self.steps, self.histories, &self.holdout.held_out);
            }
            let targets: usize = shards.iter().map(|shard| shard.batch.targets.len()).sum();
            shards.par_iter_mut().for_each(|shard| self.differentiate(network, shard, targets));
            total += shards.iter().map(|shard| shard.loss).sum::<f64>();
            seen += targets;
            let done = (epoch as f32 + seen as f32 / self.positions as f32) / self.settings.epochs as f32;
            let gradients: Vec<&Network> = shards.iter().map(|shard| &shard.gradient).collect();
            adam.step(network, &gradients, self.settings, done);
            report(progress, Progress { epoch, done, loss: mean(total, seen), validation: None })?;
        }
        Ok(mean(total, seen))
    }

    /// The gradient of one shard's part of a batch that has `targets` positions with a next item in all.
    fn differentiate(&self, network: &Network, shard: &mut Shard, targets: usize) {
        shard.gradient.clear();
        shard.loss = 0.0;
        if shard.batch.targets.is_empty() {
            return;
        }
        let window = Window { inputs: &shard.batch.inputs, keep: &shard.batch.keep };
        let draw = DropoutDraw { probability: self.settings.dropout, rng: &mut shard.rng };
        network.forward(&window, &mut shard.carried, Some(draw), &mut shard.tape);
        let rows = &shard.batch.target_rows;
        shard.hidden.reset(rows.len(), self.settings.dimensions);
        for (index, &row) in rows.iter().enumerate() {
            shard.hidden.row_mut(index).copy_from_slice(shard.tape.hidden().row(row));
        }
        shard.loss = self.score(network, shard, 1.0 / targets as f32);
        shard.position_gradient.reset(shard.batch.inputs.len(), self.settings.dimensions);
        for (index, &row) in shard.batch.target_rows.iter().enumerate() {
            shard.position_gradient.row_mut(row).copy_from_slice(shard.workspace.hidden_gradient.row(index));
        }
        let window = Window { inputs: &shard.batch.inputs, keep: &shard.batch.keep };
        network.backward(&window, &mut shard.tape, &shard.position_gradient, &mut shard.gradient);
    }

    /// The loss of a shard's hidden states; leaves their gradient, multiplied by `scale`, in the workspace.
    fn score(&self, network: &Network, shard: &mut Shard, scale: f32) -> f64 {
        let output = Output { embedding: &network.embedding, bias: &network.bias };
        let gradient =
            &mut OutputGradient { embedding: &mut shard.gradient.embedding, bias: &mut shard.gradient.bias };
        let positions = Positions { hidden: &shard.hidden, targets: &shard.batch.targets, scale };
        let workspace = &mut shard.workspace;
        if self.frequency.is_empty() {
            return full_cross_entropy(output, positions, self.settings.label_smoothing, workspace, gradient);
        }
        let (negatives, items) = (self.settings.negatives, self.histories.items);
        let candidates = Candidates::draw(negatives, items, &self.frequency, &mut shard.rng);
        sampled_cross_entropy(output, &candidates, positions, workspace, gradient)
    }
}

impl Shard {
    fn new(index: usize, network: &Network, task: &Task<'_>) -> Self {
        let (settings, streams) = (task.settings, task.streams_per_shard);
        Self {
            streams: Vec::new(),
            carried: vec![Matrix::zeros(streams, settings.state_width()); settings.layers],
            batch: Batch::default(),
            tape: Tape::default(),
            hidden: Matrix::default(),
            position_gradient: Matrix::default(),
            workspace: Workspace::default(),
            gradient: network.zeros_like(),
            rng: random_stream(settings.seed, 1 + index as u64),
            loss: 0.0,
        }
    }

    fn is_finished(&self) -> bool {
        self.streams.iter().all(Stream::is_finished)
    }
}

/// A generator of its own for each use, none of which is the one that made the weights.
fn random_stream(seed: u64, index: u64) -> ChaCha8Rng {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(1 + index);
    rng
}

/// Each item's share of the events.
fn frequencies(items: &[u32], item_count: usize) -> Vec<f32> {
    let mut frequency = vec![0.0; item_count];
    for &item in items {
        frequency[item as usize] += 1.0;
    }
    frequency.iter_mut().for_each(|value| *value /= items.len() as f32);
    frequency
}
