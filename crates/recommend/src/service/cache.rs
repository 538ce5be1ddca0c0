//! Answers that were made before, kept through the `Cache` port. Off unless a time to live is set: an answer takes
//! about as long to make as to fetch.
//!
//! An answer is kept under everything it is made of: the tenant, every parameter, the settings, the model's version,
//! what the catalogue holds, the types of interaction, and either the user's own history or, for what is not personal, the
//! set of all interactions. Each is named by what it holds (see [`SetName`](crate::views::SetName)) and never by a count:
//! replicas read several partitions in different orders, or lack what was cut from the log, and then equal counts are
//! different states. So a kept answer is one that was made of the same, wherever it was made: the user's next action, a
//! change of the catalogue and a new model each lead to another place, and only what others do may show in a personal
//! answer as late as the time to live. A kept answer that names an entity
//! which is no longer available is not given.
//!
//! Of equal requests at the same time one is answered, and the others take its answer. It refuses to keep errors,
//! and incomplete answers.
//!
//! To keep another kind of answer: say in [`Service::place`] what it is made of.

use std::collections::HashMap;
use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use kernel::{Entropy, Result, Scope};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use store::Cache;
use tokio::sync::OnceCell;
use tracing::debug;

use super::{Algorithm, Answer, Service};
use crate::metrics::{CacheMetrics, CacheName};
use crate::settings::{AnswerSettings, CacheSettings};
use crate::views::TenantView;

/// How the text of every answer begins.
const HEAD: &str = "{\"answer_id\":\"";

/// What an answer is about.
#[derive(Debug, Clone, Copy)]
pub enum About<'a> {
    /// A user.
    User(&'a str),
    /// An entity.
    Entity,
    /// Nothing in particular: the same list for everyone.
    Everyone,
}

/// Where an answer is kept, and for how long.
#[derive(Debug)]
pub struct Place {
    key: String,
    time_to_live: Duration,
    name: CacheName,
}

/// An answer as it is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Kept {
    /// Type and id of what it recommends.
    entities: Vec<(String, String)>,
    /// Its text behind the answer's id, which each caller gets a new one of.
    tail: String,
}

/// Answers that are being made, by tenant and key.
type UnderWay = Mutex<HashMap<(String, String), Making>>;
type Making = Arc<OnceCell<Arc<Kept>>>;

/// One who waits for an answer. The last to go, whether answered or not, leaves nothing behind.
struct Waiting<'a> {
    under_way: &'a UnderWay,
    key: &'a (String, String),
    cell: &'a Making,
}

impl Waiting<'_> {
    /// Later callers do not get this answer.
    fn forget(&self) {
        self.remove_if(|_| true);
    }

    fn remove_if(&self, is_so: impl Fn(&Making) -> bool) {
        let mut under_way = self.under_way.lock();
        if under_way.get(self.key).is_some_and(|found| Arc::ptr_eq(found, self.cell) && is_so(found)) {
            under_way.remove(self.key);
        }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        // The map holds one, this caller the other: clones are made under the lock.
        self.remove_if(|found| Arc::strong_count(found) <= 2);
    }
}

/// The cache of answers.
pub struct AnswerCache {
    cache: Arc<dyn Cache>,
    settings: CacheSettings,
    salt: [u8; 32],
    under_way: UnderWay,
    entropy: Arc<dyn Entropy>,
    metrics: CacheMetrics,
}

impl fmt::Debug for AnswerCache {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("AnswerCache").field("settings", &self.settings).finish_non_exhaustive()
    }
}

impl AnswerCache {
    /// A cache of answers that are made with `answers`; none where the settings keep nothing.
    #[must_use]
    pub fn new(
        cache: Arc<dyn Cache>,
        settings: CacheSettings,
        answers: &AnswerSettings,
        entropy: Arc<dyn Entropy>,
        metrics: CacheMetrics,
    ) -> Option<Self> {
        if settings == CacheSettings::default() {
            return None;
        }
        // Replicas of another release or with other settings make other answers.
        let salt = *blake3::hash(format!("{} {answers:?}", env!("CARGO_PKG_VERSION")).as_bytes()).as_bytes();
        Some(Self { cache, settings, salt, under_way: UnderWay::default(), entropy, metrics })
    }

