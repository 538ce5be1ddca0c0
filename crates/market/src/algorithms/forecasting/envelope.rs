//! The envelope of a model file: JSON, the name and version of a format, and BLAKE3 over the model's own text.
//!
//! Numbers are written so that they are read back to the same bit. It refuses other formats and versions and a checksum that
//! does not match: nothing is run, nothing is guessed. Whether arrays fit together is for each format to look at.

use std::ops::RangeInclusive;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::ForecastFault;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Envelope<'a> {
    format: String,
    version: u32,
    blake3: String,
    #[serde(borrow)]
    model: &'a RawValue,
}

#[expect(clippy::needless_pass_by_value, reason = "it stands in map_err")]
fn broken(what: impl ToString) -> ForecastFault {
    ForecastFault::Artifact(what.to_string())
}

/// A model file.
///
/// # Errors
/// [`ForecastFault::Artifact`] where it cannot be written.
pub(super) fn write<T: Serialize>(format: &str, version: u32, model: &T) -> Result<String, ForecastFault> {
    let model = serde_json::value::to_raw_value(model).map_err(broken)?;
    let blake3 = blake3::hash(model.get().as_bytes()).to_hex().to_string();
    let envelope = Envelope { format: format.to_owned(), version, blake3, model: &model };
    serde_json::to_string(&envelope).map_err(broken)
}

/// The model of a file of this format, in one of these versions of it.
///
/// # Errors
/// [`ForecastFault::Artifact`] saying what is wrong with it.
pub(super) fn read<T: DeserializeOwned>(
    text: &str,
    format: &str,
    versions: RangeInclusive<u32>,
) -> Result<T, ForecastFault> {
    let envelope: Envelope<'_> = serde_json::from_str(text).map_err(broken)?;
    if envelope.format != format || !versions.contains(&envelope.version) {
        let (found, version, newest) = (&envelope.format, envelope.version, versions.end());
        let older = if version < *versions.start() { "; train it again" } else { "" };
        return Err(broken(format!("it is {found} {version}, not {format} {newest}{older}")));
    }
    if blake3::hash(envelope.model.get().as_bytes()).to_hex().as_str() != envelope.blake3 {
        return Err(broken("its checksum does not match"));
    }
    serde_json::from_str(envelope.model.get()).map_err(broken)
}

/// BLAKE3 of the text of a table, in hexadecimal: which data a model was made of.
#[must_use]
pub fn snapshot_of(text: &str) -> String {
    blake3::hash(text.as_bytes()).to_hex().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_read_and_nothing_else() {
        let model = vec![0.1, -1e-300, 1.0 / 3.0];
        let text = write("boat", 2, &model).unwrap();
        assert_eq!(read::<Vec<f64>>(&text, "boat", 1..=2).unwrap(), model);
        for (changed, format, versions) in [
            (text.clone(), "boat", 3..=4),
            (text.clone(), "ship", 1..=2),
            (text.replace("0.1", "0.2"), "boat", 1..=2),
            (text[..text.len() - 2].to_owned(), "boat", 1..=2),
            ("{}".to_owned(), "boat", 1..=2),
        ] {
            let found = read::<Vec<f64>>(&changed, format, versions);
            assert!(matches!(found, Err(ForecastFault::Artifact(_))), "{changed}");
        }
    }
}
