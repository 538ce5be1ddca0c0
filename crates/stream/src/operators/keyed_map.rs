//! Values by key that know what changed since they were stored.

use std::fmt::{self, Debug};

use kernel::Result;
use rustc_hash::FxHashMap;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::operator::{Changed, State, decode, encode, is_encoded};

/// A map whose changes can be drained.
pub(crate) struct KeyedMap<S> {
    slots: FxHashMap<Box<[u8]>, Slot<S>>,
    changed: Vec<Box<[u8]>>,
}

struct Slot<S> {
    value: S,
    is_changed: bool,
}

impl<S> Debug for KeyedMap<S> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("KeyedMap").field("keys", &self.slots.len()).finish_non_exhaustive()
    }
}

impl<S> Default for KeyedMap<S> {
    fn default() -> Self {
        Self { slots: FxHashMap::default(), changed: Vec::new() }
    }
}

impl<S: Default> KeyedMap<S> {
    pub(crate) fn get(&self, key: &[u8]) -> Option<&S> {
        self.slots.get(key).map(|slot| &slot.value)
    }

    /// Changes the value of a key, a new one where there is none; what fails must leave it as it was.
    pub(crate) fn change<R, E>(
        &mut self,
        key: &[u8],
        change: impl FnOnce(&mut S) -> Result<R, E>,
    ) -> Result<R, E> {
        if let Some(slot) = self.slots.get_mut(key) {
            // Marked first: what panics in between may have changed it too.
            if !slot.is_changed {
                slot.is_changed = true;
                self.changed.push(key.into());
            }
            return change(&mut slot.value);
        }
        let mut value = S::default();
        let result = change(&mut value)?;
        self.slots.insert(key.into(), Slot { value, is_changed: true });
        self.changed.push(key.into());
        Ok(result)
    }
}

impl<S: Serialize + DeserializeOwned> State for KeyedMap<S> {
    fn drain(&mut self, see: &mut Changed<'_>) {
        let mut bytes = Vec::new();
        for key in self.changed.drain(..) {
            let slot = self.slots.get_mut(&key).expect("a value is never removed");
            slot.is_changed = false;
            bytes.clear();
            encode(&slot.value, &mut bytes);
            see(&key, Some(&bytes));
        }
    }

    fn holds(&self, key: &[u8], value: &[u8]) -> bool {
        self.slots.get(key).is_some_and(|slot| is_encoded(&slot.value, value))
    }

    fn load(&mut self, key: &[u8], value: Option<&[u8]>) -> Result<()> {
        match value {
            Some(value) => {
                let slot = Slot { value: decode(value)?, is_changed: false };
                self.slots.insert(key.into(), slot);
            }
            None => drop(self.slots.remove(key)),
        }
        Ok(())
    }

    fn show(&self, see: &mut dyn FnMut(&[u8], &[u8])) {
        let mut keys: Vec<_> = self.slots.iter().collect();
        keys.sort_unstable_by_key(|(key, _)| *key);
        let mut bytes = Vec::new();
        for (key, slot) in keys {
            bytes.clear();
            encode(&slot.value, &mut bytes);
            see(key, &bytes);
        }
    }

    fn len(&self) -> usize {
        self.slots.len()
    }
}
