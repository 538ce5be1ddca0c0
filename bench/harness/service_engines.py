"""Real engines for a row, started by `scripts/engines`; killed and started again while a server runs on them.

It refuses engines that it did not start. To add one: its start and its stop in `Engines`.
"""

import os
import pathlib
import subprocess
import sys
import time

from . import machine
from .figures import CannotMeasure
from .workbench import CACHE, ROOT

sys.path.insert(0, str(ROOT / "scripts"))

from engines import _processes, postgres, redis  # noqa: E402
from engines._processes import free_port  # noqa: E402, F401

PROGRAMS = pathlib.Path(os.environ.get("WATERSHED_CACHE") or CACHE) / "engines"
MIGRATE_MS = 1_000


class Engines:
    """`with Engines(workbench, "plain") as engines:` PostgreSQL, and Redis as `plain`, `sentinel` or `cluster`."""

    def __init__(self, workbench, redis_mode="plain", postgres_settings=None):
        self.folder = workbench.folder("engines")
        self.redis_mode = redis_mode
        self.postgres_settings = postgres_settings or {}
        self.postgres, self.processes, self.urls = None, [], ""

    def __enter__(self):
        PROGRAMS.mkdir(parents=True, exist_ok=True)
        for engine in (postgres, redis):
            engine.install(PROGRAMS)
        folder = self.folder / "redis"
        folder.mkdir()
        starts = {"plain": redis.plain, "sentinel": redis.sentinel_set, "cluster": redis.replicated_cluster}
        try:
            self.postgres = postgres.Server(PROGRAMS, self.folder / "postgres", self.postgres_settings)
            self.urls = starts[self.redis_mode](folder, self.processes)
        except BaseException as failure:
            self.__exit__()
            if isinstance(failure, Exception):
                raise CannotMeasure(f"the engines did not start: {failure}") from failure
            raise
        return self

    def __exit__(self, *_):
        _processes.stop_all(self.processes)
        if self.postgres is not None:
            self.postgres.stop()

    def processor_seconds(self):
        """Of every process of every engine."""
        pids = [self.postgres.process.pid, *(process.pid for process in self.processes)]
        return sum(machine.family_seconds(pid) for pid in pids)

    def transactions(self):
        """How many the database has done, those of this question not among them."""
        # The figures of an idle connection are told at the latest after a second.
        time.sleep(2)
        command = [self.postgres.programs / "psql", "-X", "-A", "-t", "-d", self.postgres.url, "-c"]
        command += ["SELECT sum(xact_commit + xact_rollback) FROM pg_stat_database"]
        asked = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=False)
        if asked.returncode != 0:
            raise CannotMeasure(f"the database does not say what it did: {asked.stderr.strip()}")
        return int(asked.stdout)

    @property
    def redis_url(self):
        """As `storage.redis.url` has it: one address, or several with commas between them."""
        first, *others = self.urls.replace("redis-sentinel://", "redis://").split(",")
        base, slash, service = first.removeprefix("redis://").partition("/")
        hosts = [base, *(other.rpartition("@")[2].partition("/")[0] for other in others)]
        return f"redis://{','.join(hosts)}{slash}{service}"

    def redis_process(self, name):
        """The server of this name, or on this port."""
        return next(process for process in self.processes if name in (process.name, process.port))

    def start_redis_again(self, process):
        """Returns when it answers."""
        process.launch()
        process.wait_until(lambda: redis.ask(process.port, "PING") == "PONG")

    def master_of(self, key):
        """The Cluster's server that has the slot of this key now."""
        for process in self.processes:
            if process.child.poll() is None and redis.has_slot_of(process.port, key):
                return process
        raise CannotMeasure(f"no server of the Cluster has the slot of {key}")

    def move_slot_of(self, key):
        """Moves the slot of this key, with all that is in it, to another primary."""
        source = self.master_of(key)
        alive = [process for process in self.processes if process.child.poll() is None]
        masters = [process for process in alive if redis.ask(process.port, "ROLE").startswith("master")]
        target = next(process for process in masters if process is not source)
        redis.move_slot(key, source.port, target.port, [process.port for process in masters], MIGRATE_MS)
        if self.master_of(key) is not target:
            raise CannotMeasure("the slot was not moved")

    def has_other_primary(self, primary):
        """Whether the sentinels name another server than this one."""
        sentinels = [process for process in self.processes if process.name.startswith("sentinel")]
        named = [redis.ask(process.port, "SENTINEL", "GET-MASTER-ADDR-BY-NAME", redis.SERVICE) for process in sentinels]
        return all(name and name.split()[-1] != str(primary.port) for name in named)
