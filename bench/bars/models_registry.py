"""The unmodified `mlflow` client against the built binary, and the same round against `mlflow server` beside it.

A round logs metrics in batches of 1,000 and 100 parameters, uploads weights, registers a version, points an alias at it,
searches, downloads by the alias and compares the bytes. The peer is the server of the same release of MLflow with SQLite
and artifacts through the server, as its documentation starts it. Rounds alternate; the medians are compared.
"""

import concurrent.futures
import json
import os
import pathlib
import socket
import statistics
import subprocess
import sys
import time
import urllib.error
import urllib.request

from harness.figures import CannotMeasure, Figure, Measured
from harness.server import KEY, Server
from harness.workbench import CACHE, ROOT, clean_environment

NAME = "models-registry"
WHAT = "the mlflow client's whole round against the binary and against mlflow server; promotions at once; tenants"
BAR = "bytes equal, no fault, the round <= 1.0 x mlflow server; of two promotions one wins; no leak"

REQUIREMENTS = ROOT / "scripts/mlflow/requirements.txt"
ROUND = ROOT / "bench/peers/mlflow_round.py"
PEER_SECONDS = 120
SETTINGS = "[server.rate_limit]\nenabled = false\n"
QUIET = {
    "MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true", "GIT_PYTHON_REFRESH": "quiet",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
}


def interpreter():
    """The one that `scripts/test-mlflow` has too."""
    venv = pathlib.Path(os.environ.get("WATERSHED_CACHE") or CACHE) / "mlflow-venv"
    note = venv / "requirements"
    if not note.exists() or note.read_text() != REQUIREMENTS.read_text():
        subprocess.run([sys.executable, "-m", "venv", "--clear", venv], check=True)
        subprocess.run([venv / "bin/pip", "install", "--quiet", "--requirement", REQUIREMENTS], check=True)
        note.write_text(REQUIREMENTS.read_text())
    return venv / "bin/python"


class Peer:
    """`with Peer(python, folder) as peer:` MLflow's own server on a free port."""

    def __init__(self, python, folder):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        self.url, self.log = f"http://127.0.0.1:{port}", folder / "log"
        self.command = [
            python, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1",
            "--backend-store-uri", f"sqlite:///{folder / 'mlflow.db'}", "--artifacts-destination", folder / "artifacts",
        ]

    def __enter__(self):
        output = self.log.open("wb")
        self.process = subprocess.Popen(
            [str(part) for part in self.command], env=clean_environment(**QUIET), cwd=self.log.parent,
            stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True,
        )
        end = time.monotonic() + PEER_SECONDS
        while time.monotonic() < end and self.process.poll() is None:
            try:
                with urllib.request.urlopen(f"{self.url}/health", timeout=2):
                    return self
            except OSError:
                time.sleep(0.1)
        self.__exit__()
        raise CannotMeasure("mlflow server did not start: " + self.log.read_text(errors="replace")[-500:])

    def __exit__(self, *_):
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def a_round(python, url, token, sizes):
    environment = clean_environment(MLFLOW_TRACKING_URI=url, **QUIET, **({"MLFLOW_TRACKING_TOKEN": token} if token else {}))
    command = [python, ROUND, *(str(size) for size in sizes)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600)
    if done.returncode != 0:
        return {"rounds": [], "faults": [done.stderr[-400:]]}
    return json.loads(done.stdout.splitlines()[-1])


