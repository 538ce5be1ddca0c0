"""How near searches under a filter come to the exact answer on PostgreSQL with pgvector.

Twenty tenants share an index: one has 90 % of the vectors, one has 50. The truth is worked out by the program, not
asked of the database. The engine is asked as it is configured; the index alone, which it is not, stands in the notes.
"""

from harness.engines import postgres
from harness.figures import Figure, Measured

NAME = "service-vectors"
WHAT = "pgvector recall@10 against exact under a tenant filter, a tag of 1 % and a topic far from the query; 20 tenants"
BAR = "recall@10 >= 0.95, never fewer than k results where k exist"
FILTERS = {"tenant": "tenant", "tag": "tenant and a tag of 1 %", "far_topic": "tenant and a topic far from the query"}
PEER = "pgvector, HNSW, no iterative scans"


def measure(workbench):
    vectors, dimensions, queries = workbench.pick((100_000, 64, 30), (12_000, 32, 5))
    program = workbench.binary("bench-vectors")
    with postgres(workbench) as url:
        told = workbench.run_json(
            [program, "--url", url, "--vectors", vectors, "--dimensions", dimensions, "--queries", queries]
        )
    figures, notes = [], []
    for filter, what in FILTERS.items():
        engines = told["filters"][filter]
        plain = engines["plain"]
        peer = {"peer_name": PEER}
        ours = engines["configured"]
        figures += [
            Figure(f"recall@10 under {what}", ours["recall"], at_least=0.95, peer=plain["recall"], **peer),
            Figure("of the worst tenant", ours["worst_tenant"], at_least=0.95, peer=plain["worst_tenant"], **peer),
            Figure("answers with too few", ours["short"], at_most=0, peer=plain["short"], **peer),
            Figure("answers with too many", ours["wrong"], at_most=0),
        ]
        for name in ("configured", "index", "exact", "plain", "iterative"):
            engine = engines[name]
            notes.append(
                f"{what}: {name}: recall@10 {engine['recall']:.4f}, worst tenant {engine['worst_tenant']:.4f}, "
                f"{engine['short']} of {engine['latency']['count']} too short, p50 {engine['latency']['p50_ms']:.2f}, "
                f"p95 {engine['latency']['p95_ms']:.2f} ms"
            )
    sizes = sorted(told["tenants"].values(), reverse=True)
    count = sum(sizes)
    notes.append(f"{count:,} vectors of {dimensions} dimensions written in {told['load_seconds']:.0f} s "
                 f"({count / told['load_seconds']:.0f}/s); tenants of {', '.join(f'{size:,}' for size in sizes)}")
    return Measured(figures, notes)
