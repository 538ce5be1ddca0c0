//! `/api/v1/export`.

use serde_json::{Value, json};

use crate::support::{Server, encode, refused};

const KINDS: [&str; 3] = ["entities", "interactions", "users"];

fn filled() -> Server {
    let server = Server::new();
    for (id, kind) in [("e-1", "film"), ("e-2", "film"), ("e-3", "book"), ("gone", "book")] {
        let attributes = json!({"title": "a \"quoted\", title", "tags": ["x", "y"]});
        server.create(
            "/api/v1/entities",
            &json!({"entity_id": id, "entity_type": kind, "attributes": attributes}),
        );
    }
    assert_eq!(server.delete("/api/v1/entities/gone").0, 204);
    for day in 1..=5 {
        let body = json!({
            "user_id": format!("u-{}", day % 2), "entity_id": "e-1", "entity_type": "film", "interaction_type": "view",
            "timestamp": format!("2024-03-0{day}T00:00:00Z"),
        });
        server.create("/api/v1/interactions", &body);
    }
    assert_eq!(server.put("/api/v1/users/described", &json!({"attributes": {"age": 30}})).0, 200);
    server
}

fn rows(server: &Server, query: &str) -> Vec<Value> {
    server.read(&format!("/api/v1/export/{query}")).as_array().unwrap().clone()
}

#[test]
fn everything_put_in_comes_out_in_every_format() {
    let server = filled();
    for (kind, count) in KINDS.into_iter().zip([3, 5, 3]) {
        let all = rows(&server, kind);
        assert_eq!(all.len(), count, "{kind}");

        let lines = server.fetch(&format!("/api/v1/export/{kind}?format=ndjson"));
        assert_eq!(lines.header("content-type"), "application/x-ndjson");
        let parsed: Vec<Value> =
            lines.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(parsed, all);

        let table = server.fetch(&format!("/api/v1/export/{kind}?format=csv"));
        assert_eq!(table.header("content-type"), "text/csv; charset=utf-8");
        assert_eq!(table.header("content-disposition"), format!("attachment; filename=\"{kind}.csv\""));
        assert_eq!(table.text().lines().count(), count + 1, "{kind}");
    }
    let table = server.fetch("/api/v1/export/entities?format=csv");
    let quoted = r#""{""tags"":[""x"",""y""],""title"":""a \""quoted\"", title""}""#;
    assert!(table.text().contains(quoted), "{}", table.text());
}

#[test]
fn csv_has_a_header_even_where_nothing_follows() {
    let headers = [
        "entity_id,entity_type,attributes,hidden,available_from,available_until,tenant_id,created_at,updated_at",
        "id,user_id,entity_id,entity_type,interaction_type,weight,answer_id,metadata,tenant_id,timestamp",
        "user_id,attributes,interactions,tenant_id,created_at",
    ];
    let full = filled();
    let empty = Server::new();
    for (kind, header) in KINDS.into_iter().zip(headers) {
        for server in [&full, &empty] {
            let table = server.fetch(&format!("/api/v1/export/{kind}?format=csv"));
            assert_eq!(table.text().lines().next(), Some(header), "{kind}");
        }
        assert_eq!(rows(&empty, kind), Vec::<Value>::new());
        assert_eq!(empty.fetch(&format!("/api/v1/export/{kind}?format=ndjson")).text(), "");
    }
}

#[test]
fn exports_are_narrowed_by_type_and_time() {
    let server = filled();
    assert_eq!(rows(&server, "entities?entity_type=book").len(), 1);
    assert_eq!(rows(&server, "entities?entity_type=none").len(), 0);
    assert_eq!(rows(&server, "entities?last_modified_after=2000-01-01T00:00:00Z").len(), 3);
    assert_eq!(rows(&server, "entities?last_modified_after=2100-01-01T00:00:00Z").len(), 0);
    // As times: the text of one that ends in zeros is shorter, and sorts elsewhere.
    let time = |row: &Value| row["updated_at"].as_str().unwrap().parse::<kernel::Timestamp>().unwrap();
    let newest = rows(&server, "entities").iter().map(time).max().unwrap().to_string();
    assert_eq!(rows(&server, &format!("entities?last_modified_after={}", encode(&newest))).len(), 0);
    let dates = "start_date=2024-03-02T00:00:00Z&end_date=2024-03-04T00:00:00Z";
    let days = rows(&server, &format!("interactions?{dates}"));
    let days: Vec<_> = days.iter().map(|row| row["timestamp"].as_str().unwrap()).collect();
    assert_eq!(days, ["2024-03-02T00:00:00Z", "2024-03-03T00:00:00Z"]);
    let csv = server.fetch("/api/v1/export/entities?format=csv&entity_type=none");
    assert_eq!(csv.text().lines().count(), 1);

    refused(&server.get("/api/v1/export/entities?format=xml"), 400, "VALIDATION_ERROR", Some("format"));
    refused(
        &server.get("/api/v1/export/interactions?start_date=may"),
        400,
        "VALIDATION_ERROR",
        Some("start_date"),
    );
    let backwards = "start_date=2024-03-04T00:00:00Z&end_date=2024-03-02T00:00:00Z";
    let backwards = server.get(&format!("/api/v1/export/interactions?{backwards}"));
    refused(&backwards, 400, "VALIDATION_ERROR", Some("end_date"));
    refused(&server.get("/api/v1/export/users?tenant_id=else"), 403, "TENANT_MISMATCH", Some("tenant_id"));
}

#[test]
fn an_export_of_many_pieces_is_whole() {
    let server = Server::new();
    let entities: Vec<Value> = (0..1_234).map(|number| json!({"entity_id": format!("e-{number}")})).collect();
    assert_eq!(server.post("/api/v1/entities/bulk", &json!({"entities": entities})).1["successful"], 1_234);
    let interactions: Vec<Value> = (0..3_000)
        .map(|number| json!({"user_id": format!("u-{}", number % 700), "entity_id": "e-1", "interaction_type": "view"}))
        .collect();
    assert_eq!(
        server.post("/api/v1/interactions/bulk", &json!({"interactions": interactions})).1["successful"],
        3_000
    );
    for (kind, id, count) in
        [("entities", "entity_id", 1_234), ("interactions", "id", 3_000), ("users", "user_id", 700)]
    {
        let all = rows(&server, kind);
        let mut ids: Vec<_> = all.iter().map(|row| row[id].as_str().unwrap()).collect();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!((all.len(), ids.len()), (count, count), "{kind}");
        for format in ["ndjson", "csv"] {
            let lines =
                server.fetch(&format!("/api/v1/export/{kind}?format={format}")).text().lines().count();
            assert_eq!(lines, count + usize::from(format == "csv"), "{kind} as {format}");
        }
    }
}
