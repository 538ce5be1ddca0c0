//! Recommendations of a trained model: every question, every algorithm, and what an explanation adds up to.

use serde_json::{Value, json};

use crate::support::{Home, Server, encode, ids, refused};

/// A server over the generated shop.
pub(crate) fn shop() -> Server {
    Home::with_shop().serve()
}

/// The user with the longest history.
pub(crate) fn busiest(server: &Server) -> String {
    let users = server.read("/api/v1/export/users");
    let user =
        users.as_array().unwrap().iter().max_by_key(|user| user["interactions"].as_u64().unwrap()).unwrap();
    user["user_id"].as_str().unwrap().to_owned()
}

/// The entities that a user interacted with, the latest first, each once.
pub(crate) fn chosen(server: &Server, user: &str) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    for line in server.read(&format!("/api/v1/interactions/user/{user}?limit=1000")).as_array().unwrap() {
        let id = line["entity_id"].as_str().unwrap();
        if found.iter().all(|earlier| earlier != id) {
            found.push(id.to_owned());
        }
    }
    found
}

/// Fails unless the lines are in order, distinct, and each says why.
#[track_caller]
fn well_formed(answer: &Value) {
    let lines = answer["recommendations"].as_array().unwrap();
    assert_eq!(answer["count"].as_u64(), Some(lines.len() as u64));
    let scores: Vec<f64> = lines.iter().map(|line| line["score"].as_f64().unwrap()).collect();
    assert!(scores.is_sorted_by(|one, two| one >= two), "{answer}");
    assert!(lines.iter().all(|line| !line["reason"].as_str().unwrap().is_empty()));
    let mut distinct = ids(answer);
    distinct.sort();
    distinct.dedup();
    assert_eq!(distinct.len(), lines.len(), "{answer}");
    assert!(answer["answer_id"].is_string() && answer["generated_at"].is_string());
}

#[test]
fn every_algorithm_answers_for_itself() {
    let server = shop();
    let user = busiest(&server);
    let seen = chosen(&server, &user);
    let algorithms =
        ["hybrid", "collaborative", "content_based", "sequence", "trending", "popular", "latest"];
    let mut lists = Vec::new();
    for algorithm in algorithms {
        let answer =
            server.read(&format!("/api/v1/recommendations/user/{user}?count=5&algorithm={algorithm}"));
        well_formed(&answer);
        // Few things trend in the shop: what is popular fills the page.
        let fallback =
            answer["fallback"].as_str().filter(|name| (algorithm, *name) != ("trending", "popular"));
        assert_eq!((answer["algorithm"].as_str(), fallback), (Some(algorithm), None), "{answer}");
        assert_eq!(
            (&answer["user_id"], &answer["cold_start"], &answer["complete"]),
            (&json!(user), &json!(false), &json!(true))
        );
        let is_personal = !["trending", "popular", "latest"].contains(&algorithm);
        assert_eq!(answer["model_version"].as_u64(), is_personal.then_some(1), "{algorithm}");
        assert!(ids(&answer).iter().all(|id| !seen.contains(id)), "{algorithm} repeats what was seen");
        assert_eq!(answer["count"], 5, "{answer}");
        lists.push(ids(&answer));
    }
    assert_ne!(lists[1], lists[2], "content and collaboration agree on everything");
    assert_eq!(ids(&server.read(&format!("/api/v1/recommendations/user/{user}?count=5"))), lists[0]);
    let answer = server.get(&format!("/api/v1/recommendations/user/{user}?algorithm=magic"));
    refused(&answer, 400, "VALIDATION_ERROR", Some("algorithm"));
}

