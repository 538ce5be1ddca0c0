"""The primary of a Sentinel set is killed under load; the sentinels name another."""

from harness.service_engines import Engines
from harness.figures import CannotMeasure, Figure, Measured
from harness.service import Service

from . import _outage

NAME = "service-sentinel"
WHAT = "a Sentinel set of 1 + 2 with 3 sentinels whose primary is killed under a mixed load of 500 requests/s"
BAR = "no restart, no failed request; <= 10 s of limits counted by the server alone and of cache misses"
ALONE_SECONDS = 10.0
MISSES_SECONDS = 10.0
# Answers are kept only where it is asked for.
SETTINGS = "[recommend.cache]\nrecommendation_ttl_secs = 60\n"


def measure(workbench):
    with Engines(workbench, "sentinel") as engines, Service(workbench, engines, settings=SETTINGS) as service:
        primary = engines.redis_process("primary")
        outage = service.outage(
            _outage.rate(workbench), primary.kill, lambda: None, _outage.seconds(workbench)
        )
        if not engines.has_other_primary(primary):
            raise CannotMeasure("the sentinels named no other primary")
        figures = outage.figures(service.stored())
    figures = [outage.counted_alone(ALONE_SECONDS), outage.without_hit(MISSES_SECONDS), *figures, outage.was_counted_alone()]
    return Measured([*figures, Figure("writes refused", outage.told["write"]["refused"], at_most=0)], outage.notes())
