"""A served model whose alias moves under load: how many requests fail, and how long until every replica answers with the new
version.

Two replicas on PostgreSQL, each under a closed load of its own; promotions and a rollback in turn. A version is seen when a
replica answers with it, from the end of the request that moved the alias; an answer is right where its values are those
that the version gave before. Loading the version is part of that time.
"""

import json
import subprocess
import time

from harness.figures import CannotMeasure, Figure, Measured
from harness.server import KEY
from harness.service import Service
from harness.service_engines import Engines
from harness.workbench import clean_environment

from . import _onnx
from .models_registry import Asker

NAME = "models-hot-swap"
WHAT = "promotions and rollbacks of a served model under load, two replicas on PostgreSQL"
BAR = "0 failed requests, 0 wrong answers; < 10 s until every replica answers with the new version"

WIDTHS = (64, 512, 512, 8)
PATH = "/v2/models/perceptron/infer"
SETTINGS = "[server.rate_limit]\nenabled = false\n"
PATIENCE_SECONDS = 30
TURN_SECONDS = 2


def moves(times):
    """Promotions to 2, 3, 1 ..., and every fourth time back to where it was."""
    return [("rollback", None) if turn % 4 == 3 else ("promote", turn % 3 + 1) for turn in range(times)]


def measure(workbench):
    times = workbench.pick(20, 3)
    models = [_onnx.perceptron(WIDTHS, seed) for seed in (1, 2, 3)]
    body = workbench.folder("model") / "body.json"
    body.write_text(json.dumps(_onnx.example(WIDTHS[0])))
    with Engines(workbench) as engines, Service(workbench, engines, replicas=2, settings=SETTINGS) as service:
        askers = [Asker(server.address, KEY) for server in service.servers]
        _onnx.register(askers[0], "perceptron", models)
        truth = {}
        for version in (1, 2, 3):
            status, text = askers[0].ask("POST", f"/v2/models/perceptron/versions/{version}/infer", body.read_bytes())
            if status != 200:
                raise CannotMeasure(f"version {version} is not served: {status} {text[:300]}")
            truth[str(version)] = json.loads(text)["outputs"][0]["data"]
        askers[0].ask("POST", "/api/v1/models/perceptron/promote", {"version": 3})
        seconds = times * TURN_SECONDS
        loads = []
        for server in service.servers:
            options = ["--path", PATH, "--body", body, "--requests", int(seconds * 150), "--connections", 4, "--rate", 150,
                       "--pid", server.pid]
            command = server.load_command("latency", *options)
            loads.append(subprocess.Popen(command, env=clean_environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE))
        seen, wrong, asked = [], 0, 0
        for turn, (what, version) in enumerate(moves(times)):
            time.sleep(TURN_SECONDS / 2)
            wanted = {"version": version} if version else {}
            status, text = askers[turn % 2].ask("POST", f"/api/v1/models/perceptron/{what}", wanted)
            if status != 200:
                raise CannotMeasure(f"{what}: {status} {text[:300]}")
            now = str(json.loads(text)["aliases"]["champion"])
            began, waiting = time.monotonic(), list(askers)
            while waiting and time.monotonic() - began < PATIENCE_SECONDS:
                for asker in list(waiting):
                    told = json.loads(asker.ask("POST", PATH, body.read_bytes())[1])
                    asked += 1
                    wrong += told["outputs"][0]["data"] != truth[told["model_version"]]
                    if told["model_version"] == now:
                        waiting.remove(asker)
                time.sleep(0.01)
            seen.append(PATIENCE_SECONDS if waiting else time.monotonic() - began)
        told = [json.loads(load.communicate(timeout=300)[0]) for load in loads]
    failures = sum(one["failures"] for one in told)
    figures = [
        Figure("requests that failed", failures, at_most=0),
        Figure("longest until every replica answers with it", max(seen), "s", at_most=10.0),
        Figure("answers that were not the version's", wrong, at_most=0),
        Figure("mean until every replica answers with it", sum(seen) / len(seen), "s"),
        Figure("requests under which it moved", sum(one["latency"]["count"] for one in told)),
        Figure("p99 of them", max(one["latency"]["p99_ms"] for one in told), "ms"),
    ]
    first = next((one["first_failure"] for one in told if one["first_failure"]), None)
    notes = [f"{len(seen)} moves; values of {asked} answers were compared beside the load"]
    return Measured(figures, notes + ([f"failure: {first}"] if first else []))
