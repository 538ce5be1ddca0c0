//! The items of each feature, so that a vector is compared only with items that share a feature with it.

use super::vector::ContentVector;

#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Index {
    /// By feature: item and weight, by item.
    postings: Vec<Vec<(u32, f32)>>,
}

impl Index {
    pub(super) fn new(vectors: &[ContentVector], features: usize) -> Self {
        let mut postings: Vec<Vec<(u32, f32)>> = vec![Vec::new(); features];
        for (item, vector) in vectors.iter().enumerate() {
            for &(feature, weight) in vector.entries() {
                let feature = feature as usize;
                if feature >= postings.len() {
                    postings.resize_with(feature + 1, Vec::new);
                }
                postings[feature].push((item as u32, weight));
            }
        }
        Self { postings }
    }

    /// Features are below this.
    pub(super) fn features(&self) -> usize {
        self.postings.len()
    }

    pub(super) fn replace(&mut self, item: u32, old: &ContentVector, new: &ContentVector) {
        for &(feature, _) in old.entries() {
            let list = &mut self.postings[feature as usize];
            if let Ok(at) = list.binary_search_by_key(&item, |entry| entry.0) {
                list.remove(at);
            }
        }
        for &(feature, weight) in new.entries() {
            let feature = feature as usize;
            if feature >= self.postings.len() {
                self.postings.resize_with(feature + 1, Vec::new);
            }
            let list = &mut self.postings[feature];
            let at = list.partition_point(|entry| entry.0 < item);
            list.insert(at, (item, weight));
        }
    }

    pub(super) fn add_scores(&self, entries: &[(u32, f32)], scores: &mut [f32]) {
        for &(feature, weight) in entries {
            self.add_feature(feature, weight, scores);
        }
    }

    pub(super) fn add_feature(&self, feature: u32, weight: f32, scores: &mut [f32]) {
        for &(item, other) in self.postings.get(feature as usize).map_or(&[][..], Vec::as_slice) {
            scores[item as usize] += weight * other;
        }
    }
}