#[test]
fn every_question_has_an_answer() {
    let server = shop();
    let user = busiest(&server);
    let entity = chosen(&server, &user)[0].clone();

    let alike = server.read(&format!("/api/v1/recommendations/entity/{entity}"));
    well_formed(&alike);
    assert_eq!((&alike["count"], alike.get("user_id"), alike.get("fallback")), (&json!(10), None, None));
    assert!(!ids(&alike).contains(&entity));

    let entities = server.read("/api/v1/export/entities");
    let together: Vec<Value> = entities
        .as_array()
        .unwrap()
        .iter()
        .map(|entity| {
            let id = entity["entity_id"].as_str().unwrap();
            let answer = server.read(&format!("/api/v1/recommendations/bought-together/{id}"));
            well_formed(&answer);
            assert_eq!(answer["algorithm"], "bought_together");
            assert!(ids(&answer).iter().all(|other| other != id));
            answer
        })
        .collect();
    let found = together
        .iter()
        .find(|answer| answer["count"].as_u64() > Some(0))
        .expect("something is bought together");
    assert!(found["recommendations"][0]["reason"].as_str().unwrap().starts_with("chosen together with `"));

    let users = server.read(&format!("/api/v1/recommendations/similar-users/{user}?count=5"));
    let list = users["users"].as_array().unwrap();
    assert_eq!((list.len(), &users["user_id"], &users["model_version"]), (5, &json!(user), &json!(1)));
    let scores: Vec<f64> = list.iter().map(|user| user["score"].as_f64().unwrap()).collect();
    assert!(scores.is_sorted_by(|one, two| one >= two) && scores[0] <= 1.0001, "{scores:?}");
    assert!(list.iter().all(|other| other["user_id"] != json!(user)));
    for count in ["0", "101", "ten"] {
        let answer = server.get(&format!("/api/v1/recommendations/similar-users/{user}?count={count}"));
        refused(&answer, 400, "VALIDATION_ERROR", Some("count"));
    }

    let kind = "product";
    let session = json!({
        "interactions": [{"entity_id": entity, "entity_type": kind, "interaction_type": "purchase"},
                         {"entity_id": "unheard-of", "entity_type": kind}],
        "options": {"count": 3, "explain": "true", "exclude_seen": "true"}
    });
    let (status, answer) = server.post("/api/v1/recommendations/session", &session);
    assert_eq!((status, &answer["count"], answer.get("fallback")), (200, &json!(3), None), "{answer}");
    well_formed(&answer);
    assert!(!ids(&answer).contains(&entity));
    let (_, answer) = server.post("/api/v1/recommendations/session", &json!({"interactions": []}));
    assert_eq!((&answer["fallback"], answer["count"].as_u64() > Some(0)), (&json!("trending"), true));
    let bad = json!({"interactions": [{"entity_id": entity}], "options": {"cuont": 3}});
    let (status, problem) = server.post("/api/v1/recommendations/session", &bad);
    assert_eq!((status, problem["code"].as_str()), (400, Some("VALIDATION_ERROR")), "{problem}");
    // What is refused as an interaction is refused in a session.
    let check = |rest: Value, code: &str, field: &str| {
        let mut act = json!({"entity_id": entity, "entity_type": kind});
        act.as_object_mut().unwrap().extend(rest.as_object().unwrap().clone());
        let session = json!({"interactions": [{"entity_id": entity, "entity_type": kind}, act]});
        let answer = server.post("/api/v1/recommendations/session", &session);
        refused(&answer, 400, code, Some(&format!("interactions.1.{field}")));
    };
    check(json!({"interaction_type": "stare"}), "UNKNOWN_INTERACTION_TYPE", "interaction_type");
    check(json!({"timestamp": "9999-01-01T00:00:00Z"}), "VALIDATION_ERROR", "timestamp");
    check(json!({"weight": 1e308}), "VALIDATION_ERROR", "weight");
    check(json!({"interaction_type": {"rating": 1e300}}), "VALIDATION_ERROR", "interaction_type.rating");
    check(json!({"interaction_type": "rating"}), "VALIDATION_ERROR", "interaction_type");
    check(json!({"entity_type": ""}), "VALIDATION_ERROR", "entity_type");
}

#[test]
fn contributions_make_the_score() {
    let server = shop();
    let user = busiest(&server);
    let boost = encode("attributes.price < 20.0 ? 2.0 : 1.0");
    let queries = [
        "algorithm=hybrid".to_owned(),
        "algorithm=collaborative".to_owned(),
        "algorithm=content_based".to_owned(),
        "algorithm=sequence".to_owned(),
        "collaborative_weight=0.7".to_owned(),
        "collaborative_weight=1".to_owned(),
        "collaborative_weight=0.5&content_weight=0.5&diversity=0.4".to_owned(),
        format!("collaborative_weight=0.6&boost={boost}"),
    ];
    for query in queries {
        for subject in [format!("user/{user}"), "entity/item-01".to_owned()] {
            let mut explained = 0;
            let answer =
                server.read(&format!("/api/v1/recommendations/{subject}?count=20&explain=true&{query}"));
            for line in answer["recommendations"].as_array().unwrap() {
                let explanation = &line["explanation"];
                let sources = explanation["sources"].as_array().unwrap();
                if sources.is_empty() {
                    assert_eq!(line["reason"], "the best of what is left", "{subject} {query}: {line}");
                    continue;
                }
                explained += 1;
                let parts = sources.iter().map(|source| source["contribution"].as_f64().unwrap());
                let sum = parts.sum::<f64>() + explanation["boost"].as_f64().unwrap_or(0.0);
                assert!(
                    (sum - line["score"].as_f64().unwrap()).abs() < 1e-3,
                    "{subject} {query}: {sum} in {line}"
                );
            }
            assert!(explained > 5, "{subject} {query} explains {explained} lines");
        }
    }
    let plain = server.read(&format!("/api/v1/recommendations/user/{user}?count=1"));
    assert_eq!(plain["recommendations"][0].get("explanation"), None);
}
