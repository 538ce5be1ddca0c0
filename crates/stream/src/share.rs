//! The fair share of a worker: how many partitions it keeps where several processes run the same stage.
//!
//! Each process says how many it has, and has room for; everyone computes the same shares from the same list. Who has more
//! than its share gives them back one by one, between two commits, and who has less takes them. While the lists differ a
//! partition may be free for a moment, or asked for by two: its lease and its head decide, as always.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::time::Duration;

use parking_lot::Mutex;
use store::Load;
use tracing::{debug, warn};

use crate::Worker;
use crate::worker::scope;

/// How long a process in which a partition failed asks for no more than it has: what it cannot do another may.
const RESTS_AFTER_FAILURE: Duration = Duration::from_secs(300);

/// How many of `count` partitions each process keeps: as many as the others, unless it has no room for them. What cannot be
/// shared evenly stays with those who have most, so that nothing moves for it. Where all rooms together are too few, there is
/// no share to keep to.
pub(crate) fn shares(count: usize, loads: &BTreeMap<String, Load>) -> Option<BTreeMap<String, usize>> {
    if loads.values().map(|load| load.room as usize).sum::<usize>() < count {
        return None;
    }
    let mut order: Vec<(&String, &Load)> = loads.iter().collect();
    order.sort_by_key(|(holder, load)| (Reverse(load.held), *holder));
    let mut shares: BTreeMap<String, usize> = loads.keys().map(|holder| (holder.clone(), 0)).collect();
    let mut left = count;
    while left > 0 {
        for (holder, load) in &order {
            let share = shares.entry((*holder).clone()).or_default();
            if left > 0 && *share < load.room as usize {
                *share += 1;
                left -= 1;
            }
        }
    }
    Some(shares)
}

impl Worker {
    /// Says that this process is there, looks who else is, and keeps to its share of so many partitions from now on. Where
    /// that cannot be known the share stays what it was.
    pub(crate) async fn keep_to_share(&self, places: &Places, count: usize) {
        match self.members.join(&scope(), self.load(places), self.settings.lease).await {
            Ok(mut loads) => {
                let shares = shares(count, &loads).or_else(|| {
                    // What fails everywhere is a part of someone's share.
                    loads.values_mut().for_each(|load| load.room = load.most);
                    shares(count, &loads)
                });
                let share = shares.and_then(|shares| shares.get(self.members.own()).copied());
                places.set_share(share.unwrap_or(self.settings.most_partitions));
            }
            Err(error) => {
                let (topology, error) = (self.topology.name(), error.chain());
                warn!(topology, error, "which processes share a stage is not known, and is asked again");
            }
        }
    }

    /// Says that this process is there no longer.
    pub(crate) async fn leave(&self) {
        if let Err(error) = self.members.leave(&scope()).await {
            debug!(error = %error.chain(), "others will find out by themselves that this process is gone");
        }
    }

    /// A process in which a partition failed lately has room for what works there, and no more.
    fn load(&self, places: &Places) -> Load {
        let most = u32::try_from(self.settings.most_partitions).unwrap_or(u32::MAX);
        let failed = self.failed_at.lock().map(|at| self.clock.elapsed().saturating_sub(at));
        let has_failed = failed.is_some_and(|ago| ago < RESTS_AFTER_FAILURE);
        let counted = places.0.lock();
        Load { held: counted.open, room: if has_failed { counted.works } else { most }, most }
    }
}

/// How many partitions a worker may have, and has.
#[derive(Debug)]
pub(crate) struct Places(Mutex<Counted>);

#[derive(Debug, Default)]
struct Counted {
    share: usize,
    taken: usize,
    /// Those whose tasks are open.
    open: u32,
    /// Those whose tasks did a step.
    works: u32,
}

impl Places {
    pub(crate) fn new(share: usize) -> Self {
        Self(Mutex::new(Counted { share, ..Counted::default() }))
    }

    pub(crate) fn set_share(&self, share: usize) {
        self.0.lock().share = share;
    }

    /// One place, where the worker has not got its share already.
    pub(crate) fn take(&self) -> Option<Place<'_>> {
        let mut counted = self.0.lock();
        if counted.taken >= counted.share {
            return None;
        }
        counted.taken += 1;
        Some(Place { places: self, is_held: true, is_open: false, works: false })
    }
}

/// The right to have one partition; given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Place<'a> {
    places: &'a Places,
    is_held: bool,
    is_open: bool,
    works: bool,
}

