"""What an uncached hybrid recommendation costs all processes together, and how many statements the database runs for it.

A statement of the server is a transaction of its own, so that transactions are counted; those that it does whether or
not anybody asks (heartbeats, looks at keys and events) are among them. The figure of the system that this replaces is a
published one: about 400 ms and 950 statements.
"""

from harness.service_engines import Engines
from harness.figures import Figure, Measured
from harness.service import Service

NAME = "service-statements"
WHAT = "uncached hybrid recommendations on PostgreSQL + Redis, 3,000 items, 32,000 interactions, 1,000 users"
BAR = "<= 0.5 ms of CPU in all processes together, <= 1 SQL statement a request"
PEER = "the system of the guide, as published"
PATH = "/api/v1/recommendations/user/{}?count=10"


def measure(workbench):
    rate, seconds = workbench.pick((500, 30), (20, 5))
    options = ["--writes", 0, "--reads", 0, "--rate", rate, "--path", PATH]
    with Engines(workbench) as engines, Service(workbench, engines) as service:
        service.server.settle()
        service.load(3, "warm", *options)
        transactions, spent = engines.transactions(), service.processor_seconds()
        told = service.load(seconds, "statements", *options)
        spent, transactions = service.processor_seconds() - spent, engines.transactions() - transactions
    sent = told["recommend"]["sent"]
    figures = [
        Figure("CPU of all processes a request", 1e3 * spent / sent, "ms", at_most=0.5, peer=400.0, peer_name=PEER),
        Figure("SQL statements a request", transactions / sent, at_most=1.0, peer=950.0, peer_name=PEER),
        Figure("requests that failed", sent - told["recommend"]["good"], at_most=0),
        Figure("requests", sent),
        Figure("p50", told["latency"]["p50_ms"], "ms"),
        Figure("p99", told["latency"]["p99_ms"], "ms"),
    ]
    return Measured(figures, [f"failure: {failure}" for failure in told["failures"]])
