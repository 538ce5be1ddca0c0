//! ONNX by ONNX Runtime, whose library is opened when the server starts: nothing of it is linked or downloaded by the build.
//!
//! Whether models run on a graphics processor is found out once, by running one there. A version answers one call at a
//! time, because the library's sessions are not to be shared; all of them share one pool of threads. What is handed to the
//! library is the file as `onnx_file` read it, with no word left that names another file. It refuses what `onnx_file`
//! refuses, functions with more than `onnx_file` reads, and a library older than [`OLDEST`].

use std::path::Path;

use kernel::{Error, Result, codes};
use ort::environment::{Environment, GlobalThreadPoolOptions};
use ort::ep::{CUDA, ExecutionProvider};
use ort::logging::LogLevel;
use ort::session::{Session, SessionInputValue, builder::SessionBuilder};
use ort::value::{DynValue, TensorElementType, TensorRef, ValueType};
use parking_lot::Mutex;
use prost::Message;
use tract_onnx::pb;
use tract_onnx::pb::tensor_shape_proto::dimension::Value as Length;
use tract_onnx::pb::type_proto;

use super::onnx_file::{self, Dim, File, Input};
use crate::model::{Engine, Model, Package, Signature, TensorSpec, unusable};
use crate::settings::{Device, OnnxRuntimeSettings};
use crate::tensor::{DataType, Tensor, Values};

/// The oldest version of the library that is taken.
const OLDEST: &str = "1.20";
/// What is opened where the settings name no library.
const USUAL_LIBRARY: &str = "libonnxruntime.so";
const LIBRARY: &str = "runtime.onnxruntime.library";
const BATCH: &str = "watershed_batch";

/// A model that is run once where a graphics processor is asked for.
const TRIAL: &[u8] = include_bytes!("../../fixtures/linear.onnx");

/// A process opens one library, once, with one pool of threads.
static OPENED: Mutex<Option<Opened>> = Mutex::new(None);

struct Opened {
    library: String,
    threads: usize,
    environment: Environment,
}

/// Loads ONNX files.
pub(super) struct OnnxRuntime {
    environment: Environment,
    on_cuda: bool,
}

impl std::fmt::Debug for OnnxRuntime {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("OnnxRuntime").field("on_cuda", &self.on_cuda).finish_non_exhaustive()
    }
}

impl OnnxRuntime {
    /// Opens the library and finds out where models run.
    ///
    /// # Errors
    /// `VALIDATION_ERROR` naming the setting where the library is missing, another one or too old, or has no such device.
    pub(super) fn open(settings: &OnnxRuntimeSettings) -> Result<Self> {
        let environment = environment(settings.library.as_deref(), settings.threads)?;
        let mut engine = Self { environment, on_cuda: false };
        engine.on_cuda = match settings.device {
            Device::Cpu => false,
            Device::Cuda => engine.try_cuda().map(|()| true).map_err(|cause| {
                let message =
                    format!("no model runs on a graphics processor here: {cause}; set it to `cpu` or `auto`");
                Error::new(codes::VALIDATION_ERROR, message).with_field("runtime.onnxruntime.device")
            })?,
            Device::Auto => match engine.try_cuda() {
                Ok(()) => true,
                Err(cause) => {
                    if CUDA::is_available().unwrap_or(false) {
                        tracing::warn!(%cause, "CUDA does not work: models run on the processor");
                    } else {
                        tracing::info!(%cause, "models run on the processor");
                    }
                    false
                }
            },
        };
        Ok(engine)
    }

    /// Runs a model on a graphics processor.
    fn try_cuda(&self) -> ort::Result<()> {
        if !CUDA::is_available()? {
            return Err(ort::Error::new("the library is built without CUDA"));
        }
        let mut session = self.builder(true)?.commit_from_memory(TRIAL)?;
        let values = [0.0_f32; 2];
        let input = TensorRef::from_array_view((vec![1_i64, 2], &values[..]))?;
        session.run(vec![("x", SessionInputValue::from(input))]).map(drop)
    }

    fn builder(&self, on_cuda: bool) -> ort::Result<SessionBuilder> {
        let builder = Session::builder(&self.environment)?;
        if !on_cuda {
            return Ok(builder);
        }
        Ok(builder.with_execution_providers([CUDA::default().build().error_on_failure()])?)
    }

