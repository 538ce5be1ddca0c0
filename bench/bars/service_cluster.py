"""A Cluster of 3 primaries with a replica each: the primary of the tenant's limits is killed under load, then a slot
moves."""

from harness.service_engines import Engines
from harness.figures import Figure, Measured
from harness.service import LIMITS_KEY, Service

from . import _outage

NAME = "service-cluster"
WHAT = "a Redis Cluster of 3 primaries, each with a replica: one killed, then the tenant's slot moved, under load"
BAR = "no restart, no failed request; <= 10 s of limits counted by the server alone and of cache misses, each time"
ALONE_SECONDS = 10.0
MISSES_SECONDS = 10.0
# Answers are kept only where it is asked for.
SETTINGS = "[recommend.cache]\nrecommendation_ttl_secs = 60\n"


def measure(workbench):
    rate, (before, away, after) = _outage.rate(workbench), _outage.seconds(workbench)
    with Engines(workbench, "cluster") as engines, Service(workbench, engines, settings=SETTINGS) as service:
        primary = engines.master_of(LIMITS_KEY)
        killed = service.outage(rate, primary.kill, lambda: None, (before, away, after))
        moves = lambda: engines.move_slot_of(LIMITS_KEY)  # noqa: E731
        moved = service.outage(rate, moves, lambda: None, (before, 0, after))
        counts = service.stored()
    figures, notes = [], []
    for name, outage in (("a primary killed", killed), ("a slot moved", moved)):
        of_outage = [outage.counted_alone(ALONE_SECONDS), outage.without_hit(MISSES_SECONDS), *outage.figures(counts)]
        of_outage.append(Figure("writes refused", outage.told["write"]["refused"], at_most=0))
        for figure in of_outage:
            figure.what = f"{name}: {figure.what}"
        figures += of_outage
        notes += [f"{name}: {note}" for note in outage.notes()]
    figures.append(killed.was_counted_alone())
    return Measured(figures, notes)