    /// The answer's text: as it was kept, else as `make` makes it.
    ///
    /// # Errors
    /// Those of `make`. A cache that does not answer is one that has nothing.
    pub async fn answer<M>(&self, service: &Service, scope: &Scope, place: Place, make: M) -> Result<Bytes>
    where
        M: Future<Output = Result<Answer>>,
    {
        let key = (scope.tenant().as_str().to_owned(), place.key.clone());
        let cell = Arc::clone(self.under_way.lock().entry(key.clone()).or_default());
        let waiting = Waiting { under_way: &self.under_way, key: &key, cell: &cell };
        let mut is_first = false;
        let kept = cell
            .get_or_try_init(|| async {
                is_first = true;
                self.fetch_or_make(service, scope, &place, make).await
            })
            .await;
        if is_first {
            waiting.forget();
        } else {
            self.metrics.coalesced(place.name);
        }
        let id = self.entropy.id(service.clock.now()).as_hyphenated().to_string();
        kept.map(|kept| Bytes::from([HEAD, &id, &kept.tail].concat()))
    }

    async fn fetch_or_make<M>(
        &self,
        service: &Service,
        scope: &Scope,
        place: &Place,
        make: M,
    ) -> Result<Arc<Kept>>
    where
        M: Future<Output = Result<Answer>>,
    {
        if let Some(kept) = self.fetch(service, scope, &place.key).await {
            self.metrics.hit(place.name);
            return Ok(Arc::new(kept));
        }
        self.metrics.miss(place.name);
        let answer = make.await?;
        let kept = Kept::of(&answer)?;
        if answer.complete {
            let bytes = postcard::to_stdvec(&kept).map_err(kernel::Error::internal)?;
            if let Err(error) = self.cache.set(scope, &place.key, bytes.into(), place.time_to_live).await {
                debug!(error = %error.chain(), "an answer could not be kept");
            }
        }
        Ok(Arc::new(kept))
    }

    async fn fetch(&self, service: &Service, scope: &Scope, key: &str) -> Option<Kept> {
        let found = match self.cache.get(scope, key).await {
            Ok(found) => found?,
            Err(error) => {
                debug!(error = %error.chain(), "the cache of answers does not answer");
                return None;
            }
        };
        let kept: Kept = postcard::from_bytes(&found).ok()?;
        let view = service.views.of(scope);
        kept.is_available(&view.read(), service.clock.now().as_millisecond()).then_some(kept)
    }
}

impl Kept {
    fn of(answer: &Answer) -> Result<Self> {
        let text = serde_json::to_string(answer).map_err(kernel::Error::internal)?;
        let tail = text.strip_prefix(HEAD).and_then(|rest| rest.strip_prefix(answer.answer_id.as_str()));
        let tail = tail.ok_or_else(|| kernel::Error::internal("an answer does not begin with its id"))?;
        let names = answer.recommendations.iter();
        let entities = names.map(|one| (one.entity_type.clone(), one.entity_id.clone())).collect();
        Ok(Self { entities, tail: tail.to_owned() })
    }

    /// Whether everything it recommends may still be recommended: time alone changes that.
    fn is_available(&self, view: &TenantView, now_ms: i64) -> bool {
        self.entities.iter().all(|(entity_type, id)| {
            let found = view.entities.find(entity_type, id).and_then(|index| view.entities.get(index));
            found.is_some_and(|entity| entity.is_available(now_ms))
        })
    }
}

