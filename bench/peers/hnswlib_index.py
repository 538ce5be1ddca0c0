"""Clustered vectors, what is truly nearest among them, and hnswlib on them with one thread. Prints one line of JSON.

Each vector is a point near one of 400 centres of unequal weight, on a subspace of 32 dimensions of its own, with a little
noise in all: as embeddings lie, and unlike uniform noise. `make` writes them to a folder; `measure` builds and asks.
"""

import argparse
import json
import pathlib
import time

import numpy

COUNT, LATENT, CENTRES = 10, 32, 400
# From hnswlib's own narrowest, which is as many as are wanted.
WIDTHS = (10, 12, 14, 16, 18, 20, 24, 28, 32, 40, 48, 64, 96, 128, 192, 256, 512)

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("action", choices=["make", "measure"])
parser.add_argument("folder", type=pathlib.Path)
parser.add_argument("--vectors", type=int, default=100_000)
parser.add_argument("--queries", type=int, default=1_000)
parser.add_argument("--dimensions", type=int, default=128)
parser.add_argument("--construction", type=int, default=200)
parser.add_argument("--links", type=int, default=16)
parser.add_argument("--recall", type=float, nargs="+", default=[0.95], help="each is reached by as narrow a search as can")
parser.add_argument("--rounds", type=int, default=5)
options = parser.parse_args()


def make():
    random = numpy.random.default_rng(1)
    count = options.vectors + options.queries

    def normal(*shape):
        return random.normal(size=shape).astype("f4")

    centres = normal(CENTRES, LATENT) @ (normal(LATENT, options.dimensions) / LATENT**0.5)
    weights = 1 / numpy.arange(1, CENTRES + 1) ** 0.5
    of = random.choice(CENTRES, size=count, p=weights / weights.sum())
    points = numpy.empty((count, options.dimensions), "f4")
    for centre in range(CENTRES):
        mine = of == centre
        own = normal(LATENT, options.dimensions) / LATENT**0.5
        points[mine] = centres[centre] + normal(mine.sum(), LATENT) @ own
    points += 0.1 * normal(*points.shape)
    vectors, queries = points[: options.vectors], points[options.vectors :]
    halves = (vectors.astype("f8") ** 2).sum(1) / 2
    # In double precision, a hundred queries at once.
    nearest = [
        numpy.argsort(halves - part.astype("f8") @ vectors.T.astype("f8"), axis=1, kind="stable")[:, :COUNT]
        for part in numpy.array_split(queries, max(1, options.queries // 100))
    ]
    vectors.tofile(options.folder / "vectors.f32")
    queries.tofile(options.folder / "queries.f32")
    numpy.concatenate(nearest).astype("i4").tofile(options.folder / "nearest.i32")
    return {"vectors": len(vectors), "queries": len(queries)}


def measure():
    import hnswlib

    def read(name, kind, width):
        return numpy.fromfile(options.folder / name, kind).reshape(-1, width)

    vectors, queries = (read(name, "f4", options.dimensions) for name in ("vectors.f32", "queries.f32"))
    nearest = read("nearest.i32", "i4", COUNT)
    index = hnswlib.Index("l2", options.dimensions)
    index.init_index(len(vectors), M=options.links, ef_construction=options.construction, random_seed=1)
    index.set_num_threads(1)
    began = time.process_time()
    index.add_items(vectors, num_threads=1)
    told = {"build_cpu_seconds": time.process_time() - began}
    told["searches"], wanted = [], sorted(options.recall)
    for width in WIDTHS:
        index.set_ef(width)
        best = float("inf")
        for _ in range(options.rounds):
            began = time.process_time()
            found, _distances = index.knn_query(queries, k=COUNT, num_threads=1)
            best = min(best, time.process_time() - began)
        hits = sum(len(set(mine) & set(true)) for mine, true in zip(found.tolist(), nearest.tolist()))
        search = {"width": width, "recall": hits / nearest.size, "queries_per_cpu_second": len(queries) / best}
        while wanted and (search["recall"] >= wanted[0] or width == WIDTHS[-1]):
            told["searches"].append({"wanted": wanted.pop(0), **search})
        if not wanted:
            break
    return told


print(json.dumps(make() if options.action == "make" else measure()))
