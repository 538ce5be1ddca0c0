//! A set of 128-bit hashes by event time. Those of one span of time are a bucket, which is forgotten as a whole; what
//! came to a bucket since the last commit is stored as one value.

use std::collections::{BTreeMap, HashSet};
use std::fmt::{self, Debug};
use std::hash::{BuildHasherDefault, Hasher};

use kernel::{Error, Result, TenantId, codes};
use rustc_hash::FxHashMap;

use super::ranges::Known;
use crate::context::{split_tenant, write_tenant};
use crate::operator::{Changed, State};

const HASH_BYTES: usize = 16;

/// Takes half of a hash as it is.
#[derive(Debug, Default)]
struct AsItIs(u64);

impl Hasher for AsItIs {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        let half = bytes.first_chunk::<8>().copied().unwrap_or_default();
        self.0 = u64::from_le_bytes(half);
    }

    // The length that comes before the bytes, which is always the same.
    fn write_usize(&mut self, _: usize) {}
}

#[derive(Default)]
struct OfTenant {
    seen: HashSet<[u8; HASH_BYTES], BuildHasherDefault<AsItIs>>,
    buckets: BTreeMap<i64, Bucket>,
}

impl OfTenant {
    /// Forgets a bucket; how many hashes went.
    fn remove(&mut self, bucket: i64) -> usize {
        let Some(found) = self.buckets.remove(&bucket) else { return 0 };
        let hashes = found.hashes.chunks_exact(HASH_BYTES);
        hashes.filter(|hash| self.seen.remove(*hash)).count()
    }
}

#[derive(Debug, Default)]
struct Bucket {
    /// One after the other, in the order in which they came.
    hashes: Vec<u8>,
    /// How much of that is stored.
    stored: usize,
}

/// Hashes that were seen, by tenant.
#[derive(Default)]
pub(crate) struct Hashes {
    tenants: FxHashMap<TenantId, OfTenant>,
    changed: Vec<(TenantId, i64)>,
    count: usize,
}

impl Debug for Hashes {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Hashes").field("count", &self.count).finish_non_exhaustive()
    }
}

impl Hashes {
    /// Whether the hash was seen; where it was not and its bucket is at least `oldest`, it counts as seen now.
    pub(crate) fn insert(&mut self, tenant: &TenantId, bucket: i64, oldest: i64, hash: u128) -> Known {
        if !self.tenants.contains_key(tenant) {
            self.tenants.insert(tenant.clone(), OfTenant::default());
        }
        let of_tenant = self.tenants.get_mut(tenant).expect("it was just put there");
        let hash = hash.to_le_bytes();
        if bucket < oldest {
            return if of_tenant.seen.contains(&hash) { Known::Seen } else { Known::Forgotten };
        }
        if !of_tenant.seen.insert(hash) {
            return Known::Seen;
        }
        let found = of_tenant.buckets.entry(bucket).or_default();
        if found.stored == found.hashes.len() {
            self.changed.push((tenant.clone(), bucket));
        }
        found.hashes.extend_from_slice(&hash);
        self.count += 1;
        Known::New
    }

    /// Takes back the last insert.
    pub(crate) fn take_back(&mut self, tenant: &TenantId, bucket: i64, hash: u128) {
        let Some(of_tenant) = self.tenants.get_mut(tenant) else { return };
        let Some(found) = of_tenant.buckets.get_mut(&bucket) else { return };
        if of_tenant.seen.remove(&hash.to_le_bytes()) {
            found.hashes.truncate(found.hashes.len() - HASH_BYTES);
            self.count -= 1;
        }
        if found.hashes.is_empty() {
            of_tenant.buckets.remove(&bucket);
        }
    }

    /// Forgets the buckets before `oldest`.
    pub(crate) fn forget(&mut self, tenant: &TenantId, oldest: i64) {
        let Some(of_tenant) = self.tenants.get_mut(tenant) else { return };
        while let Some(bucket) = of_tenant.buckets.keys().next().copied().filter(|bucket| *bucket < oldest) {
            self.count -= of_tenant.remove(bucket);
            self.changed.push((tenant.clone(), bucket));
        }
    }

