//! Calls as a client frames them, through the routes and the translation of problems.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::Request;
use axum::http::{HeaderMap, StatusCode};
use axum::{Router, middleware};
use bytes::{BufMut, Bytes};
use edge::Caller;
use edge::http::health::Health;
use http_body_util::BodyExt;
use kernel::Scope;
use prometheus_client::registry::Registry;
use prost::Message;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use super::health::{HealthCheckRequest, HealthCheckResponse};
use super::inference::model_infer_request::{InferInputTensor, InferRequestedOutputTensor};
use super::inference::*;
use super::*;
use crate::RuntimeSettings;
use crate::tensor::Values;
use crate::tests::{Home, home, scope};

const SERVICE: &str = "/inference.GRPCInferenceService/";

fn framed(message: &impl Message) -> Vec<u8> {
    let mut bytes = vec![0];
    bytes.put_u32(message.encoded_len() as u32);
    message.encode(&mut bytes).unwrap();
    bytes
}

/// The headers, trailers and body of an answer.
async fn send(
    home: &Home,
    caller: Option<&Scope>,
    path: &str,
    body: Vec<u8>,
) -> (HeaderMap, HeaderMap, Bytes) {
    let stopping = CancellationToken::new();
    let health = Health::new(Vec::new(), stopping, Arc::new(Registry::default()));
    let router = Router::new().merge(routes(home.runtime.clone())).merge(probes(health));
    let router = router.layer(middleware::from_fn(translate));
    let mut request =
        Request::post(path).header("content-type", "application/grpc").body(Body::from(body)).unwrap();
    if let Some(scope) = caller {
        request.extensions_mut().insert(Caller(scope.clone()));
    }
    let response = router.oneshot(request).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK, "errors are told by the status of gRPC");
    let (parts, body) = response.into_parts();
    assert_eq!(parts.headers["content-type"], "application/grpc");
    let collected = body.collect().await.unwrap();
    let trailers = collected.trailers().cloned().unwrap_or_default();
    (parts.headers, trailers, collected.to_bytes())
}

async fn asked<R: Message + Default>(home: &Home, method: &str, message: impl Message) -> R {
    let (headers, trailers, body) =
        send(home, Some(&home.scope), &format!("{SERVICE}{method}"), framed(&message)).await;
    assert_eq!(trailers.get("grpc-status").unwrap(), "0", "{method}: {headers:?}");
    assert_eq!((body[0], u32::from_be_bytes(body[1..5].try_into().unwrap()) as usize), (0, body.len() - 5));
    R::decode(&body[5..]).unwrap()
}

/// The status and message of a call that fails.
async fn refused(home: &Home, caller: Option<&Scope>, path: &str, body: Vec<u8>) -> (String, String, String) {
    let (headers, trailers, body) = send(home, caller, path, body).await;
    assert!(body.is_empty() && trailers.is_empty(), "{headers:?}");
    let header = |name| headers.get(name).map_or("", |value| value.to_str().unwrap()).to_owned();
    (header("grpc-status"), header("grpc-message"), header("problem-code"))
}

async fn served() -> Home {
    let home = home(RuntimeSettings::default());
    let version = home.factor("curve", 2.0).await;
    home.promote("curve", version).await;
    home
}

fn x(shape: &[i64], contents: Option<InferTensorContents>) -> InferInputTensor {
    let (name, datatype) = ("x".to_owned(), "FP32".to_owned());
    InferInputTensor { name, datatype, shape: shape.to_vec(), contents, ..Default::default() }
}

fn infer(contents: Option<Vec<f32>>, raw: Option<&[f32]>) -> ModelInferRequest {
    let contents = contents.map(|values| tensors::contents(Values::Fp32(values)));
    let raw = raw.map(|values| tensors::raw(&Values::Fp32(values.to_vec())));
    ModelInferRequest {
        model_name: "curve".to_owned(),
        id: "7".to_owned(),
        inputs: vec![x(&[1, 2], contents)],
        raw_input_contents: raw.into_iter().collect(),
        ..Default::default()
    }
}

#[tokio::test]
async fn every_method_answers() {
    let home = served().await;
    let live: ServerLiveResponse = asked(&home, "ServerLive", ServerLiveRequest {}).await;
    let ready: ServerReadyResponse = asked(&home, "ServerReady", ServerReadyRequest {}).await;
    let server: ServerMetadataResponse = asked(&home, "ServerMetadata", ServerMetadataRequest {}).await;
    assert!(live.live && ready.ready && server.name == "watershed" && !server.version.is_empty());
    let version = String::new();
    let wanted = ModelMetadataRequest { name: "curve".to_owned(), version: version.clone() };
    let model: ModelMetadataResponse = asked(&home, "ModelMetadata", wanted).await;
    assert_eq!((model.platform.as_str(), &model.versions), ("fake", &vec!["1".to_owned()]));
    assert_eq!(
        (model.inputs[0].name.as_str(), &model.inputs[0].shape, model.outputs[0].datatype.as_str()),
        ("x", &vec![-1, 2], "FP32")
    );
    for (name, expected) in [("curve", true), ("none", false)] {
        let wanted = ModelReadyRequest { name: name.to_owned(), version: version.clone() };
        let told: ModelReadyResponse = asked(&home, "ModelReady", wanted).await;
        assert_eq!(told.ready, expected, "{name}");
    }
    let (_, trailers, body) =
        send(&home, None, "/grpc.health.v1.Health/Check", framed(&HealthCheckRequest::default())).await;
    assert_eq!(trailers["grpc-status"], "0");
    assert_eq!(HealthCheckResponse::decode(&body[5..]).unwrap().status, 1, "SERVING");
}

