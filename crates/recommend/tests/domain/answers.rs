//! What an answer says when something is missing, hidden, disliked or changes between two pages.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use kernel::{EventDraft, ManualClock, Scope, TenantId, Timestamp};
use recommend::candidates::CandidateSource;
use recommend::service::{Algorithm, Answer, Cursor, Query, Shown};
use recommend::training::Effort;
use recommend::{Recommend, RecommendParts, RecommendSettings};
use serde_json::{Value, json};
use store::EventLog;
use store::memory::MemoryEventLog;

use crate::parts;

const NOW: &str = "2026-01-10T12:00:00Z";
const OLD: &str = "2020-01-01T00:00:00Z";

pub(crate) struct Shop {
    pub(crate) recommend: Recommend,
    pub(crate) log: Arc<MemoryEventLog>,
    pub(crate) scope: Scope,
    sent: std::cell::Cell<usize>,
}

impl Shop {
    pub(crate) async fn new(settings: RecommendSettings) -> Self {
        Self::searching(settings, None).await
    }

    async fn searching(settings: RecommendSettings, candidates: Option<Arc<dyn CandidateSource>>) -> Self {
        let log = Arc::new(MemoryEventLog::new(1));
        let clock = Arc::new(ManualClock::at(NOW.parse::<Timestamp>().unwrap()));
        let parts = RecommendParts { candidates, ..parts(log.clone(), clock).await };
        let mut metrics = prometheus_client::registry::Registry::default();
        let recommend = Recommend::open(parts, settings, &mut metrics).await.unwrap();
        let scope = Scope::system(TenantId::new("shop").unwrap(), "test");
        Self { recommend, log, scope, sent: std::cell::Cell::new(0) }
    }

    pub(crate) async fn send(&self, kind: &str, time: &str, data: Value) {
        self.sent.set(self.sent.get() + 1);
        let draft = json!({
            "specversion": "1.0", "id": format!("{}", self.sent.get()), "source": "/t", "time": time,
            "type": format!("recommend.{kind}.v1"), "data": data
        });
        let draft: EventDraft = serde_json::from_str(&draft.to_string()).unwrap();
        let event = draft.seal(&self.scope, NOW.parse().unwrap()).unwrap();
        let places = self.log.append(&self.scope, &edge::ingest::EVENTS, vec![event]).await.unwrap();
        self.recommend.projector().reached(&places, Duration::from_secs(5)).await.unwrap();
    }

    async fn entity(&self, kind: &str, id: &str, title: &str) {
        let data = json!({"entity_id": id, "entity_type": kind, "attributes": {"title": title}});
        self.send("entity.put", OLD, data).await;
    }

    async fn act(&self, user: &str, id: &str, what: Value, time: &str) {
        let data = json!({"user_id": user, "entity_id": id, "entity_type": "film", "interaction_type": what});
        self.send("interaction.recorded", time, data).await;
    }

    pub(crate) async fn train(&self) {
        self.recommend.train(&self.scope, |_| ()).await.unwrap();
    }

    pub(crate) fn compiled(&self, text: &str) -> Arc<recommend::service::expression::Expression> {
        self.recommend.service().expressions().compile(text, "filter").unwrap()
    }

    pub(crate) fn user(&self, user: &str, query: &Query) -> Answer {
        self.recommend.service().for_user(&self.scope, user, query, None).unwrap()
    }

    pub(crate) fn list(&self, query: &Query) -> Answer {
        self.recommend.service().list(&self.scope, query, None).unwrap()
    }

    fn alike(&self, id: &str) -> Answer {
        let entity = self.recommend.views().of(&self.scope).read().entities.find("film", id).unwrap();
        self.recommend
            .service()
            .similar_entities(&self.scope, entity, &query(Algorithm::Hybrid), None)
            .unwrap()
    }
}

/// Trains fast.
pub(crate) fn settings(sequence: bool) -> RecommendSettings {
    let mut settings = RecommendSettings::default();
    settings.training.effort = Effort::Light;
    settings.training.algorithms.sequence = sequence;
    settings
}

