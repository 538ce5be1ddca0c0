//! The methods of `inference.GRPCInferenceService`, answered by what answers HTTP. An empty version is the alias `champion`.
//!
//! Values come back as they came: raw where the inputs were raw, else in the list of their datatype.

use axum::Router;
use axum::extract::{Request, State};
use axum::response::Response;
use axum::routing::post;
use edge::{ApiResult, Caller};
use kernel::{Error, Result, codes};

use super::framing::call;
use super::inference::model_infer_request::InferInputTensor;
use super::inference::model_infer_response::InferOutputTensor;
use super::inference::model_metadata_response::TensorMetadata;
use super::inference::{
    ModelInferRequest, ModelInferResponse, ModelMetadataRequest, ModelMetadataResponse, ModelReadyRequest,
    ModelReadyResponse, ServerMetadataRequest, ServerMetadataResponse,
};
use super::tensors;
use crate::model::{MODEL_UNUSABLE, TensorSpec};
use crate::tensor::Tensor;
use crate::{Inference, Runtime, Selector, http};

/// The routes of the methods that need `read`.
pub fn routes(runtime: Runtime) -> Router {
    Router::new()
        .route("/inference.GRPCInferenceService/ServerMetadata", post(server_metadata))
        .route("/inference.GRPCInferenceService/ModelReady", post(model_ready))
        .route("/inference.GRPCInferenceService/ModelMetadata", post(model_metadata))
        .route("/inference.GRPCInferenceService/ModelInfer", post(model_infer))
        .with_state(runtime)
}

fn selector(version: &str) -> Result<Selector> {
    Selector::asked(Some(version).filter(|version| !version.is_empty()))
}

async fn server_metadata(_caller: Caller, request: Request) -> ApiResult<Response> {
    let answer = async |ServerMetadataRequest {}| {
        let version = env!("CARGO_PKG_VERSION").to_owned();
        Ok(ServerMetadataResponse { name: http::SERVER_NAME.to_owned(), version, extensions: Vec::new() })
    };
    call(request, answer).await
}

/// A model that is not there, or cannot be served, is not ready; that is an answer, as clients of the protocol take it.
async fn model_ready(
    State(runtime): State<Runtime>,
    Caller(scope): Caller,
    request: Request,
) -> ApiResult<Response> {
    let answer = async |asked: ModelReadyRequest| match runtime
        .describe(&scope, &asked.name, selector(&asked.version)?)
        .await
    {
        Ok(_) => Ok(ModelReadyResponse { ready: true }),
        Err(error) if [codes::NOT_FOUND, MODEL_UNUSABLE].contains(&error.code()) => {
            Ok(ModelReadyResponse { ready: false })
        }
        Err(error) => Err(error),
    };
    call(request, answer).await
}

async fn model_metadata(
    State(runtime): State<Runtime>,
    Caller(scope): Caller,
    request: Request,
) -> ApiResult<Response> {
    let answer = async |asked: ModelMetadataRequest| {
        let found = runtime.describe(&scope, &asked.name, selector(&asked.version)?).await?;
        let told = |spec: &TensorSpec| TensorMetadata {
            name: spec.name.clone(),
            datatype: spec.kind.name().to_owned(),
            shape: spec.wire_shape(),
        };
        Ok(ModelMetadataResponse {
            name: asked.name,
            versions: vec![found.version.to_string()],
            platform: found.platform.to_owned(),
            inputs: found.signature.inputs.iter().map(told).collect(),
            outputs: found.signature.outputs.iter().map(told).collect(),
        })
    };
    call(request, answer).await
}

async fn model_infer(
    State(runtime): State<Runtime>,
    Caller(scope): Caller,
    request: Request,
) -> ApiResult<Response> {
    let answer = async |mut asked: ModelInferRequest| {
        let selector = selector(&asked.model_version)?;
        let is_raw = !asked.raw_input_contents.is_empty();
        let inputs = inputs(&mut asked)?;
        let inference = runtime.infer(&scope, &asked.model_name, selector, inputs).await?;
        infer_response(asked, inference, is_raw)
    };
    call(request, answer).await
}

fn inputs(asked: &mut ModelInferRequest) -> Result<Vec<Tensor>> {
    let mut raw = std::mem::take(&mut asked.raw_input_contents).into_iter();
    if raw.len() > 0 && raw.len() != asked.inputs.len() {
        let message = format!("has {} entries for {} inputs", raw.len(), asked.inputs.len());
        return Err(Error::new(codes::VALIDATION_ERROR, message).with_field("raw_input_contents"));
    }
    let given = std::mem::take(&mut asked.inputs).into_iter().enumerate();
    given
        .map(|(number, InferInputTensor { name, datatype, shape, contents, .. })| {
            tensors::read(number, (name, &datatype, &shape), contents, raw.next())
        })
        .collect()
}

fn infer_response(
    asked: ModelInferRequest,
    inference: Inference,
    is_raw: bool,
) -> Result<ModelInferResponse> {
    let model_version = inference.version.to_string();
    let chosen = if asked.outputs.is_empty() {
        inference.outputs
    } else {
        let wanted = asked.outputs.iter().enumerate();
        wanted.map(|(number, wanted)| inference.output(number, &wanted.name)).collect::<Result<_>>()?
    };
    let (mut outputs, mut raw_output_contents) = (Vec::new(), Vec::new());
    for tensor in chosen {
        let mut output = InferOutputTensor {
            datatype: tensor.values.kind().name().to_owned(),
            shape: tensor.wire_shape(),
            name: tensor.name,
            ..InferOutputTensor::default()
        };
        if is_raw {
            raw_output_contents.push(tensors::raw(&tensor.values));
        } else {
            output.contents = Some(tensors::contents(tensor.values));
        }
        outputs.push(output);
    }
    let (model_name, id) = (asked.model_name, asked.id);
    let parameters = std::collections::BTreeMap::new();
    Ok(ModelInferResponse { model_name, model_version, id, parameters, outputs, raw_output_contents })
}
