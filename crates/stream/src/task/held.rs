//! Events whose time is not believed yet.

use std::collections::BTreeMap;

use kernel::{Error, Event, Result, TenantId, codes};

use crate::context::{split_tenant, write_tenant};
use crate::operator::{Changed, State};

/// Held events, by tenant and offset.
#[derive(Debug, Default)]
pub(crate) struct Held {
    events: BTreeMap<(TenantId, u64), Event>,
    changed: Vec<(TenantId, u64)>,
}

impl Held {
    pub(crate) fn add(&mut self, offset: u64, event: Event) {
        self.changed.push((event.tenant.clone(), offset));
        self.events.insert((event.tenant.clone(), offset), event);
    }

    /// How many a tenant has.
    pub(crate) fn count(&self, tenant: &TenantId) -> usize {
        self.events.range((tenant.clone(), 0)..=(tenant.clone(), u64::MAX)).count()
    }

    /// Takes out those of a tenant that `wanted` chooses, in log order.
    pub(crate) fn take(&mut self, tenant: &TenantId, wanted: impl Fn(&Event) -> bool) -> Vec<(u64, Event)> {
        let of_tenant = self.events.range((tenant.clone(), 0)..=(tenant.clone(), u64::MAX));
        let keys: Vec<_> = of_tenant.filter(|(_, event)| wanted(event)).map(|(key, _)| key.clone()).collect();
        let taken = keys.iter().filter_map(|key| Some((key.1, self.events.remove(key)?))).collect();
        self.changed.extend(keys);
        taken
    }
}

fn key_of(tenant: &TenantId, offset: u64) -> Vec<u8> {
    let mut key = Vec::new();
    write_tenant(tenant, &mut key);
    key.extend_from_slice(&offset.to_be_bytes());
    key
}

fn read_key(key: &[u8]) -> Option<(TenantId, u64)> {
    let (tenant, offset) = split_tenant(key)?;
    Some((tenant, u64::from_be_bytes(offset.try_into().ok()?)))
}

impl State for Held {
    fn drain(&mut self, see: &mut Changed<'_>) {
        for key in std::mem::take(&mut self.changed) {
            let json = self.events.get(&key).map(Event::to_json);
            see(&key_of(&key.0, key.1), json.as_deref());
        }
    }

    fn holds(&self, key: &[u8], value: &[u8]) -> bool {
        let event = read_key(key).and_then(|key| self.events.get(&key));
        event.is_some_and(|event| event.to_json() == value)
    }

    fn load(&mut self, key: &[u8], value: Option<&[u8]>) -> Result<()> {
        let damaged = || Error::new(codes::CORRUPTED, "the key of a held event cannot be read");
        let key = read_key(key).ok_or_else(damaged)?;
        match value {
            Some(json) => drop(self.events.insert(key, Event::from_json(json)?)),
            None => drop(self.events.remove(&key)),
        }
        Ok(())
    }

    fn show(&self, see: &mut dyn FnMut(&[u8], &[u8])) {
        for ((tenant, offset), event) in &self.events {
            see(&key_of(tenant, *offset), &event.to_json());
        }
    }

    fn len(&self) -> usize {
        self.events.len()
    }
}
