//! An ONNX file as every engine takes it: parsed, with the values of external data where they belong.
//!
//! Weights that stand in files beside the model (external data, which MLflow's client writes) are taken out of the
//! version's own files; no other file is ever opened. It refuses texts, 16-bit floats and inputs without a shape.

use std::path::{Component, Path};

use bytes::Bytes;
use kernel::{Error, Result};
use tract_onnx::pb::tensor_shape_proto::dimension::Value as Length;
use tract_onnx::pb::{self, type_proto};

use crate::model::{Package, unusable};
use crate::tensor::DataType;

const ENDING: &str = ".onnx";

/// `TensorProto.DataLocation.EXTERNAL`.
const EXTERNAL: i32 = 1;

/// Datatypes and their numbers in the file.
const KINDS: [(i32, DataType); 11] = [
    (1, DataType::Fp32),
    (2, DataType::Uint8),
    (3, DataType::Int8),
    (4, DataType::Uint16),
    (5, DataType::Int16),
    (6, DataType::Int32),
    (7, DataType::Int64),
    (9, DataType::Bool),
    (11, DataType::Fp64),
    (12, DataType::Uint32),
    (13, DataType::Uint64),
];

/// The bytes are no ONNX file.
pub(super) fn no_file(cause: impl std::error::Error + Send + Sync + 'static) -> Error {
    unusable("it is no ONNX file, or not all of one").with_source(cause)
}

/// Whether files of these names may be of the format.
pub(super) fn claims(paths: &[&str]) -> bool {
    paths.iter().any(|path| path.ends_with(ENDING))
}

/// A file that was read.
#[derive(Debug)]
pub(super) struct File {
    pub(super) proto: pb::ModelProto,
    /// Those that a caller gives.
    pub(super) inputs: Vec<Input>,
    /// Names in their order.
    pub(super) outputs: Vec<String>,
}

impl File {
    /// The one of a version; `decode` reads the message.
    ///
    /// # Errors
    /// `MODEL_UNUSABLE` saying what is wrong.
    pub(super) fn of(
        package: &Package,
        decode: impl FnOnce(&[u8]) -> Result<pb::ModelProto>,
    ) -> Result<Self> {
        let (path, bytes) = package.only(ENDING, "model.onnx")?;
        let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
        let mut proto = decode(bytes)?;
        let graph = proto.graph.as_mut().ok_or_else(|| unusable("it is no ONNX file: it has no graph"))?;
        fill_in(graph, folder, package)?;
        let inputs = inputs(graph)?;
        let outputs = graph.output.iter().map(|output| output.name.clone()).collect();
        // Nothing is trained, and it may name other files.
        proto.training_info.clear();
        for function in &mut proto.functions {
            fill_in_nodes(&mut function.node, folder, package)?;
        }
        Ok(Self { proto, inputs, outputs })
    }

    /// Whether the first axes of all inputs may be taken as one.
    pub(super) fn has_free_rows(&self) -> bool {
        let is_free = |input: &Input| matches!(input.dims.first(), Some(Dim::Free(_)));
        !self.inputs.is_empty() && self.inputs.iter().all(is_free)
    }
}

/// An axis of an input as the file has it.
#[derive(Debug, Clone)]
pub(super) enum Dim {
    Known(usize),
    /// Any length; equal names are equal lengths.
    Free(Option<String>),
}

#[derive(Debug, Clone)]
pub(super) struct Input {
    pub(super) name: String,
    pub(super) kind: DataType,
    pub(super) dims: Vec<Dim>,
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
    let (_, kind) = *found.ok_or_else(|| refused("is of a datatype that is not served"))?;
    let shape = tensor.shape.as_ref().ok_or_else(|| refused("has no shape"))?;
    let dim = |dim: &pb::tensor_shape_proto::Dimension| match &dim.value {
        Some(Length::DimValue(length)) if *length >= 0 => {
            usize::try_from(*length).map(Dim::Known).map_err(|_| refused("is too large"))
        }
        Some(Length::DimParam(name)) if !name.is_empty() && name != "?" => Ok(Dim::Free(Some(name.clone()))),
        _ => Ok(Dim::Free(None)),
    };
    let dims = shape.dim.iter().map(dim).collect::<Result<_>>()?;
    Ok(Input { name, kind, dims })
}

/// Puts the values of external data where they belong.
fn fill_in(graph: &mut pb::GraphProto, folder: &str, package: &Package) -> Result<()> {
    for tensor in &mut graph.initializer {
        fill_in_tensor(tensor, folder, package)?;
    }
    for tensor in graph.sparse_initializer.iter_mut().flat_map(parts) {
        fill_in_tensor(tensor, folder, package)?;
    }
    fill_in_nodes(&mut graph.node, folder, package)
}

/// The tensors that a sparse one is made of.
fn parts(sparse: &mut pb::SparseTensorProto) -> impl Iterator<Item = &mut pb::TensorProto> {
    sparse.values.iter_mut().chain(&mut sparse.indices)
}

fn fill_in_nodes(nodes: &mut [pb::NodeProto], folder: &str, package: &Package) -> Result<()> {
    for attribute in nodes.iter_mut().flat_map(|node| &mut node.attribute) {
        let sparse = attribute.sparse_tensor.iter_mut().chain(&mut attribute.sparse_tensors);
        for tensor in sparse.flat_map(parts) {
            fill_in_tensor(tensor, folder, package)?;
        }
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
