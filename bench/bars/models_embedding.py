"""What it costs to make vectors of texts, beside ONNX Runtime on the same weights and the same tokens.

Both on one thread for the processor time, in turns; then ours on two for the wall time, and from a server, as one request by the
settings that it has of itself. The peer's graph is optimised by its own tool, and the quickest of several batch sizes counts.
"""

import array
import json
import random
import time
import urllib.request

from bars._search import ENCODER, encoder
from harness.figures import CannotMeasure, Figure, Measured
from harness.server import KEY, Server
from harness.workbench import ROOT, clean_environment

NAME = "models-embedding"
WHAT = f"512 texts of 32 tokens through {ENCODER}"
BAR = "< 3 s on 2 cores; CPU seconds <= 1.0 x onnxruntime; vectors equal within 1e-4"
TEXTS, WORDS = 512, 30


def texts(model, count):
    """Words that are one token each, between the two that mark the ends."""
    vocabulary = (model / "vocab.txt").read_text().splitlines()
    words = [word for word in vocabulary if word.isascii() and word.isalpha() and word.islower() and len(word) > 2]
    draw = random.Random(7)
    return "".join(" ".join(draw.choice(words) for _ in range(WORDS)) + "\n" for _ in range(count))


def floats(path):
    numbers = array.array("f")
    numbers.frombytes(path.read_bytes())
    return numbers


def over_http(workbench, model, lines):
    """Seconds of one request for all texts, and what it answered; one text before it, so that everything is open."""
    def ask(server, some):
        body = json.dumps({"model": f"sentence-transformers/{ENCODER}", "input": some}).encode()
        headers = {"x-api-key": KEY, "content-type": "application/json"}
        request = urllib.request.Request(f"http://{server.address}/v1/embeddings", body, headers)
        with urllib.request.urlopen(request, timeout=600) as answer:
            return json.load(answer)["data"]

    with Server(workbench, workbench.folder("data"), f'[search]\nmodel_path = "{model}"\n') as server:
        ask(server, ["one"])
        began = time.monotonic()
        data = ask(server, lines)
        seconds = time.monotonic() - began
    return seconds, [value for one in data for value in one["embedding"]]


def difference(left, right):
    return max(abs(one - other) for one, other in zip(left, right, strict=True))


def measure(workbench):
    model = encoder(workbench)
    folder = workbench.folder("embedding")
    file = folder / "texts"
    count = workbench.pick(TEXTS, 32)
    file.write_text(texts(model, count))
    program, python = workbench.binary("bench-search"), workbench.python()

    def ours(threads):
        command = [program, "embed", "--model", model, "--texts", file, "--vectors", folder / "ours", "--threads", threads]
        return workbench.run_json(command)

    def theirs():
        script = ROOT / "bench" / "peers" / "onnx_sentences.py"
        command = [python, script, "--model", model, "--texts", file, "--vectors", folder / "theirs", "--scratch", folder]
        return workbench.run_json(command, environment=clean_environment(OMP_NUM_THREADS="1"))

    mine, peer = [], []
    for _ in range(workbench.pick(3, 1)):
        mine.append(ours(1))
        peer.append(theirs())
    one, other = (sorted(runs, key=lambda run: run["cpu_seconds"])[len(runs) // 2] for runs in (mine, peer))
    if one["tokens"] != count * (WORDS + 2):
        raise CannotMeasure(f"the texts have {one['tokens']} tokens, not {count * (WORDS + 2)}")
    right = floats(folder / "theirs")
    distance = difference(floats(folder / "ours"), right)
    two = ours(2)
    seconds, served = over_http(workbench, model, file.read_text().splitlines())
    name = f"onnxruntime {other['onnxruntime']}"
    figures = [
        Figure("wall on 2 threads", two["wall_seconds"], "s", at_most=3.0),
        Figure("CPU seconds", one["cpu_seconds"], "s", at_most=other["cpu_seconds"], peer=other["cpu_seconds"], peer_name=name),
        Figure("CPU seconds on 2 threads", two["cpu_seconds"], "s"),
        Figure("greatest difference of a value", distance, at_most=1e-4),
        Figure("one request over HTTP", seconds, "s", at_most=3.0),
        Figure("greatest difference of a value, over HTTP", difference(served, right), at_most=1e-4),
    ]
    return Measured(figures, [f"{name} fused {other['fused']}, batches of {other['batch']}"])
