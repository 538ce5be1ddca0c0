//! ONNX by `tract`, in pure Rust, one thread for each call.
//!
//! Weights that stand in files beside the model (external data, which MLflow's client writes) are taken out of the
//! version's own files; no other file is ever opened. The first axes of all inputs, where each may be of any length, are
//! taken as one, and where the model does not pass so, each by itself. It refuses texts, 16-bit floats, inputs without a
//! shape, and operators that `tract` does not have.

use std::path::{Component, Path};
use std::sync::Arc;

use bytes::Bytes;
use kernel::{Error, Result, codes};
use tract_onnx::Onnx as Reader;
use tract_onnx::pb::tensor_shape_proto::dimension::Value as Length;
use tract_onnx::pb::{self, type_proto};
use tract_onnx::prelude::*;
use tract_onnx::tract_hir::infer::InferenceFact;
use tract_onnx::tract_hir::internal::DimLike;

use crate::model::{Engine, Model, Package, Signature, TensorSpec, unusable};
use crate::tensor::{DataType, Tensor as Ours, Values};

const ENDING: &str = ".onnx";
const BATCH: &str = "watershed_batch";

/// `TensorProto.DataLocation.EXTERNAL`.
const EXTERNAL: i32 = 1;

/// Datatypes: the number in the file, ours, and `tract`'s.
const KINDS: [(i32, DataType, DatumType); 11] = [
    (1, DataType::Fp32, DatumType::F32),
    (2, DataType::Uint8, DatumType::U8),
    (3, DataType::Int8, DatumType::I8),
    (4, DataType::Uint16, DatumType::U16),
    (5, DataType::Int16, DatumType::I16),
    (6, DataType::Int32, DatumType::I32),
    (7, DataType::Int64, DatumType::I64),
    (9, DataType::Bool, DatumType::Bool),
    (11, DataType::Fp64, DatumType::F64),
    (12, DataType::Uint32, DatumType::U32),
    (13, DataType::Uint64, DatumType::U64),
];

/// Loads ONNX files.
#[derive(Debug)]
pub(super) struct Onnx;

impl Engine for Onnx {
    fn platform(&self) -> &'static str {
        "onnx_tract"
    }

    fn claims(&self, paths: &[&str]) -> bool {
        paths.iter().any(|path| path.ends_with(ENDING))
    }

    fn load(&self, package: Package) -> Result<Box<dyn Model>> {
        let (path, bytes) = package.only(ENDING, "model.onnx")?;
        let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
        let reader = tract_onnx::onnx();
        let mut proto = reader
            .proto_model_for_read(&mut bytes.as_ref())
            .map_err(|cause| unusable("it is no ONNX file, or not all of one").with_source(Cause(cause)))?;
        let graph = proto.graph.as_mut().ok_or_else(|| unusable("it is no ONNX file: it has no graph"))?;
        fill_in(graph, folder, &package)?;
        let inputs = inputs(graph)?;
        let outputs: Vec<String> = graph.output.iter().map(|output| output.name.clone()).collect();
        drop(package);
        let has_free_rows =
            !inputs.is_empty() && inputs.iter().all(|input| matches!(input.dims.first(), Some(Dim::Free(_))));
        let together = if has_free_rows { prepare(&reader, &proto, &inputs, true).ok() } else { None };
        let plan = match together {
            Some(plan) => plan,
            None => prepare(&reader, &proto, &inputs, false).map_err(|cause| {
                let message = format!("`tract` cannot run it: {}", cause.root_cause());
                unusable(message).with_source(Cause(cause))
            })?,
        };
        OnnxModel::new(plan, &inputs, outputs).map(|model| Box::new(model) as _)
    }
}

/// `anyhow`'s errors as those of the standard library.
#[derive(Debug)]
struct Cause(TractError);

impl std::fmt::Display for Cause {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{:#}", self.0)
    }
}

impl std::error::Error for Cause {}

/// An axis of an input as the file has it.
#[derive(Debug, Clone)]
enum Dim {
    Known(usize),
    /// Any length; equal names are equal lengths.
    Free(Option<String>),
}

#[derive(Debug, Clone)]
struct Input {
    name: String,
    kind: DataType,
    datum: DatumType,
    dims: Vec<Dim>,
}