impl Service {
    /// Where the answer to this question is kept; none where such answers are not. `question` names the subject and
    /// every parameter.
    #[must_use]
    pub fn place(
        &self,
        scope: &Scope,
        about: About<'_>,
        algorithm: Algorithm,
        question: impl FnOnce() -> String,
    ) -> Option<Place> {
        let cache = self.cache.as_ref()?;
        let (name, seconds) = match about {
            About::Everyone => (CacheName::Trending, cache.settings.trending_ttl_secs),
            _ => (CacheName::Recommendations, cache.settings.recommendation_ttl_secs),
        };
        if seconds == 0 {
            return None;
        }
        let mut hasher = blake3::Hasher::new_keyed(&cache.salt);
        let model = self.served(scope).and_then(|served| served.current());
        hasher.update(&model.as_ref().map_or(0, |model| model.version).to_le_bytes());
        // A version names the catalogue of its training.
        let known = model.as_ref().and_then(|model| model.catalogue());
        hasher.update(&[u8::from(known.is_some())]).update(&known.unwrap_or_default().bytes());
        let view = self.views.of(scope);
        let view = view.read();
        hasher.update(&view.entities.content_name().bytes());
        // In the order of names, because replicas may know the types in another.
        let mut types: Vec<_> = view.interaction_types.all().iter().collect();
        types.sort_unstable_by_key(|kind| &kind.name);
        for kind in types {
            hasher.update(&(kind.name.len() as u64).to_le_bytes()).update(kind.name.as_bytes());
            hasher.update(&kind.weight.to_bits().to_le_bytes());
        }
        hasher.update(&view.oblivion().to_le_bytes());
        // Settings have no rating that is not a number.
        hasher.update(&self.views.rating_least().unwrap_or(f32::NAN).to_le_bytes());
        let user = match about {
            About::User(id) => view.users.find(id).and_then(|index| view.users.get(index)),
            _ => None,
        };
        let agreed = user.is_none_or(|user| user.consent.personalisation);
        hasher.update(&[u8::from(agreed)]);
        let history = user.filter(|_| agreed).map_or(&[][..], |user| &user.history);
        let personal = algorithm.is_personal() && !history.is_empty();
        hasher.update(&[u8::from(personal)]);
        if !personal {
            hasher.update(&view.interactions_name().bytes());
            hasher.update(&view.activity.interactions().to_le_bytes());
        }
        hasher.update(&(history.len() as u64).to_le_bytes());
        for entry in history {
            hasher.update(&entry.place.number().to_le_bytes());
        }
        hasher.update(question().as_bytes());
        Some(Place {
            key: format!("answer:{}", hasher.finalize().to_hex()),
            time_to_live: Duration::from_secs(seconds),
            name,
        })
    }

    /// How long an answer is kept at most, in seconds.
    #[must_use]
    pub fn kept_for_secs(&self) -> u64 {
        self.cache.as_ref().map_or(0, |cache| cache.settings.recommendation_ttl_secs)
    }

