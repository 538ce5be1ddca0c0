"""A served ONNX model: 64 clients with and without dynamic batching, open load at a rate, and what the server costs beside
the bare runtime.

The model is a chain of matrix products of 5.1 million weights (20 MB): one example reads all of them, so that examples which
are answered together cost less each. A model that fits the caches gains less. Overhead is processor time: of the whole
server for each request of one example, one after another, beside `bench-infer`, which asks the same engine in a loop
without HTTP, JSON or a queue. Both are one example a call: nothing is put together there.
"""

import json

from harness.figures import Figure, Measured
from harness.server import KEY, Server

from . import _onnx
from .models_registry import Asker

NAME = "models-serving"
WHAT = "an ONNX model over the Open Inference Protocol: 64 clients with and without batching, 150 req/s, the bare runtime"
BAR = ">= 3 x throughput by batching; p95 < 120 ms at 150 req/s; processor time < 1.15 x the bare runtime"

WIDTHS, QUICK_WIDTHS = (256, 1536, 1536, 1536, 16), (64, 256, 256, 8)
CLIENTS, RATE = 64, 150
PATH = "/v2/models/perceptron/infer"


def settings(batch_rows):
    return f"[server.rate_limit]\nenabled = false\n[runtime]\nmax_batch_rows = {batch_rows}\n"


class Served:
    """`with Served(...) as served:` the model behind a server."""

    def __init__(self, workbench, model, batch_rows):
        name = f"server-{batch_rows}"
        self.server = Server(workbench, workbench.folder(f"data-{batch_rows}"), settings(batch_rows), name)
        self.model = model

    def __enter__(self):
        self.server.start()
        asker = Asker(self.server.address, KEY)
        _onnx.register(asker, "perceptron", [self.model])
        asker.ask("POST", "/api/v1/models/perceptron/promote", {"version": 1})
        status, text = asker.ask("GET", "/v2/models/perceptron/ready")
        assert status == 200, text
        self.asker = asker
        self.server.settle()
        return self

    def __exit__(self, *_):
        self.server.stop()

    def load(self, body, requests, connections, rate=None):
        options = ["--path", PATH, "--body", body, "--requests", requests, "--connections", connections, "--pid", self.server.pid]
        return self.server.load("latency", *options, *(["--rate", rate] if rate else []))


def measure(workbench):
    widths = workbench.pick(WIDTHS, QUICK_WIDTHS)
    model, folder = _onnx.perceptron(widths, 1), workbench.folder("model")
    (folder / "model.onnx").write_bytes(model)
    body = folder / "body.json"
    body.write_text(json.dumps(_onnx.example(widths[0])))
    clients, seconds = workbench.pick(CLIENTS, 8), workbench.pick(60, 3)
    closed, single = workbench.pick(20_000, 400), workbench.pick(3_000, 200)
    with Served(workbench, model, 64) as served:
        offline = workbench.run_json([workbench.binary("bench-infer"), "--model", folder / "model.onnx", "--request", body,
                                      "--calls", single])
        answered = json.loads(served.asker.ask("POST", PATH, body.read_bytes())[1])["outputs"][0]["data"]
        served.load(body, closed // 10, clients)
        together = served.load(body, closed, clients)
        paced = served.load(body, RATE * seconds, clients, RATE)
    with Served(workbench, model, 1) as served:
        served.load(body, closed // 20, clients)
        apart = served.load(body, closed // 4, clients)
        alone = served.load(body, single, 1)
    cost, bare = alone["server_microseconds_per_request"], offline["microseconds_per_call"]
    gain = together["requests_per_second"] / apart["requests_per_second"]
    failures = sum(told["failures"] for told in (together, paced, apart, alone))
    peer = {"peer_name": "no batching"}
    figures = [
        Figure("throughput with batching, times", gain, at_least=3.0),
        Figure("requests/s with batching", together["requests_per_second"], peer=apart["requests_per_second"], **peer),
        Figure(f"p95 at {RATE} req/s", paced["latency"]["p95_ms"], "ms", at_most=120.0),
        Figure("processor time of a request", cost, "us", at_most=1.15 * bare, peer=bare, peer_name="the bare runtime"),
        Figure("requests that failed", failures, at_most=0),
        Figure("values that differ from the bare runtime's", sum(a != b for a, b in zip(answered, offline["values"])), at_most=0),
        Figure(f"p95 of {clients} clients with batching", together["latency"]["p95_ms"], "ms",
               peer=apart["latency"]["p95_ms"], **peer),
        Figure("processor time of a request with batching", together["server_microseconds_per_request"], "us",
               peer=apart["server_microseconds_per_request"], **peer),
    ]
    notes = [f"a perceptron of {' x '.join(str(width) for width in widths)}, {len(model) / 1e6:.1f} MB; the load program "
             "takes processor time of the same machine"]
    return Measured(figures, notes)
