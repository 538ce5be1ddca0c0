//! A trained model as an artifact, and back.
//!
//! The artifact is a safetensors file. Each part is one tensor of bytes in the postcard encoding of its struct
//! (postcard.jamesmunns.com/wire-format), named `part.N`; the metadata name the format and the parts. Another format is refused.

use std::collections::BTreeMap;
use std::sync::Arc;

use kernel::{Error, Result, codes};
use models::{Artifact, Tensor};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::report::TrainingReport;
use super::set::Basis;
use crate::serving::Trained;

/// The name of the model in the registry.
pub const MODEL: &str = "recommender";
/// The tag of a version that tells how many erasures it knows of.
pub(crate) const ERASURES: &str = "erasures";
/// The tag of a version that tells by which version of an encoder it knows what entities mean.
const EMBEDDER: &str = "embedder";
/// Raised when what an artifact holds changes its form or meaning.
const FORMAT: &str = "2";

/// The artifact of a trained model.
///
/// # Errors
/// `INTERNAL_ERROR` when a part cannot be encoded.
pub fn to_artifact(trained: &Trained, report: &TrainingReport) -> Result<Artifact> {
    let mut artifact = Artifact::default();
    for (index, part) in trained.parts.iter().enumerate() {
        put(&mut artifact, &format!("part.{index}"), &**part)?;
    }
    if let Some(together) = &trained.together {
        put(&mut artifact, "together", &**together)?;
    }
    put(&mut artifact, "blend", &trained.blend)?;
    put(&mut artifact, "items", &trained.items)?;
    put(&mut artifact, "users", &trained.users)?;
    artifact.put("silent_items", Tensor::U32(vec![trained.silent_items.len()], trained.silent_items.clone()));
    artifact.metadata = BTreeMap::from([
        ("format".to_owned(), FORMAT.to_owned()),
        ("parts".to_owned(), trained.parts.len().to_string()),
        ("interactions".to_owned(), trained.basis.interactions.to_string()),
        ("revision".to_owned(), trained.basis.revision.to_string()),
        (ERASURES.to_owned(), trained.basis.erasures.to_string()),
        ("report".to_owned(), serde_json::to_string(report).map_err(Error::internal)?),
    ]);
    artifact.metadata.extend(trained.embedder.iter().map(|version| (EMBEDDER.to_owned(), version.clone())));
    Ok(artifact)
}

/// Reads what [`to_artifact`] made.
///
/// # Errors
/// `CORRUPTED` when it is anything else or of another format.
pub fn from_artifact(mut artifact: Artifact) -> Result<Trained> {
    if artifact.text("format")? != FORMAT {
        return Err(damaged(format!(
            "its format is {}, this release reads {FORMAT}",
            artifact.text("format")?
        )));
    }
    let number = |text: &str| text.parse::<u64>().map_err(|_| damaged(format!("`{text}` is not a number")));
    let basis = Basis {
        interactions: number(artifact.text("interactions")?)?,
        revision: number(artifact.text("revision")?)?,
        // Models of earlier releases do not say; one more training makes that good.
        erasures: artifact.metadata.get(ERASURES).map_or(Ok(0), |text| number(text))?,
    };
    let count = number(artifact.text("parts")?)?;
    let parts = (0..count)
        .map(|index| take(&mut artifact, &format!("part.{index}")).map(Arc::new))
        .collect::<Result<_>>()?;
    let together =
        artifact.tensors.contains_key("together").then(|| take(&mut artifact, "together")).transpose()?;
    let trained = Trained {
        parts,
        together: together.map(Arc::new),
        blend: take(&mut artifact, "blend")?,
        items: take(&mut artifact, "items")?,
        users: take(&mut artifact, "users")?,
        silent_items: artifact.take_u32("silent_items")?.1,
        basis,
        embedder: artifact.metadata.remove(EMBEDDER),
    };
    trained.check().map_err(damaged)?;
    Ok(trained)
}

fn put<T: Serialize>(artifact: &mut Artifact, name: &str, value: &T) -> Result<()> {
    let bytes = postcard::to_stdvec(value).map_err(Error::internal)?;
    artifact.put(name, Tensor::U8(vec![bytes.len()], bytes.into()));
    Ok(())
}

fn take<T: DeserializeOwned>(artifact: &mut Artifact, name: &str) -> Result<T> {
    let (_, bytes) = artifact.take_u8(name)?;
    postcard::from_bytes(&bytes)
        .map_err(|cause| damaged(format!("`{name}` cannot be read")).with_source(cause))
}

fn damaged(reason: impl std::fmt::Display) -> Error {
    Error::new(codes::CORRUPTED, format!("a recommender cannot be read: {reason}"))
}
