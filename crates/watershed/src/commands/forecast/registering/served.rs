//! Registering with a running server, by the calls of MLflow's clients.

use kernel::{Error, Result, codes};
use models::tracking::DEFAULT_EXPERIMENT;
use serde_json::{Value, json};

use super::{Data, FOLDER, Made, Registration};
use crate::app::Ambient;
use crate::commands::remote::Remote;

pub(super) async fn find_or_make(server: &Remote, name: &str) -> Result<()> {
    let made = server.mlflow(&["registered-models", "create"], &json!({"name": name})).await;
    let Err(error) = made else { return Ok(()) };
    // It is there already, or it may not be made.
    match server.get::<Value>(&["models", name], &[]).await {
        Ok(_) if error.code() == codes::CONFLICT => Ok(()),
        _ => Err(error),
    }
}

pub(super) async fn register(server: &Remote, name: &str, made: Registration<'_>) -> Result<Made> {
    let now_ms = || Ambient::of_system().clock.now().as_millisecond();
    let started_ms = now_ms();
    let pair = |(key, value): (&str, &str)| json!({"key": key, "value": value});
    let new = json!({"experiment_id": DEFAULT_EXPERIMENT, "start_time": started_ms,
        "tags": super::tags(&made).map(pair)});
    let run = server.mlflow(&["runs", "create"], &new).await?;
    let run_id = run["run"]["info"]["run_id"].as_str().ok_or_else(unexpected)?;
    let params: Vec<Value> = made.params.iter().map(|(key, value)| pair((key, value))).collect();
    let metric =
        |(key, value): &(&str, f64)| json!({"key": key, "value": value, "timestamp": started_ms, "step": 0});
    let metrics: Vec<Value> = made.metrics.iter().map(metric).collect();
    let batch = json!({"run_id": run_id, "params": params, "metrics": metrics});
    server.mlflow(&["runs", "log-batch"], &batch).await?;
    let Data { name: table, digest, source } = Data::of(&made);
    let inputs = json!({"run_id": run_id, "datasets": [{"tags": [pair(Data::CONTEXT)], "dataset":
        {"name": table, "digest": digest, "source_type": Data::SOURCE_TYPE, "source": source}}]});
    server.mlflow(&["runs", "log-inputs"], &inputs).await?;
    for (file, text) in made.files {
        let path = [DEFAULT_EXPERIMENT, run_id, "artifacts", FOLDER, file];
        server.upload(&path, text.into_bytes()).await?;
    }
    let new = json!({"name": name, "source": format!("runs:/{run_id}/{FOLDER}"), "run_id": run_id});
    let made = server.mlflow(&["model-versions", "create"], &new).await?;
    let version = made["model_version"]["version"].as_str().and_then(|version| version.parse().ok());
    let version = version.ok_or_else(unexpected)?;
    let ended = json!({"run_id": run_id, "status": "FINISHED", "end_time": now_ms()});
    server.mlflow(&["runs", "update"], &ended).await?;
    Ok(Made { version, run_id: run_id.to_owned() })
}

fn unexpected() -> Error {
    Error::new(codes::UNAVAILABLE, "the server does not answer as Watershed does; name another one")
}
