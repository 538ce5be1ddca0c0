"""One data scientist's round with the `mlflow` client, timed: log, register, alias, search, download, compare.

Run by the interpreter that has `mlflow`, with the server in the environment: `mlflow_round.py ROUNDS BATCHES MEGABYTES`.
Prints JSON: the seconds of each step of each round, and what went wrong.
"""

import hashlib
import json
import os
import pathlib
import sys
import tempfile
import time
import uuid

from mlflow import MlflowClient
from mlflow.artifacts import download_artifacts
from mlflow.entities import Metric, Param

STEPS = ("log", "upload", "register", "search", "download")


def one_round(batches, weights, faults):
    client, seconds, last = MlflowClient(), {}, time.perf_counter()

    def took(step):
        nonlocal last
        now = time.perf_counter()
        seconds[step], last = now - last, now

    experiment = client.create_experiment(uuid.uuid4().hex)
    run = client.create_run(experiment).info.run_id
    client.log_batch(run, params=[Param(f"p{number}", str(number)) for number in range(100)])
    for batch in range(batches):
        steps = range(batch * 1_000, (batch + 1) * 1_000)
        client.log_batch(run, [Metric(f"m{step % 10}", step / 7, 1_700_000_000_000 + step, step) for step in steps])
    client.set_terminated(run)
    took("log")
    client.log_artifact(run, str(weights), "model")
    took("upload")
    name = f"model-{uuid.uuid4().hex}"
    client.create_registered_model(name)
    version = client.create_model_version(name, f"{client.get_run(run).info.artifact_uri}/model", run).version
    client.set_registered_model_alias(name, "champion", version)
    took("register")
    [found] = client.search_runs([experiment], "metrics.m3 > 0 AND params.p7 = '7'", order_by=["metrics.m3 DESC"])
    history = client.get_metric_history(run, "m3")
    if found.info.run_id != run or len(history) != batches * 100:
        faults.append(f"{len(history)} points of {batches * 100} came back")
    took("search")
    with tempfile.TemporaryDirectory() as folder:
        source = f"models:/{name}@champion"
        copy = pathlib.Path(download_artifacts(source, dst_path=folder)) / weights.name
        took("download")
        if hashlib.sha256(copy.read_bytes()).digest() != hashlib.sha256(weights.read_bytes()).digest():
            faults.append("the bytes that came back are others")
    return seconds


def main():
    rounds, batches, megabytes = (int(argument) for argument in sys.argv[1:])
    faults = []
    with tempfile.TemporaryDirectory() as folder:
        weights = pathlib.Path(folder) / "weights.safetensors"
        weights.write_bytes(os.urandom(megabytes << 20))
        told = [one_round(batches, weights, faults) for _ in range(rounds)]
    print(json.dumps({"rounds": told, "faults": faults}))


if __name__ == "__main__":
    main()
