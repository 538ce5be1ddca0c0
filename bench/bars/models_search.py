"""How well and how fast what is looked for is found, by words, by meaning and by both.

The measures are checked against what `trec_eval` says of its own example before anything is measured. The share for
meaning is learned on SciFact's training queries and taken over for Cranfield, which has none. The hybrid that is judged
is the learned one; all others are printed. So is the same with a static table that `watershed distill` makes of the encoder
in the run, without a bar.
"""

import json

from bars._search import ENCODER, cranfield, encoder, scifact
from harness.figures import CannotMeasure, Figure, Measured

NAME = "models-search"
WHAT = f"nDCG@10 on SciFact and Cranfield: BM25, {ENCODER}, hybrid; searches over 100,000 texts"
BAR = "SciFact BM25 >= 0.669 (Anserini 0.679 - 0.01); hybrid above both halves; p95 of the middle of five rounds < 20 ms"
ANSERINI = 0.679
TABLE = "distilled table"
# Texts of SciFact that the encoder is timed on; the table takes all.
TIMED_TEXTS = 256
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
        notes += ways(name, told)
    figures += distilled(workbench, model, program, collections, notes)
    figures += latency(workbench, model, program, notes)
    return Measured(figures, notes)


def ways(name, told):
    head = f"{name}: {told['queries']} queries, {told['documents']} texts, share for meaning {told['weight']}"
    measures = [f"  {way:10} " + "  ".join(f"{what} {value:.4f}" for what, value in told[way].items()) for way in WAYS]
    return [head, *measures]


def distilled(workbench, model, program, collections, notes):
    """The same with a static table of the encoder, and how many texts of SciFact each encodes in a second, on one thread."""
    table = workbench.scratch / "table"
    notes += workbench.watershed("distill", "--model-path", model, "--output", table).splitlines()[:1]
    figures, weight = [], []
    for name, collection in collections.items():
        told = quality(workbench, program, f"{name}-table", collection, "--model", table, *weight)
        weight = ["--weight", str(told["weight"])]
        figures.append(Figure(f"{name}: {TABLE} nDCG@10", told["semantic"]["ndcg@10"]))
        figures.append(Figure(f"{name}: hybrid with the {TABLE} nDCG@10", told["learned"]["ndcg@10"]))
        notes += ways(f"{name}, {TABLE}", told)
    texts = [" ".join(document["text"].split()) for document in collections["SciFact"]["documents"]]
    for who, folder, some in ((ENCODER, model, texts[:TIMED_TEXTS]), (TABLE, table, texts)):
        figures.append(Figure(f"SciFact texts by {who}", rate(workbench, program, folder, some), "texts/s"))
    return figures


def rate(workbench, program, model, texts):
    lines, vectors = workbench.scratch / "lines", workbench.scratch / "lines.vectors"
    lines.write_text("".join(f"{text}\n" for text in texts))
    told = workbench.run_json([program, "embed", "--model", model, "--texts", lines, "--vectors", vectors, "--rounds", 1])
    return told["texts"] / told["wall_seconds"]


def latency(workbench, model, program, notes):
    """Through the service over the embedded engine, once every vector has its place in the graph; before that it is told too.

    Each kind but the one while linking is asked in five rounds, in turns with the others; the round whose p95 is the middle
    one is judged.
    """
    count = workbench.pick(100_000, 2_000)
    told = workbench.run_json([program, "latency", "--documents", count, "--model", model])
    notes.append(f"{count:,} generated texts, indexed in {told['index_seconds']:.0f} s; one search after another, in process")
    for kind in ("words", "words_and_facets", "hybrid", "hybrid_while_linking"):
        times = told[kind]
        middle = "  ".join(f"{name} {times[name]:.2f}" for name in ("p50_ms", "p95_ms", "p99_ms"))
        of_rounds = ", ".join(f"{value:.2f}" for value in times["p95_ms_of_rounds"])
        notes.append(f"  {kind:20} {middle}  p95 of each round {of_rounds}")
    return [
        Figure("p95 of a search by words alone", told["words"]["p95_ms"], "ms", at_most=20),
        Figure("p95 with facets", told["words_and_facets"]["p95_ms"], "ms", at_most=20),
        Figure("p95 by words and by meaning", told["hybrid"]["p95_ms"], "ms", at_most=20),
    ]
