"""A network that swallows everything between the server and both of its engines."""

from harness.service_engines import Engines
from harness.faults import Wire
from harness.figures import Measured
from harness.service import Service

from . import _outage

NAME = "service-partition"
WHAT = "PostgreSQL and Redis behind a network that swallows everything for 20 s, under 500 requests/s"
BAR = _outage.BAR


def measure(workbench):
    with (
        Engines(workbench) as engines,
        Wire(engines.postgres.port) as to_postgres,
        Wire(engines.redis_process("plain").port) as to_redis,
        Service(workbench, engines, postgres_port=to_postgres.port, redis_port=to_redis.port) as service,
    ):
        wires = (to_postgres, to_redis)

        def breaks():
            for wire in wires:
                wire.freeze()

        def mends():
            for wire in wires:
                wire.mend()

        outage = service.outage(_outage.rate(workbench), breaks, mends, _outage.seconds(workbench))
        figures = outage.figures(service.stored()) + outage.was_refused()
    return Measured([*figures, outage.was_counted_alone(), outage.alone_after_return()], outage.notes())
