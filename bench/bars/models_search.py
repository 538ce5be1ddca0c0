"""How well and how fast what is looked for is found, by words, by meaning and by both.

The measures are checked against what `trec_eval` says of its own example before anything is measured. The share for
meaning is learned on SciFact's training queries and taken over for Cranfield, which has none. The hybrid that is judged
is the learned one; all others are printed.
"""

import json

from bars._search import ENCODER, cranfield, encoder, scifact
from harness.figures import CannotMeasure, Figure, Measured

NAME = "models-search"
WHAT = f"nDCG@10 on SciFact and Cranfield: BM25, {ENCODER}, hybrid; searches over 100,000 texts"
BAR = "SciFact BM25 >= 0.669 (Anserini 0.679 - 0.01); hybrid above both halves; p95 < 20 ms"
ANSERINI = 0.679
WAYS = ("bm25", "semantic", "rrf", "weighted", "combsum", "learned")
TREC = {"map": "map", "ndcg_cut_10": "ndcg_cut_10", "recall_100": "recall_100"}


def golden(workbench, program):
    """Refuses to measure with measures that are not `trec_eval`'s."""
    folder = workbench.data("trec_eval")
    told = workbench.run_json([program, "trec", "--run", folder / "results.test", "--judgements", folder / "qrels.test"])
    expected = {}
    for line in (folder / "out.test.a").read_text().splitlines():
        measure, query, value = line.split()
        if query == "all":
            expected[measure] = value
    for ours, theirs in TREC.items():
        if f"{told[ours]:.4f}" != expected[theirs]:
            raise CannotMeasure(f"{ours} is {told[ours]:.4f}, trec_eval says {expected[theirs]}")
    return f"measures agree with trec_eval's example: {', '.join(f'{name} {told[name]:.4f}' for name in TREC)}"


def quality(workbench, program, name, collection, *options):
    file = workbench.scratch / f"{name}.json"
    file.write_text(json.dumps(collection))
    vectors = workbench.scratch / f"{name}.vectors"
    command = [program, "quality", "--collection", file, "--vectors", vectors, *options]
    return workbench.run_json(command)


def measure(workbench):
    program = workbench.binary("bench-search")
    notes = [golden(workbench, program)]
    model = encoder(workbench)
    collections = {"SciFact": scifact(workbench), "Cranfield": cranfield(workbench)}
    if workbench.quick:
        for collection in collections.values():
            collection["documents"] = collection["documents"][:200]
            collection["queries"] = collection["queries"][:20] + collection["queries"][-20:]
    figures, weight = [], []
    for name, collection in collections.items():
        told = quality(workbench, program, name, collection, "--model", model, *weight)
        weight = ["--weight", str(told["weight"])]
        bm25, semantic, hybrid = (told[way]["ndcg@10"] for way in ("bm25", "semantic", "learned"))
        bar = {"at_least": ANSERINI - 0.01, "peer": ANSERINI, "peer_name": "Anserini, published"} if name == "SciFact" else {}
        figures.append(Figure(f"{name}: BM25 nDCG@10", bm25, **bar))
        figures.append(Figure(f"{name}: {ENCODER} nDCG@10", semantic))
        figures.append(
            Figure(f"{name}: hybrid over its better half", hybrid - max(bm25, semantic), at_least=1e-9)
        )
        notes.append(f"{name}: {told['queries']} queries, {told['documents']} texts, share for meaning {told['weight']}")
        for way in WAYS:
            notes.append(f"  {way:10} " + "  ".join(f"{what} {value:.4f}" for what, value in told[way].items()))
    figures += latency(workbench, model, program, notes)
    return Measured(figures, notes)


def latency(workbench, model, program, notes):
    """Through the service over the embedded engine, once every vector has its place in the graph; before that it is told too."""
    count = workbench.pick(100_000, 2_000)
    told = workbench.run_json([program, "latency", "--documents", count, "--model", model])
    notes.append(f"{count:,} generated texts, indexed in {told['index_seconds']:.0f} s; one search after another, in process")
    for kind in ("words", "words_and_facets", "hybrid", "hybrid_while_linking"):
        notes.append(f"  {kind:20} " + "  ".join(f"{name} {value:.2f}" for name, value in told[kind].items()))
    return [
        Figure("p95 of a search by words alone", told["words"]["p95_ms"], "ms", at_most=20),
        Figure("p95 with facets", told["words_and_facets"]["p95_ms"], "ms", at_most=20),
        Figure("p95 by words and by meaning", told["hybrid"]["p95_ms"], "ms", at_most=20),
    ]
