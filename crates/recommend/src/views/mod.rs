//! What requests read: the fold of this domain's events, a [`TenantView`] each.
//!
//! Entities, users and interaction types get dense indices in the order they first appear in the log, so that
//! the same log always gives the same indices and the same bytes.
//!
//! It refuses to look at a clock: whether an entity is available now is asked by the request, with its time, and what is
//! too old to count is said by an event.

pub mod activity;
pub mod canaries;
pub mod choices;
pub mod entities;
pub mod interaction_types;
pub mod set_name;
pub mod tenant;
#[cfg(test)]
mod tests;
pub mod users;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use kernel::{Error, Result, Scope, TenantId, codes};
use parking_lot::RwLock;
use serde::{Deserialize, Serialize};
use store::Stored;
use stream::{Fold, Rejection};

use crate::events::RecommendEvent;

pub use activity::Activity;
pub use canaries::{Canary, CanaryList, Decision, Exposure, seen};
pub use entities::{Entities, Entity};
pub use interaction_types::{InteractionType, InteractionTypes};
pub use set_name::SetName;
use tenant::Origin;
pub use tenant::TenantView;
pub use users::{Consent, Entry, User, Users};

/// Raised when the encoding of a view changes, or what its numbers mean, up to 255; a checkpoint of another format is
/// rebuilt from the log.
const FORMAT: u32 = 4;
/// Events applied under one hold of the lock, so that readers never wait long.
const EVENTS_PER_HOLD: usize = 128;
/// Users of whom is let go under one hold what a canary showed them that ended.
const LET_GO_PER_HOLD: usize = 512;

/// Where an event stands in the log: its partition and offset in one number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Place(u64);

impl Place {
    const OFFSET_BITS: u32 = 48;

    /// Packs a partition below 65,536 and an offset below 2^48.
    #[must_use]
    pub fn new(partition: u32, offset: u64) -> Self {
        Self((u64::from(partition) << Self::OFFSET_BITS) | offset)
    }

    /// The place that has this number.
    #[must_use]
    pub fn of_number(number: u64) -> Self {
        Self(number)
    }

    /// The place as one number.
    #[must_use]
    pub fn number(self) -> u64 {
        self.0
    }

    /// The partition.
    #[must_use]
    pub fn partition(self) -> u32 {
        (self.0 >> Self::OFFSET_BITS) as u32
    }

    /// The offset.
    #[must_use]
    pub fn offset(self) -> u64 {
        self.0 & ((1 << Self::OFFSET_BITS) - 1)
    }
}

/// The views of every tenant.
#[derive(Debug, Default)]
pub struct Views {
    tenants: RwLock<BTreeMap<TenantId, Arc<RwLock<TenantView>>>>,
    /// Of views that are made now.
    epoch: AtomicU64,
    rating_least: Option<f32>,
}

impl Views {
    /// Empty views in which a rating below `rating_least` is a dislike.
    #[must_use]
    pub fn judging(rating_least: Option<f32>) -> Self {
        Self { rating_least, ..Self::default() }
    }

    /// The least rating that is no dislike.
    #[must_use]
    pub fn rating_least(&self) -> Option<f32> {
        self.rating_least
    }

    /// The view of the scope's tenant; an empty one where it has no events yet.
    #[must_use]
    pub fn of(&self, scope: &Scope) -> Arc<RwLock<TenantView>> {
        self.tenant(scope.tenant())
    }

    /// The tenants that have events.
    #[must_use]
    pub fn tenants(&self) -> Vec<TenantId> {
        self.tenants.read().keys().cloned().collect()
    }

    fn tenant(&self, tenant: &TenantId) -> Arc<RwLock<TenantView>> {
        if let Some(view) = self.tenants.read().get(tenant) {
            return Arc::clone(view);
        }
        // A tenant that only asks must not grow the map: the fold alone keeps views.
        Arc::new(RwLock::new(TenantView::default()))
    }

    fn tenant_to_write(&self, tenant: &TenantId) -> Arc<RwLock<TenantView>> {
        if let Some(view) = self.tenants.read().get(tenant) {
            return Arc::clone(view);
        }
        let mut tenants = self.tenants.write();
        let epoch = self.epoch.load(Ordering::Relaxed);
        let new = || Arc::new(RwLock::new(TenantView::of_epoch(epoch, self.rating_least)));
        Arc::clone(tenants.entry(tenant.clone()).or_insert_with(new))
    }

