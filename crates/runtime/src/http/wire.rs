//! What the protocol sends: requests as they are read, answers as they are written.

use edge::extract::Object;
use kernel::{Error, Result, codes};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::binary::Taken;
use crate::scalar::Blanks;
use crate::tensor::{DataType, Tensor, Values};

/// What a tensor of a request says besides; `binary_data_size` alone has a meaning.
type Parameters = Map<String, Value>;

/// An input.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = InferenceInput)]
pub(super) struct Input {
    /// As in the model's metadata.
    name: String,
    /// The length of each axis.
    #[schema(max_items = 16)]
    shape: Vec<usize>,
    /// Such as `FP32`.
    #[schema(schema_with = datatypes)]
    datatype: String,
    #[serde(default)]
    #[schema(value_type = Option<std::collections::BTreeMap<String, Value>>)]
    parameters: Option<Parameters>,
    /// The values in row-major order, flat or in lists of lists; null for no value, where the model takes that.
    #[schema(value_type = Option<Vec<Value>>)]
    #[serde(default)]
    data: Option<Blanks>,
}

fn datatypes() -> utoipa::openapi::Schema {
    edge::openapi::one_of(&DataType::ALL.iter().map(|kind| kind.name()).collect::<Vec<_>>())
}

/// An output that is wanted.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = InferenceWantedOutput)]
pub(super) struct Wanted {
    pub(super) name: String,
    /// `binary_data` asks for the values behind the JSON.
    #[serde(default)]
    #[schema(value_type = Option<std::collections::BTreeMap<String, Value>>)]
    pub(super) parameters: Option<Parameters>,
}

/// A request for an inference.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = InferenceRequest, example = json!({
    "inputs": [{"name": "x", "shape": [1, 2], "datatype": "FP32", "data": [1.0, 2.0]}]
}))]
pub(super) struct InferRequest {
    /// Comes back in the answer.
    #[serde(default)]
    pub(super) id: Option<String>,
    /// `binary_data_output` asks for all values behind the JSON; `keep` to keep the prediction for its truth, which needs
    /// `write`; `subject` is who it is for, who stays in the same arm of a canary.
    #[serde(default)]
    #[schema(value_type = Option<std::collections::BTreeMap<String, Value>>)]
    pub(super) parameters: Option<Parameters>,
    #[schema(value_type = Vec<Input>)]
    pub(super) inputs: Vec<Object<Input>>,
    /// The outputs that are wanted; all of them where missing.
    #[serde(default)]
    #[schema(value_type = Option<Vec<Wanted>>)]
    pub(super) outputs: Option<Vec<Object<Wanted>>>,
}

/// Whether a parameter is there and true.
pub(super) fn is_set(parameters: Option<&Parameters>, name: &str) -> bool {
    parameters.and_then(|parameters| parameters.get(name)) == Some(&Value::Bool(true))
}

pub(super) fn text_of(parameters: Option<&Parameters>, name: &str) -> Option<String> {
    parameters?.get(name)?.as_str().filter(|text| !text.is_empty()).map(str::to_owned)
}

impl Input {
    /// The tensor; its values are in the JSON, or in what came behind it.
    pub(super) fn tensor(self, number: usize, behind: &mut Taken) -> Result<Tensor> {
        let field = |part: &str| format!("inputs[{number}].{part}");
        let refused = |part: &str, message: String| {
            Error::new(codes::VALIDATION_ERROR, message).with_field(field(part))
        };
        let kind = DataType::parse(&self.datatype).ok_or_else(|| {
            refused("datatype", format!("`{}` is not one that is taken", self.datatype.escape_debug()))
        })?;
        let size = self.parameters.as_ref().and_then(|parameters| parameters.get("binary_data_size"));
        let values = match (self.data, size) {
            (Some(data), None) => Values::read(kind, data.0),
            (None, Some(size)) => {
                let size = size.as_u64().and_then(|size| usize::try_from(size).ok());
                let size = size
                    .ok_or_else(|| refused("parameters.binary_data_size", "is a whole number".to_owned()))?;
                behind.values(kind, size)
            }
            (Some(_), Some(_)) => {
                Err(Error::new(codes::VALIDATION_ERROR, "is given twice: as JSON and behind it"))
            }
            (None, None) => Err(Error::new(codes::VALIDATION_ERROR, "is missing")),
        };
        let values = values.map_err(|error| error.with_field(field("data")))?;
        Tensor::new(self.name, self.shape, values).map_err(|error| error.with_field(field("shape")))
    }
}

/// An output.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = InferenceOutput)]
pub(super) struct Output {
    name: String,
    shape: Vec<usize>,
    datatype: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<std::collections::BTreeMap<String, Value>>)]
    parameters: Option<Value>,
    /// The values in row-major order; missing where they stand behind the JSON.
    #[schema(value_type = Option<Vec<Value>>)]
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<Values>,
}

impl Output {
    pub(super) fn is_binary(&self) -> bool {
        self.data.is_none()
    }

    /// With its values, or with how many bytes of them stand behind the JSON.
    pub(super) fn new(tensor: Tensor, binary_bytes: Option<usize>) -> Self {
        Self {
            name: tensor.name,
            shape: tensor.shape,
            datatype: tensor.values.kind().name(),
            parameters: binary_bytes.map(|bytes| serde_json::json!({"binary_data_size": bytes})),
            data: binary_bytes.is_none().then_some(tensor.values),
        }
    }
}

/// An answer.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = InferenceResponse)]
pub(super) struct InferResponse {
    pub(super) model_name: String,
    /// The version that made it.
    pub(super) model_version: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) id: Option<String>,
    /// `prediction_id`, where the prediction is kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<std::collections::BTreeMap<String, Value>>)]
    pub(super) parameters: Option<Value>,
    pub(super) outputs: Vec<Output>,
}
