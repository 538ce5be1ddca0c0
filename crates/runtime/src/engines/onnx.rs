//! ONNX by `tract`, in pure Rust, one thread for each call.
//!
//! The first axes of all inputs, where each may be of any length, are taken as one, and where the model does not pass so,
//! each by itself. It refuses operators that `tract` does not have.

use std::sync::Arc;

use kernel::{Error, Result, codes};
use tract_onnx::Onnx as Reader;
use tract_onnx::pb;
use tract_onnx::prelude::*;
use tract_onnx::tract_hir::infer::InferenceFact;
use tract_onnx::tract_hir::internal::DimLike;

use super::onnx_file::{self, Dim, File, Input};
use crate::model::{Engine, Model, Package, Signature, TensorSpec, unusable};
use crate::tensor::{DataType, Tensor as Ours, Values};

const BATCH: &str = "watershed_batch";

/// Datatypes, ours and `tract`'s.
const KINDS: [(DataType, DatumType); 11] = [
    (DataType::Fp32, DatumType::F32),
    (DataType::Uint8, DatumType::U8),
    (DataType::Int8, DatumType::I8),
    (DataType::Uint16, DatumType::U16),
    (DataType::Int16, DatumType::I16),
    (DataType::Int32, DatumType::I32),
    (DataType::Int64, DatumType::I64),
    (DataType::Bool, DatumType::Bool),
    (DataType::Fp64, DatumType::F64),
    (DataType::Uint32, DatumType::U32),
    (DataType::Uint64, DatumType::U64),
];

/// Loads ONNX files.
#[derive(Debug)]
pub(super) struct Onnx;

impl Engine for Onnx {
    fn platform(&self) -> &'static str {
        "onnx_tract"
    }

    fn claims(&self, paths: &[&str]) -> bool {
        onnx_file::claims(paths)
    }

    fn load(&self, package: Package) -> Result<Box<dyn Model>> {
        let reader = tract_onnx::onnx();
        let file = File::of(&package, |mut bytes| {
            let read = reader.proto_model_for_read(&mut bytes);
            read.map_err(|cause| onnx_file::no_file(Cause(cause)))
        })?;
        drop(package);
        let has_free_rows = file.has_free_rows();
        let File { proto, inputs, outputs } = file;
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
        model.set_input_fact(number, InferenceFact::dt_shape(datum_of(input.kind)?, dims))?;
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
        let signature = Signature { inputs: specs, outputs, has_batch_axis, takes_blanks: false };
        Ok(Self { signature, plan })
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

fn datum_of(kind: DataType) -> TractResult<DatumType> {
    let found = KINDS.iter().find(|(known, _)| *known == kind);
    found.map(|(_, datum)| *datum).ok_or_else(|| TractError::msg("texts are not taken"))
}

fn kind_of(datum: DatumType) -> Option<DataType> {
    // Lengths are whole numbers to everybody else.
    let datum = if datum == DatumType::TDim { DatumType::I64 } else { datum };
    KINDS.iter().find(|(_, known)| *known == datum).map(|(kind, _)| *kind)
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