    /// The epoch of views that take the place of those that there are.
    fn next_epoch(&self) -> u64 {
        self.epoch.load(Ordering::Relaxed) + u64::from(!self.tenants.read().is_empty())
    }
}

impl Fold for Views {
    fn name(&self) -> &'static str {
        "recommend"
    }

    /// A checkpoint that was folded under another `rating_least` is of another format.
    fn format(&self) -> u32 {
        let judged = self.rating_least.map_or(0, |least| crc32fast::hash(&least.to_le_bytes()) << 8);
        judged | FORMAT
    }

    fn apply(&self, partition: u32, batch: &[Stored]) -> Vec<(usize, Rejection)> {
        let mut rejections = Vec::new();
        let mut start = 0;
        while start < batch.len() {
            let tenant = &batch[start].event.tenant;
            let same = batch[start..].iter().take(EVENTS_PER_HOLD).take_while(|s| s.event.tenant == *tenant);
            let end = start + same.count();
            // Read before the lock is taken: parsing is most of the work.
            let parsed: Vec<_> =
                batch[start..end].iter().map(|stored| RecommendEvent::read(&stored.event)).collect();
            let view = self.tenant_to_write(tenant);
            let mut view = view.write();
            for (index, parsed) in parsed.into_iter().enumerate() {
                let stored = &batch[start + index];
                let applied = match parsed {
                    Ok(Some(event)) => view.apply(event, origin(partition, stored)),
                    Ok(None) => Ok(()),
                    Err(error) => Err(error),
                };
                if let Err(error) = applied {
                    let rejection = Rejection { code: error.code().name, reason: error.to_string() };
                    rejections.push((start + index, rejection));
                }
            }
            view.let_go(LET_GO_PER_HOLD);
            start = end;
        }
        rejections
    }

    fn encode(&self) -> Vec<u8> {
        let tenants = self.tenants.read().clone();
        let mut bytes = Vec::new();
        for (tenant, view) in tenants {
            let name = tenant.as_str().as_bytes();
            // Wherever a checkpoint is written, it is the same as of a view that was folded at once.
            if view.read().users.is_letting_go() {
                view.write().let_go(usize::MAX);
            }
            let body = postcard::to_stdvec(&*view.read()).expect("every part of a view can be encoded");
            bytes.extend_from_slice(&(name.len() as u64).to_le_bytes());
            bytes.extend_from_slice(name);
            bytes.extend_from_slice(&(body.len() as u64).to_le_bytes());
            bytes.extend_from_slice(&body);
        }
        bytes
    }

    fn decode(&self, bytes: &[u8]) -> Result<()> {
        let epoch = self.next_epoch();
        let mut tenants = BTreeMap::new();
        let mut rest = bytes;
        while !rest.is_empty() {
            let name = take_block(&mut rest)?;
            let name = std::str::from_utf8(name).map_err(|cause| corrupted().with_source(cause))?;
            let mut view: TenantView = postcard::from_bytes(take_block(&mut rest)?)
                .map_err(|cause| corrupted().with_source(cause))?;
            view.index();
            view.epoch = epoch;
            view.rating_least = self.rating_least;
            tenants.insert(TenantId::new(name)?, Arc::new(RwLock::new(view)));
        }
        let mut current = self.tenants.write();
        self.epoch.store(epoch, Ordering::Relaxed);
        *current = tenants;
        Ok(())
    }

    fn clear(&self) {
        self.tenants.write().clear();
    }
}

fn origin(partition: u32, stored: &Stored) -> Origin<'_> {
    Origin {
        tenant: &stored.event.tenant,
        time: stored.event.time,
        place: Place::new(partition, stored.offset),
        key: privacy::key_of(&stored.event).and_then(users::key_name),
    }
}

fn corrupted() -> Error {
    Error::new(codes::CORRUPTED, "a stored view cannot be read")
}

fn take_block<'a>(rest: &mut &'a [u8]) -> Result<&'a [u8]> {
    let (length, after) = rest.split_first_chunk::<8>().ok_or_else(corrupted)?;
    let length = usize::try_from(u64::from_le_bytes(*length)).map_err(|_| corrupted())?;
    let (block, after) = after.split_at_checked(length).ok_or_else(corrupted)?;
    *rest = after;
    Ok(block)
}
