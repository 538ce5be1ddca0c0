//! `POST /api/v1/predict`: rows in, rows out, as the clients of the operators' guide ask.
//!
//! A row is an object with a value for each input of the model: a number, a text, or lists of them. Where the model takes
//! histories with blanks, null or a field that is left out is one. Rows are put into one request in their order. Experiments are
//! not answered here: a request that names one is refused.

use std::collections::BTreeMap;
use std::fmt;

use axum::Json;
use axum::extract::State;
use edge::extract::Object;
use edge::{ApiResult, Body, Caller};
use kernel::{Error, Result, codes};
use rollout::canary::Arm;
use serde::de::{self, Visitor};
use serde::ser::{SerializeMap, SerializeSeq};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::canaries::Asker;
use crate::model::{Signature, TensorSpec};
use crate::scalar::{Blanks, Scalar};
use crate::tensor::{Tensor, Values};
use crate::{Runtime, Selector};

const ROWS_MAX: usize = 100_000;

pub(super) fn routes() -> OpenApiRouter<Runtime> {
    OpenApiRouter::new().routes(routes!(predict))
}

/// A version, as a number or a word.
#[derive(Debug)]
pub(super) enum Version {
    Number(u64),
    Word(String),
}

impl<'de> Deserialize<'de> for Version {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        struct Either;
        impl Visitor<'_> for Either {
            type Value = Version;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a whole number or a name")
            }

            fn visit_u64<E: de::Error>(self, number: u64) -> std::result::Result<Version, E> {
                Ok(Version::Number(number))
            }

            fn visit_str<E: de::Error>(self, word: &str) -> std::result::Result<Version, E> {
                Ok(Version::Word(word.to_owned()))
            }
        }
        deserializer.deserialize_any(Either)
    }
}

impl Version {
    pub(super) fn text(self) -> String {
        match self {
            Self::Number(number) => number.to_string(),
            Self::Word(word) => word,
        }
    }
}

/// Rows that a model is asked about.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = PredictRequest, example = json!({"model_name": "churn", "inputs": [{"x": [1.0, 2.0]}, {"x": [3.0, 4.0]}]}))]
pub struct PredictRequest {
    /// A value for each input of the model, by its name. Null, or none, is no value, where the model takes that.
    #[schema(value_type = Vec<BTreeMap<String, serde_json::Value>>, min_items = 1, max_items = 100_000)]
    inputs: Vec<Object<BTreeMap<String, Blanks>>>,
    /// The registered model; `runtime.default_model` where missing.
    #[serde(default)]
    model_name: Option<String>,
    /// A number, or an alias; `champion` where missing. `production` and `staging` stand for `champion` and `canary`.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    model_version: Option<Version>,
    /// Whether the prediction is kept, so that its truth may be told later; needs `write`.
    #[serde(default)]
    keep: bool,
    /// Experiments are not answered here.
    #[serde(default)]
    experiment_id: Option<String>,
    /// Who it is for: they stay in the same arm of a canary.
    #[serde(default)]
    user_id: Option<String>,
    /// Stands for `user_id` where that is missing.
    #[serde(default)]
    session_id: Option<String>,
}

/// How the version was chosen.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = PredictRouting)]
pub struct RoutingResponse {
    /// The alias or the number that was asked for.
    asked: String,
    /// `control` or `candidate`, where a canary or an A/B test of the model runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    arm: Option<&'static str>,
}

/// Predictions.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = PredictResponse)]
pub struct PredictResponse {
    /// One for each row that the model gives: the value of its output, or an object where it has several.
    #[schema(value_type = Vec<serde_json::Value>)]
    predictions: Predictions,
    model_name: String,
    /// The version that answered.
    model_version: String,
    /// Where it is kept: what its truth is told under.
    #[serde(skip_serializing_if = "Option::is_none")]
    prediction_id: Option<String>,
    latency_ms: f64,
    routing_metadata: RoutingResponse,
}

/// Ask a model about rows.
#[utoipa::path(post, path = "/api/v1/predict", tag = "inference", operation_id = "predict_rows",
    request_body = PredictRequest,
    responses((status = 200, body = PredictResponse),
        (status = 404, description = "there is no such model, version or alias",
            body = edge::Problem, content_type = "application/problem+json"),
        (status = 409, description = "the version cannot be served",
            body = edge::Problem, content_type = "application/problem+json")))]