    /// The cache of answers, where one is set.
    #[must_use]
    pub fn cache(&self) -> Option<&AnswerCache> {
        self.cache.as_ref()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use async_trait::async_trait;
    use kernel::{Clock, Error, ManualClock, SeededEntropy, TenantId, Timestamp, codes};
    use prometheus_client::registry::Registry;
    use store::Lease;
    use store::memory::MemoryCache;

    use super::*;
    use crate::metrics::RecommendMetrics;
    use crate::views::Views;

    /// A cache that is away.
    #[derive(Debug)]
    struct Away;

    fn away<T>() -> Result<T> {
        Err(Error::new(codes::UNAVAILABLE, "the cache is away"))
    }

    #[async_trait]
    impl Cache for Away {
        async fn get(&self, _: &Scope, _: &str) -> Result<Option<Bytes>> {
            away()
        }

        async fn set(&self, _: &Scope, _: &str, _: Bytes, _: Duration) -> Result<()> {
            away()
        }

        async fn remove(&self, _: &Scope, _: &[&str]) -> Result<()> {
            away()
        }

        async fn add(&self, _: &Scope, _: &str, _: i64, _: Duration) -> Result<i64> {
            away()
        }

        async fn acquire(&self, _: &Scope, _: &str, _: &str, _: Duration) -> Result<Option<Lease>> {
            away()
        }

        async fn release(&self, _: &Scope, _: &Lease) -> Result<()> {
            away()
        }
    }

    struct Bench {
        service: Service,
        scope: Scope,
        clock: Arc<ManualClock>,
        registry: Registry,
        made: AtomicUsize,
    }

    impl Bench {
        fn new(seconds: u64, cache: impl FnOnce(Arc<dyn Clock>) -> Arc<dyn Cache>) -> Self {
            let clock = Arc::new(ManualClock::at(Timestamp::UNIX_EPOCH));
            let mut registry = Registry::default();
            let metrics = RecommendMetrics::register(&mut registry);
            let (views, entropy) = (Arc::new(Views::default()), Arc::new(SeededEntropy::new(1)));
            let service =
                Service::new(views, AnswerSettings::default(), Arc::clone(&clock) as _, entropy, metrics);
            let settings = CacheSettings { recommendation_ttl_secs: seconds, trending_ttl_secs: 0 };
            let service = service.keeping(cache(Arc::clone(&clock) as _), settings);
            let scope = Scope::system(TenantId::new("shop").unwrap(), "test");
            Self { service, scope, clock, registry, made: AtomicUsize::new(0) }
        }

        fn answer(&self, complete: bool) -> Answer {
            let number = self.made.fetch_add(1, Ordering::Relaxed);
            Answer {
                answer_id: "an-id".to_owned(),
                user_id: Some(format!("made {number}")),
                recommendations: Vec::new(),
                count: 0,
                algorithm: "hybrid",
                fallback: None,
                cold_start: false,
                without_consent: false,
                model_version: None,
                generated_at: self.clock.now(),
                canary: None,
                search: None,
                complete,
                next_cursor: None,
            }
        }

        /// Which of the answers that were made is given to the question.
        async fn ask(&self, question: &str, made: impl Future<Output = Result<Answer>>) -> Result<String> {
            let place = self
                .service
                .place(&self.scope, About::User("ada"), Algorithm::Hybrid, || question.to_owned());
            let text = self
                .service
                .cache()
                .unwrap()
                .answer(&self.service, &self.scope, place.unwrap(), made)
                .await?;
            let answer: serde_json::Value = serde_json::from_slice(&text).unwrap();
            assert_eq!(answer["answer_id"].as_str().unwrap().len(), 36);
            Ok(answer["user_id"].as_str().unwrap().to_owned())
        }

        async fn asked(&self, question: &str) -> String {
            self.ask(question, async { Ok(self.answer(true)) }).await.unwrap()
        }

        /// Hits, misses and coalesced questions.
        fn counts(&self) -> [u64; 3] {
            let mut text = String::new();
            prometheus_client::encoding::text::encode(&mut text, &self.registry).unwrap();
            ["redis_cache_hits", "redis_cache_misses", "recommend_answers_coalesced"].map(|name| {
                let series = format!("{name}_total{{cache=\"recommendations\"}} ");
                text.lines().find_map(|line| line.strip_prefix(series.as_str())).unwrap().parse().unwrap()
            })
        }
    }

    fn memory(clock: Arc<dyn Clock>) -> Arc<dyn Cache> {
        Arc::new(MemoryCache::new(clock))
    }

    #[tokio::test]
    async fn an_answer_is_kept_for_its_time_under_its_question() {
        let bench = Bench::new(10, memory);
        assert_eq!(bench.asked("a").await, "made 0");
        assert_eq!(bench.asked("a").await, "made 0");
        assert_eq!(bench.asked("b").await, "made 1");
        bench.clock.advance(Duration::from_secs(9));
        assert_eq!(bench.asked("a").await, "made 0");
        bench.clock.advance(Duration::from_secs(1));
        assert_eq!(bench.asked("a").await, "made 2");
        assert_eq!(bench.counts(), [2, 3, 0]);
        let list = bench.service.place(&bench.scope, About::Everyone, Algorithm::Trending, String::new);
        assert!(list.is_none(), "no time is set for lists");
    }

    #[tokio::test]
    async fn errors_and_incomplete_answers_are_not_kept() {
        let bench = Bench::new(10, memory);
        let failed = bench.ask("a", async { Err(Error::new(codes::OVERLOADED, "later")) }).await;
        assert_eq!(failed.unwrap_err().code(), codes::OVERLOADED);
        assert_eq!(bench.ask("a", async { Ok(bench.answer(false)) }).await.unwrap(), "made 0");
        assert_eq!(bench.asked("a").await, "made 1");
        assert_eq!(bench.asked("a").await, "made 1");
        assert_eq!(bench.counts(), [1, 3, 0]);
    }

    #[tokio::test]
    async fn without_the_cache_every_answer_is_made() {
        let bench = Bench::new(10, |_| Arc::new(Away));
        for number in 0..3 {
            assert_eq!(bench.asked("a").await, format!("made {number}"));
        }
        assert_eq!(bench.counts(), [0, 3, 0]);
    }

    #[tokio::test(start_paused = true)]
    async fn equal_questions_at_once_are_answered_once_even_when_the_first_goes_away() {
        let bench = Bench::new(10, memory);
        let slow = || async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            Ok(bench.answer(true))
        };
        let gone = tokio::time::timeout(Duration::from_millis(500), bench.ask("a", slow()));
        let (gone, one, two, other) =
            tokio::join!(gone, bench.ask("a", slow()), bench.ask("a", slow()), bench.ask("b", slow()));
        assert!(gone.is_err());
        assert_eq!((one.unwrap(), other.unwrap()), (two.unwrap(), "made 0".to_owned()));
        assert_eq!(bench.made.load(Ordering::Relaxed), 2);
        assert!(bench.service.cache().unwrap().under_way.lock().is_empty());
        assert_eq!(bench.counts(), [0, 3, 1]);
    }

