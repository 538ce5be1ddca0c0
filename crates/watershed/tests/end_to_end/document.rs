//! The OpenAPI document: complete, and its examples true. What it says of schemas is held by `scripts/schemathesis`.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::models::registered;
use crate::serving::{fixture, promote};
use crate::support::{Home, KEY, Server, encode, refused, wait};

/// What every operation can answer besides.
const ALWAYS: [&str; 7] = ["400", "401", "403", "429", "500", "503", "504"];

struct Operation {
    method: String,
    path: String,
    says: Value,
}

fn operations(document: &Value) -> Vec<Operation> {
    let of_path = |(path, item): (&String, &Value)| {
        let of_method = |(method, says): (&String, &Value)| Operation {
            method: method.to_uppercase(),
            path: path.clone(),
            says: says.clone(),
        };
        item.as_object().unwrap().iter().map(of_method).collect::<Vec<_>>()
    };
    document["paths"].as_object().unwrap().iter().flat_map(of_path).collect()
}

impl Operation {
    fn parameters(&self, place: &str) -> Vec<&Value> {
        let all = self.says["parameters"].as_array().into_iter().flatten();
        all.filter(|parameter| parameter["in"] == place).collect()
    }

    /// The address with its examples; none where a part is known only while the server runs.
    fn address(&self) -> Option<String> {
        let mut address = self.path.clone();
        for parameter in self.parameters("path") {
            let name = format!("{{{}}}", parameter["name"].as_str().unwrap());
            address = address.replace(&name, parameter["example"].as_str()?);
        }
        let query = self.parameters("query").into_iter().filter_map(|parameter| {
            let example = parameter.get("example")?;
            let text = example.as_str().map_or_else(|| example.to_string(), str::to_owned);
            Some(format!("{}={}", parameter["name"].as_str().unwrap(), encode(&text)))
        });
        Some(format!("{address}?{}", query.collect::<Vec<_>>().join("&")))
    }

    /// Content types with an example each.
    fn bodies(&self, document: &Value) -> Vec<(String, Value)> {
        let of_kind = |(kind, content): (&String, &Value)| {
            let named = content["schema"]["$ref"].as_str().and_then(|name| document.pointer(&name[1..]));
            let example = content.get("example").or_else(|| named?.get("example"));
            let id = &self.says["operationId"];
            (kind.clone(), example.unwrap_or_else(|| panic!("{id}: no example as {kind}")).clone())
        };
        self.says["requestBody"]["content"].as_object().into_iter().flatten().map(of_kind).collect()
    }
}

#[test]
fn an_address_that_is_not_text_is_refused_everywhere() {
    let server = Server::new();
    let headers = [("x-api-key", KEY), ("content-type", "application/json")];
    let mut asked = 0;
    for operation in operations(&server.read("/api/docs")) {
        let Operation { method, path, .. } = &operation;
        let ask = |address: &str, field: &str| {
            let reply = server.send(method, address, &headers, (method != "GET").then_some(b"{}"));
            assert_eq!(reply.header("content-type"), "application/problem+json", "{method} {address}");
            refused(&(reply.status, reply.json()), 400, "VALIDATION_ERROR", Some(field));
        };
        for parameter in operation.parameters("path") {
            let name = parameter["name"].as_str().unwrap();
            ask(&path.replace(&format!("{{{name}}}"), "a%ff"), name);
            asked += 1;
        }
        if let (Some(parameter), true) =
            (operation.parameters("query").first(), operation.address().is_some())
        {
            let name = parameter["name"].as_str().unwrap();
            let address = operation.address().unwrap();
            let address = address.split('?').next().unwrap();
            ask(&format!("{address}?{name}=a%ff"), name);
            asked += 1;
        }
    }
    assert!(asked > 40, "the document has {asked} places for text only");
}

