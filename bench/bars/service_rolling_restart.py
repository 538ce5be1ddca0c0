"""Three replicas behind HAProxy, restarted one after the other, again and again, under the mixed load of `service-load`.

Before each restart the schema is looked at and migrated by the binary, as an upgrade does it beside live servers. There is
no step that the schema lacks, so that what is shown is that this harms nobody, not that a step does not.

A request counts as failed where its caller sees no answer, one of 500 or more, or one that is not what was asked for.
"""

import time

from harness.figures import CannotMeasure, Figure, Measured
from harness.proxy import Proxy
from harness.service import Service
from harness.service_engines import Engines

NAME = "service-rolling-restart"
WHAT = "3 replicas behind HAProxy (deploy/haproxy), migrated and restarted in turn under the mixed load"
BAR = "0 failed requests of >= 100,000"

REPLICAS = 3
CONNECTIONS = 32
KINDS = ("recommend", "write", "entity")
SETTINGS = "[server]\nshutdown_delay_secs = 2\n"


class Roller:
    """Restarts one server after the other, each when the proxy has the one before again."""

    def __init__(self, service, proxy):
        self.service, self.proxy = service, proxy
        self.count, self.longest_seconds = 0, 0.0
        self.migrations, self.changes = 0, []

    def migrate(self, server):
        """`migrate plan`, then `migrate up`, with the settings of a server."""
        for command in ("plan", "up"):
            told = self.service.workbench.watershed("--config", server.config, "migrate", command).strip()
            if told and not told.startswith(("nothing to do", "-- nothing")):
                self.changes.append(f"migrate {command}: {told[:200]}")
        self.migrations += 1

    def restart_next(self):
        server = self.service.servers[self.count % REPLICAS]
        self.migrate(server)
        began = time.monotonic()
        server.stop()
        if server.exit_code != 0:
            raise CannotMeasure(f"a server ended with {server.exit_code}")
        server.start()
        self.proxy.wait_for(server)
        self.count += 1
        self.longest_seconds = max(self.longest_seconds, time.monotonic() - began)


def measure(workbench):
    wanted, seconds = workbench.pick((100_000, 60), (2_000, 20))
    told, acknowledged = [], []
    with (
        Engines(workbench) as engines,
        Service(workbench, engines, replicas=REPLICAS, settings=SETTINGS, keeps_ports=True) as service,
    ):
        for server in service.servers:
            server.settle()
        with Proxy(workbench, service.servers) as proxy:
            service.front = proxy.address
            service.load(workbench.pick(5, 2), "warm", "--connections", CONNECTIONS)
            roller = Roller(service, proxy)
            while roller.count < REPLICAS or sum(one[kind]["sent"] for one in told for kind in KINDS) < wanted:
                load = service.begin_load(seconds, f"rolling-{len(told)}", "--connections", CONNECTIONS)
                while load.is_running():
                    roller.restart_next()
                told.append(load.end())
                acknowledged += load.acknowledged_ids()
        service.front = None
        counts = service.stored()
    total = {what: sum(one[kind][what] for one in told for kind in KINDS) for what in ("sent", "refused", "failed")}
    rate = sum(one["requests_per_second"] for one in told) / len(told)
    figures = [
        Figure("failed requests", total["failed"] + total["refused"], at_most=0),
        Figure("requests", total["sent"], at_least=wanted),
        Figure("restarts", roller.count, at_least=REPLICAS),
        Figure("migrations beside the servers", roller.migrations, at_least=roller.count),
        Figure("migrations that had something to do", len(roller.changes), at_most=0),
        Figure("acknowledged events that are lost", sum(counts[id] == 0 for id in acknowledged), at_most=0),
        Figure("acknowledged events that are there twice", sum(counts[id] > 1 for id in acknowledged), at_most=0),
        Figure("requests a second", rate, "req/s"),
        Figure("p95, the worst load", max(one["latency"]["p95_ms"] for one in told), "ms"),
        Figure("longest wait", max(one[kind]["most_ms"] for one in told for kind in KINDS), "ms"),
        Figure("longest restart, from SIGTERM to taken by the proxy again", roller.longest_seconds, "s"),
    ]
    return Measured(figures, [*roller.changes, *(f"failure: {failure}" for one in told for failure in one["failures"])])
