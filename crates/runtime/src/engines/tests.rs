//! Every engine on the files of `fixtures/`, whose generator stands beside them: all of them give the same signatures and,
//! within 1e-5, the same answers.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use kernel::Result;

use crate::model::{Engine, MODEL_UNUSABLE, Model, Package};
use crate::settings::RuntimeSettings;
use crate::tensor::{Tensor, Values};
use crate::trial::{self, Trial};

/// How far answers of two engines may be from each other.
const TOLERANCE: f32 = 1e-5;

/// Each engine that this build has. The library of ONNX Runtime comes from `scripts/with-engines`.
fn engines() -> Vec<Arc<dyn Engine>> {
    let tract = RuntimeSettings::default();
    #[cfg(feature = "onnxruntime")]
    let others = [onnxruntime()];
    #[cfg(not(feature = "onnxruntime"))]
    let others: [RuntimeSettings; 0] = [];
    [tract].iter().chain(&others).flat_map(|settings| super::open(settings).unwrap()).collect()
}

#[cfg(feature = "onnxruntime")]
#[expect(clippy::disallowed_methods, reason = "this is how a test learns of the library")]
fn onnxruntime() -> RuntimeSettings {
    const NAME: &str = "WATERSHED_TEST_ONNXRUNTIME";
    let library = std::env::var(NAME)
        .unwrap_or_else(|_| panic!("{NAME} is not set; run by `scripts/with-engines --only onnxruntime`"));
    let mut settings = RuntimeSettings { onnx_engine: crate::OnnxEngine::Onnxruntime, ..Default::default() };
    settings.onnxruntime.library = Some(library.into());
    settings
}

fn fixture(name: &str) -> Vec<u8> {
    std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(name)).unwrap()
}

fn load(engine: &dyn Engine, files: &[(&str, &[u8])]) -> Result<Box<dyn Model>> {
    let files = files.iter().map(|(path, bytes)| ((*path).to_owned(), Bytes::copy_from_slice(bytes)));
    engine.load(Package { files: files.collect::<BTreeMap<_, _>>() })
}

/// A model as each engine loads it, by the name of the engine.
fn loaded(name: &str) -> Vec<(&'static str, Box<dyn Model>)> {
    let load = |engine: Arc<dyn Engine>| {
        (engine.platform(), load(engine.as_ref(), &[("model.onnx", &fixture(name))]).unwrap())
    };
    engines().into_iter().map(load).collect()
}

fn x(values: &[f32]) -> Tensor {
    Tensor::new("x", vec![values.len() / 2, 2], Values::Fp32(values.to_vec())).unwrap()
}

fn numbers(tensor: &Tensor) -> &[f32] {
    match &tensor.values {
        Values::Fp32(values) => values,
        other => panic!("{:?}", other.kind()),
    }
}

#[test]
fn engines_agree() {
    let rows: Vec<f32> = (0_u8..128).map(|number| (f32::from(number) * 0.37).sin() * 3.0).collect();
    let ids = Tensor::new("ids", vec![3], Values::Int64(vec![0, 3, 1])).unwrap();
    let scale = Tensor::new("scale", vec![3, 1], Values::Fp32(vec![0.1, -2.5, 7.25])).unwrap();
    let check = |name: &str, inputs: &[Tensor]| {
        let models = loaded(name);
        let (_, tract) = &models[0];
        let expected = tract.infer(inputs).unwrap();
        for (engine, model) in &models[1..] {
            assert_eq!(model.signature(), tract.signature(), "{name} by {engine}");
            let found = model.infer(inputs).unwrap();
            for (found, expected) in found.iter().zip(&expected) {
                assert_eq!(
                    (&found.name, &found.shape),
                    (&expected.name, &expected.shape),
                    "{name} by {engine}"
                );
                if matches!(expected.values, Values::Int64(_)) {
                    assert_eq!(found, expected, "{name} by {engine}");
                    continue;
                }
                let pairs = numbers(found).iter().zip(numbers(expected));
                let farthest = pairs.map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
                assert!(farthest <= TOLERANCE, "{name} by {engine}: {farthest}");
            }
            assert_eq!(found.len(), expected.len());
        }
    };
    check("linear.onnx", &[x(&rows)]);
    check("halves.onnx", &[x(&rows)]);
    check("sequence.onnx", &[x(&rows)]);
    check("two.onnx", &[ids, scale]);
}

#[test]
fn a_linear_model_answers_as_it_was_made() {
    for (engine, model) in loaded("linear.onnx") {
        let signature = model.signature();
        assert!(signature.has_batch_axis, "{engine}");
        assert_eq!(signature.inputs[0].wire_shape(), [-1, 2]);
        assert_eq!(signature.outputs[0].wire_shape(), [-1, 1]);
        let found = model.infer(&[x(&[1.0, 2.0, 4.0, -8.0])]).unwrap();
        assert_eq!(found, [Tensor::new("y", vec![2, 1], Values::Fp32(vec![1.0, 5.0])).unwrap()], "{engine}");
        assert_eq!(trial::run(model.as_ref()).unwrap(), Trial::Independent);
    }
}

