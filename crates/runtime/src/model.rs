//! What is served: a [`Model`], loaded by an [`Engine`] out of the [`Package`] of a version.
//!
//! To add an engine: implement both traits in a file of `engines/`, or in the crate that owns the
//! format, and hand it to `Runtime::new`. An engine runs nothing that a file says beyond its own operators: no pickle, no
//! code.

use std::collections::BTreeMap;
use std::fmt::Debug;

use bytes::Bytes;
use kernel::{Error, ErrorCode, ErrorKind, Result, codes};

use crate::tensor::{DataType, Tensor, row_count};

/// The files of a version cannot be served: they are damaged, of no format that this build reads, or too large.
pub const MODEL_UNUSABLE: ErrorCode = ErrorCode {
    name: "MODEL_UNUSABLE",
    kind: ErrorKind::Conflict,
    title: "The files of the model's version cannot be served",
};

/// An error of [`MODEL_UNUSABLE`].
#[must_use]
pub fn unusable(message: impl Into<String>) -> Error {
    Error::new(MODEL_UNUSABLE, message)
}

/// A tensor that a model takes or gives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorSpec {
    /// Its name.
    pub name: String,
    /// Its datatype.
    pub kind: DataType,
    /// The length of each axis; none where it is any.
    pub shape: Vec<Option<usize>>,
}

/// What a model takes and gives.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Signature {
    /// In the order in which [`Model::infer`] takes them.
    pub inputs: Vec<TensorSpec>,
    /// In the order in which it gives them.
    pub outputs: Vec<TensorSpec>,
    /// Whether the first axis of every input and output counts examples that do not know of each other, as far as the
    /// model's shapes say. Requests are put together only where a trial finds the same.
    pub has_batch_axis: bool,
    /// Whether inputs of [`DataType::Fp64`] may lack values, which are NaN then: a quote that was not made.
    pub takes_blanks: bool,
}

/// A loaded model. It may be asked by several threads at once.
pub trait Model: Send + Sync + Debug {
    /// What it takes and gives.
    fn signature(&self) -> &Signature;

    /// Calls that it answers at once; more would wait for each other.
    fn calls(&self) -> usize {
        usize::MAX
    }

    /// Whether a row is a request by itself. Where it is not, the rows of a request are one thing together, such as the days of a
    /// history, and jobs, which ask for each row, refuse the model.
    fn takes_rows_alone(&self) -> bool {
        // A shape that has several rows, always, has no place for one.
        let has_several =
            |spec: &TensorSpec| spec.shape.first().copied().flatten().is_some_and(|rows| rows != 1);
        !self.signature().inputs.iter().any(has_several)
    }

    /// The inputs with what they lack, as the model fills it before it answers; none where nothing is filled. They are watched so,
    /// because what a model learned from was filled too.
    fn filled(&self, _inputs: &[Tensor]) -> Option<Vec<Tensor>> {
        None
    }

    /// Answers. The inputs were checked against the signature and stand in its order. Takes a processor for as long as it
    /// takes.
    ///
    /// # Errors
    /// `VALIDATION_ERROR` for inputs that it cannot take.
    fn infer(&self, inputs: &[Tensor]) -> Result<Vec<Tensor>>;
}

/// Loads models of a format.
pub trait Engine: Send + Sync + Debug {
    /// The protocol's word for it, such as `onnx_tract`.
    fn platform(&self) -> &'static str;

    /// Whether files of these names may be of its format.
    fn claims(&self, paths: &[&str]) -> bool;

    /// Loads a model. Takes a processor for as long as it takes.
    ///
    /// # Errors
    /// [`MODEL_UNUSABLE`] saying what is wrong with the files.
    fn load(&self, package: Package) -> Result<Box<dyn Model>>;
}

/// The files of a version, by their path below it. Their checksums were compared.
#[derive(Debug, Clone, Default)]
pub struct Package {
    /// The bytes of each.
    pub files: BTreeMap<String, Bytes>,
}

