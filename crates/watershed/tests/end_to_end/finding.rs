//! What search finds, recommended; what entities mean, trained; and an encoder out of the registry.

use serde_json::{Value, json};

use crate::models::registered;
use crate::serving::promote;
use crate::support::{Home, SETTINGS, encode, ids, refused};

const ENCODER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/encoder");
/// To the encoder, the first two mean the same.
const TEXTS: [(&str, &str); 4] = [("a", "gas"), ("b", "methane"), ("c", "curve"), ("d", "prices")];

#[test]
fn what_search_finds_is_recommended_and_what_entities_mean_is_trained() {
    let settings = format!("{SETTINGS}\n[search]\nmodel_path = '{ENCODER}'\nitem_embeddings = true\n");
    let server = Home::with_settings(&settings).serve();
    for (id, text) in TEXTS {
        let entity = json!({"entity_id": id, "entity_type": "note", "attributes": {"title": text}});
        server.create("/api/v1/entities", &entity);
    }
    let nobodys = [("e", "curve of nobody")];
    let item = |(id, text): &(&str, &str)| json!({"entity_type": "note", "entity_id": id, "text": text});
    let items: Vec<Value> = TEXTS.iter().chain(&nobodys).map(item).collect();
    let (status, answer) = server.post("/api/v1/search/index/bulk", &json!({"items": items}));
    assert_eq!(status, 200, "{answer}");

    let found = server.read("/api/v1/recommendations/popular?query=curve&explain=true&count=1");
    assert_eq!(ids(&found), ["c"], "{found}");
    let line = &found["recommendations"][0];
    assert_eq!((&line["reason"], &found["fallback"]), (&json!("found for the query"), &json!("search")));
    assert_eq!(line["explanation"]["sources"][0]["source"], "search");
    assert!(found["search"]["found"].as_u64() > found["search"]["entities"].as_u64(), "{found}");
    let other = server.read("/api/v1/recommendations/popular?query=curve&entity_type=film");
    assert_eq!((ids(&other).len(), &other["search"]["found"]), (0, &json!(0)), "{other}");
    let body = json!({"interactions": [], "options": {"query": "curve", "count": 1}});
    let (status, answer) = server.post("/api/v1/recommendations/session", &body);
    assert_eq!((status, ids(&answer)), (200, vec!["c".to_owned()]), "{answer}");
    let empty = server.get("/api/v1/recommendations/popular?query=%20");
    refused(&empty, 400, "VALIDATION_ERROR", Some("query"));

    for at in 0..8 {
        let (id, _) = TEXTS[at % 4];
        let view = json!({"user_id": format!("u{}", at % 3), "entity_id": id, "entity_type": "note",
            "interaction_type": "view"});
        server.create("/api/v1/interactions", &view);
    }
    let home = server.stop();
    home.run(&["train", "--fast"]).succeeded();
    let server = home.serve();
    let alike = server.read("/api/v1/recommendations/entity/a?algorithm=content_based");
    let best = &alike["recommendations"][0];
    assert_eq!((&best["entity_id"], &alike["fallback"]), (&json!("b"), &Value::Null), "{alike}");
    assert_eq!(best["reason"], "similar to `gas`", "no word is shared: {alike}");
    // The version of the recommender says by which version of the encoder.
    let versions = server.read("/api/v1/models/recommender/versions");
    let encoder = server.read("/api/v1/embed/models")[0]["version"].clone();
    assert_eq!(versions["versions"][0]["tags"]["watershed.embedder"], encoder, "{versions}");
}

