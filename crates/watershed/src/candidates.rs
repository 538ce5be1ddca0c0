//! Search as recommendations use it: which entities a text finds, and what entities mean.
//!
//! An item of the index is an entity where type and id are the same. It refuses to embed without `search.item_embeddings`,
//! because that changes what is trained.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use async_trait::async_trait;
use kernel::{Result, Scope};
use moka::sync::Cache;
use parking_lot::Mutex;
use recommend::algorithms::content::ItemEmbedder;
use recommend::attributes::{AttributeValue, Attributes};
use recommend::candidates::{CANDIDATES_MAX, Candidate, CandidateSource, Candidates};
use search::encoder::Encoder;
use search::index::Filter;
use search::questions::Question;
use search::{Search, SearchSettings};
use tracing::warn;

/// The cosine from which a text is about an entity. Without one every text has its hundred nearest, also where none is near.
const LIKENESS_MIN: f32 = 0.3;
/// What is remembered of texts. A training asks for each again; what does not fit is encoded again.
const REMEMBERED_BYTES: u64 = 256 << 20;

/// What recommendations get from search.
pub(crate) type Given = (Option<Arc<dyn ItemEmbedder>>, Option<Arc<dyn CandidateSource>>);

/// What recommendations get of this search.
pub(crate) fn of(search: &Arc<Search>, settings: &SearchSettings) -> Given {
    let encoder = search.encoder().filter(|_| settings.item_embeddings);
    let embedder = encoder
        .map(|encoder| Arc::new(TextEmbedder::new(encoder, REMEMBERED_BYTES)) as Arc<dyn ItemEmbedder>);
    (embedder, Some(Arc::new(Finding(Arc::clone(search)))))
}

/// Finds candidates in the index.
#[derive(Debug)]
struct Finding(Arc<Search>);

#[async_trait]
impl CandidateSource for Finding {
    async fn find(&self, scope: &Scope, text: &str, entity_type: Option<&str>) -> Result<Candidates> {
        let types = entity_type.map(str::to_owned).into_iter().collect();
        let question = Question {
            // Words alone are no fallback where there is nothing else.
            semantic: self.0.encoder().is_some(),
            filter: Filter { types, ..Filter::default() },
            similarity_min: LIKENESS_MIN,
            ..Question::new(text.to_owned(), CANDIDATES_MAX)
        };
        let answer = self.0.search(scope, question).await?;
        let candidate = |found: search::questions::SearchResult| Candidate {
            entity_type: found.item.entity_type.to_string(),
            entity_id: found.item.entity_id.to_string(),
            score: found.score as f32,
        };
        let found = answer.results.into_iter().map(candidate).collect();
        Ok(Candidates { found, fallback: answer.fallback })
    }
}

/// Vectors by the digest of their text; nothing for one that cannot be encoded. Tenants share them: a vector is a function of
/// the text alone, and no request can tell whether one is remembered.
type Vectors = Cache<[u8; 32], Option<Arc<[f32]>>>;

/// Embeds the texts among attributes.
#[derive(Debug)]
struct TextEmbedder {
    encoder: Arc<dyn Encoder>,
    remembered: Vectors,
    /// One call of the encoder at a time, so that tenants take turns at it.
    turn: Mutex<()>,
}

impl TextEmbedder {
    fn new(encoder: Arc<dyn Encoder>, bytes: u64) -> Self {
        let weigh = |_: &[u8; 32], vector: &Option<Arc<[f32]>>| {
            let numbers = vector.as_ref().map_or(0, |vector| vector.len());
            u32::try_from(32 + 4 * numbers).unwrap_or(u32::MAX)
        };
        let remembered = Cache::builder().max_capacity(bytes).weigher(weigh).build();
        Self { encoder, remembered, turn: Mutex::default() }
    }

    /// The vectors of texts, in their order. One that cannot be encoded has none, and holds up no other.
    fn encode(&self, texts: &[&str]) -> Vec<Option<Arc<[f32]>>> {
        if texts.is_empty() {
            return Vec::new();
        }
        let encoded = {
            let _turn = self.turn.lock();
            self.encoder.encode(texts)
        };
        match (encoded, texts) {
            (Ok(encoded), _) => encoded.into_iter().map(|encoded| Some(Arc::from(encoded.vector))).collect(),
            (Err(error), [_]) => {
                let error = error.chain();
                warn!(error, "an entity is known by its attributes alone: its text cannot be encoded");
                vec![None]
            }
            (Err(_), texts) => texts.iter().flat_map(|text| self.encode(&[text])).collect(),
        }
    }
}

impl ItemEmbedder for TextEmbedder {
    fn dimension(&self) -> usize {
        self.encoder.identity().dimensions
    }

    fn version(&self) -> &str {
        &self.encoder.identity().version
    }

    fn embed(&self, attributes: &Attributes) -> Option<Vec<f32>> {
        self.embed_each(&[attributes])?.pop()?
    }