pub(crate) fn query(algorithm: Algorithm) -> Query {
    Query { count: 5, algorithm, ..Query::default() }
}

pub(crate) fn ids(answer: &Answer) -> Vec<&str> {
    answer.recommendations.iter().map(|line| line.entity_id.as_str()).collect()
}

/// Thirty films that fifteen users chose years ago, in two tastes, and three articles that nobody chose.
async fn old_shop(settings: RecommendSettings) -> Shop {
    filled(Shop::new(settings).await).await
}

/// The same, where a text finds candidates.
pub(crate) async fn searching_shop(settings: RecommendSettings, source: Arc<dyn CandidateSource>) -> Shop {
    filled(Shop::searching(settings, Some(source)).await).await
}

async fn filled(shop: Shop) -> Shop {
    for film in 0..30 {
        let word = ["orchard", "harbour", "desert", "glacier", "meadow"][film % 5];
        shop.entity("film", &format!("film-{film}"), &format!("{word} number{film}")).await;
    }
    for user in 0..15 {
        for step in 0..6 {
            let film = (user * 4 + step * 2 + user % 2) % 30;
            let time = format!("2020-01-01T{step:02}:00:00Z");
            shop.act(&format!("user-{user}"), &format!("film-{film}"), json!("view"), &time).await;
        }
    }
    for article in 0..3 {
        shop.entity("article", &format!("article-{article}"), "words").await;
    }
    shop
}

#[tokio::test]
async fn one_click_does_not_empty_the_answers_of_others() {
    let shop = old_shop(settings(false)).await;
    let check = |answer: &Answer, count: usize, fallback: Option<&str>, reason: &str| {
        assert_eq!((answer.recommendations.len(), answer.fallback), (count, fallback), "{answer:?}");
        assert!(answer.recommendations.last().unwrap().reason.contains(reason), "{answer:?}");
        let scores: Vec<f32> = answer.recommendations.iter().map(|line| line.score).collect();
        assert!(scores.is_sorted_by(|one, two| one >= two), "{scores:?}");
    };
    let plain = query(Algorithm::Collaborative);
    check(&shop.user("new", &plain), 5, Some("popular"), "popular");
    shop.act("ada", "film-7", json!("view"), NOW).await;
    let filled = shop.user("new", &plain);
    check(&filled, 5, Some("trending"), "popular");
    assert_eq!(ids(&filled)[0], "film-7");
    assert!(filled.recommendations[0].reason.contains("last 7 days"), "{filled:?}");
    let others = Query { filter: Some(shop.compiled("id != 'film-7'")), ..plain.clone() };
    check(&shop.user("new", &others), 5, Some("popular"), "popular");
    let articles = |algorithm| Query { entity_type: Some("article".to_owned()), ..query(algorithm) };
    check(&shop.user("new", &articles(Algorithm::Hybrid)), 3, Some("latest"), "new in");
    check(&shop.user("ada", &plain), 5, Some("popular"), "popular");
    for algorithm in [Algorithm::Trending, Algorithm::Popular] {
        check(&shop.list(&articles(algorithm)), 3, Some("latest"), "new in");
    }
    let trending = shop.list(&query(Algorithm::Trending));
    check(&trending, 5, Some("popular"), "popular");
    assert!(trending.recommendations[0].reason.contains("last 7 days"), "{trending:?}");
    let alone = shop.list(&Query { alone: true, ..query(Algorithm::Trending) });
    assert_eq!((ids(&alone), alone.fallback), (vec!["film-7"], None));
    let explained = Query { explain: true, count: 40, ..plain };
    let explained = shop.user("new", &explained);
    let sources: BTreeSet<&str> = explained
        .recommendations
        .iter()
        .map(|line| line.explanation.as_ref().unwrap().sources[0].source)
        .collect();
    assert_eq!(sources.into_iter().collect::<Vec<_>>(), ["latest", "popular", "trending"]);
    for line in &explained.recommendations {
        let sources = &line.explanation.as_ref().unwrap().sources;
        assert!((sources[0].contribution - line.score).abs() < 1e-3, "{line:?}");
    }
}

