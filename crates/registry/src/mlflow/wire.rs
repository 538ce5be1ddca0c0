//! How things are written for MLflow's clients, and how what they send is read: protocol buffers as JSON, where numbers of
//! 64 bits may be texts and numbers that are not finite are.

use std::collections::BTreeMap;

use axum::extract::{FromRequest, Request};
use axum::http::Method;
use edge::ApiError;
use edge::extract::{parse, read_all};
use kernel::{Error, Result, codes};
use models::files::Listed;
use models::registered::{RegisteredModel, RegisteredVersion, Stage};
use models::tracking::{Experiment, LoggedModel, MetricPoint, Run};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value, json};

/// How clients know artifacts that are kept here.
pub(super) const ARTIFACTS: &str = "mlflow-artifacts:/";

/// What a request asks: its parameters where it is a GET, else its body.
#[derive(Debug)]
pub(super) struct Ask<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Ask<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        let bytes = if request.method() == Method::GET {
            let asked = parameters(request.uri().query().unwrap_or_default());
            serde_json::to_vec(&asked).map_err(Error::internal)?.into()
        } else {
            edge::extract::check_encoding(request.headers())?;
            read_all(request, state).await?
        };
        let bytes: &[u8] = if bytes.is_empty() { b"{}" } else { &bytes };
        Ok(Self(parse(bytes, codes::VALIDATION_ERROR)?))
    }
}

/// A parameter that is given twice is a list.
fn parameters(query: &str) -> Map<String, Value> {
    let mut found: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    for (name, value) in form_urlencoded::parse(query.as_bytes()) {
        found.entry(name.into_owned()).or_default().push(Value::String(value.into_owned()));
    }
    let one_or_many = |(name, mut values): (String, Vec<Value>)| match values.len() {
        1 => (name, values.remove(0)),
        _ => (name, Value::Array(values)),
    };
    found.into_iter().map(one_or_many).collect()
}

/// A key and its value.
#[derive(Debug, Clone, Default, Deserialize)]
pub(super) struct Pair {
    pub key: String,
    #[serde(default)]
    pub value: String,
}

pub(super) fn map_of(pairs: Vec<Pair>) -> BTreeMap<String, String> {
    pairs.into_iter().map(|pair| (pair.key, pair.value)).collect()
}

/// The stage that a field names.
pub(super) fn stage(text: &str, field: &str) -> Result<Stage> {
    let fault = || {
        let message = "is one of None, Staging, Production, Archived";
        Error::new(codes::VALIDATION_ERROR, message).with_field(field)
    };
    Stage::parse(text).ok_or_else(fault)
}

/// A whole number, also as text; none where it is missing, empty or null.
pub(super) fn whole<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<i64>, D::Error> {
    let fault = |value: &Value| serde::de::Error::custom(format!("`{value}` is not a whole number"));
    match Value::deserialize(deserializer)? {
        Value::Null => Ok(None),
        Value::String(text) if text.is_empty() => Ok(None),
        Value::String(text) => text.parse().map(Some).map_err(|_| fault(&Value::String(text))),
        Value::Number(number) => match (number.as_i64(), number.as_f64()) {
            (Some(number), _) => Ok(Some(number)),
            // Some clients send times as floats.
            (None, Some(float)) if float.fract() == 0.0 && float.abs() < 9e15 => Ok(Some(float as i64)),
            _ => Err(fault(&Value::Number(number))),
        },
        value => Err(fault(&value)),
    }
}

/// A number, also one that is not finite, which is a text.
pub(super) fn double<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    let fault = |value: &Value| serde::de::Error::custom(format!("`{value}` is not a number"));
    match Value::deserialize(deserializer)? {
        Value::Number(number) => number.as_f64().ok_or_else(|| fault(&Value::Number(number))),
        Value::String(text) => match text.as_str() {
            "NaN" => Ok(f64::NAN),
            "Infinity" => Ok(f64::INFINITY),
            "-Infinity" => Ok(f64::NEG_INFINITY),
            _ => text.parse().map_err(|_| fault(&Value::String(text))),
        },
        value => Err(fault(&value)),
    }
}

/// Texts, also where one stands alone.
pub(super) fn texts<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    match Value::deserialize(deserializer)? {
        Value::Null => Ok(Vec::new()),
        Value::String(text) => Ok(vec![text]),
        value => {
            serde_json::from_value(value).map_err(|_| serde::de::Error::custom("expected a list of texts"))
        }
    }
}