    fn embed_each(&self, some: &[&Attributes]) -> Option<Vec<Option<Vec<f32>>>> {
        let texts: Vec<Option<String>> = some.iter().map(|attributes| text_of(attributes)).collect();
        let key = |text: &str| *blake3::hash(text.as_bytes()).as_bytes();
        let mut known: BTreeMap<&str, Option<Arc<[f32]>>> = BTreeMap::new();
        let mut missing: BTreeSet<&str> = BTreeSet::new();
        for text in texts.iter().flatten() {
            if let Some(vector) = self.remembered.get(&key(text)) {
                known.insert(text, vector);
            } else {
                missing.insert(text);
            }
        }
        let missing: Vec<&str> = missing.into_iter().collect();
        for (text, vector) in missing.iter().zip(self.encode(&missing)) {
            self.remembered.insert(key(text), vector.clone());
            known.insert(text, vector);
        }
        let found =
            |text: &Option<String>| known.get(text.as_deref()?)?.as_ref().map(|vector| vector.to_vec());
        Some(texts.iter().map(found).collect())
    }
}

/// Every text and tag, in the order of the attributes' names; numbers are told by content itself.
fn text_of(attributes: &Attributes) -> Option<String> {
    let mut texts: Vec<&str> = Vec::new();
    for value in attributes.values() {
        match value {
            AttributeValue::Text(text) => texts.push(text),
            AttributeValue::Tags(tags) => texts.extend(tags.iter().map(String::as_str)),
            AttributeValue::Boolean(_) | AttributeValue::Number(_) => {}
        }
    }
    let text = texts.join(". ");
    (!text.trim().is_empty()).then_some(text)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use kernel::{Error, codes};
    use search::encoder::{Encoded, ModelIdentity};

    use super::*;

    #[derive(Debug)]
    struct Counting(ModelIdentity, AtomicUsize);

    impl Encoder for Counting {
        fn identity(&self) -> &ModelIdentity {
            &self.0
        }

        fn encode(&self, texts: &[&str]) -> Result<Vec<Encoded>> {
            self.1.fetch_add(texts.len(), Ordering::SeqCst);
            if texts.contains(&"bad") {
                return Err(Error::new(codes::VALIDATION_ERROR, "no"));
            }
            let encode = |text: &&str| Encoded {
                vector: vec![text.len() as f32, 1.0],
                tokens: 1,
                is_truncated: false,
            };
            Ok(texts.iter().map(encode).collect())
        }
    }

    #[test]
    fn a_text_is_encoded_once_and_what_is_remembered_is_bounded() {
        let identity = ModelIdentity { name: "n".into(), version: "v".into(), dimensions: 2, tokens_max: 8 };
        let encoder = Arc::new(Counting(identity, AtomicUsize::new(0)));
        let embedder = TextEmbedder::new(Arc::clone(&encoder) as _, 4 * (32 + 8));
        let embed = |title: &str| {
            let attributes = Attributes::from([
                ("title".to_owned(), AttributeValue::Text(title.to_owned())),
                ("year".to_owned(), AttributeValue::Number(1999.0)),
            ]);
            (embedder.embed(&attributes), encoder.1.load(Ordering::SeqCst))
        };
        assert_eq!(embed("car"), (Some(vec![3.0, 1.0]), 1));
        assert_eq!(embed("car"), (Some(vec![3.0, 1.0]), 1), "remembered");
        assert_eq!(embed("bad"), (None, 2));
        assert_eq!(embed("bad"), (None, 2), "what cannot be encoded is remembered too");
        assert_eq!(embed(" "), (None, 2), "there is nothing to embed");
        for title in 0..100 {
            embed(&title.to_string());
        }
        embedder.remembered.run_pending_tasks();
        assert!(embedder.remembered.entry_count() <= 5, "{}", embedder.remembered.entry_count());
    }

    #[test]
    fn many_texts_are_encoded_at_once_and_a_bad_one_holds_up_no_other() {
        let identity = ModelIdentity { name: "n".into(), version: "v".into(), dimensions: 2, tokens_max: 8 };
        let encoder = Arc::new(Counting(identity, AtomicUsize::new(0)));
        let embedder = TextEmbedder::new(Arc::clone(&encoder) as _, 1 << 20);
        let titled =
            |title: &str| Attributes::from([("title".to_owned(), AttributeValue::Text(title.to_owned()))]);
        let some = ["car", "", "boat", "car"].map(titled);
        let found = embedder.embed_each(&some.each_ref()).unwrap();
        let expected = [Some(vec![3.0, 1.0]), None, Some(vec![4.0, 1.0]), Some(vec![3.0, 1.0])];
        assert_eq!(found, expected);
        assert_eq!(encoder.1.load(Ordering::SeqCst), 2, "each text once");
        let some = ["bad", "car", "ship"].map(titled);
        let found = embedder.embed_each(&some.each_ref()).unwrap();
        assert_eq!(found, [None, Some(vec![3.0, 1.0]), Some(vec![4.0, 1.0])]);
        assert_eq!(embedder.version(), "v");
    }

    #[test]
    fn texts_and_tags_are_read_in_the_order_of_their_names() {
        let attributes = Attributes::from([
            ("title".to_owned(), AttributeValue::Text("Solaris".to_owned())),
            ("genres".to_owned(), AttributeValue::Tags(vec!["drama".to_owned(), "space".to_owned()])),
            ("is_new".to_owned(), AttributeValue::Boolean(true)),
        ]);
        assert_eq!(text_of(&attributes).as_deref(), Some("drama. space. Solaris"));
        assert_eq!(text_of(&Attributes::new()), None);
    }
}
