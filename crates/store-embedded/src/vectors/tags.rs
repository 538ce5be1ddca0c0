//! Which rows have a tag. A tag that no row has any more is forgotten.

use std::collections::{BTreeMap, HashMap};

use rustc_hash::FxHashSet;
use store::VectorFilter;

/// The tags of a collection, by number.
#[derive(Debug, Default)]
pub(super) struct Tags {
    numbers: HashMap<(String, String), u32>,
    entries: Vec<Entry>,
    free: Vec<u32>,
}

#[derive(Debug, Default)]
struct Entry {
    tag: (String, String),
    rows: FxHashSet<u32>,
}

impl Tags {
    /// Gives the tags to a row; their numbers, in order.
    pub(super) fn add(&mut self, row: u32, tags: BTreeMap<String, String>) -> Vec<u32> {
        let mut numbers: Vec<u32> = tags.into_iter().map(|tag| self.number(tag)).collect();
        numbers.iter().for_each(|number| _ = self.entries[*number as usize].rows.insert(row));
        numbers.sort_unstable();
        numbers
    }

    /// Takes tags from a row.
    pub(super) fn remove(&mut self, row: u32, numbers: &[u32]) {
        for number in numbers {
            let entry = &mut self.entries[*number as usize];
            entry.rows.remove(&row);
            if entry.rows.is_empty() {
                self.numbers.remove(&std::mem::take(entry).tag);
                self.free.push(*number);
            }
        }
    }

    fn number(&mut self, tag: (String, String)) -> u32 {
        if let Some(number) = self.numbers.get(&tag) {
            return *number;
        }
        let number = self.free.pop().unwrap_or_else(|| {
            self.entries.push(Entry::default());
            u32::try_from(self.entries.len() - 1).expect("fewer than 4 billion tags")
        });
        self.entries[number as usize].tag.clone_from(&tag);
        self.numbers.insert(tag, number);
        number
    }

    /// The numbers of what a filter asks for, the rarest first; none where no row has one of them.
    pub(super) fn wanted(&self, filter: &VectorFilter) -> Option<Vec<u32>> {
        let number =
            |(name, value): (&String, &String)| self.numbers.get(&(name.clone(), value.clone())).copied();
        let mut wanted = filter.iter().map(number).collect::<Option<Vec<u32>>>()?;
        wanted.sort_by_key(|number| self.rows(*number).len());
        Some(wanted)
    }

    /// The rows that have a tag.
    pub(super) fn rows(&self, number: u32) -> &FxHashSet<u32> {
        &self.entries[number as usize].rows
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_that_nothing_has_is_forgotten() {
        let mut tags = Tags::default();
        let one = |value: &str| BTreeMap::from([("colour".to_owned(), value.to_owned())]);
        let red = tags.add(1, one("red"));
        tags.add(2, one("red"));
        assert_eq!(tags.rows(tags.wanted(&one("red")).unwrap()[0]).len(), 2);
        tags.remove(1, &red);
        tags.remove(2, &red);
        assert_eq!(tags.wanted(&one("red")), None);
        assert_eq!(tags.add(3, one("blue")), red, "its number is used again");
        assert_eq!(tags.wanted(&BTreeMap::new()), Some(Vec::new()));
    }
}