    fn session(&self, proto: &pb::ModelProto) -> ort::Result<Session> {
        self.builder(self.on_cuda)?.commit_from_memory(&proto.encode_to_vec())
    }
}

/// The library, opened once in the life of the process.
fn environment(library: Option<&Path>, threads: usize) -> Result<Environment> {
    let path = library.unwrap_or_else(|| Path::new(USUAL_LIBRARY));
    let refused = |message: String| Error::new(codes::VALIDATION_ERROR, message).with_field(LIBRARY);
    let mut opened = OPENED.lock();
    let library = path.display().to_string();
    if let Some(known) = opened.as_ref() {
        if (&known.library, known.threads) == (&library, threads) {
            return Ok(known.environment.clone());
        }
        let message =
            format!("the process has opened {} on {} threads already", known.library, known.threads);
        return Err(refused(message));
    }
    let environment = start(path, threads)?;
    *opened = Some(Opened { library, threads, environment: environment.clone() });
    Ok(environment)
}

fn start(path: &Path, threads: usize) -> Result<Environment> {
    let refused = |message: String| Error::new(codes::VALIDATION_ERROR, message).with_field(LIBRARY);
    let builder = ort::init_from(path).map_err(|cause| refused(fault(&cause)))?;
    let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let build = || {
        let threads = if threads == 0 { processors } else { threads };
        // Threads that wait must not take processors from who has work.
        let pool = GlobalThreadPoolOptions::default().with_intra_threads(threads)?.with_inter_threads(1)?;
        let pool = pool.with_spin_control(false)?;
        builder.with_name("watershed").with_telemetry(false).with_global_thread_pool(pool).build()
    };
    let environment =
        build().map_err(|cause| refused(format!("{} does not start: {cause}", path.display())))?;
    // Its faults come back as errors, of which a caller's mistakes are many.
    environment.set_log_level(LogLevel::Fatal);
    Ok(environment)
}

/// What is wrong with a library, and what to do.
fn fault(cause: &ort::LoadDynamicError) -> String {
    use ort::LoadDynamicError as Fault;
    match cause {
        Fault::Dlopen { error, path } => format!(
            "ONNX Runtime's library {} cannot be opened: {}; name `libonnxruntime.so` of {OLDEST} or newer here or in \
             ORT_DYLIB_PATH, or set `runtime.onnx_engine` to `tract`",
            path.display(),
            // The error itself says that `dlopen` failed.
            std::error::Error::source(error).unwrap_or(error)
        ),
        Fault::BadVersion { version_str, path } => {
            format!("{} is ONNX Runtime {version_str}; name one of {OLDEST} or newer", path.display())
        }
        other => format!(
            "it is no library of ONNX Runtime: {other}; name `libonnxruntime.so` of {OLDEST} or newer"
        ),
    }
}

impl Engine for OnnxRuntime {
    fn platform(&self) -> &'static str {
        if self.on_cuda { "onnxruntime_cuda" } else { "onnxruntime_cpu" }
    }

    fn claims(&self, paths: &[&str]) -> bool {
        onnx_file::claims(paths)
    }

    fn load(&self, package: Package) -> Result<Box<dyn Model>> {
        let mut file = File::of(&package, decode)?;
        drop(package);
        let together = if file.has_free_rows() {
            let shapes = as_batch(&mut file.proto, &file.inputs);
            let session = self.session(&file.proto).ok();
            if session.is_none() {
                shapes.put_back(&mut file.proto);
            }
            session
        } else {
            None
        };
        let session = match together {
            Some(session) => session,
            None => self.session(&file.proto).map_err(|cause| {
                let message = format!("ONNX Runtime cannot run it: {}", cause.message());
                unusable(message).with_source(cause)
            })?,
        };
        let signature = signature(&session, &file)?;
        Ok(Box::new(OnnxModel { session: Mutex::new(session), signature }))
    }
}

fn decode(bytes: &[u8]) -> Result<pb::ModelProto> {
    let proto = pb::ModelProto::decode(bytes).map_err(onnx_file::no_file)?;
    let unread = Unread::decode(bytes).map_err(onnx_file::no_file)?;
    if unread.functions.iter().all(UnreadFunction::is_empty) {
        return Ok(proto);
    }
    let message =
        "its functions have attributes with defaults, or several have one name; inline them when exporting";
    Err(unusable(message))
}