impl Package {
    /// The one file with an ending, or of several the one whose name is `usual`.
    ///
    /// # Errors
    /// [`MODEL_UNUSABLE`] where there is none, or none is it.
    pub fn only(&self, ending: &str, usual: &str) -> Result<(&str, &Bytes)> {
        let name = |path: &str| path.rsplit('/').next().unwrap_or_default().to_owned();
        let mut found: Vec<_> = self.files.iter().filter(|(path, _)| path.ends_with(ending)).collect();
        if found.len() > 1 {
            found.retain(|(path, _)| name(path) == usual);
        }
        match found.as_slice() {
            [(path, bytes)] => Ok((path, bytes)),
            _ => Err(unusable(format!(
                "the version has no one file that ends in `{ending}`; name it `{usual}`"
            ))),
        }
    }
}

impl Signature {
    /// Puts the inputs of a request into the order of the model.
    ///
    /// # Errors
    /// `VALIDATION_ERROR` naming the input that is missing, unknown, given twice, of another datatype or shape, or not
    /// finite.
    pub fn check(&self, given: Vec<Tensor>) -> Result<Vec<Tensor>> {
        let mut places: Vec<Option<Tensor>> = self.inputs.iter().map(|_| None).collect();
        for (number, tensor) in given.into_iter().enumerate() {
            let field = |part: &str| format!("inputs[{number}].{part}");
            let Some(at) = self.inputs.iter().position(|spec| spec.name == tensor.name) else {
                let known: Vec<_> = self.inputs.iter().map(|spec| spec.name.as_str()).collect();
                let message =
                    format!("the model takes {}, and no `{}`", known.join(", "), tensor.name.escape_debug());
                return Err(refused(field("name"), message));
            };
            if places[at].is_some() {
                return Err(refused(field("name"), "is given twice"));
            }
            self.inputs[at].check(&tensor, self.takes_blank(&self.inputs[at]), &field)?;
            places[at] = Some(tensor);
        }
        let missing = |spec: &TensorSpec| refused("inputs", format!("the input `{}` is missing", spec.name));
        let filled = self.inputs.iter().zip(places).map(|(spec, tensor)| tensor.ok_or_else(|| missing(spec)));
        let inputs = filled.collect::<Result<Vec<_>>>()?;
        let rows = row_count(&inputs);
        if self.has_batch_axis && (rows == 0 || inputs.iter().any(|tensor| tensor.rows() != rows)) {
            return Err(refused("inputs", "the first axes have the same length, at least 1"));
        }
        Ok(inputs)
    }

    /// Whether this input may lack values.
    pub(crate) fn takes_blank(&self, input: &TensorSpec) -> bool {
        self.takes_blanks && input.kind == DataType::Fp64
    }
}

impl TensorSpec {
    fn check(&self, tensor: &Tensor, takes_blank: bool, field: &impl Fn(&str) -> String) -> Result<()> {
        let kind = tensor.values.kind();
        if kind != self.kind {
            return Err(refused(field("datatype"), format!("is {}, not {}", self.kind.name(), kind.name())));
        }
        let fits = |(wanted, found): (&Option<usize>, &usize)| wanted.is_none_or(|wanted| wanted == *found);
        if tensor.shape.len() != self.shape.len() || !self.shape.iter().zip(&tensor.shape).all(fits) {
            let message = format!("is {}, not {:?}", self.shown(), tensor.shape);
            return Err(refused(field("shape"), message));
        }
        let is_sound =
            if takes_blank { tensor.values.are_finite_or_blank() } else { tensor.values.are_finite() };
        if !is_sound {
            return Err(refused(field("data"), "has a value that is not a finite number"));
        }
        Ok(())
    }

    /// The shape as the protocol writes it, -1 for any length.
    #[must_use]
    pub fn wire_shape(&self) -> Vec<i64> {
        let length =
            |length: &Option<usize>| length.and_then(|length| i64::try_from(length).ok()).unwrap_or(-1);
        self.shape.iter().map(length).collect()
    }

    fn shown(&self) -> String {
        format!("{:?}", self.wire_shape())
    }
}

