//! Searches whose best are put in another order by a model that reads query and text together.

use super::*;
use crate::encoder::Reranker;
use crate::reranking::NO_RERANKER;

/// Likes long texts, and what has the words of the query least.
#[derive(Debug)]
struct Contrary(ModelIdentity);

impl Reranker for Contrary {
    fn identity(&self) -> &ModelIdentity {
        &self.0
    }

    fn score(&self, query: &str, texts: &[&str]) -> Result<Vec<f32>> {
        let score = |text: &&str| {
            let shared = text.split(' ').filter(|word| query.split(' ').any(|asked| asked == *word)).count();
            text.split(' ').count() as f32 - 10.0 * shared as f32
        };
        Ok(texts.iter().map(score).collect())
    }
}

fn open(world: &World) -> Arc<Search> {
    let identity =
        ModelIdentity { name: "contrary".into(), version: "c1".into(), dimensions: 1, tokens_max: 8 };
    let parts = SearchParts { reranker: Some(Arc::new(Contrary(identity))), ..world.parts(None) };
    let search = Search::new(parts, SearchSettings::default(), &mut Registry::default()).unwrap();
    search.start(true, true);
    Arc::new(search)
}

fn reranked(query: &str, limit: usize, rerank: usize) -> Question {
    Question { limit, rerank: Some(rerank), explains: true, ..question(query, false) }
}

#[tokio::test]
async fn the_best_are_put_in_the_order_of_the_model() {
    let world = World::new();
    let search = open(&world);
    let texts = ["red car", "red car fast", "car of many other words that say nothing", "boat"];
    let put = |(id, text): (usize, &&str)| put(&id.to_string(), text);
    search.change(&desk(), texts.iter().enumerate().map(put).collect()).await.unwrap();
    let plain = search.search(&desk(), question("red car", false)).await.unwrap();
    assert_eq!((ids(&plain), &plain.reranker), (vec!["0", "1", "2"], &None));

    let answer = search.search(&desk(), reranked("red car", 3, 3)).await.unwrap();
    assert_eq!(ids(&answer), ["2", "1", "0"]);
    assert_eq!(answer.reranker.as_ref().unwrap().version, "c1");
    let scores: Vec<f64> = answer.results.iter().map(|result| result.score).collect();
    assert_eq!(scores, [-2.0, -17.0, -18.0]);
    for result in &answer.results {
        let why = result.explanation.as_ref().unwrap();
        assert_eq!(why.rerank.map(f64::from), Some(result.score));
        assert_eq!(why.bm25.map(f64::from), why.lexical, "how it was found is told too");
    }
    // Of more candidates than are shown, the best of the model are.
    let answer = search.search(&desk(), reranked("red car", 1, 3)).await.unwrap();
    assert_eq!((ids(&answer), answer.total), (vec!["2"], 3));
    // What is no candidate is not looked at.
    let answer = search.search(&desk(), reranked("red car", 2, 2)).await.unwrap();
    assert_eq!(ids(&answer), ["1", "0"]);
    let other = scope("other", Permission::Read);
    let answer = search.search(&other, reranked("red car", 1, 3)).await.unwrap();
    assert!(answer.results.is_empty(), "of another tenant nothing is read");
    let filter = Filter { tags: vec!["tag-1".to_owned()], ..Filter::default() };
    let answer = search.search(&desk(), Question { filter, ..reranked("red car", 3, 3) }).await.unwrap();
    assert_eq!(ids(&answer), ["1"]);
}

#[tokio::test]
async fn candidates_are_bounded_and_a_model_is_needed() {
    let world = World::new();
    let search = open(&world);
    for (limit, rerank) in [(10, 9), (1, 0), (10, 101)] {
        let error = search.search(&desk(), reranked("x", limit, rerank)).await.unwrap_err();
        assert_eq!((error.code(), error.field()), (codes::VALIDATION_ERROR, Some("rerank")), "{rerank}");
    }
    search.stop().await;
    drop(search);
    let plain = world.open(None);
    let error = plain.search(&desk(), reranked("x", 10, 10)).await.unwrap_err();
    assert_eq!((error.code(), error.field()), (NO_RERANKER, Some("rerank")));
    assert!(error.message().contains("search.rerank_model_path"), "{error}");
}

#[tokio::test]
async fn the_answer_names_the_model_over_http() {
    let world = World::new();
    let search = open(&world);
    search.change(&desk(), vec![put("1", "car"), put("2", "car of many words")]).await.unwrap();
    let ask = async |body: Value| ask(&search, desk(), "POST", "/api/v1/search", Some(body)).await;
    let (status, answer) = ask(json!({"query": "car", "limit": 2, "rerank": 50, "explain": true})).await;
    assert_eq!(status, StatusCode::OK, "{answer}");
    assert_eq!(answer["results"][0]["entity_id"], "2");
    assert_eq!(answer["results"][0]["explanation"]["rerank"], answer["results"][0]["score"]);
    assert_eq!(answer["rerank_model_version"], "c1");
    let (_, plain) = ask(json!({"query": "car", "explain": true})).await;
    assert_eq!(plain.get("rerank_model_version"), None);
    assert_eq!(plain["results"][0]["explanation"].get("rerank"), None);
    let (status, problem) = ask(json!({"query": "car", "limit": 20, "rerank": 10})).await;
    assert_eq!((status, &problem["field"]), (StatusCode::BAD_REQUEST, &json!("rerank")), "{problem}");
}