/// True or false, also as text.
pub(super) fn flag<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    match Value::deserialize(deserializer)? {
        Value::Null => Ok(false),
        Value::Bool(flag) => Ok(flag),
        Value::String(text) => Ok(text.eq_ignore_ascii_case("true")),
        _ => Err(serde::de::Error::custom("expected true or false")),
    }
}

fn number(value: f64) -> Value {
    match value {
        value if value.is_nan() => json!("NaN"),
        f64::INFINITY => json!("Infinity"),
        f64::NEG_INFINITY => json!("-Infinity"),
        value => json!(value),
    }
}

fn pairs(map: &BTreeMap<String, String>) -> Vec<Value> {
    map.iter().map(|(key, value)| json!({"key": key, "value": value})).collect()
}

fn lifecycle(is_deleted: bool) -> &'static str {
    if is_deleted { "deleted" } else { "active" }
}

pub(super) fn experiment(experiment: &Experiment) -> Value {
    json!({
        "experiment_id": experiment.id,
        "name": experiment.name,
        "artifact_location": format!("{ARTIFACTS}{}", experiment.id),
        "lifecycle_stage": lifecycle(experiment.is_deleted),
        "creation_time": experiment.created_ms,
        "last_update_time": experiment.updated_ms,
        "tags": pairs(&experiment.tags),
    })
}

pub(super) fn metric(point: &MetricPoint, run_id: &str) -> Value {
    let mut told = json!({
        "key": point.key,
        "value": number(point.value),
        "timestamp": point.timestamp_ms,
        "step": point.step,
        "run_id": run_id,
    });
    if let Some(model) = &point.model_id {
        told["model_id"] = json!(model);
    }
    if let Some((name, digest)) = &point.dataset {
        told["dataset_name"] = json!(name);
        told["dataset_digest"] = json!(digest);
    }
    told
}

pub(super) fn run_info(run: &Run) -> Value {
    let mut info = json!({
        "run_id": run.id,
        "run_uuid": run.id,
        "run_name": run.name,
        "experiment_id": run.experiment_id,
        "user_id": run.user_id,
        "status": run.status.name(),
        "start_time": run.start_ms,
        "artifact_uri": format!("{ARTIFACTS}{}", run.root()),
        "lifecycle_stage": lifecycle(run.deleted_ms.is_some()),
    });
    if let Some(end) = run.end_ms {
        info["end_time"] = json!(end);
    }
    info
}

pub(super) fn run(run: &Run) -> Value {
    let metrics: Vec<Value> = run.metrics.values().map(|point| metric(point, &run.id)).collect();
    let datasets: Vec<Value> = run.datasets.iter().map(dataset).collect();
    let inputs: Vec<Value> = run.model_inputs.iter().map(|id| json!({"model_id": id})).collect();
    let outputs: Vec<Value> =
        run.model_outputs.iter().map(|(id, step)| json!({"model_id": id, "step": step})).collect();
    json!({
        "info": run_info(run),
        "data": {"metrics": metrics, "params": pairs(&run.params), "tags": pairs(&run.tags)},
        "inputs": {"dataset_inputs": datasets, "model_inputs": inputs},
        "outputs": {"model_outputs": outputs},
    })
}

fn dataset(input: &models::tracking::DatasetInput) -> Value {
    let mut told = json!({
        "name": input.name,
        "digest": input.digest,
        "source_type": input.source_type,
        "source": input.source,
    });
    for (name, value) in [("schema", &input.schema), ("profile", &input.profile)] {
        if let Some(value) = value {
            told[name] = json!(value);
        }
    }
    json!({"dataset": told, "tags": pairs(&input.tags)})
}

pub(super) fn logged_model(model: &LoggedModel) -> Value {
    let metrics: Vec<Value> = model.metrics.values().map(|(point, run)| metric(point, run)).collect();
    let registered: Vec<Value> = model
        .registrations
        .iter()
        .map(|(name, version)| json!({"name": name, "version": version.to_string()}))
        .collect();
    let mut info = json!({
        "model_id": model.id,
        "experiment_id": model.experiment_id,
        "name": model.name,
        "creation_timestamp_ms": model.created_ms,
        "last_updated_timestamp_ms": model.updated_ms,
        "artifact_uri": format!("{ARTIFACTS}{}", model.root()),
        "status": model.status.name(),
        "tags": pairs(&model.tags),
        "registrations": registered,
    });
    for (name, value) in [("model_type", &model.model_type), ("source_run_id", &model.source_run_id)] {
        if let Some(value) = value {
            info[name] = json!(value);
        }
    }
    json!({"info": info, "data": {"params": pairs(&model.params), "metrics": metrics}})
}