async fn predict(
    State(runtime): State<Runtime>,
    Caller(scope): Caller,
    Body(asked): Body<PredictRequest>,
) -> ApiResult<Json<PredictResponse>> {
    if asked.experiment_id.is_some() {
        let message = "there are no experiments here; name a version or an alias";
        return Err(Error::new(codes::VALIDATION_ERROR, message).with_field("experiment_id").into());
    }
    edge::check_range(asked.inputs.len(), 1, ROWS_MAX, "inputs")?;
    let selector = selector(asked.model_version)?;
    let model_name = asked.model_name.unwrap_or_else(|| runtime.default_model().to_owned());
    let asked_for = selector.to_string();
    let rows = asked.inputs.into_iter().map(|row| row.0).collect();
    let inputs = |signature: &Signature| stacked(signature, rows);
    let somebody = |name: Option<String>| name.filter(|name| !name.is_empty());
    let subject = somebody(asked.user_id).or_else(|| somebody(asked.session_id));
    let asker = Asker { subject, keeps: asked.keep };
    let inference = runtime.infer_for(&scope, &model_name, selector, &asker, inputs).await?;
    Ok(Json(PredictResponse {
        prediction_id: inference.prediction_id,
        predictions: Predictions(inference.outputs),
        model_name,
        model_version: inference.version.to_string(),
        latency_ms: inference.took.as_secs_f64() * 1e3,
        routing_metadata: RoutingResponse { asked: asked_for, arm: inference.arm.map(Arm::name) },
    }))
}

pub(super) fn selector(version: Option<Version>) -> Result<Selector> {
    let named = |error: Error| error.with_field("model_version");
    match version {
        None => Ok(Selector::default()),
        Some(Version::Number(number)) => Selector::parse(&number.to_string()).map_err(named),
        Some(Version::Word(word)) => {
            let stage = models::registered::Stage::parse(&word).and_then(models::registered::Stage::alias);
            Selector::parse(stage.unwrap_or(&word)).map_err(named)
        }
    }
}

/// The inputs of the model, a row of the request below the other.
pub(crate) fn stacked<T: Into<Vec<Scalar>>>(
    signature: &Signature,
    rows: Vec<BTreeMap<String, T>>,
) -> Result<Vec<Tensor>> {
    let count = rows.len();
    // A column that no row has is forgotten, not blank.
    let is_known = |spec: &TensorSpec| rows.iter().any(|row| row.contains_key(&spec.name));
    let may_lack: Vec<bool> =
        signature.inputs.iter().map(|spec| signature.takes_blank(spec) && is_known(spec)).collect();
    let mut columns: Vec<Vec<Scalar>> = signature.inputs.iter().map(|_| Vec::new()).collect();
    for (number, mut row) in rows.into_iter().enumerate() {
        let refused = |name: &str, message: String| {
            Error::new(codes::VALIDATION_ERROR, message).with_field(format!("inputs[{number}].{name}"))
        };
        for ((spec, column), may_lack) in signature.inputs.iter().zip(&mut columns).zip(&may_lack) {
            let values: Vec<Scalar> = match row.remove(&spec.name) {
                Some(values) => values.into(),
                None if *may_lack => vec![Scalar::Null],
                None => return Err(refused(&spec.name, "is missing".to_owned())),
            };
            if !signature.takes_blank(spec) && values.contains(&Scalar::Null) {
                return Err(refused(&spec.name, format!("is null, which is not {}", spec.kind.name())));
            }
            let wanted = row_length(spec)
                .or_else(|| (number > 0).then(|| column.len() / number))
                .unwrap_or(values.len());
            if values.len() != wanted {
                let message = format!("has {wanted} values, not {}", values.len());
                return Err(refused(&spec.name, message));
            }
            column.extend(values);
        }
        if let Some(name) = row.keys().next() {
            let known: Vec<_> = signature.inputs.iter().map(|spec| spec.name.as_str()).collect();
            return Err(refused(name, format!("is no input of the model, which takes {}", known.join(", "))));
        }
    }
    let tensor = |(spec, column): (&TensorSpec, Vec<_>)| {
        let shape = row_shape(spec, count, column.len())?;
        let named = |error: Error| error.with_field(format!("inputs.{}", spec.name));
        let values = Values::read(spec.kind, column).map_err(named)?;
        Tensor::new(spec.name.clone(), shape, values).map_err(named)
    };
    signature.inputs.iter().zip(columns).map(tensor).collect()
}

