//! The payload of an event: JSON text, and the value that it was read as.
//!
//! Stages of one process read the same events one after the other. To read JSON costs more than most of them do with it, so
//! what the first one reads is there for the next one, beside the text that it stands for and for as long as that.
//!
//! It refuses to be changed: another text is another payload.

use std::any::Any;
use std::fmt;
use std::ops::Deref;
use std::sync::{Arc, OnceLock};

use serde::de::DeserializeOwned;
use serde::{Serialize, Serializer};
use serde_json::value::{RawValue, to_raw_value};

/// JSON text, shared by whoever has a copy.
#[derive(Clone)]
pub struct Payload(Arc<Inner>);

struct Inner {
    text: Box<RawValue>,
    value: OnceLock<Arc<dyn Any + Send + Sync>>,
}

impl Payload {
    /// The JSON of a value. Whoever reads it as a `T` here gets the value itself, so the JSON must say all of it.
    ///
    /// # Errors
    /// Those of its `Serialize`.
    pub fn of<T>(value: &Arc<T>) -> serde_json::Result<Self>
    where
        T: Serialize + DeserializeOwned + Any + Send + Sync,
    {
        let payload = Self::from(to_raw_value(&**value)?);
        debug_assert!(
            serde_json::from_str::<T>(payload.get())
                .and_then(|again| serde_json::to_string(&again))
                .is_ok_and(|again| again == payload.get()),
            "the JSON does not say all of the value"
        );
        payload.keep(value);
        Ok(payload)
    }

    /// The value as which it was read first, where that was a `T`.
    pub(crate) fn value<T: Any + Send + Sync>(&self) -> Option<Arc<T>> {
        Arc::clone(self.0.value.get()?).downcast().ok()
    }

    /// Notes what it was read as, where it is the first.
    pub(crate) fn keep<T: Any + Send + Sync>(&self, value: &Arc<T>) {
        let value: Arc<dyn Any + Send + Sync> = Arc::clone(value) as _;
        // Another one is as good.
        let _ = self.0.value.set(value);
    }
}

impl From<Box<RawValue>> for Payload {
    fn from(text: Box<RawValue>) -> Self {
        Self(Arc::new(Inner { text, value: OnceLock::new() }))
    }
}

impl Deref for Payload {
    type Target = RawValue;

    fn deref(&self) -> &RawValue {
        &self.0.text
    }
}

impl Serialize for Payload {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.text.serialize(serializer)
    }
}

impl fmt::Debug for Payload {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.text.fmt(formatter)
    }
}
