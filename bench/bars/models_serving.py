"""A served ONNX model: 64 clients with and without dynamic batching, open load at a rate, and what the server costs beside
the bare runtime.

The model is a chain of matrix products of 20 million weights (79 MB), about as many as the sentence encoders that are
served here: one example reads all of them, so that examples which are answered together cost less each. A model that fits
the caches gains less, and what the server adds is a larger part of it: one of 5 million weights is measured beside it,
without a bar. Overhead is processor time: of the whole server for each request of one example, one after another, beside
`bench-infer`, which asks the same engine in a loop without HTTP, JSON or a queue. Both are one example a call: nothing is
put together there.
"""

import json

from harness.figures import Figure, Measured
from harness.server import KEY, Server

from . import _onnx
from .models_registry import Asker

NAME = "models-serving"
WHAT = "an ONNX model over the Open Inference Protocol: 64 clients with and without batching, 150 req/s, the bare runtime"
BAR = ">= 3 x throughput by batching; p95 < 120 ms at 150 req/s; processor time < 1.15 x the bare runtime"

WIDTHS, QUICK_WIDTHS = (256, 3072, 3072, 3072, 16), (64, 512, 512, 8)
SMALL_WIDTHS, QUICK_SMALL_WIDTHS = (256, 1536, 1536, 1536, 16), (64, 256, 256, 8)
CLIENTS, RATE = 64, 150
ROUNDS = 6
PER_REQUEST = "server_microseconds_per_request"
PATH = "/v2/models/perceptron/infer"


def settings(batch_rows):
    return f"[server.rate_limit]\nenabled = false\n[runtime]\nmax_batch_rows = {batch_rows}\n"


class Served:
    """`with Served(...) as served:` the model behind a server."""

    def __init__(self, workbench, model, batch_rows):
        name = f"{len(model)}-{batch_rows}"
        self.server = Server(workbench, workbench.folder(f"data-{name}"), settings(batch_rows), f"server-{name}")
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


class Told:
    """What one model costs: bare, served, and served without batching."""

    def __init__(self, workbench, widths, clients, seconds, closed, single):
        model, folder = _onnx.perceptron(widths, 1), workbench.folder(f"model-{widths[1]}")
        (folder / "model.onnx").write_bytes(model)
        body = folder / "body.json"
        body.write_text(json.dumps(_onnx.example(widths[0])))
        self.name = f"a perceptron of {' x '.join(str(width) for width in widths)}, {len(model) / 1e6:.0f} MB"
        bare = [workbench.binary("bench-infer"), "--model", folder / "model.onnx", "--request", body, "--calls", single // ROUNDS]
        with Served(workbench, model, 64) as served:
            answered = json.loads(served.asker.ask("POST", PATH, body.read_bytes())[1])["outputs"][0]["data"]
            served.load(body, closed // 10, clients)
            self.together = served.load(body, closed, clients)
            self.paced = served.load(body, RATE * seconds, clients, RATE)
        with Served(workbench, model, 1) as served:
            served.load(body, closed // 20, clients)
            self.apart = served.load(body, closed // 4, clients)
            # In turns, so that a machine that is slow for a while is so for both.
            rounds = [(workbench.run_json(bare), served.load(body, single // ROUNDS, 1)) for _ in range(ROUNDS)]
        self.bare_microseconds = sum(offline["microseconds_per_call"] for offline, _ in rounds) / ROUNDS
        self.alone_microseconds = sum(alone[PER_REQUEST] for _, alone in rounds) / ROUNDS
        self.different = sum(ours != theirs for ours, theirs in zip(answered, rounds[0][0]["values"]))
        loads = (self.together, self.paced, self.apart, *(alone for _, alone in rounds))
        self.failures = sum(told["failures"] for told in loads)

    @property
    def gain(self):
        return self.together["requests_per_second"] / self.apart["requests_per_second"]


def measure(workbench):
    clients, seconds = workbench.pick(CLIENTS, 8), workbench.pick(60, 3)
    closed, single = workbench.pick(12_000, 400), workbench.pick(3_000, 200)
    told = Told(workbench, workbench.pick(WIDTHS, QUICK_WIDTHS), clients, seconds, closed, single)
    small = Told(workbench, workbench.pick(SMALL_WIDTHS, QUICK_SMALL_WIDTHS), clients, seconds // 3, closed, single)
    bare = "the bare runtime"
    peer = {"peer_name": "no batching"}
    figures = [
        Figure("throughput with batching, times", told.gain, at_least=3.0),
        Figure("requests/s with batching", told.together["requests_per_second"],
               peer=told.apart["requests_per_second"], **peer),
        Figure(f"p95 at {RATE} req/s", told.paced["latency"]["p95_ms"], "ms", at_most=120.0),
        Figure("processor time of a request", told.alone_microseconds, "us", at_most=1.15 * told.bare_microseconds,
               peer=told.bare_microseconds, peer_name=bare),
        Figure("requests that failed", told.failures + small.failures, at_most=0),
        Figure("values that differ from the bare runtime's", told.different + small.different, at_most=0),
        Figure(f"p95 of {clients} clients with batching", told.together["latency"]["p95_ms"], "ms",
               peer=told.apart["latency"]["p95_ms"], **peer),
        Figure("processor time of a request with batching", told.together[PER_REQUEST], "us",
               peer=told.apart[PER_REQUEST], **peer),
        Figure("small model: throughput with batching, times", small.gain),
        Figure("small model: processor time of a request", small.alone_microseconds, "us",
               peer=small.bare_microseconds, peer_name=bare),
        Figure("small model: processor time of a request with batching", small.together[PER_REQUEST], "us",
               peer=small.apart[PER_REQUEST], **peer),
    ]
    notes = [told.name, f"the small model: {small.name}", "the load program takes processor time of the same machine"]
    return Measured(figures, notes)
