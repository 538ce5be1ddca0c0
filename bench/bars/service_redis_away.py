"""Redis is killed under load, and started again, empty."""

from harness.service_engines import Engines
from harness.figures import Figure, Measured
from harness.service import Service

from . import _outage

NAME = "service-redis-away"
WHAT = "Redis killed for 20 s under a mixed load of 500 requests/s"
BAR = f"{_outage.BAR}; no write refused"


def measure(workbench):
    with Engines(workbench) as engines, Service(workbench, engines) as service:
        cache = engines.redis_process("plain")
        mends = lambda: engines.start_redis_again(cache)  # noqa: E731
        outage = service.outage(_outage.rate(workbench), cache.kill, mends, _outage.seconds(workbench))
        figures = outage.figures(service.stored())
    figures.append(Figure("writes refused", outage.told["write"]["refused"], at_most=0))
    figures += [outage.was_counted_alone(), outage.alone_after_return()]
    return Measured(figures, outage.notes())