/// What `tract`'s messages lack of a model's functions: a file without it would mean something else.
#[derive(Message)]
struct Unread {
    #[prost(message, repeated, tag = "25")]
    functions: Vec<UnreadFunction>,
}

#[derive(Message)]
struct UnreadFunction {
    /// Attributes with the values that they have where a caller names none.
    #[prost(bytes = "vec", repeated, tag = "11")]
    defaults: Vec<Vec<u8>>,
    /// Tells functions of one name from each other.
    #[prost(string, tag = "13")]
    overload: String,
}

impl UnreadFunction {
    fn is_empty(&self) -> bool {
        self.defaults.is_empty() && self.overload.is_empty()
    }
}

/// What a file says of shapes.
struct Shapes {
    input: Vec<pb::ValueInfoProto>,
    output: Vec<pb::ValueInfoProto>,
    value_info: Vec<pb::ValueInfoProto>,
}

impl Shapes {
    fn put_back(self, proto: &mut pb::ModelProto) {
        let Some(graph) = proto.graph.as_mut() else { return };
        (graph.input, graph.output, graph.value_info) = (self.input, self.output, self.value_info);
    }
}

/// Takes the first axes of all inputs as one, and leaves it to the library to find it in the outputs; returns what the file
/// said.
fn as_batch(proto: &mut pb::ModelProto, inputs: &[Input]) -> Shapes {
    let graph = proto.graph.get_or_insert_default();
    let shapes = Shapes {
        input: graph.input.clone(),
        output: graph.output.clone(),
        // It repeats what the library finds, under the names that the axes had.
        value_info: std::mem::take(&mut graph.value_info),
    };
    for info in graph.input.iter_mut().filter(|info| inputs.iter().any(|input| input.name == info.name)) {
        if let Some(dim) = dims(info).and_then(|dims| dims.first_mut()) {
            dim.value = Some(Length::DimParam(BATCH.to_owned()));
        }
    }
    for dim in graph.output.iter_mut().filter_map(dims).flatten() {
        if matches!(dim.value, Some(Length::DimParam(_))) {
            dim.value = None;
        }
    }
    shapes
}

fn dims(info: &mut pb::ValueInfoProto) -> Option<&mut Vec<pb::tensor_shape_proto::Dimension>> {
    let type_proto::Value::TensorType(tensor) = info.r#type.as_mut()?.value.as_mut()?;
    Some(&mut tensor.shape.as_mut()?.dim)
}

fn signature(session: &Session, file: &File) -> Result<Signature> {
    let length = |dim: &Dim| match dim {
        Dim::Known(length) => Some(*length),
        Dim::Free(_) => None,
    };
    let spec = |input: &Input| TensorSpec {
        name: input.name.clone(),
        kind: input.kind,
        shape: input.dims.iter().map(length).collect(),
    };
    let inputs = file.inputs.iter().map(spec).collect();
    let mut has_batch_axis = file.has_free_rows() && !file.outputs.is_empty();
    let mut outputs = Vec::new();
    for name in &file.outputs {
        let found = session.outputs().iter().find(|outlet| outlet.name() == name);
        let refused = |what: &str| unusable(format!("its output `{name}` {what}"));
        let Some(ValueType::Tensor { ty, shape, dimension_symbols }) = found.map(|outlet| outlet.dtype())
        else {
            return Err(refused("is no tensor"));
        };
        let kind = kind_of(*ty).ok_or_else(|| refused(&format!("is {ty}, which is not served")))?;
        has_batch_axis &= dimension_symbols.first().is_some_and(|symbol| symbol == BATCH);
        let shape = shape.iter().map(|length| usize::try_from(*length).ok()).collect();
        outputs.push(TensorSpec { name: name.clone(), kind, shape });
    }
    Ok(Signature { inputs, outputs, has_batch_axis, takes_blanks: false })
}

/// A graph that is ready.
#[derive(Debug)]
struct OnnxModel {
    session: Mutex<Session>,
    signature: Signature,
}

impl Model for OnnxModel {
    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn calls(&self) -> usize {
        1
    }

    fn infer(&self, inputs: &[Tensor]) -> Result<Vec<Tensor>> {
        self.run(inputs).map_err(|cause| {
            let message = format!("the model cannot take these inputs: {}", cause.message());
            Error::new(codes::VALIDATION_ERROR, message).with_field("inputs").with_source(cause)
        })
    }
}

