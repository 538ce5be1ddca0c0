"""A mixed load on PostgreSQL and Redis, as much as one server takes; and what a request costs with more replicas.

The load program, the server and both engines share two processors, also where the machine has more.
"""

import os

from harness.service_engines import Engines
from harness.figures import CannotMeasure, Figure, Measured
from harness.service import Service

NAME = "service-load"
WHAT = "mixed load (80 % recommend, 15 % interactions, 5 % entity reads) on PostgreSQL + Redis, 2 cores for everything"
BAR = ">= 3,000 req/s, p95 < 20 ms, 0 errors; CPU a request with 1, 2, 3 replicas"

CONNECTIONS = 32
CORES = 2
KINDS = ("recommend", "write", "entity")


def wrong(told):
    """Answers that are none, or not the one that was asked for."""
    return sum(told[kind]["failed"] + told[kind]["refused"] for kind in KINDS)


def measure(workbench):
    allowed = os.sched_getaffinity(0)
    if len(allowed) < CORES:
        raise CannotMeasure(f"it needs {CORES} processors, not {len(allowed)}")
    # What is started from here on inherits it.
    os.sched_setaffinity(0, sorted(allowed)[:CORES])
    try:
        return measure_here(workbench)
    finally:
        os.sched_setaffinity(0, allowed)


def measure_here(workbench):
    figures, notes = [], [f"held to processors {sorted(os.sched_getaffinity(0))}"]
    warm, seconds = workbench.pick((5, 30), (2, 3))
    rate = workbench.pick(1_000, 40)
    with Engines(workbench) as engines, Service(workbench, engines) as service:
        service.server.settle()
        service.load(warm, "warm", "--connections", CONNECTIONS)
        full = service.begin_load(seconds, "full", "--connections", CONNECTIONS)
        told = full.end()
        counts = service.stored()
        lost = sum(counts[id] == 0 for id in full.acknowledged_ids())
        figures += [
            Figure("as fast as they are answered", told["requests_per_second"], "req/s", at_least=3_000),
            Figure("p95", told["latency"]["p95_ms"], "ms", at_most=20),
            Figure("errors", wrong(told), at_most=0),
            Figure("acknowledged events that are lost", lost, at_most=0),
            Figure("p50", told["latency"]["p50_ms"], "ms"),
            Figure("p99", told["latency"]["p99_ms"], "ms"),
        ]
        notes += [f"{kind}: {told[kind]['sent']} sent, p95 {told[kind]['latency']['p95_ms']:.1f} ms" for kind in KINDS]
        notes += [f"failure: {failure}" for failure in told["failures"]]
        for replicas in (1, 2, 3):
            if replicas > 1:
                service.add_replica(replicas)
                service.servers[-1].settle()
            before = service.processor_seconds()
            told = service.load(seconds, f"steady-{replicas}", "--connections", CONNECTIONS, "--rate", rate)
            spent = service.processor_seconds() - before
            sent = sum(told[kind]["sent"] for kind in KINDS)
            what = f"CPU a request, {replicas} replica{'s' * (replicas > 1)}, {rate}/s"
            figures.append(Figure(what, 1e3 * spent / sent, "ms"))
            figures.append(Figure(f"errors, {replicas} replica{'s' * (replicas > 1)}", wrong(told), at_most=0))
    return Measured(figures, notes)