#[test]
fn every_operation_says_what_it_is_and_what_can_go_wrong() {
    let document = Server::new().read("/api/docs");
    let mut ids = BTreeSet::new();
    for operation in operations(&document) {
        let Operation { method, path, says } = &operation;
        let id = says["operationId"].as_str().unwrap_or_default();
        assert!(id.contains('_') && ids.insert(id.to_owned()), "{method} {path}: the operation id `{id}`");
        assert!(says["summary"].as_str().is_some_and(|text| text.ends_with('.')), "{id}: no summary");
        assert!(says["tags"].as_array().is_some_and(|tags| tags.len() == 1), "{id}: no tag");
        let responses = says["responses"].as_object().unwrap();
        assert!(ALWAYS.iter().all(|status| responses.contains_key(*status)), "{id}: an error is missing");
        for (status, response) in responses.iter().filter(|(status, _)| status.as_str() >= "300") {
            let shared = response["$ref"].as_str().and_then(|name| document.pointer(&name[1..]));
            let content = shared.unwrap_or(response)["content"].as_object();
            let kinds: Vec<_> = content.into_iter().flatten().map(|(kind, _)| kind.as_str()).collect();
            assert_eq!(kinds, ["application/problem+json"], "{id} {status}");
        }
        for parameter in operation.parameters("path").into_iter().chain(operation.parameters("query")) {
            let description = parameter["description"].as_str().unwrap_or_default();
            assert!(!description.is_empty(), "{id}: {} is not described", parameter["name"]);
        }
    }
}

#[test]
fn every_example_is_accepted() {
    let encoder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/encoder");
    let home = Home::new().environment("ML_EMBEDDING_MODEL_PATH", encoder);
    home.append_settings("[[market.projections]]\nname = \"notional\"\nfrom = \"price\"\nfields = { price = \"event.price\" }\n");
    let server = home.serve();
    registered(&server, "churn", &[&[("model.onnx", &fixture("linear.onnx"))]]);
    promote(&server, "churn", 1);
    let people =
        json!({"entity_type": "user", "features": {"age": "number", "town": "text"}, "ttl_secs": 86_400});
    assert_eq!(server.put("/api/v1/feature-sets/people", &people).0, 200);
    if cfg!(feature = "search") {
        let note = json!({"entity_type": "note", "entity_id": "2024-03-01", "text": "The curve steepened."});
        server.post("/api/v1/search/index", &note);
        assert!(wait(|| server.read("/api/v1/embed/jobs")[0]["status"] == "serving"));
        assert!(wait(|| server.read("/api/v1/search/index/stats")["vectors"] == 1));
    }
    let document = server.read("/api/docs");
    let mut operations = operations(&document);
    // What is made first can be changed, read and deleted after.
    let order = ["POST", "PUT", "PATCH", "GET", "DELETE"];
    operations.sort_by_key(|operation| order.iter().position(|method| *method == operation.method));
    for operation in &operations {
        let bodies = operation.bodies(&document);
        let Some(address) = operation.address() else { continue };
        let needs_onnx = ["/api/v1/predict", "/api/v1/batch"].iter().any(|path| address.starts_with(path));
        if needs_onnx && cfg!(not(feature = "onnx")) {
            continue;
        }
        let send = |headers: &[(&str, &str)], body: Option<&str>| {
            let ask = || server.send(&operation.method, &address, headers, body.map(str::as_bytes));
            let mut reply = ask();
            // A tick is an answer a little later.
            if operation.method == "GET" && address.starts_with("/api/v1/market/") && reply.status == 404 {
                wait(|| {
                    reply = ask();
                    reply.status != 404
                });
            }
            assert!(
                (200..300).contains(&reply.status) && reply.status != 207,
                "{} {address}: {}",
                operation.method,
                reply.text()
            );
            assert!(!reply.text().contains(r#""status":"failed""#), "{address}: {}", reply.text());
        };
        if bodies.is_empty() {
            send(&[("x-api-key", KEY)], None);
        }
        for (kind, example) in &bodies {
            let text = example.as_str().map_or_else(|| example.to_string(), str::to_owned);
            send(&[("x-api-key", KEY), ("content-type", kind)], Some(&text));
        }
    }
}
