"""Encodes sentences with ONNX Runtime: the graph is made here from the same weights, and optimised by ONNX Runtime's own
tool for transformers, so that the peer is as quick as it can be.

Prints one line of JSON: processor and wall seconds of each round, without the first, and writes the vectors.
"""

import argparse
import json
import pathlib
import time

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.transformers import optimizer
from onnxruntime.transformers.fusion_options import FusionOptions
from safetensors.numpy import load_file
from tokenizers import Tokenizer

OPSET = 17


class Graph:
    """Nodes and weights under names."""

    def __init__(self, weights):
        self.weights, self.nodes, self.constants, self.count = weights, [], {}, 0

    def constant(self, name, value):
        self.constants[name] = numpy_helper.from_array(np.asarray(value), name)
        return name

    def weight(self, name, transpose=False):
        value = self.weights[name]
        return self.constant(name, np.ascontiguousarray(value.T) if transpose else value)

    def add(self, kind, *inputs, **attributes):
        self.count += 1
        output = f"{kind}_{self.count}"
        self.nodes.append(helper.make_node(kind, list(inputs), [output], name=output, **attributes))
        return output

    def linear(self, name, value):
        product = self.add("MatMul", value, self.weight(f"{name}.weight", transpose=True))
        return self.add("Add", self.weight(f"{name}.bias"), product)

    def norm(self, name, value, epsilon):
        scale, shift = self.weight(f"{name}.weight"), self.weight(f"{name}.bias")
        return self.add("LayerNormalization", value, scale, shift, axis=-1, epsilon=epsilon)


def build(folder, shape):
    graph = Graph(load_file(folder / "model.safetensors"))
    heads, hidden = shape["num_attention_heads"], shape["hidden_size"]
    width, epsilon = hidden // heads, shape["layer_norm_eps"]
    words = graph.add("Gather", graph.weight("embeddings.word_embeddings.weight"), "input_ids")
    kinds = graph.add("Gather", graph.weight("embeddings.token_type_embeddings.weight"), "token_type_ids")
    length = graph.add("Gather", graph.add("Shape", "input_ids"), graph.constant("one", np.int64(1)))
    ends = (graph.constant("starts", np.array([0])), graph.add("Unsqueeze", length, graph.constant("axis", np.array([0]))))
    all_places = graph.constant("all_places", np.arange(shape["max_position_embeddings"])[None, :])
    places = graph.add("Slice", all_places, *ends, graph.constant("axes", np.array([1])))
    places = graph.add("Gather", graph.weight("embeddings.position_embeddings.weight"), places)
    value = graph.add("Add", graph.add("Add", words, kinds), places)
    value = graph.norm("embeddings.LayerNorm", value, epsilon)
    # As exporters write it, one axis after the other: the fusion of attention looks for that.
    mask = graph.add("Unsqueeze", "attention_mask", graph.constant("axis_1", np.array([1])))
    mask = graph.add("Unsqueeze", mask, graph.constant("axis_2", np.array([2])))
    mask = graph.add("Sub", graph.constant("full", np.float32(1)), graph.add("Cast", mask, to=TensorProto.FLOAT))
    mask = graph.add("Mul", mask, graph.constant("far", np.float32(np.finfo(np.float32).min)))
    split, joined = graph.constant("split", np.array([0, 0, heads, width])), graph.constant("joined", np.array([0, 0, hidden]))
    for number in range(shape["num_hidden_layers"]):
        name = f"encoder.layer.{number}"

        def part(which, order):
            projected = graph.linear(f"{name}.attention.self.{which}", value)
            return graph.add("Transpose", graph.add("Reshape", projected, split), perm=order)

        query, key, content = part("query", [0, 2, 1, 3]), part("key", [0, 2, 3, 1]), part("value", [0, 2, 1, 3])
        scores = graph.add("Div", graph.add("MatMul", query, key), graph.constant("root", np.float32(width**0.5)))
        shares = graph.add("Softmax", graph.add("Add", scores, mask), axis=-1)
        mixed = graph.add("Transpose", graph.add("MatMul", shares, content), perm=[0, 2, 1, 3])
        mixed = graph.linear(f"{name}.attention.output.dense", graph.add("Reshape", mixed, joined))
        value = graph.norm(f"{name}.attention.output.LayerNorm", graph.add("Add", mixed, value), epsilon)
        wide = graph.linear(f"{name}.intermediate.dense", value)
        error = graph.add("Erf", graph.add("Div", wide, graph.constant("root_2", np.float32(2**0.5))))
        active = graph.add("Mul", wide, graph.add("Add", error, graph.constant("unit", np.float32(1))))
        active = graph.add("Mul", active, graph.constant("half", np.float32(0.5)))
        narrow = graph.linear(f"{name}.output.dense", active)
        value = graph.norm(f"{name}.output.LayerNorm", graph.add("Add", narrow, value), epsilon)
    graph.nodes.append(helper.make_node("Identity", [value], ["last_hidden_state"]))
    inputs = [
        helper.make_tensor_value_info(name, TensorProto.INT64, ["batch", "length"])
        for name in ("input_ids", "attention_mask", "token_type_ids")
    ]
    output = helper.make_tensor_value_info("last_hidden_state", TensorProto.FLOAT, ["batch", "length", hidden])
    made = helper.make_graph(graph.nodes, "encoder", inputs, [output], list(graph.constants.values()))
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=8)