#[test]
fn several_inputs_of_several_datatypes() {
    for (engine, model) in loaded("two.onnx") {
        let ids = Tensor::new("ids", vec![2], Values::Int64(vec![3, 0])).unwrap();
        let scale = Tensor::new("scale", vec![2, 1], Values::Fp32(vec![2.0, 1.0])).unwrap();
        let inputs = model.signature().check(vec![scale, ids]).unwrap();
        let found = model.infer(&inputs).unwrap();
        assert_eq!(found[0].values, Values::Fp32(vec![18.0, 20.0, 22.0, 0.0, 1.0, 2.0]));
        assert_eq!((found[1].name.as_str(), &found[1].values), ("same", &Values::Int64(vec![3, 0])));
        assert_eq!(trial::run(model.as_ref()).unwrap(), Trial::Independent);
        let ids = Tensor::new("ids", vec![1], Values::Int64(vec![99])).unwrap();
        let scale = Tensor::new("scale", vec![1, 1], Values::Fp32(vec![1.0])).unwrap();
        let refused = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| model.infer(&[ids, scale])));
        assert!(!matches!(refused, Ok(Ok(_))), "{engine}: an id that the table does not have");
    }
}

#[test]
fn a_sequence_is_told_from_a_batch() {
    for (engine, model) in loaded("sequence.onnx") {
        assert!(model.signature().has_batch_axis, "{engine}: its shapes cannot tell");
        assert_eq!(trial::run(model.as_ref()).unwrap(), Trial::Alone, "{engine}");
    }
}

#[test]
fn weights_beside_the_model_are_those_of_the_version() {
    for engine in engines() {
        takes_weights_of_the_version(engine.as_ref());
    }
}

fn takes_weights_of_the_version(engine: &dyn Engine) {
    let linear = load(engine, &[("model.onnx", &fixture("linear.onnx"))]).unwrap();
    let (model, weights) = (fixture("linear_external.onnx"), fixture("linear_external.weights"));
    for folder in ["", "data/"] {
        let files =
            [(format!("{folder}model.onnx"), &model), (format!("{folder}linear_external.weights"), &weights)];
        let files: Vec<(&str, &[u8])> =
            files.iter().map(|(path, bytes)| (path.as_str(), bytes.as_slice())).collect();
        let found = load(engine, &files).unwrap().infer(&[x(&[1.0, 2.0])]).unwrap();
        assert_eq!(found, linear.infer(&[x(&[1.0, 2.0])]).unwrap());
    }
    let refused = |files: &[(&str, &[u8])], part: &str| {
        let error = load(engine, files).unwrap_err();
        assert!(error.code() == MODEL_UNUSABLE && error.message().contains(part), "{error}");
    };
    refused(&[("model.onnx", &model)], "a file that the version does not have");
    refused(
        &[("model.onnx", &model), ("linear_external.weights", &weights[..4])],
        "are not all in their file",
    );
    // A file of the server, by the name of one of the version.
    let escape = |location: &[u8]| {
        let mut bytes = model.clone();
        let name: &[u8] = b"linear_external.weights";
        while let Some(at) = bytes.windows(name.len()).position(|part| part == name) {
            bytes[at..at + name.len()].copy_from_slice(location);
        }
        bytes
    };
    for location in [b"../../../../../etc/hosts", b"/etc/../etc/../etc/hosts"] {
        let model = escape(&location[..23]);
        refused(&[("a/b/model.onnx", &model)], "a file that the version does not have");
    }
}

#[test]
fn what_is_cut_off_or_wrong_is_refused() {
    for engine in engines() {
        refuses_what_is_wrong(engine.as_ref());
    }
}

fn refuses_what_is_wrong(engine: &dyn Engine) {
    let whole = fixture("linear.onnx");
    for length in (0..whole.len()).step_by(7).chain([whole.len() - 1]) {
        let error = load(engine, &[("model.onnx", &whole[..length])]).unwrap_err();
        assert_eq!(error.code(), MODEL_UNUSABLE, "cut at {length}: {error}");
    }
    for wrong in [b"not a model at all".as_slice(), b"\x80\x04N.", &[0xff; 300]] {
        assert_eq!(load(engine, &[("model.onnx", wrong)]).unwrap_err().code(), MODEL_UNUSABLE);
    }
    let mut unknown = whole;
    let at = unknown.windows(4).position(|part| part == b"Gemm").unwrap();
    unknown[at..at + 4].copy_from_slice(b"Gemn");
    assert!(load(engine, &[("model.onnx", &unknown)]).unwrap_err().message().contains("cannot run it"));
}