    fn bucket(&self, tenant: &TenantId, bucket: i64) -> Option<&Bucket> {
        self.tenants.get(tenant)?.buckets.get(&bucket)
    }
}

/// The key of a bucket; that of a part of it goes on with where the part begins.
fn key_of(tenant: &TenantId, bucket: i64, start: Option<usize>) -> Vec<u8> {
    let mut key = Vec::new();
    write_tenant(tenant, &mut key);
    key.extend_from_slice(&(bucket.cast_unsigned() ^ (1 << 63)).to_be_bytes());
    if let Some(start) = start {
        key.extend_from_slice(&(start as u64).to_be_bytes());
    }
    key
}

fn read_key(key: &[u8]) -> Option<(TenantId, i64, Option<usize>)> {
    let (tenant, rest) = split_tenant(key)?;
    let (bucket, start) = rest.split_first_chunk::<8>()?;
    let bucket = (u64::from_be_bytes(*bucket) ^ (1 << 63)).cast_signed();
    if start.is_empty() {
        return Some((tenant, bucket, None));
    }
    let start = u64::from_be_bytes(start.try_into().ok()?);
    Some((tenant, bucket, Some(usize::try_from(start).ok()?)))
}

impl State for Hashes {
    fn drain(&mut self, see: &mut Changed<'_>) {
        for (tenant, bucket) in std::mem::take(&mut self.changed) {
            let found =
                self.tenants.get_mut(&tenant).and_then(|of_tenant| of_tenant.buckets.get_mut(&bucket));
            let Some(found) = found else {
                see(&key_of(&tenant, bucket, None), None);
                continue;
            };
            if found.stored < found.hashes.len() {
                see(&key_of(&tenant, bucket, Some(found.stored)), Some(&found.hashes[found.stored..]));
                found.stored = found.hashes.len();
            }
        }
    }

    fn holds(&self, key: &[u8], value: &[u8]) -> bool {
        let Some((tenant, bucket, Some(start))) = read_key(key) else { return false };
        let part =
            self.bucket(&tenant, bucket).and_then(|found| found.hashes.get(start..start + value.len()));
        part == Some(value)
    }

    fn load(&mut self, key: &[u8], value: Option<&[u8]>) -> Result<()> {
        let damaged = || Error::new(codes::CORRUPTED, "a stored set of hashes cannot be read");
        let (tenant, bucket, start) = read_key(key).ok_or_else(damaged)?;
        let (Some(start), Some(value)) = (start, value) else {
            let of_tenant = self.tenants.get_mut(&tenant);
            self.count -= of_tenant.map_or(0, |of_tenant| of_tenant.remove(bucket));
            return Ok(());
        };
        if value.is_empty() || !value.len().is_multiple_of(HASH_BYTES) || !start.is_multiple_of(HASH_BYTES) {
            return Err(damaged());
        }
        let of_tenant = self.tenants.entry(tenant).or_default();
        let found = of_tenant.buckets.entry(bucket).or_default();
        // A part may come before an earlier one, and again.
        let end = start + value.len();
        if found.hashes.len() < end {
            found.hashes.resize(end, 0);
        }
        found.hashes[start..end].copy_from_slice(value);
        found.stored = found.hashes.len();
        let before = of_tenant.seen.len();
        of_tenant.seen.extend(value.as_chunks::<HASH_BYTES>().0);
        self.count += of_tenant.seen.len() - before;
        Ok(())
    }

    fn show(&self, see: &mut dyn FnMut(&[u8], &[u8])) {
        let mut tenants: Vec<_> = self.tenants.iter().collect();
        tenants.sort_unstable_by_key(|(tenant, _)| *tenant);
        for (tenant, of_tenant) in tenants {
            for (bucket, found) in &of_tenant.buckets {
                see(&key_of(tenant, *bucket, None), &found.hashes);
            }
        }
    }

    fn len(&self) -> usize {
        self.count
    }
}
