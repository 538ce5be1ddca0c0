//! Writing what projections keep: of each key the newest, and of keys at most so many, exactly.
//!
//! No key is refused while something past its time has the room: that goes first.

use std::collections::BTreeMap;
use std::sync::Arc;

use kernel::{Clock, Result, Scope, codes};
use store::{Document, Expect, Records, Repository, Tenants, Write};

use super::Kept;
use super::counting::{Counts, KEYS_AT_ONCE, TRIES};
use super::sweeping::{Sweeper, TENANTS};
use crate::settings::Rules;

/// What was done with values.
#[derive(Debug, Default)]
pub(super) struct Done {
    /// How many are now kept.
    pub(super) written: u64,
    /// Those for whose keys there is no room.
    pub(super) refused: Vec<Kept>,
}

/// Writes what projections keep.
#[derive(Debug)]
pub(super) struct Keeping {
    records: Arc<dyn Records>,
    tenants: Tenants,
    clock: Arc<dyn Clock>,
    sweeper: Sweeper,
    pub(super) most_keys: u64,
}

impl Keeping {
    pub(super) fn new(
        records: Arc<dyn Records>,
        rules: Arc<Rules>,
        clock: Arc<dyn Clock>,
        most_keys: u64,
    ) -> Self {
        let tenants = Tenants::new(Arc::clone(&records), TENANTS);
        let sweeper = Sweeper::new(Arc::clone(&records), rules, Arc::clone(&clock));
        Self { records, tenants, clock, sweeper, most_keys }
    }

    /// Keeps those that are newer than what is there, and that still say something.
    pub(super) async fn keep(&self, scope: &Scope, found: Vec<Kept>) -> Result<Done> {
        let (mut newest, now_ms) = (BTreeMap::<String, Kept>::new(), self.clock.now().as_millisecond());
        for kept in found.into_iter().filter(|kept| kept.ends_ms.is_none_or(|ends_ms| ends_ms > now_ms)) {
            let key = kept.key();
            if newest.get(&key).is_none_or(|known| known.order() < kept.order()) {
                newest.insert(key, kept);
            }
        }
        let mut all = Done::default();
        if newest.is_empty() {
            return Ok(all);
        }
        self.tenants.note(scope.tenant()).await?;
        let newest: Vec<(String, Kept)> = newest.into_iter().collect();
        for some in newest.chunks(KEYS_AT_ONCE) {
            let done = self.keep_some(scope, some).await?;
            all.written += done.written;
            all.refused.extend(done.refused);
        }
        Ok(all)
    }

    async fn keep_some(&self, scope: &Scope, some: &[(String, Kept)]) -> Result<Done> {
        let (mut tries, mut is_swept) = (0, false);
        loop {
            tries += 1;
            let (writes, done) = self.writes(scope, some).await?;
            if !done.refused.is_empty() && !is_swept && tries < TRIES {
                // Counted again also where nothing was found: another may have taken it away since the count.
                is_swept = !self.sweeper.sweep_page(scope).await?.is_any;
                continue;
            }
            if writes.is_empty() {
                return Ok(done);
            }
            match self.records.commit(scope, writes).await {
                Err(error) if error.code() == codes::CONFLICT && tries < TRIES => {}
                written => return written.map(|_| done),
            }
        }
    }

    /// The commit that keeps what is newer by what is there now, and what it does.
    async fn writes(&self, scope: &Scope, some: &[(String, Kept)]) -> Result<(Vec<Write>, Done)> {
        let kept: Repository<Kept> = Repository::new(Arc::clone(&self.records));
        let before = kept.get_many(scope, some.iter().map(|(key, _)| key.as_str())).await?;
        let (mut writes, mut done, mut counts) = (Vec::new(), Done::default(), Counts::default());
        // Who reads what changed looks back by the time of writing: it is told for each try.
        let changed_ms = self.clock.now().as_millisecond();
        for ((_, new), before) in some.iter().zip(before) {
            let expect = match before {
                Some(before) if before.document.order() < new.order() => Expect::Version(before.version),
                Some(_) => continue,
                None => {
                    let counted = counts.of(&self.records, scope, new).await?;
                    if counted.keys >= self.most_keys {
                        done.refused.push(new.clone());
                        continue;
                    }
                    counted.keys += 1;
                    Expect::Absent
                }
            };
            writes.push(Repository::write(&Kept { changed_ms, ..new.clone() }, expect)?);
            done.written += 1;
        }
        if !writes.is_empty() {
            counts.write(&mut writes)?;
        }
        Ok((writes, done))
    }
}