pub(super) fn version(version: &RegisteredVersion, model: &RegisteredModel) -> Value {
    let metrics: Vec<Value> = version
        .metrics
        .iter()
        .map(|(key, value)| {
            json!({"key": key, "value": number(*value), "timestamp": version.created_ms, "step": 0})
        })
        .collect();
    json!({
        "name": version.model,
        "version": version.version.to_string(),
        "creation_timestamp": version.created_ms,
        "last_updated_timestamp": version.updated_ms,
        "user_id": version.user_id,
        "current_stage": model.stage(version.version).name(),
        "description": version.description,
        "source": version.source,
        "run_id": version.run_id,
        "run_link": version.run_link,
        "status": "READY",
        "tags": pairs(&version.tags),
        "aliases": model.aliases_of(version.version),
        "model_id": version.logged_model_id.clone().unwrap_or_default(),
        "model_metrics": metrics,
    })
}

pub(super) fn model(model: &RegisteredModel, latest: &[RegisteredVersion]) -> Value {
    let aliases: Vec<Value> = model
        .aliases
        .iter()
        .map(|(alias, version)| json!({"alias": alias, "version": version.to_string()}))
        .collect();
    let latest: Vec<Value> = latest.iter().map(|one| version(one, model)).collect();
    json!({
        "name": model.name,
        "creation_timestamp": model.created_ms,
        "last_updated_timestamp": model.updated_ms,
        "description": model.description,
        "tags": pairs(&model.tags),
        "aliases": aliases,
        "latest_versions": latest,
    })
}

/// A listing; names below a folder, or whole paths.
pub(super) fn files(listed: &[Listed], below: Option<&str>) -> Vec<Value> {
    let cut = below.map_or(0, |folder| folder.len() + 1);
    let file = |one: &Listed| match one.size_bytes {
        Some(size) => json!({"path": one.path[cut..], "is_dir": false, "file_size": size}),
        None => json!({"path": one.path[cut..], "is_dir": true}),
    };
    listed.iter().map(file).collect()
}

/// A page with its token, where there is a next.
pub(super) fn page(name: &str, things: Vec<Value>, next: Option<String>) -> Value {
    let mut told = serde_json::Map::from_iter([(name.to_owned(), Value::Array(things))]);
    if let Some(next) = next {
        told.insert("next_page_token".to_owned(), Value::String(next));
    }
    Value::Object(told)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Deserialize)]
    struct Shape {
        #[serde(default, deserialize_with = "whole")]
        whole: Option<i64>,
        #[serde(default, deserialize_with = "double")]
        double: f64,
        #[serde(default, deserialize_with = "texts")]
        texts: Vec<String>,
    }

    #[test]
    fn numbers_may_be_texts() {
        let read = |text: &str| serde_json::from_str::<Shape>(text);
        let check = |text: &str, expected: (Option<i64>, f64, &[&str])| {
            let found = read(text).unwrap();
            assert_eq!((found.whole, found.double), (expected.0, expected.1), "{text}");
            assert_eq!(found.texts, expected.2);
        };
        check(r#"{"whole":"12","double":"-Infinity","texts":"a"}"#, (Some(12), f64::NEG_INFINITY, &["a"]));
        check(
            r#"{"whole":1.7e12,"double":0.5,"texts":["a","b"]}"#,
            (Some(1_700_000_000_000), 0.5, &["a", "b"]),
        );
        check("{}", (None, 0.0, &[]));
        assert!(read(r#"{"double":"NaN"}"#).unwrap().double.is_nan());
        for bad in [r#"{"whole":"x"}"#, r#"{"whole":1.5}"#, r#"{"double":true}"#, r#"{"texts":[1]}"#] {
            assert!(read(bad).is_err(), "{bad}");
        }
        for (value, told) in [(f64::NAN, "\"NaN\""), (1.5, "1.5"), (f64::INFINITY, "\"Infinity\"")] {
            assert_eq!(number(value).to_string(), told);
        }
    }
}
