//! Asks an ONNX model in a loop through the engine that serves it, without a server around it, and prints what a call cost:
//! `bench-infer --model FILE --request FILE --calls N`. The request is one of the Open Inference Protocol with FP32 inputs.

use std::path::PathBuf;
use std::process::ExitCode;

use bench::process::processor_seconds;
use clap::Parser;
use runtime::model::Package;
use runtime::tensor::{Tensor, Values};
use serde::{Deserialize, Serialize};

/// As the product has it.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

type Fault = Box<dyn std::error::Error + Send + Sync>;

/// Asks a model in a loop.
#[derive(Debug, Parser)]
#[command(name = "bench-infer")]
struct Arguments {
    /// The model
    #[arg(long)]
    model: PathBuf,
    /// The request
    #[arg(long)]
    request: PathBuf,
    /// How often
    #[arg(long, default_value_t = 1_000)]
    calls: u32,
}

#[derive(Debug, Deserialize)]
struct Request {
    inputs: Vec<Input>,
}

#[derive(Debug, Deserialize)]
struct Input {
    name: String,
    shape: Vec<usize>,
    data: Vec<f32>,
}

#[derive(Debug, Serialize)]
struct Told {
    microseconds_per_call: f64,
    /// Of the first output.
    values: Vec<f32>,
}

fn main() -> ExitCode {
    bench::tell(run(&Arguments::parse()))
}

fn run(arguments: &Arguments) -> Result<String, Fault> {
    let engine = runtime::engines::open(&runtime::RuntimeSettings::default())?
        .into_iter()
        .next()
        .ok_or("this build has no engine")?;
    let files = [("model.onnx".to_owned(), std::fs::read(&arguments.model)?.into())];
    let model = engine.load(Package { files: files.into() })?;
    let request: Request = serde_json::from_slice(&std::fs::read(&arguments.request)?)?;
    let tensor = |input: Input| Tensor::new(input.name, input.shape, Values::Fp32(input.data));
    let inputs = request.inputs.into_iter().map(tensor).collect::<Result<Vec<_>, _>>()?;
    let inputs = model.signature().check(inputs)?;
    // The first calls find cold caches.
    for _ in 0..arguments.calls / 10 {
        model.infer(&inputs)?;
    }
    let began = processor_seconds(None)?;
    let mut outputs = Vec::new();
    for _ in 0..arguments.calls {
        outputs = model.infer(&inputs)?;
    }
    let spent = processor_seconds(None)? - began;
    let values = match outputs.into_iter().next().map(|output| output.values) {
        Some(Values::Fp32(values)) => values,
        _ => return Err("the first output is FP32".into()),
    };
    let microseconds_per_call = spent * 1e6 / f64::from(arguments.calls.max(1));
    Ok(serde_json::to_string(&Told { microseconds_per_call, values })?)
}
