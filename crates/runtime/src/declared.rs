//! The signature that a version was registered with (MLflow's `MLmodel`), beside that of its model: where they contradict
//! each other, one of them is of another model, and nobody can know which.
//!
//! Names, numbers of axes, their lengths and kinds of numbers are compared; not how many bits a number has, because clients
//! infer a signature from arrays of 64 bits and models have 32. It says nothing of signatures by columns, which are of a
//! frame that is turned into tensors first, and of what it cannot read.

use kernel::Result;
use serde::Deserialize;

use crate::model::{Signature, TensorSpec, unusable};

/// A tensor, as MLflow writes it.
#[derive(Debug, Deserialize)]
struct Declared {
    name: Option<String>,
    #[serde(rename = "tensor-spec")]
    tensor: Option<DeclaredTensor>,
}

#[derive(Debug, Deserialize)]
struct DeclaredTensor {
    /// NumPy's name.
    dtype: String,
    /// -1 for any length.
    shape: Vec<i64>,
}

/// Compares what was declared with what a model takes and gives.
///
/// # Errors
/// `MODEL_UNUSABLE` naming the first contradiction.
pub(crate) fn check(declared: Option<&str>, found: &Signature) -> Result<()> {
    let Some(text) = declared else { return Ok(()) };
    for (side, specs) in [("inputs", &found.inputs), ("outputs", &found.outputs)] {
        let Some(tensors) = tensors(text, side) else { continue };
        if side == "inputs" && tensors.len() != specs.len() {
            let message = format!("has {} inputs, and the model {}", tensors.len(), specs.len());
            return Err(contradiction(&message));
        }
        for (name, tensor) in &tensors {
            let spec = match name {
                Some(name) => specs.iter().find(|spec| spec.name == *name).ok_or_else(|| {
                    let known: Vec<_> = specs.iter().map(|spec| spec.name.as_str()).collect();
                    let known = known.join(", ");
                    contradiction(&format!(
                        "has `{}` among its {side}, and the model {known}",
                        name.escape_debug()
                    ))
                })?,
                // Without a name it can only be told which is meant where there is one.
                None if tensors.len() == 1 && specs.len() == 1 => &specs[0],
                None => continue,
            };
            agree(tensor, spec)?;
        }
    }
    Ok(())
}

fn agree(declared: &DeclaredTensor, spec: &TensorSpec) -> Result<()> {
    let shape = spec.wire_shape();
    let fits = |(left, right): (&i64, &i64)| left == right || *left < 0 || *right < 0;
    if declared.shape.len() != shape.len() || !declared.shape.iter().zip(&shape).all(fits) {
        let message = format!("says {:?} for `{}`, and the model {shape:?}", declared.shape, spec.name);
        return Err(contradiction(&message));
    }
    let (told, found) = (kind_of(&declared.dtype), kind_of(spec.kind.name()));
    if told.is_some() && found.is_some() && told != found {
        let message =
            format!("says {} for `{}`, and the model {}", declared.dtype, spec.name, spec.kind.name());
        return Err(contradiction(&message));
    }
    Ok(())
}

/// Whether a datatype, by NumPy's name or the protocol's, is of fractions, whole numbers, truths or texts.
fn kind_of(name: &str) -> Option<&'static str> {
    let name = name.to_ascii_lowercase();
    let begins = |with: &[&str]| with.iter().any(|with| name.starts_with(with));
    match () {
        () if begins(&["float", "fp", "bf", "double"]) => Some("fractions"),
        () if begins(&["int", "uint", "long"]) => Some("whole numbers"),
        () if begins(&["bool"]) => Some("truths"),
        () if begins(&["str", "object", "bytes", "<u"]) => Some("texts"),
        () => None,
    }
}

fn contradiction(what: &str) -> kernel::Error {
    unusable(format!(
        "the signature it was registered with {what}; register the model with its own signature"
    ))
}

/// The tensors of a side; none where there are none, or no tensors.
fn tensors(text: &str, side: &str) -> Option<Vec<(Option<String>, DeclaredTensor)>> {
    let declared: Vec<Declared> = serde_json::from_str(&scalar(text, side)?).ok()?;
    declared.into_iter().map(|one| Some((one.name, one.tensor?))).collect()
}

/// The text of a key below `signature`, which YAML may have quoted and broken into lines.
fn scalar(text: &str, key: &str) -> Option<String> {
    let begin = format!("  {key}:");
    let mut lines = text.lines().skip_while(|line| !line.starts_with(&begin));
    let mut parts = vec![lines.next()?[begin.len()..].trim()];
    parts.extend(lines.take_while(|line| line.starts_with("   ")).map(str::trim));
    let whole = parts.join(" ");
    if let Some(quoted) = whole.strip_prefix('\'').and_then(|rest| rest.strip_suffix('\'')) {
        return Some(quoted.replace("''", "'"));
    }
    if whole.starts_with('"') { serde_json::from_str(&whole).ok() } else { Some(whole) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor::DataType;

    fn found() -> Signature {
        let spec =
            |name: &str, kind, width| TensorSpec { name: name.to_owned(), kind, shape: vec![None, width] };
        Signature {
            inputs: vec![spec("x", DataType::Fp32, Some(2))],
            outputs: vec![spec("y", DataType::Fp32, Some(1)), spec("label", DataType::Int64, None)],
            has_batch_axis: true,
            takes_blanks: false,
        }
    }

    #[test]
    fn a_signature_of_another_model_is_refused() {
        let input = |name: &str, dtype: &str, shape: &str| {
            let spec = format!(r#""tensor-spec": {{"dtype": "{dtype}", "shape": {shape}}}"#);
            format!(
                "signature:\n  inputs: '[{{\"type\": \"tensor\",\n    {spec}{name}}}]'\n  outputs: null\n  params: null"
            )
        };
        let named = |name: &str| format!(r#", "name": "{name}""#);
        for lawful in [
            input("", "float32", "[-1, 2]"),
            input("", "float64", "[-1, -1]"),
            input(&named("x"), "float32", "[4, 2]"),
            "signature:\n  inputs: '[{\"type\": \"double\", \"name\": \"a\"}]'".to_owned(),
            "signature:\n  inputs: x".to_owned(),
            "signature:\n  outputs: '[{\"type\": \"tensor\", \"tensor-spec\": {\"dtype\": \"int64\", \"shape\": [-1, 3]}, \
             \"name\": \"label\"}]'"
                .to_owned(),
        ] {
            check(Some(&lawful), &found()).unwrap();
        }
        check(None, &found()).unwrap();
        for (wrong, what) in [
            (input("", "float32", "[-1, 7]"), "[-1, 7]"),
            (input("", "float32", "[-1]"), "[-1]"),
            (input("", "int64", "[-1, 2]"), "int64"),
            (input(&named("zzz"), "float32", "[-1, 2]"), "`zzz`"),
            ("signature:\n  inputs: '[]'".to_owned(), "0 inputs"),
            (
                "signature:\n  outputs: \"[{\\\"type\\\": \\\"tensor\\\", \\\"tensor-spec\\\": {\\\"dtype\\\": \\\"str\\\", \
                 \\\"shape\\\": [-1, 1]}, \\\"name\\\": \\\"y\\\"}]\""
                    .to_owned(),
                "str for `y`",
            ),
        ] {
            let error = check(Some(&wrong), &found()).unwrap_err();
            assert!(error.message().contains(what), "{error} of {wrong}");
        }
    }
}