/// The inputs that a caller gives: those without a value in the file.
fn inputs(graph: &pb::GraphProto) -> Result<Vec<Input>> {
    let has_value = |name: &str| graph.initializer.iter().any(|tensor| tensor.name == name);
    graph.input.iter().filter(|input| !has_value(&input.name)).map(input).collect()
}

fn input(info: &pb::ValueInfoProto) -> Result<Input> {
    let name = info.name.clone();
    let refused = |what: &str| unusable(format!("its input `{name}` {what}"));
    let value = info.r#type.as_ref().and_then(|kind| kind.value.as_ref());
    let Some(type_proto::Value::TensorType(tensor)) = value else { return Err(refused("is no tensor")) };
    let found = KINDS.iter().find(|(number, ..)| *number == tensor.elem_type);
    let (_, kind, datum) = *found.ok_or_else(|| refused("is of a datatype that is not served"))?;
    let shape = tensor.shape.as_ref().ok_or_else(|| refused("has no shape"))?;
    let dim = |dim: &pb::tensor_shape_proto::Dimension| match &dim.value {
        Some(Length::DimValue(length)) if *length >= 0 => {
            usize::try_from(*length).map(Dim::Known).map_err(|_| refused("is too large"))
        }
        Some(Length::DimParam(name)) if !name.is_empty() && name != "?" => Ok(Dim::Free(Some(name.clone()))),
        _ => Ok(Dim::Free(None)),
    };
    let dims = shape.dim.iter().map(dim).collect::<Result<_>>()?;
    Ok(Input { name, kind, datum, dims })
}

/// Makes the graph ready to run; `as_batch` takes all first axes as one.
fn prepare(
    reader: &Reader,
    proto: &pb::ModelProto,
    inputs: &[Input],
    as_batch: bool,
) -> TractResult<Arc<TypedRunnableModel>> {
    let mut model = reader.model_for_proto_model(proto)?;
    for (number, input) in inputs.iter().enumerate() {
        let dims = input.dims.iter().enumerate().map(|(axis, dim)| match dim {
            Dim::Known(length) => length.to_dim(),
            Dim::Free(_) if axis == 0 && as_batch => model.symbols.sym(BATCH).to_dim(),
            // A name may be an expression; as a name of its own it only says less.
            Dim::Free(Some(name)) => model.symbols.sym(&format!("any_{name}")).to_dim(),
            Dim::Free(None) => model.symbols.sym(&format!("any_{number}_{axis}")).to_dim(),
        });
        let dims: TVec<TDim> = dims.collect();
        model.set_input_fact(number, InferenceFact::dt_shape(input.datum, dims))?;
    }
    model.into_optimized()?.into_runnable()
}

/// A graph that is ready.
#[derive(Debug)]
struct OnnxModel {
    plan: Arc<TypedRunnableModel>,
    signature: Signature,
}

impl OnnxModel {
    fn new(plan: Arc<TypedRunnableModel>, inputs: &[Input], names: Vec<String>) -> Result<Self> {
        let broken = |cause: TractError| unusable("its graph is broken").with_source(Cause(cause));
        let model = plan.model();
        let batch = model.symbols.sym(BATCH).to_dim();
        let mut has_batch_axis = true;
        let length = |dim: &TDim| dim.to_usize().ok();
        let mut specs = Vec::new();
        for (number, input) in inputs.iter().enumerate() {
            let fact = model.input_fact(number).map_err(broken)?;
            has_batch_axis &= fact.shape.first() == Some(&batch);
            let shape = fact.shape.iter().map(length).collect();
            specs.push(TensorSpec { name: input.name.clone(), kind: input.kind, shape });
        }
        let mut outputs = Vec::new();
        for (number, name) in names.into_iter().enumerate() {
            let fact = model.output_fact(number).map_err(broken)?;
            has_batch_axis &= fact.shape.first() == Some(&batch);
            let kind = kind_of(fact.datum_type).ok_or_else(|| {
                unusable(format!("its output `{name}` is {:?}, which is not served", fact.datum_type))
            })?;
            outputs.push(TensorSpec { name, kind, shape: fact.shape.iter().map(length).collect() });
        }
        let has_batch_axis = has_batch_axis && !specs.is_empty() && !outputs.is_empty();
        Ok(Self { signature: Signature { inputs: specs, outputs, has_batch_axis }, plan })
    }

