//! Users and what they did, in time order.
//!
//! A user who was forgotten leaves an empty place, so that the indices of the others stay for as long as the process
//! lives; what is stored has no such places, as a view has none that is folded again from the log without the user.

use std::collections::BTreeSet;

use hashbrown::HashMap;
use privacy::Erased;
use serde::{Deserialize, Serialize, Serializer};

use super::{Exposure, Place};
use crate::attributes::Attributes;
use crate::events::ConsentData;

/// One interaction in a user's history. There are as many of them as of nothing else, so each is packed into 24 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Unpacked", into = "Unpacked")]
pub struct Entry {
    /// Where its event stands in the log.
    pub place: Place,
    /// The entity's index.
    pub entity: u32,
    time_high: i32,
    /// Those of a NaN where it brought none.
    weight_bits: u32,
    time_low: u16,
    /// The interaction type's index.
    pub kind: u16,
}

/// As it is stored.
#[derive(Serialize, Deserialize)]
struct Unpacked {
    time_ms: i64,
    place: Place,
    entity: u32,
    weight: Option<f32>,
    kind: u16,
}

impl Entry {
    const LONGEST_TIME_MS: i64 = (1 << 47) - 1;

    /// What happened `time_ms` milliseconds after 1970, 4,459 years before or after it at most, with its own weight where
    /// it brought one.
    #[must_use]
    pub fn new(place: Place, time_ms: i64, entity: u32, weight: Option<f32>, kind: u16) -> Self {
        let time_ms = time_ms.clamp(-Self::LONGEST_TIME_MS, Self::LONGEST_TIME_MS);
        let (time_high, time_low) = ((time_ms >> 16) as i32, time_ms as u16);
        Self { place, entity, time_high, weight_bits: weight.unwrap_or(f32::NAN).to_bits(), time_low, kind }
    }

    /// When it happened, in unix milliseconds.
    #[must_use]
    pub fn time_ms(&self) -> i64 {
        i64::from(self.time_high) << 16 | i64::from(self.time_low)
    }

    /// Its own weight, where it brought one.
    #[must_use]
    pub fn weight(&self) -> Option<f32> {
        Some(f32::from_bits(self.weight_bits)).filter(|weight| !weight.is_nan())
    }
}

impl From<Unpacked> for Entry {
    fn from(entry: Unpacked) -> Self {
        Self::new(entry.place, entry.time_ms, entry.entity, entry.weight, entry.kind)
    }
}

impl From<Entry> for Unpacked {
    fn from(entry: Entry) -> Self {
        let (time_ms, weight) = (entry.time_ms(), entry.weight());
        Self { time_ms, place: entry.place, entity: entry.entity, weight, kind: entry.kind }
    }
}

/// What a user agreed to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Consent {
    /// Answers may rest on what the user did.
    pub personalisation: bool,
    /// Models may learn from what the user did.
    pub training: bool,
    /// When the user last said so, in unix milliseconds; none for one who never did.
    pub updated_at_ms: Option<i64>,
}

impl Default for Consent {
    fn default() -> Self {
        Self { personalisation: true, training: true, updated_at_ms: None }
    }
}

/// The name of the key that a user's events are sealed under.
pub type KeyName = [u8; 16];

/// A user as they stand.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct User {
    /// The id.
    pub id: Box<str>,
    /// What is known of them.
    pub attributes: Attributes,
    /// When that was said, in unix milliseconds.
    pub described_at_ms: Option<i64>,
    /// What they did, oldest first; in log order where times are equal.
    pub history: Vec<Entry>,
    /// When they were first seen, in unix milliseconds.
    pub created_at_ms: i64,
    /// What they agreed to.
    pub consent: Consent,
    /// Whether some of their events are in the log unsealed.
    pub unsealed: bool,
    /// The key of those that are sealed. More than one only where replicas met them at once; all go together.
    pub key: Option<KeyName>,
    /// What canaries showed them; a thin pointer, because most users were shown nothing.
    exposures: Option<Box<Exposures>>,
    /// They were forgotten; nothing is left here.
    #[serde(skip)]
    pub forgotten: bool,
}

/// What canaries showed a user.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Exposures(Vec<Exposure>);

