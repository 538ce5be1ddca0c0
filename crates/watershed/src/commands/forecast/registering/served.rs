//! Registering with a running server, by the calls of MLflow's clients.

use kernel::{Error, Result, codes};
use models::tracking::DEFAULT_EXPERIMENT;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Data, FOLDER, Made, Registration};
use crate::app::Ambient;
use crate::commands::remote::Remote;

/// A run that was made, as MLflow's clients are answered.
#[derive(Debug, Deserialize)]
struct Run {
    run: RunOf,
}

#[derive(Debug, Deserialize)]
struct RunOf {
    info: RunInfo,
}

#[derive(Debug, Deserialize)]
struct RunInfo {
    run_id: String,
}

/// A version that was made.
#[derive(Debug, Deserialize)]
struct Version {
    model_version: VersionOf,
}

#[derive(Debug, Deserialize)]
struct VersionOf {
    version: String,
}

/// Passes where the server would make a model for the caller: asked for one without a name it refuses just that, and makes none.
/// Others refuse in the same way what they do not know, and have no list of models.
pub(super) async fn see(server: &Remote) -> Result<()> {
    let asked: Result<Value> = server.mlflow(&["registered-models", "create"], &json!({"name": ""})).await;
    match asked {
        Err(error) if error.code() == codes::VALIDATION_ERROR => {
            server.get::<Value>(&["models"], &[("limit", "1")]).await.map(drop)
        }
        Err(error) => Err(error),
        Ok(_) => {
            Err(Error::new(codes::UNAVAILABLE, "the server made a model without a name; is it Watershed?"))
        }
    }
}

async fn find_or_make(server: &Remote, name: &str) -> Result<()> {
    let made: Result<Value> = server.mlflow(&["registered-models", "create"], &json!({"name": name})).await;
    let Err(error) = made else { return Ok(()) };
    // It is there already, or it may not be made.
    match server.get::<Value>(&["models", name], &[]).await {
        Ok(_) if error.code() == codes::CONFLICT => Ok(()),
        _ => Err(error),
    }
}

pub(super) async fn register(server: &Remote, name: &str, made: Registration<'_>) -> Result<Made> {
    find_or_make(server, name).await?;
    let now_ms = || Ambient::of_system().clock.now().as_millisecond();
    let started_ms = now_ms();
    let pair = |(key, value): (&str, &str)| json!({"key": key, "value": value});
    let new = json!({"experiment_id": DEFAULT_EXPERIMENT, "start_time": started_ms,
        "tags": super::tags(&made).map(pair)});
    let run: Run = server.mlflow(&["runs", "create"], &new).await?;
    let run_id = run.run.info.run_id;
    let params: Vec<Value> = made.params.iter().map(|(key, value)| pair((key, value))).collect();
    let metric =
        |(key, value): &(&str, f64)| json!({"key": key, "value": value, "timestamp": started_ms, "step": 0});
    let metrics: Vec<Value> = made.metrics.iter().map(metric).collect();
    let batch = json!({"run_id": run_id, "params": params, "metrics": metrics});
    tell(server, "log-batch", &batch).await?;
    let Data { name: table, digest, source } = Data::of(&made);
    let inputs = json!({"run_id": run_id, "datasets": [{"tags": [pair(Data::CONTEXT)], "dataset":
        {"name": table, "digest": digest, "source_type": Data::SOURCE_TYPE, "source": source}}]});
    tell(server, "log-inputs", &inputs).await?;
    for (file, text) in made.files {
        let path = [DEFAULT_EXPERIMENT, &run_id, "artifacts", FOLDER, file];
        server.upload(&path, text.into_bytes()).await?;
    }
    let new = json!({"name": name, "source": format!("runs:/{run_id}/{FOLDER}"), "run_id": run_id});
    let made: Version = server.mlflow(&["model-versions", "create"], &new).await?;
    let ended = json!({"run_id": run_id, "status": "FINISHED", "end_time": now_ms()});
    tell(server, "update", &ended).await?;
    Ok(Made { version: made.model_version.version, run_id })
}

/// Something of a run, which is answered without anything to read.
async fn tell(server: &Remote, call: &str, body: &Value) -> Result<()> {
    server.mlflow::<Value>(&["runs", call], body).await.map(drop)
}