/// The values of a row, where the model says how many.
fn row_length(spec: &TensorSpec) -> Option<usize> {
    spec.shape.get(1..).unwrap_or_default().iter().copied().product()
}

/// The rows, and what each one is; one axis of any length takes what is left.
fn row_shape(spec: &TensorSpec, rows: usize, values: usize) -> Result<Vec<usize>> {
    let free = || {
        let message = "has several axes of any length; ask by /v2, which takes shapes";
        Error::new(codes::VALIDATION_ERROR, message).with_field(format!("inputs.{}", spec.name))
    };
    let inner = spec.shape.get(1..).unwrap_or_default();
    let known: usize = inner.iter().flatten().product();
    if inner.iter().filter(|length| length.is_none()).count() > 1 {
        return Err(free());
    }
    let rest = values.checked_div(rows * known).unwrap_or(0);
    let inner = inner.iter().map(|length| length.unwrap_or(rest));
    Ok(if spec.shape.is_empty() { Vec::new() } else { std::iter::once(rows).chain(inner).collect() })
}

/// Outputs, by row where they have the same number of rows.
#[derive(Debug)]
pub(crate) struct Predictions(pub(crate) Vec<Tensor>);

impl Serialize for Predictions {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        let rows = self.0.first().and_then(|tensor| tensor.shape.first().copied());
        let rows = rows.filter(|rows| self.0.iter().all(|tensor| tensor.shape.first() == Some(rows)));
        let mut list = serializer.serialize_seq(Some(rows.unwrap_or(1)))?;
        for row in 0..rows.unwrap_or(1) {
            let part = |tensor| match rows {
                Some(_) => Part::row(tensor, row),
                None => Part { tensor, axis: 0, at: 0 },
            };
            match self.0.as_slice() {
                [only] => list.serialize_element(&part(only))?,
                several => list.serialize_element(&Named(
                    several.iter().map(|one| (one.name.as_str(), part(one))).collect(),
                ))?,
            }
        }
        list.end()
    }
}

struct Named<'a>(Vec<(&'a str, Part<'a>)>);

impl Serialize for Named<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (name, part) in &self.0 {
            map.serialize_entry(name, part)?;
        }
        map.end()
    }
}

/// A part of a tensor as lists of lists.
struct Part<'a> {
    tensor: &'a Tensor,
    axis: usize,
    /// Its first value.
    at: usize,
}

impl<'a> Part<'a> {
    fn row(tensor: &'a Tensor, row: usize) -> Self {
        Self { tensor, axis: 1, at: row * width(tensor, 1) }
    }
}

fn width(tensor: &Tensor, axis: usize) -> usize {
    tensor.shape[axis..].iter().product()
}

