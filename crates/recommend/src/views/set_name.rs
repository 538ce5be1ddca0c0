//! The name of a set: the same on every replica that holds the same members, in whatever order they came.
//!
//! It is the sum of the members' hashes, as in incremental multiset hashing (Clarke et al., 2003, MSet-Add-Hash): a
//! member can be added and taken out again. Members are places of the log and contents of the catalogue, hashed to 128
//! bits, so that no two states have one name but by chance, which is below 2^-64 for as many states as there can be.
//!
//! It refuses to be a proof against someone who chooses members: names are only asked of what one tenant sent itself.

/// A name.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SetName(u128);

impl SetName {
    /// Of one member, by its bytes.
    #[must_use]
    pub fn of(member: &[u8]) -> Self {
        let hash = blake3::hash(member);
        let (first, _) = hash.as_bytes().split_first_chunk::<16>().expect("a hash has 32 bytes");
        Self(u128::from_le_bytes(*first))
    }

    /// Adds the members of another set.
    pub fn add(&mut self, members: Self) {
        self.0 = self.0.wrapping_add(members.0);
    }

    /// Takes members out that were added.
    pub fn remove(&mut self, members: Self) {
        self.0 = self.0.wrapping_sub(members.0);
    }

    /// As bytes.
    #[must_use]
    pub fn bytes(self) -> [u8; 16] {
        self.0.to_le_bytes()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn name(members: &[u16]) -> SetName {
        let mut name = SetName::default();
        members.iter().for_each(|member| name.add(SetName::of(&member.to_le_bytes())));
        name
    }

    proptest! {
        #[test]
        fn order_does_not_matter_and_members_do(mut members: Vec<u16>, extra: u16, seed: u64) {
            let named = name(&members);
            let mut more = named;
            more.add(name(&[extra]));
            prop_assert_ne!(more, named);
            more.remove(name(&[extra]));
            prop_assert_eq!(more, named);
            members.sort_by_key(|member| u64::from(*member).wrapping_mul(seed | 1));
            prop_assert_eq!(name(&members), named);
        }
    }
}
