"""PostgreSQL is killed under load, and started again on its data."""

from harness.service_engines import Engines
from harness.figures import Measured
from harness.service import Service

from . import _outage

NAME = "service-postgres-away"
WHAT = "PostgreSQL killed for 20 s under a mixed load of 500 requests/s"
BAR = _outage.BAR


def measure(workbench):
    with Engines(workbench) as engines, Service(workbench, engines) as service:
        database = engines.postgres
        outage = service.outage(_outage.rate(workbench), database.kill, database.launch, _outage.seconds(workbench))
        figures = outage.figures(service.stored()) + outage.was_refused()
    return Measured(figures, outage.notes())