#[tokio::test]
async fn values_come_back_as_they_came() {
    let home = served().await;
    let told: ModelInferResponse = asked(&home, "ModelInfer", infer(Some(vec![1.0, 2.0]), None)).await;
    assert_eq!((told.id.as_str(), told.model_version.as_str()), ("7", "1"));
    assert_eq!(told.outputs[0].contents.as_ref().unwrap().fp32_contents, [2.0, 4.0]);
    assert!(told.raw_output_contents.is_empty());
    let mut by_name = infer(None, Some(&[1.0, 2.0]));
    by_name.outputs = vec![InferRequestedOutputTensor { name: "y".to_owned(), ..Default::default() }];
    by_name.model_version = "1".to_owned();
    let told: ModelInferResponse = asked(&home, "ModelInfer", by_name).await;
    assert_eq!(
        (told.outputs[0].name.as_str(), &told.outputs[0].shape, &told.outputs[0].contents),
        ("y", &vec![1, 2], &None)
    );
    assert_eq!(told.raw_output_contents, [tensors::raw(&Values::Fp32(vec![2.0, 4.0]))]);
}

#[tokio::test]
async fn a_message_that_does_not_fit_is_told_by_its_status() {
    let home = served().await;
    let path = format!("{SERVICE}ModelInfer");
    let check = async |body: Vec<u8>, status: &str, code: &str, word: &str| {
        let (found, message, problem) = refused(&home, Some(&home.scope), &path, body).await;
        assert_eq!((found.as_str(), problem.as_str()), (status, code), "{message}");
        assert!(message.contains(word), "{message}");
    };
    let good = || infer(Some(vec![1.0, 2.0]), None);
    let other = |change: &dyn Fn(&mut ModelInferRequest)| {
        let mut request = good();
        change(&mut request);
        framed(&request)
    };
    check(other(&|it| it.model_name = "none".to_owned()), "5", "NOT_FOUND", "none").await;
    check(other(&|it| it.model_version = "0".to_owned()), "3", "VALIDATION_ERROR", "version").await;
    check(other(&|it| it.inputs[0].name = "ä%".to_owned()), "3", "VALIDATION_ERROR", "%C3%A4%25").await;
    check(other(&|it| it.inputs[0].datatype = "FP16".to_owned()), "3", "VALIDATION_ERROR", "FP16").await;
    check(
        other(&|it| it.raw_input_contents = vec![Bytes::new(); 2]),
        "3",
        "VALIDATION_ERROR",
        "raw_input_contents",
    )
    .await;
    check(framed(&infer(None, Some(&[1.0, f32::NAN]))), "3", "VALIDATION_ERROR", "finite").await;
    check(framed(&infer(None, Some(&[1.0, f32::MAX]))), "3", "NOT_FINITE", "finite").await;
    let mut unknown = good();
    unknown.outputs = vec![InferRequestedOutputTensor { name: "z".to_owned(), ..Default::default() }];
    check(framed(&unknown), "3", "VALIDATION_ERROR", "outputs[0].name").await;
    check(other(&|it| it.inputs = vec![x(&[1], None); 5_000]), "8", "TOO_LARGE", "fields").await;
    let whole = framed(&good());
    check(whole[..whole.len() - 1].to_vec(), "3", "INVALID_REQUEST", "length").await;
    check([&whole[..], &whole[..]].concat(), "3", "INVALID_REQUEST", "length").await;
    check(whole[..4].to_vec(), "3", "INVALID_REQUEST", "ends").await;
    check([&[1], &whole[1..]].concat(), "12", "UNSUPPORTED_MEDIA_TYPE", "compressed").await;
    check([&[0, 0, 0, 0, 2][..], &[0xff, 0xff]].concat(), "3", "INVALID_REQUEST", "method").await;
}

#[tokio::test]
async fn nobody_gets_through_without_a_credential_or_to_another_tenants_models() {
    let home = served().await;
    let empty = framed(&ServerMetadataRequest {});
    for method in ["ServerMetadata", "ModelReady", "ModelMetadata", "ModelInfer"] {
        let (status, ..) = refused(&home, None, &format!("{SERVICE}{method}"), empty.clone()).await;
        assert_eq!(status, "16", "{method}");
    }
    let other = scope("other");
    let body = framed(&infer(Some(vec![1.0, 2.0]), None));
    assert_eq!(refused(&home, Some(&other), &format!("{SERVICE}ModelInfer"), body).await.0, "5");
    for path in ["/inference.GRPCInferenceService/ModelStreamInfer", "/other.Service/Any"] {
        assert_eq!(refused(&home, None, path, empty.clone()).await.0, "12", "{path}");
    }
    let body = framed(&HealthCheckRequest { service: "none".to_owned() });
    assert_eq!(refused(&home, None, "/grpc.health.v1.Health/Check", body).await.0, "5");
}

#[tokio::test]
async fn who_speaks_no_grpc_is_told_by_http() {
    let router = routes(served().await.runtime).layer(middleware::from_fn(translate));
    let mut request = Request::post(format!("{SERVICE}ModelInfer")).body(Body::empty()).unwrap();
    request.extensions_mut().insert(Caller(scope("shop")));
    let response = router.oneshot(request).await.unwrap();
    assert_eq!(response.status(), StatusCode::UNSUPPORTED_MEDIA_TYPE);
}
