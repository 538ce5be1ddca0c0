"""The guide's commands on real curves, one after the other: train, register, evaluate, promote, serve, roll back, clean up.

Every command has to end well, the versions have to stand where the commands say, and what is served has to be what `evaluate`
wrote for the same day, bit by bit. The scores of the training are printed; `models-yield-curve` judges them.
"""

import csv
import json
import struct
import subprocess
import urllib.request

from harness.figures import CannotMeasure, Figure, Measured
from harness.server import KEY, Server

NAME = "models-guide"
WHAT = "train, evaluate, promote, history, rollback and cleanup-artifacts on the Treasury's curve; served beside offline"
BAR = "every command ends well; served = offline, to the bit"

MODEL = "curve_forecaster"
UNTIL = "2017-12-31"
#: Rows of history that are sent.
HISTORY = 400


class Commands:
    """Runs them in one folder and counts those that failed."""

    def __init__(self, workbench, data):
        self.workbench, self.data, self.folder = workbench, data, workbench.folder("commands")
        self.ran, self.faults = 0, []

    def __call__(self, *arguments):
        command = [self.workbench.binary("watershed"), "--data-dir", self.data, *arguments]
        self.ran += 1
        done = subprocess.run(
            [str(part) for part in command], cwd=self.folder, capture_output=True, text=True, timeout=3_600, check=False
        )
        if done.returncode != 0:
            self.faults.append(f"{' '.join(str(part) for part in arguments[:2])}: {done.stderr[-300:]}")
        return done.stdout


def bits(value):
    return struct.pack("<d", float(value))


def differences(server, table, written):
    """Numbers of an answer that are not those that were written for the last day, and how many there are."""
    with open(table, newline="") as file:
        rows = list(csv.DictReader(file))[-HISTORY:]
    with open(written, newline="") as file:
        offline = [row for row in csv.DictReader(file) if row["date"] == rows[-1]["date"]]
    targets = [name for name in offline[0] if name not in ("date", "days_ahead")]
    inputs = [{"date": row["date"], **{name: float(row[name]) for name in targets}} for row in rows]
    body = json.dumps({"model_name": MODEL, "inputs": inputs}).encode()
    headers = {"x-api-key": KEY, "content-type": "application/json"}
    request = urllib.request.Request(f"http://{server.address}/api/v1/predict", body, headers)
    with urllib.request.urlopen(request, timeout=60) as answer:
        served = json.load(answer)["predictions"]
    if len(served) != len(offline):
        raise CannotMeasure(f"{len(served)} days are served, {len(offline)} were written")
    pairs = [(day[name], row[name]) for day, row in zip(served, offline, strict=True) for name in targets]
    return sum(bits(one) != bits(other) for one, other in pairs), len(pairs)


def measure(workbench):
    table, data = workbench.data("treasury") / "ust.csv", workbench.folder("data")
    run = Commands(workbench, data)
    kinds = workbench.pick(("ensemble", "nelson_siegel"), ("ridge", "nelson_siegel"))
    for kind in kinds:
        trees = ("--n-estimators", 20)
        run("train", "curve-forecaster", "--data-path", table, "--curve-type", "yield", "--model-type", kind, *trees,
            "--train-until", UNTIL, "--register", MODEL, "--output", f"{kind}.json", "--json", f"{kind}-scores.json")
    run("promote", "--model", MODEL, "--version", 1)
    run("promote", "--model", MODEL, "--version", 2)
    run("rollback", "--model", MODEL)
    history = run("history", "--model", MODEL)
    run("evaluate", "curve-forecaster", "--model-path", f"{kinds[0]}.json", "--test-data-path", table,
        "--output-dir", "out", "--create-plots", "--predictions", "told.csv")
    cleaned = run("cleanup-artifacts", "--days", 30, "--dry-run") + run("cleanup-artifacts", "--days", 30)
    if run.faults:
        return Measured([Figure("commands that failed", len(run.faults), at_most=0)], run.faults)
    with Server(workbench, data, "[server]\nmax_request_size_mb = 8\n") as server:
        standing = server.get_json(f"/api/v1/models/{MODEL}")
        wrong, numbers = differences(server, table, run.folder / "told.csv")
    figures = [
        Figure("commands that failed", len(run.faults), at_most=0),
        Figure("commands", run.ran),
        Figure("version that serves after the rollback", standing["aliases"]["champion"], at_least=1, at_most=1),
        Figure("moves that the history tells", history.count("promoted") + history.count("rolled"), at_least=3),
        Figure("numbers served that are not those offline", wrong, at_most=0, peer=numbers, peer_name="numbers"),
        Figure("drawn", len(list((run.folder / "out").glob("*.svg"))), at_least=1),
    ]
    notes = []
    for kind in kinds:
        scores = json.loads((run.folder / f"{kind}-scores.json").read_text())
        notes.append(f"{kind}: RMSE {scores['model']['rmse']:.5f}, persistence {scores['persistence']['rmse']:.5f}")
    return Measured(figures, notes + [f"clean-up: {' '.join(cleaned.split())[:200]}"])