def session(folder, scratch, threads):
    shape = json.loads((folder / "config.json").read_text())
    path = scratch / "encoder.onnx"
    onnx.save(build(folder, shape), path)
    # The default fusions, with the exact activation: its approximations would not be the same model.
    fusions = FusionOptions("bert")
    better = optimizer.optimize_model(
        str(path), "bert", shape["num_attention_heads"], shape["hidden_size"], optimization_options=fusions, opt_level=0
    )
    fused = better.get_fused_operator_statistics()
    better.save_model_to_file(str(scratch / "optimised.onnx"))
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    # Threads that wait by spinning would be charged for it.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(str(scratch / "optimised.onnx"), options, ["CPUExecutionProvider"]), fused


def encode(run, tokenizer, texts, batch):
    vectors = []
    for start in range(0, len(texts), batch):
        encoded = tokenizer.encode_batch(texts[start : start + batch])
        ids = np.array([one.ids for one in encoded], dtype=np.int64)
        mask = np.array([one.attention_mask for one in encoded], dtype=np.int64)
        hidden = run.run(None, {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)})[0]
        sums = (hidden * mask[:, :, None]).sum(axis=1)
        vectors.append(sums / np.linalg.norm(sums, axis=1, keepdims=True))
    return np.concatenate(vectors).astype(np.float32)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=pathlib.Path, required=True)
    parser.add_argument("--texts", type=pathlib.Path, required=True, help="one a line")
    parser.add_argument("--vectors", type=pathlib.Path, required=True, help="written: 32 bit floats, row by row")
    parser.add_argument("--scratch", type=pathlib.Path, required=True)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--batches", default="16,32,64", help="texts at once; the quickest counts")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    run, fused = session(options.model, options.scratch, options.threads)
    tokenizer = Tokenizer.from_file(str(options.model / "tokenizer.json"))
    tokenizer.enable_padding()
    tokenizer.enable_truncation(256)
    texts = options.texts.read_text().splitlines()
    best = None
    for batch in map(int, options.batches.split(",")):
        vectors = encode(run, tokenizer, texts[:batch], batch)
        rounds = []
        for _ in range(options.rounds):
            cpu, wall = time.process_time(), time.monotonic()
            vectors = encode(run, tokenizer, texts, batch)
            rounds.append({"cpu_seconds": time.process_time() - cpu, "wall_seconds": time.monotonic() - wall})
        rounds.sort(key=lambda one: one["cpu_seconds"])
        told = {**rounds[len(rounds) // 2], "batch": batch, "all_cpu_seconds": [one["cpu_seconds"] for one in rounds]}
        if best is None or told["cpu_seconds"] < best["cpu_seconds"]:
            best = told
    options.vectors.write_bytes(vectors.tobytes())
    print(json.dumps({**best, "fused": fused, "onnxruntime": onnxruntime.__version__}))


if __name__ == "__main__":
    main()