impl OnnxModel {
    fn run(&self, inputs: &[Tensor]) -> ort::Result<Vec<Tensor>> {
        let given = inputs.iter().map(|tensor| Ok((tensor.name.as_str(), given(tensor)?)));
        let given = given.collect::<ort::Result<Vec<_>>>()?;
        let mut session = self.session.lock();
        let found = session.run(given)?;
        let missing = || ort::Error::new("an output is missing");
        let named = self.signature.outputs.iter();
        named.map(|spec| taken(spec, found.get(&spec.name).ok_or_else(missing)?)).collect()
    }
}

macro_rules! each_kind {
    ($($kind:ident $theirs:ident $rust:ty)*) => {
        fn kind_of(kind: TensorElementType) -> Option<DataType> {
            match kind {
                $(TensorElementType::$theirs => Some(DataType::$kind),)*
                _ => None,
            }
        }

        fn given(tensor: &Tensor) -> ort::Result<SessionInputValue<'_>> {
            match &tensor.values {
                $(Values::$kind(values) => {
                    Ok(TensorRef::from_array_view((tensor.shape.clone(), values.as_slice()))?.into())
                })*
                Values::Bytes(_) => Err(ort::Error::new("texts are not taken")),
            }
        }

        fn taken(spec: &TensorSpec, value: &DynValue) -> ort::Result<Tensor> {
            let (shape, values) = match spec.kind {
                $(DataType::$kind => {
                    let (shape, values) = value.try_extract_tensor::<$rust>()?;
                    (shape, Values::$kind(values.to_vec()))
                })*
                DataType::Bytes => return Err(ort::Error::new("texts are not given")),
            };
            let lengths = shape.iter().map(|length| usize::try_from(*length).map_err(ort::Error::wrap));
            Ok(Tensor { name: spec.name.clone(), shape: lengths.collect::<ort::Result<_>>()?, values })
        }
    };
}

each_kind! {
    Bool Bool bool Uint8 Uint8 u8 Uint16 Uint16 u16 Uint32 Uint32 u32 Uint64 Uint64 u64 Int8 Int8 i8 Int16 Int16 i16
    Int32 Int32 i32 Int64 Int64 i64 Fp32 Float32 f32 Fp64 Float64 f64
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    #[test]
    fn a_library_that_is_not_there_or_another_is_told() {
        let check = |path: &str, part: &str| {
            let settings = OnnxRuntimeSettings { library: Some(path.into()), ..Default::default() };
            let error = OnnxRuntime::open(&settings).unwrap_err();
            assert_eq!((error.code(), error.field()), (codes::VALIDATION_ERROR, Some(LIBRARY)));
            assert!(error.message().contains(part), "{error}");
        };
        check("/nowhere/libonnxruntime.so", "`libonnxruntime.so` of 1.20 or newer here or in ORT_DYLIB_PATH");
        check("/nowhere/libonnxruntime.so", "No such file or directory");
        check("libc.so.6", "it is no library of ONNX Runtime");
    }

    #[test]
    fn functions_with_more_than_is_read_are_refused() {
        // A field of a model: function; of a function: its name, a default, an overload.
        let field = |tag: u32, held: &[u8]| {
            let mut bytes = Vec::new();
            prost::encoding::encode_key(tag, prost::encoding::WireType::LengthDelimited, &mut bytes);
            prost::encoding::encode_varint(held.len() as u64, &mut bytes);
            [bytes, held.to_vec()].concat()
        };
        let check = |function: &[u8], is_taken: bool| {
            let model = [TRIAL, &field(25, function)].concat();
            let read = decode(&model);
            assert_eq!(read.is_ok(), is_taken, "{function:?}");
            if let Err(error) = read {
                assert!(error.message().contains("inline them when exporting"), "{error}");
            }
        };
        check(&field(1, b"f"), true);
        check(&[field(1, b"f"), field(11, b"")].concat(), false);
        check(&[field(1, b"f"), field(13, b"second")].concat(), false);
    }

    #[test]
    fn one_that_is_too_old_is_told() {
        let path = PathBuf::from("/opt/libonnxruntime.so");
        let message = fault(&ort::LoadDynamicError::BadVersion { version_str: "1.17.3".to_owned(), path });
        assert_eq!(message, "/opt/libonnxruntime.so is ONNX Runtime 1.17.3; name one of 1.20 or newer");
        assert_eq!(OLDEST, format!("1.{}", ort::MINOR_VERSION));
    }
}
