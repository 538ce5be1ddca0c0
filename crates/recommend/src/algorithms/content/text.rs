//! Text as hashed TF-IDF: Unicode words (UAX 29) in lower case, sublinear counts, weighted by rarity, and
//! added with a sign into a bounded number of buckets so that collisions cancel on average (Weinberger et al.
//! 2009, "Feature hashing for large scale multitask learning").

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use unicode_segmentation::UnicodeSegmentation;

/// How many texts have each word, for the words that more than one has.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub(super) struct WordCounts {
    texts: u32,
    /// By the hash of the word, sorted.
    counts: Vec<(u64, u32)>,
}

/// Counts words before they are known to repeat.
#[derive(Debug, Default)]
pub(super) struct WordCounter {
    texts: u32,
    counts: BTreeMap<u64, u32>,
}

impl WordCounter {
    pub(super) fn add(&mut self, text: &str, bigrams: bool) {
        self.texts += 1;
        let mut hashes: Vec<u64> = words(text, bigrams).iter().map(|word| hash(word)).collect();
        hashes.sort_unstable();
        hashes.dedup();
        for hash in hashes {
            *self.counts.entry(hash).or_default() += 1;
        }
    }

    pub(super) fn finish(self) -> WordCounts {
        let counts = self.counts.into_iter().filter(|(_, count)| *count > 1).collect();
        WordCounts { texts: self.texts, counts }
    }
}

impl WordCounts {
    /// `ln((texts + 1) / (texts with the word + 1/2))`: a word that no text has is the rarest.
    fn rarity(&self, hash: u64) -> f32 {
        let count = match self.counts.binary_search_by_key(&hash, |entry| entry.0) {
            Ok(at) => self.counts[at].1 as f32,
            Err(_) => 1.0,
        };
        ((self.texts as f32 + 1.0) / (count + 0.5)).ln().max(0.0)
    }

    /// The words of a text, each once: the word, its bucket, and its share of a vector of length 1.
    pub(super) fn weigh(&self, text: &str, settings: TextSettings) -> Vec<(String, u32, f32)> {
        let mut counts: BTreeMap<String, f32> = BTreeMap::new();
        for word in words(text, settings.bigrams) {
            *counts.entry(word).or_default() += 1.0;
        }
        let mut weighed: Vec<(String, u32, f32)> = counts
            .into_iter()
            .map(|(word, count)| {
                let hash = hash(&word);
                let rarity = if settings.tf_idf { self.rarity(hash) } else { 1.0 };
                let sign = if hash >> 63 == 0 { 1.0 } else { -1.0 };
                (word, (hash % u64::from(settings.buckets)) as u32, sign * rarity * (1.0 + count.ln()))
            })
            .collect();
        let length = weighed.iter().map(|entry| entry.2 * entry.2).sum::<f32>().sqrt();
        if length > 0.0 {
            weighed.iter_mut().for_each(|entry| entry.2 /= length);
        }
        weighed
    }
}

/// How text is read.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct TextSettings {
    pub(super) tf_idf: bool,
    pub(super) bigrams: bool,
    pub(super) buckets: u32,
}

/// The words in lower case, and the pairs of neighbours where they are asked for.
pub(super) fn words(text: &str, bigrams: bool) -> Vec<String> {
    let mut words: Vec<String> = text.unicode_words().map(str::to_lowercase).collect();
    if bigrams {
        let pairs: Vec<String> = words.windows(2).map(|pair| pair.join(" ")).collect();
        words.extend(pairs);
    }
    words
}

// FNV-1a with a final mix: models are stored, so that the hash may not change with a library.
fn hash(word: &str) -> u64 {
    let step = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    let mut hash = word.bytes().fold(0xcbf2_9ce4_8422_2325, step);
    hash = (hash ^ hash >> 33).wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash ^ hash >> 33
}

#[cfg(test)]
mod tests {
    use super::*;

    const SETTINGS: TextSettings = TextSettings { tf_idf: true, bigrams: false, buckets: 512 };

    #[test]
    fn words_are_unicode_in_lower_case() {
        let check = |text: &str, bigrams: bool, expected: &[&str]| {
            assert_eq!(words(text, bigrams), expected, "{text}");
        };
        check("The Matrix (1999)", false, &["the", "matrix", "1999"]);
        check("Can't stop", true, &["can't", "stop", "can't stop"]);
        check("ÉTÉ, straße!", false, &["été", "straße"]);
        check(" -- ", true, &[]);
    }

    #[test]
    fn rare_words_weigh_more() {
        let mut counter = WordCounter::default();
        ["the red lamp", "the red chair", "the table"].iter().for_each(|text| counter.add(text, false));
        let weighed = counter.finish().weigh("the red lamp zebra", SETTINGS);
        let weight = |word: &str| weighed.iter().find(|entry| entry.0 == word).unwrap().2.abs();
        assert!(weight("lamp") > weight("red") && weight("red") > weight("the"));
        assert_eq!(weight("zebra"), weight("lamp"), "a new word is as rare as a word of one text");
        let length: f32 = weighed.iter().map(|entry| entry.2 * entry.2).sum();
        assert!((length - 1.0).abs() < 1e-5);
    }

    #[test]
    fn hashes_are_fixed() {
        assert_eq!(hash("lamp"), hash("lamp"));
        let buckets: std::collections::BTreeSet<u64> =
            (0..200).map(|word| hash(&format!("w{word}")) % 512).collect();
        assert!(buckets.len() > 150, "words spread over the buckets");
    }
}