class Asker:
    """Asks one server as one tenant."""

    def __init__(self, address, key):
        self.address, self.key = address, key

    def ask(self, method, path, body=None):
        data = None if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
        headers = {"x-api-key": self.key, "content-type": "application/json"}
        request = urllib.request.Request(f"http://{self.address}{path}", data, headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            return error.code, error.read()

    def mlflow(self, path, body):
        status, text = self.ask("POST", f"/api/2.0/mlflow/{path}", body)
        if status != 200:
            raise CannotMeasure(f"{path}: {status} {text[:200]}")
        return json.loads(text)

    def make_model(self, name, versions):
        self.mlflow("registered-models/create", {"name": name})
        run = self.mlflow("runs/create", {"experiment_id": "0"})["run"]["info"]["run_id"]
        self.ask("PUT", f"/api/2.0/mlflow-artifacts/artifacts/0/{run}/artifacts/model/weights", name.encode())
        for _ in range(versions):
            self.mlflow("model-versions/create", {"name": name, "source": f"runs:/{run}/model", "run_id": run})
        return run


def promotions(asker, times):
    """How often not exactly one of two that believe the same won, or the other was not told."""
    asker.make_model("raced", 3)
    asker.ask("POST", "/api/v1/models/raced/promote", {"version": 1})
    current, wrong = 1, 0
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        for _ in range(times):
            others = [version for version in (1, 2, 3) if version != current]
            bodies = [{"version": version, "expected_version": current} for version in others]
            told = list(pool.map(lambda body: asker.ask("POST", "/api/v1/models/raced/promote", body), bodies))
            statuses = sorted(status for status, _ in told)
            wrong += statuses != [200, 409]
            winner = json.loads(next(text for status, text in told if status == 200))
            current = winner["aliases"]["champion"]
    return wrong


def leaks(owner, other):
    """What of a tenant's models another can read or change."""
    run, name = owner.make_model("secret-model", 1), "secret-model"
    artifact = f"/api/2.0/mlflow-artifacts/artifacts/0/{run}/artifacts/model/weights"
    named = [
        ("GET", f"/api/2.0/mlflow/runs/get?run_id={run}", None),
        ("GET", f"/api/2.0/mlflow/artifacts/list?run_id={run}", None),
        ("GET", f"/api/2.0/mlflow/metrics/get-history?run_id={run}&metric_key=a", None),
        ("POST", "/api/2.0/mlflow/runs/log-metric", {"run_id": run, "key": "a", "value": 1, "timestamp": 1}),
        ("POST", "/api/2.0/mlflow/runs/delete", {"run_id": run}),
        ("GET", f"/api/2.0/mlflow/registered-models/get?name={name}", None),
        ("DELETE", "/api/2.0/mlflow/registered-models/delete", {"name": name}),
        ("GET", f"/api/2.0/mlflow/model-versions/get?name={name}&version=1", None),
        ("GET", f"/api/2.0/mlflow/model-versions/get-download-uri?name={name}&version=1", None),
        ("POST", f"/api/v1/models/{name}/promote", {"version": 1}),
        ("GET", f"/api/v1/models/{name}/history", None),
        ("GET", f"/api/v1/models/{name}/versions", None),
        ("GET", artifact, None),
        ("PUT", artifact, b"changed"),
        ("DELETE", artifact, None),
    ]
    found = [f"{method} {path}" for method, path, body in named if other.ask(method, path, body)[0] != 404]
    searches = [
        ("GET", "/api/2.0/mlflow/registered-models/search", None),
        ("GET", "/api/2.0/mlflow/model-versions/search", None),
        ("POST", "/api/2.0/mlflow/runs/search", {"experiment_ids": ["0"]}),
    ]
    for method, path, body in searches:
        status, text = other.ask(method, path, body)
        if status != 200 or name.encode() in text or run.encode() in text:
            found.append(f"{method} {path}")
    if owner.ask("GET", artifact) != (200, name.encode()):
        found.append("the owner's artifact was changed")
    return found


def measure(workbench):
    python = interpreter()
    rounds, batches, megabytes = workbench.pick((5, 10, 64), (1, 2, 4))
    folder, config = workbench.folder("data"), workbench.folder("settings") / "watershed.toml"
    config.write_text(SETTINGS)
    other = workbench.watershed("--config", config, "--data-dir", folder, "keys", "create", "--name", "other",
                                "--permission", "admin", "--tenant", "other").strip()
    ours, theirs, faults, peer_faults = [], [], [], []
    with Server(workbench, folder, SETTINGS) as server, Peer(python, workbench.folder("peer")) as peer:
        # The first of each is thrown away: programs and files are cold.
        for number in range(rounds + 1):
            for url, token, kept, bad in (
                (f"http://{server.address}", KEY, ours, faults), (peer.url, None, theirs, peer_faults)
            ):
                told = a_round(python, url, token, (1, batches, megabytes))
                bad += told["faults"]
                if number:
                    kept += told["rounds"]
        asker = Asker(server.address, KEY)
        wrong = promotions(asker, workbench.pick(50, 5))
        leaked = leaks(asker, Asker(server.address, other))
    if peer_faults:
        raise CannotMeasure(f"the round fails against mlflow server: {peer_faults[0]}")
    median = lambda told, step: statistics.median(one[step] for one in told) if told else float("nan")
    whole = lambda told: statistics.median(sum(one.values()) for one in told) if told else float("nan")
    peer = {"peer_name": "mlflow server, sqlite"}
    figures = [
        Figure("the whole round", whole(ours), "s", at_most=whole(theirs), peer=whole(theirs), **peer),
        Figure("faults of the client's rounds", len(faults), at_most=0),
        Figure("promotions at once that went wrong", wrong, at_most=0),
        Figure("requests that showed or changed another tenant's", len(leaked), at_most=0),
    ]
    for step in ("log", "upload", "register", "search", "download"):
        figures.append(Figure(f"of it: {step}", median(ours, step), "s", peer=median(theirs, step), **peer))
    notes = [f"{rounds} rounds of {batches:,} batches of 1,000 metrics and {megabytes} MiB, medians; the client's own time "
             "is in both"]
    return Measured(figures, notes + [f"fault: {fault}" for fault in faults[:5]] + [f"leak: {one}" for one in leaked])
