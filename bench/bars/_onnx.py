"""ONNX models for the rows that serve them, written by hand in the few fields of the format that they need.

`perceptron` is a chain of matrix products and rectifiers whose weights are larger than the caches: one example has to read
all of them, as many examples read them once. That is what putting requests together can gain on a processor.
"""

import array
import random
import struct

FLOAT = 1
OPSET, IR = 17, 8


def _varint(number):
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def _number(field, value):
    return _varint(field << 3) + _varint(value)


def _bytes(field, value):
    value = value.encode() if isinstance(value, str) else value
    return _varint(field << 3 | 2) + _varint(len(value)) + value


def _tensor(name, shape, values):
    raw = array.array("f", values).tobytes()
    return b"".join(_number(1, length) for length in shape) + _number(2, FLOAT) + _bytes(8, name) + _bytes(9, raw)


def _info(name, width):
    shape = _bytes(1, _bytes(2, "batch")) + _bytes(1, _number(1, width))
    return _bytes(1, name) + _bytes(2, _bytes(1, _number(1, FLOAT) + _bytes(2, shape)))


def perceptron(widths, seed):
    """The bytes of a model of FP32 `x` [batch, first width] to `y` [batch, last width]; another seed, another model."""
    drawn = random.Random(seed)
    nodes, tensors, value = [], [], "x"
    for layer, (rows, columns) in enumerate(zip(widths, widths[1:])):
        scale = (2.0 / rows) ** 0.5
        block = [drawn.uniform(-scale, scale) for _ in range(min(rows * columns, 1 << 16))]
        weights = (block * (rows * columns // len(block) + 1))[: rows * columns]
        tensors.append(_tensor(f"W{layer}", (rows, columns), weights))
        is_last = layer == len(widths) - 2
        product = "y" if is_last else f"product{layer}"
        nodes.append(_bytes(1, value) + _bytes(1, f"W{layer}") + _bytes(2, product) + _bytes(4, "MatMul"))
        if not is_last:
            value = f"hidden{layer}"
            nodes.append(_bytes(1, product) + _bytes(2, value) + _bytes(4, "Relu"))
    graph = b"".join(_bytes(1, node) for node in nodes) + _bytes(2, "perceptron")
    graph += b"".join(_bytes(5, tensor) for tensor in tensors)
    graph += _bytes(11, _info("x", widths[0])) + _bytes(12, _info("y", widths[-1]))
    return _number(1, IR) + _bytes(7, graph) + _bytes(8, _bytes(1, "") + _number(2, OPSET))


def example(width, seed=7):
    """A request of the Open Inference Protocol for one example."""
    drawn = random.Random(seed)
    values = [struct.unpack("f", struct.pack("f", drawn.uniform(-1, 1)))[0] for _ in range(width)]
    return {"inputs": [{"name": "x", "shape": [1, width], "datatype": "FP32", "data": values}]}


def register(asker, name, models):
    """Registers a model with a version for each of `models`; `asker` is that of `models_registry`."""
    asker.mlflow("registered-models/create", {"name": name})
    for model in models:
        run = asker.mlflow("runs/create", {"experiment_id": "0"})["run"]["info"]["run_id"]
        path = f"/api/2.0/mlflow-artifacts/artifacts/0/{run}/artifacts/model/model.onnx"
        status, text = asker.ask("PUT", path, model)
        assert status == 200, text
        asker.mlflow("model-versions/create", {"name": name, "source": f"runs:/{run}/model", "run_id": run})
