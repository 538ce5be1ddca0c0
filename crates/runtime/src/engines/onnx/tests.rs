//! On the files of `fixtures/`, whose generator stands beside them.

use std::collections::BTreeMap;

use super::*;
use crate::model::MODEL_UNUSABLE;
use crate::trial::{self, Trial};

fn fixture(name: &str) -> Vec<u8> {
    std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(name)).unwrap()
}

fn load(files: &[(&str, &[u8])]) -> Result<Box<dyn Model>> {
    let files = files.iter().map(|(path, bytes)| ((*path).to_owned(), Bytes::copy_from_slice(bytes)));
    Onnx.load(Package { files: files.collect::<BTreeMap<_, _>>() })
}

fn loaded(name: &str) -> Box<dyn Model> {
    load(&[("model.onnx", &fixture(name))]).unwrap()
}

fn x(values: &[f32]) -> Ours {
    Ours::new("x", vec![values.len() / 2, 2], Values::Fp32(values.to_vec())).unwrap()
}

#[test]
fn a_linear_model_answers_as_it_was_made() {
    let model = loaded("linear.onnx");
    let signature = model.signature();
    assert!(signature.has_batch_axis);
    assert_eq!(signature.inputs[0].wire_shape(), [-1, 2]);
    assert_eq!(signature.outputs[0].wire_shape(), [-1, 1]);
    let found = model.infer(&[x(&[1.0, 2.0, 4.0, -8.0])]).unwrap();
    assert_eq!(found, [Ours::new("y", vec![2, 1], Values::Fp32(vec![1.0, 5.0])).unwrap()]);
    assert_eq!(trial::run(model.as_ref()).unwrap(), Trial::Independent);
}

#[test]
fn several_inputs_of_several_datatypes() {
    let model = loaded("two.onnx");
    let ids = Ours::new("ids", vec![2], Values::Int64(vec![3, 0])).unwrap();
    let scale = Ours::new("scale", vec![2, 1], Values::Fp32(vec![2.0, 1.0])).unwrap();
    let inputs = model.signature().check(vec![scale, ids]).unwrap();
    let found = model.infer(&inputs).unwrap();
    assert_eq!(found[0].values, Values::Fp32(vec![18.0, 20.0, 22.0, 0.0, 1.0, 2.0]));
    assert_eq!((found[1].name.as_str(), &found[1].values), ("same", &Values::Int64(vec![3, 0])));
    assert_eq!(trial::run(model.as_ref()).unwrap(), Trial::Independent);
    let ids = Ours::new("ids", vec![1], Values::Int64(vec![99])).unwrap();
    let scale = Ours::new("scale", vec![1, 1], Values::Fp32(vec![1.0])).unwrap();
    let refused = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| model.infer(&[ids, scale])));
    assert!(!matches!(refused, Ok(Ok(_))), "an id that the table does not have");
}

#[test]
fn a_sequence_is_told_from_a_batch() {
    let model = loaded("sequence.onnx");
    assert!(model.signature().has_batch_axis, "its shapes cannot tell");
    assert_eq!(trial::run(model.as_ref()).unwrap(), Trial::Alone);
}

#[test]
fn weights_beside_the_model_are_those_of_the_version() {
    let (model, weights) = (fixture("linear_external.onnx"), fixture("linear_external.weights"));
    for folder in ["", "data/"] {
        let files =
            [(format!("{folder}model.onnx"), &model), (format!("{folder}linear_external.weights"), &weights)];
        let files: Vec<(&str, &[u8])> =
            files.iter().map(|(path, bytes)| (path.as_str(), bytes.as_slice())).collect();
        let found = load(&files).unwrap().infer(&[x(&[1.0, 2.0])]).unwrap();
        assert_eq!(found, loaded("linear.onnx").infer(&[x(&[1.0, 2.0])]).unwrap());
    }
    let refused = |files: &[(&str, &[u8])], part: &str| {
        let error = load(files).unwrap_err();
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
    let whole = fixture("linear.onnx");
    for length in (0..whole.len()).step_by(7).chain([whole.len() - 1]) {
        let error = load(&[("model.onnx", &whole[..length])]).unwrap_err();
        assert_eq!(error.code(), MODEL_UNUSABLE, "cut at {length}: {error}");
    }
    for wrong in [b"not a model at all".as_slice(), b"\x80\x04N.", &[0xff; 300]] {
        assert_eq!(load(&[("model.onnx", wrong)]).unwrap_err().code(), MODEL_UNUSABLE);
    }
    let mut unknown = whole;
    let at = unknown.windows(4).position(|part| part == b"Gemm").unwrap();
    unknown[at..at + 4].copy_from_slice(b"Gemn");
    assert!(load(&[("model.onnx", &unknown)]).unwrap_err().message().contains("cannot run it"));
}
