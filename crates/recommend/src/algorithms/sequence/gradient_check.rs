//! Compares every hand-derived gradient with finite differences of the loss, parameter by parameter.
//!
//! Covers dropout, carried states, users that begin inside a window, missing inputs and both objectives.

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use super::SequenceSettings;
use super::kernels::{Matrix, add};
use super::network::{DropoutDraw, NONE, Network, Tape, Window, fill_normal};
use super::objective::{
    Candidates, Output, OutputGradient, Positions, Workspace, full_cross_entropy, sampled_cross_entropy,
};

const ITEMS: usize = 7;
const STREAMS: usize = 2;
const INPUTS: [u32; 10] = [0, 1, 2, 3, 1, 6, 5, NONE, 3, 3];
const KEEP: [f32; 10] = [1.0, 0.0, 1.0, 1.0, 1.0, 1.0, 0.0, 0.0, 1.0, 1.0];
const TARGETS: [u32; 10] = [4, 2, 0, 6, 6, 1, 5, 2, 3, 0];

/// Mean loss of a fixed window, with dropout, carried states and resets; fills the gradient.
fn loss(network: &Network, candidates: Option<&Candidates>, gradient: &mut Network) -> f64 {
    let width = network.blocks[0].recurrence.width();
    let mut carried = vec![Matrix::filled(STREAMS, width, 0.3); network.blocks.len()];
    let mut tape = Tape::default();
    let window = Window { inputs: &INPUTS, keep: &KEEP };
    let mut rng = ChaCha8Rng::seed_from_u64(3);
    let draw = DropoutDraw { probability: 0.25, rng: &mut rng };
    network.forward(&window, &mut carried, Some(draw), &mut tape);
    let output = Output { embedding: &network.embedding, bias: &network.bias };
    let scale = 1.0 / TARGETS.len() as f32;
    let positions = Positions { hidden: tape.hidden(), targets: &TARGETS, scale };
    let into = &mut OutputGradient { embedding: &mut gradient.embedding, bias: &mut gradient.bias };
    let mut workspace = Workspace::default();
    let total = match candidates {
        None => full_cross_entropy(output, positions, 0.1, &mut workspace, into),
        Some(candidates) => sampled_cross_entropy(output, candidates, positions, &mut workspace, into),
    };
    network.backward(&window, &mut tape, &workspace.hidden_gradient, gradient);
    total / TARGETS.len() as f64
}

#[test]
fn every_gradient_matches_finite_differences() {
    let settings = SequenceSettings {
        dimensions: 4,
        layers: 2,
        state_factor: 2,
        feed_forward_factor: 2,
        ..SequenceSettings::light()
    };
    let mut network = Network::random(ITEMS, &settings);
    let mut rng = ChaCha8Rng::seed_from_u64(2);
    // Moves every parameter off its special starting value.
    for matrix in network.matrices_mut() {
        let mut noise = Matrix::zeros(matrix.rows, matrix.columns);
        fill_normal(&mut noise, 0.5, &mut rng);
        add(&mut matrix.values, &noise.values);
    }
    let frequency = [1.0 / ITEMS as f32; ITEMS];
    let candidates = Candidates::draw(6, &TARGETS, &frequency, &mut rng);
    for candidates in [None, Some(&candidates)] {
        check_gradients(&mut network, candidates);
    }
}

/// Compares the gradient of every single parameter with a central difference.
fn check_gradients(network: &mut Network, candidates: Option<&Candidates>) {
    const STEP: f32 = 4e-3;
    let mut gradient = network.zeros_like();
    loss(network, candidates, &mut gradient);
    let mut unused = network.zeros_like();
    for (index, (name, derived)) in gradient.matrices().into_iter().enumerate() {
        let mut largest = 0.0f64;
        for at in 0..derived.values.len() {
            let value = network.matrices_mut()[index].values[at];
            let mut shifted_loss = |shifted| {
                network.matrices_mut()[index].values[at] = shifted;
                loss(network, candidates, &mut unused)
            };
            let (above, below) = (shifted_loss(value + STEP), shifted_loss(value - STEP));
            network.matrices_mut()[index].values[at] = value;
            let expected = (above - below) / f64::from((value + STEP) - (value - STEP));
            let error = (f64::from(derived.values[at]) - expected).abs();
            assert!(
                error < 1e-3 + 1e-2 * expected.abs(),
                "{name}[{at}]: {} is not {expected}",
                derived.values[at]
            );
            largest = largest.max(expected.abs());
        }
        assert!(largest > 1e-3, "{name} has no gradient to check");
    }
}