#[tokio::test]
async fn a_known_user_of_tiny_data_gets_what_is_new() {
    let shop = Shop::new(settings(false)).await;
    shop.entity("film", "e1", "first").await;
    shop.act("u1", "e1", json!("view"), OLD).await;
    shop.train().await;
    assert_eq!(ids(&shop.user("u1", &query(Algorithm::Hybrid))), Vec::<&str>::new());
    shop.entity("film", "e2", "second").await;
    for algorithm in [Algorithm::Hybrid, Algorithm::Collaborative, Algorithm::Sequence] {
        let answer = shop.user("u1", &query(algorithm));
        assert_eq!((ids(&answer), answer.fallback), (vec!["e2"], Some("latest")), "{algorithm:?}");
    }
}

#[tokio::test]
async fn what_is_like_a_cold_entity_is_like_it_and_not_popular() {
    let shop = old_shop(settings(false)).await;
    for user in 0..15 {
        shop.act(&format!("user-{user}"), "film-1", json!("purchase"), OLD).await;
    }
    shop.entity("film", "cold", "glacier").await;
    shop.entity("film", "mute", "").await;
    shop.train().await;
    let cold = shop.alike("cold");
    assert_eq!((cold.recommendations.len(), cold.fallback), (5, None), "{cold:?}");
    let number = |id: &str| id.strip_prefix("film-").and_then(|number| number.parse::<u32>().ok());
    assert!(ids(&cold).into_iter().all(|id| number(id).is_some_and(|number| number % 5 == 3)), "{cold:?}");
    assert!(cold.recommendations.iter().all(|line| line.reason.contains("similar to")), "{cold:?}");
    let mute = shop.alike("mute");
    assert_eq!((mute.recommendations.len(), mute.fallback), (5, Some("popular")), "{mute:?}");
    let warm = shop.alike("film-2");
    assert!(warm.recommendations.iter().all(|line| !line.reason.contains("popular")), "{warm:?}");
}

#[tokio::test]
async fn what_may_not_be_shown_is_not_named() {
    let shop = old_shop(settings(false)).await;
    shop.train().await;
    let asked = |explain| Query { count: 20, explain, ..query(Algorithm::Hybrid) };
    let text =
        |explain| serde_json::to_string(&shop.user("user-0", &asked(explain)).recommendations).unwrap();
    let chosen = [0, 2, 4, 6, 8, 10].map(|film| format!("film-{film}"));
    assert!(chosen.iter().any(|id| text(true).contains(&format!("\"{id}\""))), "{}", text(true));
    let change = |id: &str, field: &str, value: Value| {
        let mut data = json!({"entity_id": id, "entity_type": "film"});
        data[field] = value;
        data
    };
    shop.send("entity.patched", NOW, change("film-0", "hidden", json!(true))).await;
    shop.send("entity.patched", NOW, change("film-2", "available_until", json!(OLD))).await;
    shop.send("entity.patched", NOW, change("film-4", "available_from", json!("2030-01-01T00:00:00Z"))).await;
    shop.send("entity.deleted", NOW, json!({"entity_id": "film-6", "entity_type": "film"})).await;
    for explain in [false, true] {
        let text = text(explain);
        for film in [0, 2, 4, 6] {
            assert!(!text.contains(&format!("\"film-{film}\"")), "{text}");
            assert!(!text.contains(&format!("number{film}`")), "{text}");
        }
        assert!(text.contains("number8`") || text.contains("number10`"), "the next best is named: {text}");
    }
}