fn refused(field: impl Into<String>, message: impl Into<String>) -> Error {
    Error::new(codes::VALIDATION_ERROR, message).with_field(field)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor::Values;

    fn signature() -> Signature {
        let spec = |name: &str, kind, shape: &[Option<usize>]| TensorSpec {
            name: name.to_owned(),
            kind,
            shape: shape.to_vec(),
        };
        Signature {
            inputs: vec![spec("x", DataType::Fp32, &[None, Some(2)]), spec("id", DataType::Int64, &[None])],
            outputs: Vec::new(),
            has_batch_axis: true,
            takes_blanks: false,
        }
    }

    fn x(rows: usize, value: f32) -> Tensor {
        Tensor::new("x", vec![rows, 2], Values::Fp32(vec![value; rows * 2])).unwrap()
    }

    fn id(rows: usize) -> Tensor {
        Tensor::new("id", vec![rows], Values::Int64(vec![1; rows])).unwrap()
    }

    #[test]
    fn inputs_come_in_any_order() {
        let checked = signature().check(vec![id(2), x(2, 1.0)]).unwrap();
        assert_eq!(checked.iter().map(|tensor| tensor.name.as_str()).collect::<Vec<_>>(), ["x", "id"]);
    }

    #[test]
    fn what_does_not_fit_is_named() {
        let check = |given: Vec<Tensor>, field: &str| {
            let error = signature().check(given).unwrap_err();
            assert_eq!((error.code(), error.field()), (codes::VALIDATION_ERROR, Some(field)), "{error}");
        };
        let renamed = |name: &str, tensor: Tensor| Tensor { name: name.to_owned(), ..tensor };
        check(vec![x(1, 1.0)], "inputs");
        check(vec![], "inputs");
        check(vec![x(1, 1.0), id(1), renamed("y", id(1))], "inputs[2].name");
        check(vec![x(1, 1.0), x(1, 1.0)], "inputs[1].name");
        check(vec![renamed("x", id(1)), id(1)], "inputs[0].datatype");
        check(
            vec![Tensor::new("x", vec![1, 3], Values::Fp32(vec![0.0; 3])).unwrap(), id(1)],
            "inputs[0].shape",
        );
        check(vec![Tensor::new("x", vec![2], Values::Fp32(vec![0.0; 2])).unwrap(), id(1)], "inputs[0].shape");
        check(vec![x(1, f32::NAN), id(1)], "inputs[0].data");
        check(vec![x(1, f32::INFINITY), id(1)], "inputs[0].data");
        check(vec![x(2, 1.0), id(1)], "inputs");
        check(vec![x(0, 1.0), id(0)], "inputs");
    }

    #[test]
    fn blanks_are_no_values_where_they_are_taken() {
        let check = |takes_blanks: bool, value: f64, expected: bool| {
            let signature = Signature {
                inputs: vec![TensorSpec { name: "x".to_owned(), kind: DataType::Fp64, shape: vec![None] }],
                takes_blanks,
                ..Signature::default()
            };
            let x = Tensor::new("x", vec![2], Values::Fp64(vec![1.0, value])).unwrap();
            assert_eq!(signature.check(vec![x]).is_ok(), expected, "{takes_blanks} {value}");
        };
        check(true, f64::NAN, true);
        check(true, f64::INFINITY, false);
        check(false, f64::NAN, false);
    }

    #[test]
    fn a_row_has_no_place_where_there_are_always_several() {
        for (rows, expected) in [(None, true), (Some(1), true), (Some(4), false)] {
            let mut model = crate::fake::Fake::doubles();
            model.signature.inputs[0].shape[0] = rows;
            assert_eq!(model.takes_rows_alone(), expected, "{rows:?}");
        }
    }

    #[test]
    fn the_model_among_several_files_is_told_by_its_name() {
        let package = |paths: &[&str]| Package {
            files: paths.iter().map(|path| ((*path).to_owned(), Bytes::new())).collect(),
        };
        let found =
            |paths: &[&str]| package(paths).only(".onnx", "model.onnx").map(|(path, _)| path.to_owned());
        assert_eq!(found(&["MLmodel", "a/net.onnx"]).unwrap(), "a/net.onnx");
        assert_eq!(found(&["net.onnx", "model.onnx"]).unwrap(), "model.onnx");
        assert!(found(&["net.onnx", "other.onnx"]).is_err() && found(&["MLmodel"]).is_err());
    }
}