impl Serialize for Part<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        let Some(length) = self.tensor.shape.get(self.axis) else {
            return self.tensor.values.write_one(self.at, serializer);
        };
        let (axis, step) = (self.axis + 1, width(self.tensor, self.axis + 1));
        let mut list = serializer.serialize_seq(Some(*length))?;
        for number in 0..*length {
            list.serialize_element(&Part { tensor: self.tensor, axis, at: self.at + number * step })?;
        }
        list.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor::DataType;

    fn spec(name: &str, kind: DataType, shape: &[Option<usize>]) -> TensorSpec {
        TensorSpec { name: name.to_owned(), kind, shape: shape.to_vec() }
    }

    fn stack(inputs: Vec<TensorSpec>, rows: &str) -> Result<Vec<Tensor>> {
        let signature = Signature { inputs, has_batch_axis: true, ..Signature::default() };
        stacked::<Blanks>(&signature, serde_json::from_str(rows).unwrap())
    }

    #[test]
    fn what_a_history_lacks_is_blank() {
        let signature = Signature {
            inputs: vec![spec("date", DataType::Bytes, &[None]), spec("x", DataType::Fp64, &[None])],
            takes_blanks: true,
            ..Signature::default()
        };
        let check = |rows: &str, expected: std::result::Result<&[Option<f64>], &str>| {
            let told = stacked::<Blanks>(&signature, serde_json::from_str(rows).unwrap());
            let told = told.map(|tensors| {
                let Values::Fp64(values) = &tensors[1].values else { panic!("{tensors:?}") };
                values.iter().map(|value| Some(*value).filter(|value| !value.is_nan())).collect::<Vec<_>>()
            });
            let told = told.as_deref().map_err(|error| error.field().unwrap());
            assert_eq!(told, expected, "{rows}");
        };
        check(r#"[{"date":"a","x":null},{"date":"b","x":2.5},{"date":"c"}]"#, Ok(&[None, Some(2.5), None]));
        check(r#"[{"date":"a","x":null}]"#, Ok(&[None]));
        check(r#"[{"date":"a"},{"date":"b"}]"#, Err("inputs[0].x"));
        check(r#"[{"date":null,"x":1}]"#, Err("inputs[0].date"));
        check(r#"[{"x":1}]"#, Err("inputs[0].date"));
        check(r#"[{"date":"a","x":""}]"#, Err("inputs.x"));
    }

    #[test]
    fn rows_become_tensors() {
        let x = || vec![spec("x", DataType::Fp32, &[None, Some(2)]), spec("id", DataType::Int64, &[None])];
        let found = stack(x(), r#"[{"x":[1,2],"id":7},{"id":8,"x":[[3],[4.5]]}]"#).unwrap();
        assert_eq!(
            (&found[0].shape, &found[0].values),
            (&vec![2, 2], &Values::Fp32(vec![1.0, 2.0, 3.0, 4.5]))
        );
        assert_eq!((&found[1].shape, &found[1].values), (&vec![2], &Values::Int64(vec![7, 8])));
        let check = |rows: &str, field: &str| {
            assert_eq!(stack(x(), rows).unwrap_err().field(), Some(field), "{rows}");
        };
        check(r#"[{"x":[1,2]}]"#, "inputs[0].id");
        check(r#"[{"x":[1,2],"id":1},{"x":[1],"id":1}]"#, "inputs[1].x");
        check(r#"[{"x":[1,2],"id":1,"z":1}]"#, "inputs[0].z");
        check(r#"[{"x":[1,2],"id":1.5}]"#, "inputs.id");
        check(r#"[{"x":[1,null],"id":1}]"#, "inputs[0].x");
        let free = || vec![spec("ids", DataType::Int64, &[None, None])];
        assert_eq!(stack(free(), r#"[{"ids":[1,2,3]},{"ids":[4,5,6]}]"#).unwrap()[0].shape, [2, 3]);
        assert_eq!(
            stack(free(), r#"[{"ids":[1,2,3]},{"ids":[4]}]"#).unwrap_err().field(),
            Some("inputs[1].ids")
        );
        assert_eq!(stack(free(), r#"[{"ids":[]}]"#).unwrap()[0].shape, [1, 0]);
        assert!(stack(vec![spec("x", DataType::Fp32, &[None, None, None])], r#"[{"x":[1]}]"#).is_err());
    }

    #[test]
    fn outputs_become_rows() {
        let tensor = |name: &str, shape: &[usize]| {
            let values = (0..shape.iter().product::<usize>()).map(|value| value as f32 / 10.0).collect();
            Tensor::new(name, shape.to_vec(), Values::Fp32(values)).unwrap()
        };
        let check = |tensors: Vec<Tensor>, json: &str| {
            assert_eq!(serde_json::to_string(&Predictions(tensors)).unwrap(), json);
        };
        check(vec![tensor("y", &[2, 1, 2])], "[[[0.0,0.1]],[[0.2,0.3]]]");
        check(vec![tensor("y", &[2]), tensor("z", &[2, 1])], r#"[{"y":0.0,"z":[0.0]},{"y":0.1,"z":[0.1]}]"#);
        check(vec![tensor("y", &[2]), tensor("z", &[1])], r#"[{"y":[0.0,0.1],"z":[0.0]}]"#);
        check(vec![tensor("y", &[])], "[0.0]");
    }
}
