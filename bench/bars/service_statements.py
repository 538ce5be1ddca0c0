"""What an uncached hybrid recommendation costs all processes together, and how many statements the database runs for it.

A statement of the server is a transaction of its own, so that transactions are counted; those that it does whether or
not anybody asks (heartbeats, looks at keys and events) are among them. The figure of the system that this replaces is a
published one: about 400 ms and 950 statements.

The states of users are made ahead, after the start; who acts needs another one. What that costs is told beside: once with
the whole processor time of the server since its start as if each user asked once, and once under writes.
"""

from harness.service_engines import Engines
from harness.figures import Figure, Measured
from harness.service import Service

NAME = "service-statements"
WHAT = "uncached hybrid recommendations on PostgreSQL + Redis, 3,000 items, 32,000 interactions, 1,000 users"
BAR = "<= 0.5 ms of CPU in all processes together, <= 1 SQL statement a request"
PEER = "the system of the guide, as published"
PATH = "/api/v1/recommendations/user/{}?count=10"
WRITES_PERCENT = 15


def measure(workbench):
    rate, seconds = workbench.pick((500, 30), (20, 5))
    common = ["--reads", 0, "--rate", rate, "--path", PATH]
    options = ["--writes", 0, *common]
    with Engines(workbench) as engines, Service(workbench, engines) as service:
        # Of the server from its first instruction on: views, models and states.
        ahead = service.server.settle()
        service.load(3, "warm", *options)
        transactions, spent = engines.transactions(), service.processor_seconds()
        told = service.load(seconds, "statements", *options)
        spent, transactions = service.processor_seconds() - spent, engines.transactions() - transactions
        before = service.processor_seconds()
        mixed = service.load(seconds, "writes", "--writes", WRITES_PERCENT, *common)
        under_writes = service.processor_seconds() - before
        users = service.sizes[0]
    sent = told["recommend"]["sent"]
    mixed_sent = sum(mixed[kind]["sent"] for kind in ("recommend", "write"))
    mixed_good = sum(mixed[kind]["good"] for kind in ("recommend", "write"))
    once = 1e3 * (spent / sent + ahead / users)
    figures = [
        Figure("CPU of all processes a request", 1e3 * spent / sent, "ms", at_most=0.5, peer=400.0, peer_name=PEER),
        Figure("SQL statements a request", transactions / sent, at_most=1.0, peer=950.0, peer_name=PEER),
        Figure("requests that failed", sent - told["recommend"]["good"], at_most=0),
        Figure("requests", sent),
        Figure("CPU of all processes a request, with the start of the server, each user asking once", once, "ms"),
        Figure(f"CPU of all processes a request, {WRITES_PERCENT} % of them writes", 1e3 * under_writes / mixed_sent, "ms"),
        Figure(f"requests that failed, {WRITES_PERCENT} % of them writes", mixed_sent - mixed_good, at_most=0),
        Figure("p50", told["latency"]["p50_ms"], "ms"),
        Figure("p99", told["latency"]["p99_ms"], "ms"),
    ]
    return Measured(figures, [f"failure: {failure}" for failure in told["failures"]])