#[test]
fn openais_clients_name_the_model_and_are_told_of_errors_in_their_form() {
    let server = Home::with_settings(&format!("{SETTINGS}\n[search]\nmodel_path = '{ENCODER}'\n")).serve();
    let name = "sentence-transformers/all-MiniLM-L6-v2";
    let listed = server.read("/v1/models");
    assert_eq!((&listed["object"], &listed["data"][0]["id"]), (&json!("list"), &json!(name)), "{listed}");
    // As the list has it: percent-encoded, with its slash as it is, and in short.
    for asked in [encode(name), name.to_owned(), "all-MiniLM-L6-v2".to_owned()] {
        assert_eq!(server.read(&format!("/v1/models/{asked}")), listed["data"][0], "{asked}");
    }
    let ask = |body: Value| server.post("/v1/embeddings", &body);
    let (_, expected) = ask(json!({"model": name, "input": "gas prices", "user": "u"}));
    let vector = expected["data"][0]["embedding"].as_array().unwrap();
    // The last step of the name, the folder's name, the version.
    for known in ["all-MiniLM-L6-v2", "encoder", expected["model_version"].as_str().unwrap()] {
        let (status, found) = ask(json!({"model": known, "input": "gas prices", "dimensions": vector.len()}));
        assert_eq!(
            (status, &found["data"], &found["model"]),
            (200, &expected["data"], &json!(name)),
            "{known}"
        );
    }
    let is_error = |(found, told): (u16, Value), status: u16, code: &str, param: &str| {
        let error = &told["error"];
        assert_eq!((found, &error["code"], &error["param"]), (status, &json!(code), &json!(param)), "{told}");
        assert_eq!((&error["type"], &error["message"]), (&json!("invalid_request_error"), &told["detail"]));
    };
    for unknown in ["sentence-transformers", "owner/name", "owner%2Fname", "a/b/c%2Fd"] {
        is_error(server.get(&format!("/v1/models/{unknown}")), 404, "model_not_found", "model");
    }
    let check = |body: Value, status: u16, code: &str, param: &str| is_error(ask(body), status, code, param);
    check(json!({"model": "text-embedding-3-small", "input": "x"}), 404, "model_not_found", "model");
    check(json!({"model": name, "input": "x", "dimensions": 1}), 400, "VALIDATION_ERROR", "dimensions");
    check(json!({"model": name, "input": []}), 400, "VALIDATION_ERROR", "input");
    for path in ["/v1/models", "/v1/models/encoder", "/v1/models/owner/name"] {
        let reply = server.send("GET", path, &[], None);
        let code = reply.json()["error"]["code"].clone();
        assert_eq!((reply.status, code), (401, json!("invalid_api_key")), "{path}");
    }
}

#[test]
fn a_model_that_was_trained_for_it_gives_shorter_vectors() {
    let home = Home::new();
    for name in ["tokenizer.json", "model.safetensors"] {
        home.write(&format!("nested/{name}"), std::fs::read(format!("{ENCODER}/{name}")).unwrap());
    }
    home.write("nested/config.json", r#"{"model_type": "model2vec", "matryoshka_dimensions": [2]}"#);
    home.append_settings("\n[search]\nmodel_path = 'nested'\n");
    let server = home.serve();
    let ask = |dimensions: Value| {
        let body = json!({"model": "nested", "input": "gas prices", "dimensions": dimensions});
        let (status, answer) = server.post("/v1/embeddings", &body);
        let vector: Vec<f64> =
            serde_json::from_value(answer["data"][0]["embedding"].clone()).unwrap_or_default();
        (status, vector)
    };
    let (_, whole) = ask(Value::Null);
    let (status, short) = ask(json!(2));
    let norm = whole[0].hypot(whole[1]);
    assert_eq!((status, short.len(), whole.len() > 2), (200, 2, true));
    assert!(
        short.iter().zip(&whole).all(|(short, whole)| (short * norm - whole).abs() < 1e-6),
        "{short:?} of {whole:?}"
    );
    assert_eq!((ask(json!(1)).0, ask(json!(whole.len() + 1)).0), (400, 400));
}

#[test]
fn an_encoder_comes_out_of_the_registry() {
    let searching =
        |model: &str| format!("{SETTINGS}\n[search]\nmodel_name = 'words'\nmodel_path = '{model}'\n");
    let vector = |home: Home| {
        let server = home.serve();
        let model = server.read("/api/v1/embed/models");
        let (status, answer) =
            server.post("/v1/embeddings", &json!({"model": "words", "input": "gas prices"}));
        assert_eq!(status, 200, "{answer}");
        (server, model, answer["data"][0]["embedding"].clone())
    };
    let (server, model, expected) = vector(Home::with_settings(&searching(ENCODER)));
    let names = ["config.json", "tokenizer.json", "model.safetensors"];
    let bytes = names.map(|name| std::fs::read(format!("{ENCODER}/{name}")).unwrap());
    let files: Vec<(&str, &[u8])> = names.into_iter().zip(bytes.iter().map(Vec::as_slice)).collect();
    registered(&server, "words", &[&files[..], &files[..2]]);
    promote(&server, "words", 1);
    let mut home = server.stop();
    for name in ["models:/words/1", "models:/words@champion"] {
        home.write("watershed.toml", searching(name));
        let (server, same, found) = vector(home);
        assert_eq!((&same, &found), (&model, &expected), "{name}");
        home = server.stop();
    }
    let missing = [("words/2", "model.safetensors"), ("words@shadow", "alias"), ("none/1", "register it")];
    for (name, says) in missing {
        home.write("watershed.toml", searching(&format!("models:/{name}")));
        home.run(&["train", "--fast"]).failed_with(says).failed_with("search.model_path");
    }
}
