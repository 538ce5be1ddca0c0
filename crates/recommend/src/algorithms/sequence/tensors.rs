//! The model as named tensors, so that any artifact format can hold it.
//!
//! Loading refuses missing and surplus names, shapes that do not follow from the settings, and values that are not
//! finite. A new matrix of the network is covered as soon as `Network::matrices` lists it.

use std::collections::HashMap;

use super::network::Network;
use super::{SequenceError, SequenceModel, SequenceSettings};

/// A name, a shape and the values in row-major order.
pub type Tensor<'a> = (String, Vec<usize>, &'a [f32]);

impl SequenceModel {
    /// Every tensor of the model. With the settings they are all that [`SequenceModel::from_tensors`] needs.
    pub fn tensors(&self) -> Vec<Tensor<'_>> {
        let matrices = self.network.matrices().into_iter();
        matrices
            .map(|(name, matrix)| (name, vec![matrix.rows, matrix.columns], matrix.values.as_slice()))
            .collect()
    }

    /// A model from the settings it was trained with and its [`tensors`](SequenceModel::tensors), in any order.
    ///
    /// # Errors
    /// Refuses bad settings and names the first tensor that is missing, unknown, misshapen or not finite.
    pub fn from_tensors(settings: SequenceSettings, tensors: &[Tensor<'_>]) -> Result<Self, SequenceError> {
        settings.validate()?;
        let refuse = |name: &str, problem| SequenceError::Tensor { name: name.to_owned(), problem };
        let by_name: HashMap<&str, _> = tensors
            .iter()
            .map(|(name, shape, values)| (name.as_str(), (shape.as_slice(), *values)))
            .collect();
        let item_count = match by_name.get("embedding") {
            Some(&(&[item_count, _], _)) => item_count,
            Some(_) => return Err(refuse("embedding", "is not a matrix")),
            None => return Err(refuse("embedding", "is missing")),
        };
        // Checked before memory is taken for the shapes, so that a corrupt shape cannot ask for all of it.
        if by_name["embedding"].1.len() != item_count.saturating_mul(settings.dimensions) {
            return Err(refuse("embedding", "has another shape than its settings say"));
        }
        let mut network = Network::shaped(item_count, &settings);
        let names: Vec<String> = network.matrices().into_iter().map(|(name, _)| name).collect();
        if let Some((name, ..)) = tensors.iter().find(|(name, ..)| !names.contains(name)) {
            return Err(refuse(name, "is unknown"));
        }
        for (name, matrix) in names.iter().zip(network.matrices_mut()) {
            let (shape, values) = by_name.get(name.as_str()).ok_or_else(|| refuse(name, "is missing"))?;
            if *shape != [matrix.rows, matrix.columns] || values.len() != matrix.values.len() {
                return Err(refuse(name, "has another shape than its settings say"));
            }
            if !values.iter().all(|value| value.is_finite()) {
                return Err(refuse(name, "holds a value that is not finite"));
            }
            matrix.values.copy_from_slice(values);
        }
        Ok(Self { settings, network })
    }
}

/// For `#[serde(with = "...")]`: a model as its settings and tensors. Reading checks as
/// [`SequenceModel::from_tensors`] does.
pub mod as_tensors {
    use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

    use super::{SequenceModel, SequenceSettings, Tensor};

    #[derive(Serialize, Deserialize)]
    #[serde(bound(deserialize = "V: Deserialize<'de>"))]
    struct Stored<V> {
        settings: SequenceSettings,
        tensors: Vec<(String, Vec<usize>, V)>,
    }

    /// Writes the settings and every tensor.
    ///
    /// # Errors
    /// Those of the format.
    pub fn serialize<S: Serializer>(model: &SequenceModel, serializer: S) -> Result<S::Ok, S::Error> {
        Stored { settings: model.settings.clone(), tensors: model.tensors() }.serialize(serializer)
    }

    /// Reads what [`serialize`] wrote.
    ///
    /// # Errors
    /// Those of the format, and what [`SequenceModel::from_tensors`] refuses.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SequenceModel, D::Error> {
        let stored = Stored::<Vec<f32>>::deserialize(deserializer)?;
        let tensors: Vec<Tensor<'_>> = stored
            .tensors
            .iter()
            .map(|(name, shape, values)| (name.clone(), shape.clone(), values.as_slice()))
            .collect();
        SequenceModel::from_tensors(stored.settings, &tensors).map_err(de::Error::custom)
    }
}
