"""Real engines beside a row, the ones that the tests have (`scripts/engines`), on free ports of this machine."""

import contextlib
import importlib
import sys

from .workbench import CACHE, ROOT


@contextlib.contextmanager
def postgres(workbench):
    """The address of a PostgreSQL that is gone in the end."""
    sys.path.insert(0, str(ROOT / "scripts"))
    module = importlib.import_module("engines.postgres")
    module.install(CACHE / "engines")
    environment, stop = module.start(CACHE / "engines", workbench.folder("postgres"))
    try:
        yield environment["WATERSHED_TEST_POSTGRES_URL"]
    finally:
        stop()