impl Place<'_> {
    /// Notes that the task of the partition is open: until then another process may have it.
    pub(crate) fn has_opened(&mut self) {
        self.places.0.lock().open += u32::from(!self.is_open);
        self.is_open = true;
    }

    /// Notes that the task did a step.
    pub(crate) fn has_worked(&mut self) {
        self.places.0.lock().works += u32::from(!self.works);
        self.works = true;
    }

    /// Gives the place back where the worker has more than its share. True for as many places as are too many. One that
    /// works does not go for one that is only tried.
    pub(crate) fn is_too_many(&mut self) -> bool {
        let mut counted = self.places.0.lock();
        let rivals = if self.works { counted.works as usize } else { counted.taken };
        if self.is_held && rivals > counted.share {
            self.is_held = false;
            counted.taken -= 1;
            counted.works -= u32::from(std::mem::take(&mut self.works));
        }
        !self.is_held
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut counted = self.places.0.lock();
        counted.taken -= usize::from(self.is_held);
        counted.open -= u32::from(self.is_open);
        counted.works -= u32::from(self.works);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn loads(loads: &[(u32, u32)]) -> BTreeMap<String, Load> {
        let load = |&(held, room): &(u32, u32)| Load { held, room, most: room };
        loads.iter().enumerate().map(|(number, found)| (format!("{number:03}"), load(found))).collect()
    }

    #[test]
    fn everyone_has_as_many_as_the_others() {
        let check = |count: usize, found: &[(u32, u32)], expected: Option<&[usize]>| {
            let shares = shares(count, &loads(found)).map(|shares| shares.into_values().collect::<Vec<_>>());
            assert_eq!(shares.as_deref(), expected, "{count} {found:?}");
        };
        check(4, &[(0, u32::MAX)], Some(&[4]));
        check(4, &[(4, u32::MAX), (0, u32::MAX)], Some(&[2, 2]));
        check(4, &[(0, 9), (0, 9), (0, 9)], Some(&[2, 1, 1]));
        check(4, &[(0, 9), (0, 9), (4, 9)], Some(&[1, 1, 2]));
        check(1, &[(0, 9), (1, 9)], Some(&[0, 1]));
        check(8, &[(0, 1), (0, 9), (0, 9)], Some(&[1, 4, 3]));
        check(4, &[(3, 0), (0, 9)], Some(&[0, 4]));
        check(4, &[(0, 1), (0, 2)], None);
        check(0, &[(0, 1), (0, 2)], Some(&[0, 0]));
        check(3, &[], None);
    }

    proptest! {
        #[test]
        fn shares_fill_the_partitions_and_no_room_is_passed(
            count in 0usize..200,
            found in prop::collection::vec((0u32..60, 0u32..60), 0..9),
        ) {
            let loads = loads(&found);
            let total: usize = loads.values().map(|load| load.room as usize).sum();
            match shares(count, &loads) {
                None => prop_assert!(total < count),
                Some(shares) => {
                    prop_assert_eq!(shares.values().sum::<usize>(), count);
                    let most = shares.values().copied().max().unwrap_or(0);
                    for (holder, share) in &shares {
                        let room = loads[holder].room as usize;
                        prop_assert!(*share <= room);
                        prop_assert!(*share == room || *share + 1 >= most, "{:?} {:?}", shares, loads);
                    }
                }
            }
        }

        #[test]
        fn who_has_the_shares_keeps_them(
            count in 0usize..200,
            found in prop::collection::vec((0u32..60, 0u32..60), 0..9),
        ) {
            let mut loads = loads(&found);
            if let Some(first) = shares(count, &loads) {
                for (holder, load) in &mut loads {
                    load.held = u32::try_from(first[holder]).unwrap();
                }
                prop_assert_eq!(shares(count, &loads), Some(first));
            }
        }
    }

    #[test]
    fn places_that_are_too_many_are_given_back_once() {
        let places = Places::new(3);
        let mut taken: Vec<Place<'_>> = (0..3).filter_map(|_| places.take()).collect();
        assert!(taken.len() == 3 && places.take().is_none());
        taken.iter_mut().for_each(Place::has_opened);
        taken.iter_mut().for_each(Place::has_worked);
        assert!(!taken.iter_mut().any(Place::is_too_many));
        places.set_share(1);
        assert_eq!(taken.iter_mut().filter_map(|place| place.is_too_many().then_some(())).count(), 2);
        assert!(places.take().is_none(), "the share is held");
        drop(taken);
        let Counted { taken, open, works, .. } = *places.0.lock();
        assert_eq!((taken, open, works), (0, 0, 0));
        let one = places.take();
        assert!(one.is_some() && places.take().is_none());
    }

    #[test]
    fn what_works_does_not_go_for_what_is_only_tried() {
        let places = Places::new(3);
        let mut taken: Vec<Place<'_>> = (0..3).filter_map(|_| places.take()).collect();
        taken[..2].iter_mut().for_each(Place::has_worked);
        places.set_share(2);
        assert!(!taken[0].is_too_many() && !taken[1].is_too_many() && taken[2].is_too_many());
        assert!(places.take().is_none());
    }
}