/// The users of one tenant.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Users {
    #[serde(serialize_with = "without_forgotten")]
    list: Vec<User>,
    #[serde(skip)]
    by_id: HashMap<Box<str>, u32>,
    /// Whom running canaries showed something.
    #[serde(skip)]
    exposed: BTreeSet<u32>,
    /// Where a canary ended, the first of them who may hold what it showed. Nothing where a view is stored.
    #[serde(skip)]
    letting_go: Option<u32>,
}

fn without_forgotten<S: Serializer>(list: &[User], serializer: S) -> Result<S::Ok, S::Error> {
    let known: Vec<&User> = list.iter().filter(|user| !user.forgotten).collect();
    known.serialize(serializer)
}

impl Users {
    /// Every user by index; those who were forgotten have no id and no history.
    #[must_use]
    pub fn all(&self) -> &[User] {
        &self.list
    }

    /// How many are known.
    #[must_use]
    pub fn len(&self) -> usize {
        self.by_id.len()
    }

    /// Whether nobody is known.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }

    /// The user at `index`, unless forgotten.
    #[must_use]
    pub fn get(&self, index: u32) -> Option<&User> {
        self.list.get(index as usize).filter(|user| !user.forgotten)
    }

    /// The index of a user.
    #[must_use]
    pub fn find(&self, id: &str) -> Option<u32> {
        self.by_id.get(id).copied()
    }

    /// The index of a user, who is added where unknown, of whom an event came that was sealed under `key`.
    pub(super) fn intern(&mut self, id: &str, at_ms: i64, key: Option<KeyName>) -> u32 {
        let index = match self.by_id.get(id) {
            Some(index) => *index,
            None => self.add(id, at_ms),
        };
        let user = &mut self.list[index as usize];
        match key {
            Some(key) => user.key = Some(key),
            None => user.unsealed = true,
        }
        index
    }

    fn add(&mut self, id: &str, at_ms: i64) -> u32 {
        let index = self.list.len() as u32;
        self.by_id.insert(id.into(), index);
        self.list.push(User {
            id: id.into(),
            attributes: Attributes::new(),
            described_at_ms: None,
            history: Vec::new(),
            created_at_ms: at_ms,
            consent: Consent::default(),
            unsealed: false,
            key: None,
            exposures: None,
            forgotten: false,
        });
        index
    }

    pub(super) fn describe(&mut self, index: u32, attributes: Attributes, at_ms: i64) {
        let user = &mut self.list[index as usize];
        user.attributes = attributes;
        user.described_at_ms = Some(at_ms);
    }

    pub(super) fn agree(&mut self, index: u32, said: &ConsentData, at_ms: i64) {
        let consent = &mut self.list[index as usize].consent;
        consent.personalisation = said.personalisation.unwrap_or(consent.personalisation);
        consent.training = said.training.unwrap_or(consent.training);
        consent.updated_at_ms = Some(at_ms);
    }

    /// Adds to a history at the place that its time gives it, and to what was shown where it is a choice.
    pub(super) fn record(&mut self, index: u32, entry: Entry, is_choice: bool) {
        let User { history, exposures, .. } = &mut self.list[index as usize];
        if let Some(shown) = exposures.as_mut().filter(|_| is_choice) {
            shown.0.iter_mut().for_each(|exposure| exposure.note_choice(&entry));
        }
        // Events come nearly in order, so the search from the end is short.
        let place =
            history.iter().rposition(|earlier| earlier.time_ms() <= entry.time_ms()).map_or(0, |at| at + 1);
        history.insert(place, entry);
    }

    /// Forgets whoever an erasure is of.
    pub(super) fn forget(&mut self, erased: &Erased, hash: impl Fn(&str) -> String) {
        let keys: Vec<KeyName> = erased.keys.iter().filter_map(|name| key_name(name)).collect();
        for (index, user) in self.list.iter_mut().enumerate().filter(|(_, user)| !user.forgotten) {
            let by_key = user.key.is_some_and(|key| keys.contains(&key));
            let by_hash =
                || user.unsealed && erased.person.as_ref().is_some_and(|person| *person == hash(&user.id));
            if by_key || by_hash() {
                self.by_id.remove(&user.id);
                self.exposed.remove(&(index as u32));
                user.forget();
            }
        }
    }

