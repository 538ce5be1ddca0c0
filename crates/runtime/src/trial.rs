//! The warm-up of a model that was just loaded, and whether requests may be put together.
//!
//! A free first axis may count examples, or time: shapes do not say. So two examples are asked alone and together, and
//! only where the answers agree are requests put together. Values are drawn from a fixed seed.

use kernel::Result;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use crate::model::Model;
use crate::tensor::{DataType, Tensor, Values, count};

const SEED: u64 = 0x7761_7465;
/// How far answers may be apart, relative to the larger: other sizes are added up in another order.
const TOLERANCE: f64 = 1e-3;
/// What an axis of any length is here.
const FREE_AXIS: usize = 1;

/// What a trial found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Trial {
    /// Examples do not know of each other.
    Independent,
    /// They do, or nobody can tell: each request is asked alone.
    Alone,
}

/// Asks the model once or a few times.
///
/// # Errors
/// Where it gives other tensors than it says; a model whose axes are all known must answer.
pub(crate) fn run(model: &dyn Model) -> Result<Trial> {
    let signature = model.signature();
    let has_free_axis = signature.inputs.iter().any(|spec| spec.shape.iter().skip(1).any(Option::is_none));
    let has_text = signature.inputs.iter().any(|spec| spec.kind == DataType::Bytes);
    if has_text {
        return Ok(Trial::Alone);
    }
    let mut random = ChaCha8Rng::seed_from_u64(SEED);
    let mut example = || -> Vec<Tensor> {
        let tensor = |spec: &crate::model::TensorSpec| {
            let shape: Vec<usize> = spec.shape.iter().map(|length| length.unwrap_or(FREE_AXIS)).collect();
            let values = values(spec.kind, count(&shape).unwrap_or(0), &mut random);
            Tensor { name: spec.name.clone(), shape, values }
        };
        signature.inputs.iter().map(tensor).collect()
    };
    let (first, second) = (example(), example());
    let alone = match (model.infer(&first), model.infer(&second)) {
        (Ok(one), Ok(other)) => [one, other],
        // A length of 1, or an id that was drawn, may be none that the model can take.
        (Err(_), _) | (_, Err(_)) if has_free_axis || has_whole_numbers(&first) => return Ok(Trial::Alone),
        (Err(error), _) | (_, Err(error)) => return Err(error),
    };
    if !signature.has_batch_axis {
        return Ok(Trial::Alone);
    }
    let mut both = first;
    both.iter_mut().zip(&second).for_each(|(tensor, more)| tensor.stack(more));
    let Ok(together) = model.infer(&both) else { return Ok(Trial::Alone) };
    let agrees = |row: usize| {
        let is_same = |(whole, one): (&Tensor, &Tensor)| {
            whole.rows() == 2 && is_close(&whole.rows_of(row..row + 1), one)
        };
        together.len() == alone[row].len() && together.iter().zip(&alone[row]).all(is_same)
    };
    Ok(if agrees(0) && agrees(1) { Trial::Independent } else { Trial::Alone })
}

fn has_whole_numbers(inputs: &[Tensor]) -> bool {
    inputs.iter().any(|tensor| !matches!(tensor.values, Values::Fp32(_) | Values::Fp64(_) | Values::Bool(_)))
}

fn values(kind: DataType, count: usize, random: &mut ChaCha8Rng) -> Values {
    // Ids of 0 and 1 are in most tables.
    let mut bit = || random.next_u32() & 1 == 1;
    macro_rules! bits {
        ($kind:ident) => {
            Values::$kind((0..count).map(|_| bit().into()).collect())
        };
    }
    match kind {
        DataType::Bool => bits!(Bool),
        DataType::Uint8 => bits!(Uint8),
        DataType::Uint16 => bits!(Uint16),
        DataType::Uint32 => bits!(Uint32),
        DataType::Uint64 => bits!(Uint64),
        DataType::Int8 => bits!(Int8),
        DataType::Int16 => bits!(Int16),
        DataType::Int32 => bits!(Int32),
        DataType::Int64 => bits!(Int64),
        DataType::Fp32 => Values::Fp32((0..count).map(|_| unit(random) as f32).collect()),
        DataType::Fp64 => Values::Fp64((0..count).map(|_| unit(random)).collect()),
        DataType::Bytes => Values::Bytes(vec![String::new(); count]),
    }
}

/// From -1 to 1.
fn unit(random: &mut ChaCha8Rng) -> f64 {
    f64::from(random.next_u32()) / f64::from(u32::MAX) * 2.0 - 1.0
}

fn is_close(one: &Tensor, other: &Tensor) -> bool {
    let near = |a: f64, b: f64| (a - b).abs() <= TOLERANCE * a.abs().max(b.abs()).max(TOLERANCE);
    one.shape == other.shape
        && match (&one.values, &other.values) {
            (Values::Fp32(a), Values::Fp32(b)) => {
                a.iter().zip(b).all(|(a, b)| near(f64::from(*a), f64::from(*b)))
            }
            (Values::Fp64(a), Values::Fp64(b)) => a.iter().zip(b).all(|(a, b)| near(*a, *b)),
            (a, b) => a == b,
        }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake::{Fake, Means};

    #[test]
    fn examples_that_know_of_each_other_are_found_out() {
        assert_eq!(run(&Fake::doubles()).unwrap(), Trial::Independent);
        assert_eq!(run(&Means).unwrap(), Trial::Alone, "each answer has the mean of all in it");
        assert_eq!(run(&Fake { has_batch_axis: false, ..Fake::doubles() }.settled()).unwrap(), Trial::Alone);
    }

    #[test]
    fn a_model_that_cannot_answer_is_refused() {
        assert!(run(&Fake { fails_on: Some(f32::NEG_INFINITY), ..Fake::doubles() }).is_err());
    }
}