    #[tokio::test(start_paused = true)]
    async fn who_goes_away_alone_leaves_nothing_behind() {
        let bench = Bench::new(10, memory);
        let slow = async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            Ok(bench.answer(true))
        };
        assert!(tokio::time::timeout(Duration::from_millis(500), bench.ask("a", slow)).await.is_err());
        assert!(bench.service.cache().unwrap().under_way.lock().is_empty());
    }

    fn event(id: usize, partition_of: u32, kind: &str, data: &serde_json::Value) -> (u32, store::Stored) {
        let json = serde_json::json!({"specversion": "1.0", "id": id.to_string(), "source": "/t",
            "type": format!("recommend.{kind}.v1"), "data": data});
        let draft: kernel::EventDraft = serde_json::from_value(json).unwrap();
        let scope = Scope::system(TenantId::new("shop").unwrap(), "test");
        let event = draft.seal(&scope, Timestamp::UNIX_EPOCH).unwrap();
        (partition_of, store::Stored { offset: 0, event })
    }

    /// The keys of a personal and a common question once a replica has folded these events of each partition, so many of
    /// each by turns, and was restored from its checkpoint where it shall be.
    fn keys(events: &[(u32, store::Stored)], order: &[u32], ends: [usize; 2], restored: bool) -> [String; 2] {
        use stream::Fold;
        let bench = Bench::new(10, memory);
        let views = &bench.service.views;
        let of =
            |partition: u32| events.iter().filter(move |(of, _)| *of == partition).map(|(_, stored)| stored);
        let mut next = [0, 0];
        for &partition in order.iter().chain(&[0; 40]).chain(&[1; 40]) {
            let at = &mut next[partition as usize];
            if *at < ends[partition as usize]
                && let Some(stored) = of(partition).nth(*at)
            {
                let stored = store::Stored { offset: *at as u64, event: stored.event.clone() };
                assert_eq!(views.apply(partition, &[stored]), []);
                *at += 1;
            }
        }
        if restored {
            views.decode(&views.encode()).unwrap();
        }
        [Algorithm::Hybrid, Algorithm::Popular].map(|algorithm| {
            let place = bench.service.place(&bench.scope, About::User("ada"), algorithm, String::new);
            place.unwrap().key
        })
    }

    proptest::proptest! {
        #![proptest_config(proptest::prelude::ProptestConfig::with_cases(64))]

        /// Replicas that folded the same have one place, however they came there; any that did not has another. The
        /// counters of the first and the second differ in neither of the last two checks.
        #[test]
        fn a_place_is_that_of_what_was_folded(order in proptest::collection::vec(0..2_u32, 0..30), cut in 1..5_usize) {
            use serde_json::json;
            let interaction = |id, user: &str| {
                let data = json!({"user_id": user, "entity_id": format!("e-{}", id % 3), "interaction_type": "view"});
                event(id, (id % 2) as u32, "interaction.recorded", &data)
            };
            let entity = |id: usize| {
                let data = json!({"entity_id": format!("e-{}", id % 3), "attributes": {"number": id}});
                event(id, (id % 2) as u32, "entity.put", &data)
            };
            let mut events: Vec<_> = (0..10).map(|id| interaction(id, "bob")).collect();
            // Each entity is described from one partition only, else the order of its descriptions counts.
            events.extend([entity(10), entity(11)]);
            events.extend((20..30).map(|id| interaction(id, "bob")));
            let all = keys(&events, &[], [99, 99], false);
            proptest::prop_assert_eq!(&keys(&events, &order, [99, 99], false), &all);
            proptest::prop_assert_eq!(&keys(&events, &order, [99, 99], true), &all);
            // As many interactions and changes of the catalogue, but not the same ones.
            let one = keys(&events, &order, [11, 11 - cut], false);
            let other = keys(&events, &order, [11 - cut, 11], true);
            proptest::prop_assert_ne!(&one[0], &other[0]);
            proptest::prop_assert_ne!(&one[1], &other[1]);
        }
    }
}