#[tokio::test]
async fn a_booster_that_decides_is_the_reason() {
    let shop = old_shop(settings(false)).await;
    shop.train().await;
    let last = shop.user("user-0", &Query { count: 24, ..query(Algorithm::Hybrid) });
    let last = ids(&last)[20].to_owned();
    let boosts = vec![shop.compiled(&format!("id == '{last}' ? 1e6 : 1.0001"))];
    for algorithm in [Algorithm::Hybrid, Algorithm::Popular, Algorithm::Latest] {
        let answer = shop.user("user-0", &Query { boosts: boosts.clone(), ..query(algorithm) });
        let first = &answer.recommendations[0];
        assert_eq!(
            (first.entity_id.as_str(), first.reason.as_str()),
            (last.as_str(), "boosted by the request")
        );
    }
    let hybrid = shop.user("user-0", &Query { boosts, ..query(Algorithm::Hybrid) });
    assert_ne!(hybrid.recommendations[1].reason, "boosted by the request", "a little is not what decides");
}

/// What happens between two pages.
async fn happens(shop: &Shop, page: usize) {
    for film in [28, 29, 3, 0] {
        shop.act(&format!("other-{page}"), &format!("film-{film}"), json!("purchase"), NOW).await;
    }
    shop.entity("film", &format!("new-{page}"), "green steel").await;
    shop.act("ada", &format!("film-{}", page * 7), json!("purchase"), NOW).await;
    shop.act("user-0", &format!("film-{}", page * 5 + 1), json!("purchase"), NOW).await;
    // One that comes late, with an earlier time than all others.
    shop.act("user-0", &format!("film-{}", page * 5 + 2), json!("like"), "2019-01-01T00:00:00Z").await;
    let hidden = json!({"entity_id": format!("film-{}", 20 + page), "entity_type": "film", "hidden": true});
    shop.send("entity.patched", NOW, hidden).await;
}

/// One who pages through a list.
struct Reader {
    asked: Query,
    user: &'static str,
    all: Vec<String>,
    shown: Vec<String>,
    next: Option<Cursor>,
    done: bool,
}

impl Reader {
    fn turn(&mut self, shop: &Shop) {
        let (pin, shown) = self.next.take().map(|next| (next.pin, next.shown)).unzip();
        let shown: Shown = shown.unwrap_or_default();
        let asked = Query { shown, ..self.asked.clone() };
        let answer = shop.recommend.service().for_user(&shop.scope, self.user, &asked, pin).unwrap();
        self.shown.extend(ids(&answer).into_iter().map(str::to_owned));
        self.next = answer.next_cursor.map(|text| Cursor::decode(&text, 0).unwrap());
        self.done = self.next.is_none();
    }
}

#[tokio::test]
async fn no_page_repeats_or_passes_over_whatever_happens_between() {
    let shop = old_shop(settings(true)).await;
    shop.train().await;
    let mut readers = Vec::new();
    for (algorithm, user) in Algorithm::ALL.into_iter().flat_map(|one| [(one, "ada"), (one, "user-0")]) {
        let asked = Query { count: 4, include_seen: true, ..query(algorithm) };
        let all = shop.user(user, &Query { count: 100, ..asked.clone() });
        let all: Vec<String> = ids(&all).into_iter().map(str::to_owned).collect();
        assert_eq!(all.len(), 33, "{algorithm:?} {user}");
        readers.push(Reader { asked, user, all, shown: Vec::new(), next: None, done: false });
    }
    for page in 1..30 {
        readers.iter_mut().filter(|reader| !reader.done).for_each(|reader| reader.turn(&shop));
        if page <= 4 {
            happens(&shop, page).await;
        }
    }
    let hidden = [21, 22, 23, 24].map(|film| format!("film-{film}"));
    for Reader { asked, user, all, shown, done, .. } in readers {
        let name = format!("{:?} {user}", asked.algorithm);
        assert!(done, "{name} has no end");
        let distinct: BTreeSet<&String> = shown.iter().collect();
        assert_eq!(distinct.len(), shown.len(), "{name} repeats: {shown:?}");
        let missing = |id: &&String| !distinct.contains(id) && !hidden.contains(id);
        let missing: Vec<&String> = all.iter().filter(missing).collect();
        assert!(missing.is_empty(), "{name} passes over {missing:?}");
    }
}

