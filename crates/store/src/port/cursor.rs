//! Cursors of pages: a signature of the query and the place where the page ended, as text that nobody has to read.

use serde::Serialize;
use serde::de::DeserializeOwned;

/// The cursor of the page that follows `place` in the list of this signature.
pub(crate) fn encode(signature: u32, place: &impl Serialize) -> String {
    let json = serde_json::to_vec(&(signature, place)).expect("a place has a JSON form");
    kernel::hex(&json)
}

/// What [`encode`] was given; none for anything else.
pub(crate) fn decode<P: DeserializeOwned>(text: &str) -> Option<(u32, P)> {
    let digits = text.as_bytes();
    if !digits.len().is_multiple_of(2) {
        return None;
    }
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|value| u8::try_from(value).ok());
    let bytes: Vec<u8> = digits
        .chunks_exact(2)
        .map(|pair| Some(digit(pair[0])? << 4 | digit(pair[1])?))
        .collect::<Option<_>>()?;
    serde_json::from_slice(&bytes).ok()
}
