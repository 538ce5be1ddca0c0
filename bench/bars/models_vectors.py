"""The index of the embedded `Vectors` beside hnswlib, on the same clustered vectors, one thread each.

Ours is asked through the port at the one setting it has, and its build counts the durable write too. hnswlib is
asked by its own binding, a thousand queries in one call, with the narrowest search that finds as much as ours does:
that is the peer. Its narrowest search that reaches .95 is told beside it, and is cheaper than ours where ours finds
more. It builds with M 16 and its default construction of 200, and again with 100, as ours has.
"""

import statistics

from harness.figures import Figure, Measured
from harness.workbench import ROOT, clean_environment

NAME = "models-vectors"
WHAT = "100,000 x 128 clustered vectors in the embedded Vectors: CPU to build and ask, recall@10, beside hnswlib"
BAR = "recall@10 >= 0.95; queries per CPU second >= 1.0 x hnswlib at equal recall, build <= 1.0 x, one thread"
RECALL = 0.95
CONSTRUCTIONS = (200, 100)
ONE_THREAD = {name: "1" for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")}


def measure(workbench):
    vectors, queries, rounds = workbench.pick((100_000, 1_000, 3), (15_000, 100, 1))
    folder = workbench.folder("vectors")
    program, python = workbench.binary("bench-index"), workbench.python()
    script = ROOT / "bench" / "peers" / "hnswlib_index.py"

    def peer(action, *more):
        environment = clean_environment(**ONE_THREAD)
        return workbench.run_json([python, script, action, folder, *more], environment=environment)

    peer("make", "--vectors", vectors, "--queries", queries)
    ours, theirs = [], {construction: [] for construction in CONSTRUCTIONS}
    for turn in range(rounds):
        workbench.say(f"turn {turn + 1} of {rounds}")
        # A store is made anew each time, on the disk of the folder.
        store = folder / "store"
        ours.append(workbench.run_json([program, "--folder", folder]))
        store.rename(folder / f"store-{turn}")
        for construction in CONSTRUCTIONS:
            recalls = (RECALL, max(RECALL, ours[0]["recall"]))
            theirs[construction].append(peer("measure", "--construction", construction, "--recall", *recalls))

    def median(runs, *path):
        def of(run):
            for name in path:
                run = run[name]
            return run

        return statistics.median(of(run) for run in runs)

    figures = [Figure("recall@10 against exact", median(ours, "recall"), at_least=RECALL)]
    notes = []
    for construction in CONSTRUCTIONS:
        runs = theirs[construction]
        # Its default is the peer; the other says what it would cost to build as we do.
        is_bar = construction == CONSTRUCTIONS[0]
        settings = f"hnswlib, M 16, construction {construction}"
        for place, is_equal in ((1, True), (0, False)):
            search = runs[0]["searches"][place]
            speed = statistics.median(run["searches"][place]["queries_per_cpu_second"] for run in runs)
            name = f"{settings}, search {search['width']}, recall {search['recall']:.4f}"
            figures.append(Figure("queries per CPU second", median(ours, "queries_per_cpu_second"), "/s",
                                  at_least=speed if is_bar and is_equal else None, peer=speed, peer_name=name))
        build = median(runs, "build_cpu_seconds")
        figures.append(Figure("CPU to write and index", median(ours, "build", "cpu_seconds"), "s",
                              at_most=build if is_bar else None, peer=build, peer_name=settings))
    restart = median(ours, "restart", "indexed_seconds")
    loaded = median(ours, "restart", "loaded_seconds")
    notes.append(f"after a restart: searched exactly after {loaded:.2f} s, through the index after {restart:.1f} s")
    return Measured(figures, notes)