    /// Keeps of each history what `keeps` says, and of each description what `keeps_description` says of its time.
    pub(super) fn retain(&mut self, keeps: impl Fn(&Entry) -> bool, keeps_description: impl Fn(i64) -> bool) {
        for user in &mut self.list {
            user.history.retain(&keeps);
            if user.described_at_ms.is_some_and(|at_ms| !keeps_description(at_ms)) {
                user.attributes = Attributes::new();
                user.described_at_ms = None;
            }
        }
    }

    /// Notes what a user was shown: the first in each arm of a canary, whatever the order in which it is told.
    pub(super) fn expose(&mut self, index: u32, exposure: Exposure) {
        self.exposed.insert(index);
        let all = &mut self.list[index as usize].exposures.get_or_insert_default().0;
        let is_same = |one: &Exposure| one.canary == exposure.canary && one.arm == exposure.arm;
        match all.iter_mut().find(|one| is_same(one)) {
            Some(known) if (exposure.at_ms, exposure.place) < (known.at_ms, known.place) => *known = exposure,
            Some(_) => {}
            None => all.push(exposure),
        }
        all.sort_by_key(|one| (one.at_ms, one.place));
    }

    /// From now on lets go of what a canary showed.
    pub(super) fn end_canary(&mut self) {
        self.letting_go = Some(0);
    }

    /// Whether something is held that an ended canary showed.
    pub(super) fn is_letting_go(&self) -> bool {
        self.letting_go.is_some()
    }

    /// Lets go of what canaries showed that do not count any more, at `count` of the users.
    pub(super) fn let_go(&mut self, count: usize, counts: impl Fn(&str) -> bool) {
        let Some(first) = self.letting_go else { return };
        let mut left = self.exposed.range(first..).copied();
        let some: Vec<u32> = left.by_ref().take(count).collect();
        self.letting_go = left.next();
        for index in some {
            let exposures = &mut self.list[index as usize].exposures;
            if let Some(all) = exposures {
                all.0.retain(|exposure| counts(&exposure.canary));
            }
            if exposures.as_ref().is_none_or(|all| all.0.is_empty()) {
                *exposures = None;
                self.exposed.remove(&index);
            }
        }
    }

    /// How many were shown something by running canaries.
    #[must_use]
    pub fn exposed_count(&self) -> usize {
        self.exposed.len()
    }

    /// Whom running canaries showed something, by index from `first` on.
    pub fn exposed_from(&self, first: u32) -> impl Iterator<Item = (u32, &User)> {
        self.exposed.range(first..).map(|index| (*index, &self.list[*index as usize]))
    }

    /// Builds what is not stored.
    pub(super) fn index(&mut self) {
        self.by_id =
            self.list.iter().enumerate().map(|(index, user)| (user.id.clone(), index as u32)).collect();
        let exposed = self.list.iter().enumerate().filter(|(_, user)| user.exposures.is_some());
        self.exposed = exposed.map(|(index, _)| index as u32).collect();
    }
}

impl User {
    /// What running canaries showed them, and for a while what ended ones did; the first in each arm.
    #[must_use]
    pub fn exposures(&self) -> &[Exposure] {
        self.exposures.as_deref().map_or(&[], |all| &all.0)
    }

    fn forget(&mut self) {
        *self = Self {
            id: Box::default(),
            attributes: Attributes::new(),
            described_at_ms: None,
            history: Vec::new(),
            created_at_ms: 0,
            consent: Consent::default(),
            unsealed: false,
            key: None,
            exposures: None,
            forgotten: true,
        };
    }
}

/// The name of a key from its 32 hexadecimal digits.
pub(super) fn key_name(text: &str) -> Option<KeyName> {
    u128::from_str_radix(text, 16).ok().filter(|_| text.len() == 32).map(u128::to_be_bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_entry_takes_24_bytes() {
        assert_eq!(size_of::<Entry>(), 24);
    }

    proptest! {
        #[test]
        fn an_entry_says_what_it_was_made_of(
            time_ms in -Entry::LONGEST_TIME_MS..=Entry::LONGEST_TIME_MS,
            weight in proptest::option::of(-1e30_f32..1e30),
            number: u64, entity: u32, kind: u16,
        ) {
            let entry = Entry::new(Place::of_number(number), time_ms, entity, weight, kind);
            prop_assert_eq!((entry.time_ms(), entry.weight()), (time_ms, weight));
            let stored = postcard::to_stdvec(&entry).unwrap();
            prop_assert_eq!(postcard::from_bytes::<Entry>(&stored).unwrap(), entry);
        }
    }
}