#[tokio::test]
async fn a_dislike_takes_a_choice_back() {
    let shop = old_shop(settings(true)).await;
    for film in [0, 2] {
        shop.act("ada", &format!("film-{film}"), json!("like"), NOW).await;
    }
    shop.train().await;
    let asked = Query { count: 30, explain: true, ..query(Algorithm::Hybrid) };
    let text = || serde_json::to_string(&shop.user("ada", &asked).recommendations).unwrap();
    assert!(text().contains("number0`"), "{}", text());
    let popularity = || {
        let list = shop.list(&Query { count: 100, ..query(Algorithm::Popular) });
        list.recommendations
            .iter()
            .find(|line| line.entity_id == "film-0")
            .map(|line| (line.score, line.reason.clone()))
    };
    let (before, reason) = popularity().unwrap();
    shop.act("ada", "film-0", json!("dislike"), NOW).await;
    assert!(!text().contains("number0`") && !text().contains("\"film-0\""), "{}", text());
    assert!(text().contains("number2`"), "{}", text());
    let (after, same) = popularity().unwrap();
    assert!(after < before, "{after} is not below {before}");
    assert_eq!(same, reason, "a dislike is no interaction that makes popular");
    let count = |shop: &Shop| {
        let view = shop.recommend.views().of(&shop.scope);
        recommend::training::TrainingSet::of(&view).unwrap().interactions.len()
    };
    let choices = count(&shop);
    shop.act("ada", "film-2", json!("dislike"), NOW).await;
    assert_eq!(count(&shop), choices - 1);
    shop.act("ada", "film-2", json!("like"), NOW).await;
    assert_eq!(count(&shop), choices, "a later yes counts again");
    for user in 0..40 {
        shop.act(&format!("user-{user}"), "film-0", json!("dislike"), NOW).await;
    }
    assert_eq!(popularity(), None, "more was said against it than for it");
}

#[tokio::test]
async fn a_rating_below_the_least_is_a_dislike() {
    let judge = |least: Option<f32>| async move {
        let shop = Shop::new(RecommendSettings { rating_least: least, ..RecommendSettings::default() }).await;
        for film in ["a", "b"] {
            shop.entity("film", film, film).await;
        }
        shop.act("ada", "a", json!({"rating": 1}), NOW).await;
        shop.act("ada", "b", json!({"rating": 3}), NOW).await;
        let popular = shop.list(&query(Algorithm::Popular));
        let view = shop.recommend.views().of(&shop.scope);
        let choices = recommend::training::TrainingSet::of(&view).unwrap().interactions.len();
        let seen = shop.user("ada", &query(Algorithm::Latest)).recommendations.len();
        (ids(&popular).len(), choices, seen)
    };
    assert_eq!(judge(None).await, (2, 2, 0));
    assert_eq!(judge(Some(3.0)).await, (1, 1, 0));
    let settings = RecommendSettings { rating_least: Some(f32::NAN), ..RecommendSettings::default() };
    assert_eq!(settings.validate().unwrap_err().field(), Some("recommend.rating_least"));
}

#[tokio::test]
async fn who_agrees_to_no_profile_is_shown_to_nobody() {
    let shop = old_shop(settings(false)).await;
    shop.train().await;
    let alike = |user: &str| {
        let found = shop.recommend.service().similar_users(&shop.scope, user, 5).unwrap();
        found.users.into_iter().map(|user| user.user_id).collect::<Vec<_>>()
    };
    let before = alike("user-1");
    assert_eq!(before.len(), 5, "{before:?}");
    for (user, personalisation, training) in [(&before[0], false, true), (&before[1], true, false)] {
        let data = json!({"user_id": user, "personalisation": personalisation, "training": training});
        shop.send("user.consent", NOW, data).await;
    }
    let after = alike("user-1");
    assert_eq!(after.len(), 5, "others stand in: {after:?}");
    assert!(!after.contains(&before[0]) && !after.contains(&before[1]), "{after:?}");
}