    fn run(&self, inputs: &[Ours]) -> TractResult<Vec<Ours>> {
        let inputs = inputs.iter().map(given).collect::<TractResult<TVec<TValue>>>()?;
        let outputs = self.plan.run(inputs)?;
        let named = self.signature.outputs.iter().zip(outputs);
        named.map(|(spec, value)| taken(&spec.name, &value)).collect()
    }
}

impl Model for OnnxModel {
    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn infer(&self, inputs: &[Ours]) -> Result<Vec<Ours>> {
        self.run(inputs).map_err(|cause| {
            let message = format!("the model cannot take these inputs: {}", cause.root_cause());
            Error::new(codes::VALIDATION_ERROR, message).with_field("inputs").with_source(Cause(cause))
        })
    }
}

fn kind_of(datum: DatumType) -> Option<DataType> {
    // Lengths are whole numbers to everybody else.
    let datum = if datum == DatumType::TDim { DatumType::I64 } else { datum };
    KINDS.iter().find(|(.., known)| *known == datum).map(|(_, kind, _)| *kind)
}

macro_rules! each_kind {
    ($($kind:ident $rust:ty)*) => {
        fn given(tensor: &Ours) -> TractResult<TValue> {
            let given = match &tensor.values {
                $(Values::$kind(values) => Tensor::from_shape(&tensor.shape, values)?,)*
                Values::Bytes(_) => return Err(TractError::msg("texts are not taken")),
            };
            Ok(given.into())
        }

        fn taken(name: &str, value: &Tensor) -> TractResult<Ours> {
            let value = if value.datum_type() == DatumType::TDim { value.cast_to::<i64>()? } else { std::borrow::Cow::Borrowed(value) };
            let values = match kind_of(value.datum_type()) {
                $(Some(DataType::$kind) => Values::$kind(value.to_plain_array_view::<$rust>()?.iter().copied().collect()),)*
                _ => return Err(TractError::msg("an output changed its datatype")),
            };
            Ok(Ours { name: name.to_owned(), shape: value.shape().to_vec(), values })
        }
    };
}

each_kind! {
    Bool bool Uint8 u8 Uint16 u16 Uint32 u32 Uint64 u64 Int8 i8 Int16 i16 Int32 i32 Int64 i64 Fp32 f32 Fp64 f64
}

/// Puts the values of external data where they belong.
fn fill_in(graph: &mut pb::GraphProto, folder: &str, package: &Package) -> Result<()> {
    for tensor in &mut graph.initializer {
        fill_in_tensor(tensor, folder, package)?;
    }
    for attribute in graph.node.iter_mut().flat_map(|node| &mut node.attribute) {
        for tensor in attribute.t.iter_mut().chain(&mut attribute.tensors) {
            fill_in_tensor(tensor, folder, package)?;
        }
        for inner in attribute.g.iter_mut().chain(&mut attribute.graphs) {
            fill_in(inner, folder, package)?;
        }
    }
    Ok(())
}

fn fill_in_tensor(tensor: &mut pb::TensorProto, folder: &str, package: &Package) -> Result<()> {
    if tensor.data_location != Some(EXTERNAL) {
        return Ok(());
    }
    let entry = |key: &str| {
        tensor.external_data.iter().find(|entry| entry.key == key).map(|entry| entry.value.as_str())
    };
    let refused = |what: &str| unusable(format!("the values of its tensor `{}` {what}", tensor.name));
    let location = entry("location").unwrap_or_default();
    let is_inside =
        Path::new(location).components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
    let location = location.trim_start_matches("./");
    let path = if folder.is_empty() { location.to_owned() } else { format!("{folder}/{location}") };
    let file: Option<&Bytes> = package.files.get(&path).filter(|_| is_inside && !location.is_empty());
    let file = file.ok_or_else(|| refused("stand in a file that the version does not have"))?;
    let number =
        |key: &str| entry(key).map(str::parse::<usize>).transpose().map_err(|_| refused("stand nowhere"));
    let offset = number("offset")?.unwrap_or(0);
    let length = number("length")?.unwrap_or_else(|| file.len().saturating_sub(offset));
    let values = offset.checked_add(length).and_then(|end| file.get(offset..end));
    let values = values.ok_or_else(|| refused("are not all in their file"))?.to_vec();
    tensor.raw_data = values;
    tensor.data_location = None;
    tensor.external_data.clear();
    Ok(())
}

#[cfg(test)]
mod tests;
