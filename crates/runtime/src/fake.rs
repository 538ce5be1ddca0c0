//! Models for tests.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use kernel::{Error, Result, codes};
use parking_lot::Mutex;

use crate::model::{Engine, Model, Package, Signature, TensorSpec, unusable};
use crate::tensor::{DataType, Tensor, Values};

fn spec(name: &str) -> TensorSpec {
    TensorSpec { name: name.to_owned(), kind: DataType::Fp32, shape: vec![None, Some(2)] }
}

/// `x` of two values.
pub(crate) fn rows(values: &[f32]) -> Tensor {
    Tensor::new("x", vec![values.len() / 2, 2], Values::Fp32(values.to_vec())).unwrap()
}

pub(crate) fn floats(tensor: &Tensor) -> &[f32] {
    match &tensor.values {
        Values::Fp32(values) => values,
        other => panic!("{other:?}"),
    }
}

/// Gives what it takes, times a factor.
#[derive(Debug)]
pub(crate) struct Fake {
    pub(crate) factor: f32,
    pub(crate) has_batch_axis: bool,
    /// Fails where a value is above this.
    pub(crate) fails_on: Option<f32>,
    /// Panics where a value is above this.
    pub(crate) panics_on: Option<f32>,
    pub(crate) takes: Duration,
    /// Rows of each call.
    pub(crate) calls: Mutex<Vec<usize>>,
    pub(crate) signature: Signature,
}

impl Fake {
    pub(crate) fn doubles() -> Self {
        let signature = Signature {
            inputs: vec![spec("x")],
            outputs: vec![spec("y")],
            has_batch_axis: true,
            takes_blanks: false,
        };
        Self {
            factor: 2.0,
            has_batch_axis: true,
            fails_on: None,
            panics_on: None,
            takes: Duration::ZERO,
            calls: Mutex::default(),
            signature,
        }
        .settled()
    }

    /// With a signature that says what its fields say.
    pub(crate) fn settled(mut self) -> Self {
        self.signature.has_batch_axis = self.has_batch_axis;
        self
    }
}

impl Model for Fake {
    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn infer(&self, inputs: &[Tensor]) -> Result<Vec<Tensor>> {
        std::thread::sleep(self.takes);
        self.calls.lock().push(inputs[0].rows());
        let values = floats(&inputs[0]);
        let has_above =
            |bound: Option<f32>| bound.is_some_and(|bound| values.iter().any(|value| *value > bound));
        assert!(!has_above(self.panics_on), "a value is much too large");
        if has_above(self.fails_on) {
            return Err(Error::new(codes::VALIDATION_ERROR, "a value is too large"));
        }
        let values = values.iter().map(|value| value * self.factor).collect();
        Ok(vec![Tensor::new("y", inputs[0].shape.clone(), Values::Fp32(values))?])
    }
}

/// Gives the mean of all values.
#[derive(Debug)]
pub(crate) struct Means;

static MEANS: std::sync::LazyLock<Signature> = std::sync::LazyLock::new(|| Signature {
    inputs: vec![spec("x")],
    outputs: vec![spec("y")],
    has_batch_axis: true,
    takes_blanks: false,
});

impl Model for Means {
    fn signature(&self) -> &Signature {
        &MEANS
    }

    fn infer(&self, inputs: &[Tensor]) -> Result<Vec<Tensor>> {
        let values = floats(&inputs[0]);
        let mean = values.iter().sum::<f32>() / values.len() as f32;
        Ok(vec![Tensor::new("y", inputs[0].shape.clone(), Values::Fp32(vec![mean; values.len()]))?])
    }
}

/// Loads a [`Fake`] out of a file that holds its factor, and the name of its input where that is not `x`.
#[derive(Debug, Default)]
pub(crate) struct FakeEngine {
    pub(crate) loads: AtomicUsize,
}

impl Engine for FakeEngine {
    fn platform(&self) -> &'static str {
        "fake"
    }

    fn claims(&self, paths: &[&str]) -> bool {
        paths.iter().any(|path| path.ends_with(".factor"))
    }

    fn load(&self, package: Package) -> Result<Box<dyn Model>> {
        self.loads.fetch_add(1, Ordering::Relaxed);
        let (_, bytes) = package.only(".factor", "model.factor")?;
        let text = std::str::from_utf8(bytes).map_err(|_| unusable("it is not text"))?;
        let text = text.trim();
        let (factor, input) = text.split_once(' ').unwrap_or((text, "x"));
        let factor = factor.parse().map_err(|_| unusable("it is not a number"))?;
        let mut made = Fake { factor, ..Fake::doubles() };
        made.signature.inputs = vec![spec(input)];
        Ok(Box::new(made))
    }
}
