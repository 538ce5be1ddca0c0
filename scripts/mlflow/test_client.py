"""The `mlflow` client, unchanged, against a running server: it logs, registers, promotes, searches, loads, downloads.

The registry is found by `MLFLOW_TRACKING_URI` and `MLFLOW_TRACKING_TOKEN`, what it serves by `WATERSHED_SERVING_URL`. To add what the client can do: a test here.
"""

import copy
import hashlib
import json
import math
import os
import pathlib
import time
import urllib.parse
import urllib.request
import uuid
import zipfile

import mlflow
import numpy
import onnx
import onnxruntime
import pytest
from mlflow import MlflowClient
from mlflow.entities import Metric, Param, RunTag, ViewType
from mlflow.exceptions import MlflowException
from mlflow.models import infer_signature
from onnx import TensorProto, helper


@pytest.fixture
def client():
    return MlflowClient()


@pytest.fixture
def experiment(client):
    """The id of an experiment of its own for each test."""
    return client.create_experiment(f"test {uuid.uuid4().hex}", tags={"team": "search"})


@pytest.fixture
def name():
    return f"model {uuid.uuid4().hex[:8]}"


def doubling():
    """A network that doubles what it gets."""
    shape = ["rows", 2]
    inputs = helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)
    outputs = helper.make_tensor_value_info("y", TensorProto.FLOAT, shape)
    two = helper.make_tensor("two", TensorProto.FLOAT, [1], [2.0])
    graph = helper.make_graph([helper.make_node("Mul", ["x", "two"], ["y"])], "doubling", [inputs], [outputs], [two])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def layers(seed):
    """A network of two layers whose weights are too large for the client to leave them in the model's file."""
    drawn = numpy.random.default_rng(seed)
    inputs = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["rows", 16])
    outputs = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["rows", 3])
    weights = [onnx.numpy_helper.from_array(drawn.normal(size=shape).astype(numpy.float32), name)
               for name, shape in (("first", (16, 64)), ("second", (64, 3)))]
    nodes = [helper.make_node("MatMul", ["x", "first"], ["a"]), helper.make_node("Relu", ["a"], ["b"]),
             helper.make_node("MatMul", ["b", "second"], ["y"])]
    graph = helper.make_graph(nodes, "layers", [inputs], [outputs], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def ask(path, body=None):
    """What the server answers beside MLflow's API."""
    headers = {"authorization": f"Bearer {os.environ['MLFLOW_TRACKING_TOKEN']}", "content-type": "application/json"}
    request = urllib.request.Request(os.environ["WATERSHED_SERVING_URL"] + urllib.parse.quote(path), body and json.dumps(body).encode(), headers)
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.load(answer)


def served(name, rows, version="champion"):
    """What a version answers to rows, and which one it was."""
    given = {"name": "x", "shape": list(rows.shape), "datatype": "FP32", "data": rows.ravel().tolist()}
    told = ask(f"/v2/models/{name}/versions/{version}/infer", {"inputs": [given]})
    [output] = told["outputs"]
    return numpy.array(output["data"], numpy.float32).reshape(output["shape"]), told["model_version"]


def offline(network, rows):
    return onnxruntime.InferenceSession(network.SerializeToString()).run(None, {"x": rows})[0]


def refused(code, act):
    with pytest.raises(Exception) as caught:
        act()
    told = getattr(caught.value, "error_code", None)
    response = getattr(caught.value, "response", None)
    if response is not None:
        told = response.json()["error_code"]
    assert told == code, caught.value
    return str(caught.value)


def version_of(client, name, run_id, folder="model"):
    """A version made of a folder of a run's artifacts."""
    return client.create_model_version(name, f"runs:/{run_id}/{folder}", run_id)


def run_with_weights(client, experiment, weights):
    run = client.create_run(experiment).info.run_id
    client.log_text(run, weights, "model/weights.txt")
    return run


def test_a_run_keeps_what_it_logs(client, experiment, tmp_path):
    mlflow.set_experiment(experiment_id=experiment)
    with mlflow.start_run(run_name="first", tags={"kind": "try"}, description="of the day") as run:
        mlflow.log_params({"rate": 0.1, "layers": 3})
        for step in range(5):
            mlflow.log_metric("loss", 1 / (step + 1), step=step)
        mlflow.log_metrics({"strange": math.nan, "large": math.inf, "small": -math.inf})
        mlflow.log_dict({"a": [1, 2]}, "config/settings.json")
        mlflow.log_text("grüße", "notes/ü b.txt")
        mlflow.log_input(mlflow.data.from_numpy(numpy.arange(6.0), name="numbers"), context="train")
        (tmp_path / "deep" / "er").mkdir(parents=True)
        (tmp_path / "deep/er/random.bin").write_bytes(os.urandom(20 << 20))
        (tmp_path / "empty").touch()
        mlflow.log_artifacts(str(tmp_path), "folder")
    found = client.get_run(run.info.run_id)
    assert (found.info.status, found.info.run_name, found.info.lifecycle_stage) == ("FINISHED", "first", "active")
    assert found.info.end_time >= found.info.start_time > 0
    assert found.data.params == {"rate": "0.1", "layers": "3"}
    assert found.data.tags["kind"] == "try" and found.data.tags["mlflow.note.content"] == "of the day"
    metrics = found.data.metrics
    assert metrics["loss"] == 0.2 and math.isnan(metrics["strange"])
    assert (metrics["large"], metrics["small"]) == (math.inf, -math.inf)
    assert [(point.step, point.value) for point in client.get_metric_history(found.info.run_id, "loss")] == [
        (step, 1 / (step + 1)) for step in range(5)
    ]
    data = found.inputs.dataset_inputs[0]
    assert data.dataset.name == "numbers" and data.tags[0].value == "train"
    listed = {file.path: file.is_dir for file in client.list_artifacts(found.info.run_id)}
    assert listed == {"config": True, "folder": True, "notes": True}
    copy = pathlib.Path(client.download_artifacts(found.info.run_id, "", str(tmp_path / "copy")))
    assert (copy / "folder/deep/er/random.bin").read_bytes() == (tmp_path / "deep/er/random.bin").read_bytes()
    assert (copy / "folder/empty").read_bytes() == b""
    assert (copy / "notes/ü b.txt").read_text() == "grüße"
    assert mlflow.artifacts.load_dict(f"{found.info.artifact_uri}/config/settings.json") == {"a": [1, 2]}
    client.delete_tag(found.info.run_id, "kind")
    client.update_run(found.info.run_id, "FAILED", "second")
    found = client.get_run(found.info.run_id)
    assert "kind" not in found.data.tags and (found.info.status, found.info.run_name) == ("FAILED", "second")


def test_a_batch_of_a_thousand(client, experiment):
    run = client.create_run(experiment).info.run_id
    metrics = [Metric(f"m{number % 10}", number / 7, 1_700_000_000_000 + number, number) for number in range(1_000)]
    params = [Param(f"p{number}", "x" * 500) for number in range(100)]
    client.log_batch(run, metrics, params, [RunTag("a", "b")])
    found = client.get_run(run).data
    assert len(found.params) == 100 and found.tags["a"] == "b" and found.metrics["m9"] == 999 / 7
    history = client.get_metric_history(run, "m3")
    assert [point.step for point in history] == list(range(3, 1_000, 10))
    assert history[0].timestamp == 1_700_000_000_003
    assert "never changed" in refused("INVALID_PARAMETER_VALUE", lambda: client.log_param(run, "p0", "other"))


def test_an_onnx_model_goes_the_whole_way(client, experiment, name, tmp_path):
    model, given = doubling(), numpy.array([[1.0, 2.0]], dtype=numpy.float32)
    signature = infer_signature(given, given * 2)
    mlflow.set_experiment(experiment_id=experiment)
    with mlflow.start_run() as run:
        logged = mlflow.onnx.log_model(
            model, name="net", signature=signature, pip_requirements=["onnx"], registered_model_name=name,
            save_as_external_data=False,
        )
        mlflow.log_metric("loss", 0.25, model_id=logged.model_id)
    found = mlflow.get_logged_model(logged.model_id)
    assert str(found.status) == "READY" and found.source_run_id == run.info.run_id
    assert {metric.key: metric.value for metric in found.metrics} == {"loss": 0.25}
    assert [one.model_id for one in client.get_run(run.info.run_id).outputs.model_outputs] == [logged.model_id]
    [one] = mlflow.search_logged_models([experiment], "metrics.loss < 0.5", output_format="list")
    assert one.model_id == logged.model_id
    client.set_registered_model_alias(name, "champion", 1)
    version = client.get_model_version_by_alias(name, "champion")
    assert (version.version, version.current_stage, version.run_id) == ("1", "Production", run.info.run_id)
    loaded = mlflow.onnx.load_model(f"models:/{name}@champion")
    assert loaded.SerializeToString() == model.SerializeToString()
    assert mlflow.models.get_model_info(f"models:/{name}/1").signature == signature
    folder = pathlib.Path(mlflow.artifacts.download_artifacts(f"models:/{name}/1", dst_path=str(tmp_path / "a")))
    again = pathlib.Path(mlflow.artifacts.download_artifacts(f"models:/{logged.model_id}", dst_path=str(tmp_path / "b")))
    sums = [hashlib.sha256((one / "model.onnx").read_bytes()).hexdigest() for one in (folder, again)]
    assert sums[0] == sums[1]
    onnx.checker.check_model(onnx.load(folder / "model.onnx"))
    client.set_logged_model_tags(logged.model_id, {"a": "b"})
    client.delete_logged_model_tag(logged.model_id, "a")
    client.delete_logged_model(logged.model_id)
    # A version keeps its files, whatever becomes of where they came from.
    assert mlflow.onnx.load_model(f"models:/{name}/1").SerializeToString() == model.SerializeToString()


def test_versions_aliases_and_stages(client, experiment, name):
    client.create_registered_model(name, tags={"team": "search"}, description="a model")
    refused("RESOURCE_ALREADY_EXISTS", lambda: client.create_registered_model(name))
    runs = [run_with_weights(client, experiment, f"weights {number}") for number in range(3)]
    versions = [version_of(client, name, run) for run in runs]
    assert [version.version for version in versions] == ["1", "2", "3"]
    client.set_registered_model_alias(name, "champion", "2")
    client.set_registered_model_alias(name, "shadow", "3")
    found = client.get_registered_model(name)
    assert found.aliases == {"champion": "2", "shadow": "3"} and found.tags == {"team": "search"}
    assert client.get_model_version(name, "2").aliases == ["champion"]
    client.transition_model_version_stage(name, "1", "Staging")
    assert client.get_model_version_by_alias(name, "canary").version == "1"
    client.transition_model_version_stage(name, "1", "Production", archive_existing_versions=True)
    stages = [client.get_model_version(name, number).current_stage for number in "123"]
    assert stages == ["Production", "Archived", "None"]
    assert [one.version for one in client.get_latest_versions(name, ["Production"])] == ["1"]
    client.delete_registered_model_alias(name, "shadow")
    refused("RESOURCE_DOES_NOT_EXIST", lambda: client.get_model_version_by_alias(name, "shadow"))
    client.set_model_version_tag(name, "3", "checked", "yes")
    client.update_model_version(name, "3", "the third")
    assert client.get_model_version(name, "3").tags == {"checked": "yes"}
    client.delete_model_version_tag(name, "3", "checked")
    refused("INVALID_STATE", lambda: client.delete_model_version(name, "1"))
    client.delete_model_version(name, "3")
    refused("RESOURCE_DOES_NOT_EXIST", lambda: client.get_model_version(name, "3"))
    assert version_of(client, name, runs[2]).version == "4", "a number is never given again"
    client.rename_registered_model(name, f"{name} more")
    text = mlflow.artifacts.load_text(f"models:/{name} more/1/weights.txt")
    assert text == "weights 0"
    refused("INVALID_STATE", lambda: client.delete_registered_model(f"{name} more"))
    client.delete_registered_model_alias(f"{name} more", "champion")
    client.delete_registered_model(f"{name} more")
    refused("RESOURCE_DOES_NOT_EXIST", lambda: client.get_registered_model(f"{name} more"))


def test_searches_find_and_page(client, experiment, name):
    runs = []
    for number in range(25):
        run = client.create_run(experiment, tags={"even": str(number % 2 == 0)}, run_name=f"run {number:02}")
        client.log_metric(run.info.run_id, "loss", number)
        client.log_param(run.info.run_id, "layers", number % 5)
        runs.append(run.info.run_id)
    search = lambda filter, **more: [run.info.run_id for run in client.search_runs([experiment], filter, **more)]
    assert search("metrics.loss < 3", order_by=["metrics.loss DESC"]) == runs[2::-1]
    assert search("tags.even = 'True' AND params.layers = '4'", order_by=["metrics.loss"]) == [runs[4], runs[14], runs[24]]
    assert search("attributes.run_name LIKE 'run 1%' AND metrics.`loss` >= 18", order_by=["run_name"]) == runs[18:20]
    assert search("run_id IN ('" + runs[7] + "')") == [runs[7]]
    token, found = None, []
    while True:
        page = client.search_runs([experiment], "", order_by=["metrics.loss"], max_results=10, page_token=token)
        found += [run.info.run_id for run in page]
        token = page.token
        if not token:
            break
    assert found == runs
    assert len(mlflow.search_runs([experiment], "metrics.loss > 20")) == 4, "as a data frame"
    client.delete_run(runs[0])
    assert search("", run_view_type=ViewType.DELETED_ONLY) == [runs[0]]
    client.restore_run(runs[0])
    assert len(search("")) == 25
    refused("INVALID_PARAMETER_VALUE", lambda: search("loss < 3"))
    refused("INVALID_PARAMETER_VALUE", lambda: search("", page_token="x"))
    [found] = client.search_experiments(filter_string=f"name LIKE 'test %' AND experiment_id = '{experiment}'")
    assert found.tags == {"team": "search"}
    for number in range(3):
        client.create_registered_model(f"{name} {number}", tags={"number": str(number)})
    models = client.search_registered_models(f"name LIKE '{name}%'", order_by=["name DESC"], max_results=2)
    assert [model.name for model in models] == [f"{name} 2", f"{name} 1"] and models.token
    [last] = client.search_registered_models(f"name LIKE '{name}%'", order_by=["name DESC"], page_token=models.token)
    assert last.tags == {"number": "0"}
    client.log_text(runs[1], "w", "model/w")
    version_of(client, f"{name} 1", runs[1])
    [version] = client.search_model_versions(f"name = '{name} 1'")
    assert client.search_model_versions(f"run_id = '{runs[1]}'")[0].version == version.version == "1"


def test_what_is_registered_is_served(client, experiment, name, tmp_path):
    mlflow.set_experiment(experiment_id=experiment)
    networks = [layers(1), layers(2)]
    rows = numpy.random.default_rng(3).normal(size=(5, 16)).astype(numpy.float32)
    with mlflow.start_run():
        # It moves the weights of what it is given into a file beside it.
        given = copy.deepcopy(networks[0])
        mlflow.onnx.log_model(given, name="model", registered_model_name=name, pip_requirements=[])
    run = client.create_run(experiment).info.run_id
    onnx.save(networks[1], tmp_path / "network.onnx")
    client.log_artifact(run, str(tmp_path / "network.onnx"), "model")
    version_of(client, name, run)
    client.set_registered_model_alias(name, "champion", "1")
    for number, network in enumerate(networks, 1):
        answered, version = served(name, rows, number)
        assert version == str(number)
        numpy.testing.assert_allclose(answered, offline(network, rows), rtol=1e-4, atol=1e-5)
    assert served(name, rows)[1] == "1"
    client.set_registered_model_alias(name, "champion", "2")
    end = time.monotonic() + 10
    while served(name, rows)[1] != "2":
        assert time.monotonic() < end, "the alias is not followed"
        time.sleep(0.05)
    told = ask("/api/v1/predict", {"model_name": name, "inputs": [{"x": row} for row in rows.tolist()]})
    numpy.testing.assert_allclose(told["predictions"], offline(networks[1], rows), rtol=1e-4, atol=1e-5)
    client.log_text(run, "notes", "notes/readme.txt")
    version_of(client, name, run, "notes")
    told = refused("INVALID_STATE", lambda: client.set_registered_model_alias(name, "champion", "3"))
    assert "register a good version" in told and served(name, rows)[1] == "2", told


def test_a_model_with_a_reference_is_watched(client, experiment, name, tmp_path):
    run = client.create_run(experiment).info.run_id
    onnx.save(doubling(), tmp_path / "network.onnx")
    client.log_artifact(run, str(tmp_path / "network.onnx"), "model")
    sample = numpy.random.default_rng(4).normal(size=1000).tolist()
    feature = {"name": "age", "side": "input", "tensor": "x", "at": 1, "take": "value", "count": 1000, "sample": sample}
    reference = {"format": "watershed-drift-reference", "version": 1, "rows": "examples", "features": [feature]}
    client.log_text(run, json.dumps(reference), "model/drift_reference.json")
    client.create_registered_model(name)
    version_of(client, name, run)
    client.set_registered_model_alias(name, "champion", "1")
    kept = ask("/api/v1/predict", {"model_name": name, "inputs": [{"x": [1, 2]}], "keep": True})
    # It is watched from when it is asked on.
    drift = ask(f"/api/v1/models/{name}/drift")
    assert (drift["reference_features"], drift.get("fault")) == (1, None), drift
    truth = {"prediction_id": kept["prediction_id"], "values": {"y": [2, 5]}}
    for expected in ("joined", "duplicate"):
        told = ask(f"/api/v1/models/{name}/truths", {"truths": [truth]})
        assert [one["outcome"] for one in told["outcomes"]] == [expected], told
    [output] = ask(f"/api/v1/models/{name}/accuracy")["outputs"]
    assert (output["count"], output["mae"], output["bias"]) == (2, 0.5, -0.5), output


def scaling(factor):
    """A network that multiplies what it gets."""
    network = doubling()
    network.graph.initializer[0].CopyFrom(helper.make_tensor("two", TensorProto.FLOAT, [1], [factor]))
    return network


def test_a_version_that_is_worse_goes_back_by_itself(client, experiment, name, tmp_path):
    client.create_registered_model(name)
    for factor in (2.0, 6.0):
        run = client.create_run(experiment).info.run_id
        onnx.save(scaling(factor), tmp_path / "network.onnx")
        client.log_artifact(run, str(tmp_path / "network.onnx"), "model")
        version_of(client, name, run)
    client.set_registered_model_alias(name, "champion", "1")
    # What it tells the truth by is twice what is asked: the second version is off by four, 40 % of the scale.
    asked = {"version": "2", "steps": [10, 100], "sample_min": 30, "step_seconds_min": 1, "loss_scale": 10, "slow_ms": 10_000}
    canary = ask(f"/api/v1/models/{name}/canaries", asked)
    assert (canary["stage"], canary["percent"], canary["sequence"]) == ("running", 10, 1), canary
    assert client.get_model_version_by_alias(name, "canary").version == "2"
    arms, end, subject = {}, time.monotonic() + 120, 0
    while canary["stage"] == "running":
        assert time.monotonic() < end, canary
        for subject in range(subject, subject + 100):
            row = {"model_name": name, "inputs": [{"x": [1, 1]}], "keep": True, "user_id": f"user {subject}"}
            told = ask("/api/v1/predict", row)
            arms[told["routing_metadata"].get("arm")] = told["model_version"]
            truth = {"prediction_id": told["prediction_id"], "values": {"y": [2, 2]}}
            ask(f"/api/v1/models/{name}/truths", {"truths": [truth]})
        subject += 1
        canary = ask(f"/api/v1/models/{name}/canaries/1")
    assert (arms["control"], arms["candidate"]) == ("1", "2"), arms
    last = canary["decisions"][-1]
    assert (canary["stage"], canary["percent"]) == ("rolled_back", 0), canary
    [loss] = [gate for gate in last["evidence"]["gates"] if gate["closed"]]
    assert (loss["gate"], loss["control_share"]) == ("loss", 0), loss
    assert abs(loss["candidate_share"] - 0.4) < 1e-6, loss
    assert served(name, numpy.ones((1, 2), numpy.float32))[1] == "1"
    assert client.get_registered_model(name).aliases == {"champion": "1"}


def test_a_shadow_is_compared(client, experiment, name, tmp_path):
    client.create_registered_model(name)
    for factor in (2.0, 2.5):
        run = client.create_run(experiment).info.run_id
        onnx.save(scaling(factor), tmp_path / "network.onnx")
        client.log_artifact(run, str(tmp_path / "network.onnx"), "model")
        version_of(client, name, run)
    client.set_registered_model_alias(name, "champion", "1")
    ask(f"/api/v1/models/{name}/canaries", {"version": "2", "mode": "shadow"})
    for _ in range(20):
        assert served(name, numpy.array([[1, 4]], numpy.float32))[1] == "1"
    end = time.monotonic() + 30
    while (shadow := ask(f"/api/v1/models/{name}/canaries/1")["shadow"])["compared"] + shadow["skipped"] < 20:
        assert time.monotonic() < end, shadow
        time.sleep(0.1)
    means = {one["output"]: one["mean"] for one in shadow["outputs"]}
    assert means == {"y[0]": 0.5, "y[1]": 2.0}, shadow
    ended = ask(f"/api/v1/models/{name}/canaries/1/promote", {"reason": "it is nearer"})
    assert (ended["stage"], ended["shadow"]["mismatched"]) == ("complete", 0), ended
    assert client.get_registered_model(name).aliases == {"champion": "2"}


def test_experiments_come_and_go(client, experiment):
    title = client.get_experiment(experiment).name
    refused("RESOURCE_ALREADY_EXISTS", lambda: client.create_experiment(title))
    assert client.get_experiment_by_name(title).experiment_id == experiment
    assert client.get_experiment_by_name("no such experiment") is None
    client.rename_experiment(experiment, f"{title} again")
    client.set_experiment_tag(experiment, "a", "b")
    assert client.get_experiment(experiment).tags == {"team": "search", "a": "b"}
    client.delete_experiment(experiment)
    assert client.get_experiment(experiment).lifecycle_stage == "deleted"
    client.restore_experiment(experiment)
    assert client.get_experiment("0").name == "Default"
    refused("RESOURCE_DOES_NOT_EXIST", lambda: client.get_experiment("123"))
    refused("RESOURCE_DOES_NOT_EXIST", lambda: client.get_run("0" * 32))


def test_what_runs_code_or_is_a_trap_is_refused(client, experiment, name, tmp_path):
    run = client.create_run(experiment).info.run_id
    pickled, hidden = tmp_path / "model.pkl", tmp_path / "weights.bin"
    pickled.write_bytes(b"\x80\x04N.")
    hidden.write_bytes(b"\x80\x04\x95\x0a\x00\x00\x00\x00\x00\x00\x00\x8c\x06hidden\x94.")
    bomb, wrapped = tmp_path / "bomb.zip", tmp_path / "wrapped.pt"
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        archive.writestr("zeros", bytes(64 << 20))
    with zipfile.ZipFile(wrapped, "w") as archive:
        archive.writestr("archive/data.pkl", b"\x80\x02N.")
    for path in (pickled, hidden, bomb, wrapped):
        refused("INVALID_PARAMETER_VALUE", lambda: client.log_artifact(run, str(path)))
    assert client.list_artifacts(run) == []
    # What a flavour would pickle is refused on its way in; one that says it would be is no version.
    mlflow.set_experiment(experiment_id=experiment)
    with mlflow.start_run(), pytest.raises(Exception):
        mlflow.pyfunc.log_model(name="function", python_model=lambda given: given, pip_requirements=[])
    client.log_text(run, "flavors:\n  python_function:\n    cloudpickle_version: 3.0.0\n", "model/MLmodel")
    client.create_registered_model(name)
    assert "pickle" in refused("INVALID_PARAMETER_VALUE", lambda: version_of(client, name, run))
    refused("RESOURCE_DOES_NOT_EXIST", lambda: version_of(client, name, run, "nothing"))
    refused("INVALID_PARAMETER_VALUE", lambda: client.create_model_version(name, "s3://bucket/model", run))


def test_the_servers_own_model_is_there(client):
    found = client.get_registered_model("recommender")
    version = client.get_model_version_by_alias("recommender", "champion")
    assert version.version in {one.version for one in found.latest_versions}
    assert int(version.tags["watershed.interactions"]) > 0 and version.tags["watershed.blake3"]
    assert "not given out" in refused("INVALID_STATE", lambda: mlflow.artifacts.download_artifacts("models:/recommender/1"))
    refused("INVALID_STATE", lambda: client.set_registered_model_alias("recommender", "champion", 1))
    refused("INVALID_STATE", lambda: client.delete_registered_model("recommender"))


def test_a_wrong_token_is_told(client, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "wrong-token-of-length")
    with pytest.raises(MlflowException) as caught:
        client.search_experiments()
    assert caught.value.error_code == "UNAUTHENTICATED"
