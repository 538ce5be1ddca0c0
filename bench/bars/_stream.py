"""Shared by the rows about the whole stream: a server on the embedded log or on brokers, the feed, what is served."""

import contextlib
import datetime
import os
import pathlib
import subprocess
import sys
import urllib.error

from harness import machine, ticks
from harness.figures import CannotMeasure, Measured
from harness.server import KEY, Server
from harness.workbench import CACHE, ROOT, clean_environment

sys.path.insert(0, str(ROOT / "scripts"))

from engines import _processes, kafka  # noqa: E402

PROGRAMS = pathlib.Path(os.environ.get("WATERSHED_CACHE") or CACHE) / "engines"
FEED = ROOT / "bench" / "peers" / "tick_feed.py"
WAYS = ("embedded", "kafka")
# History that comes after a pause must not be late.
SETTINGS = "[market.stages]\nidle_after_seconds = 86400\n[recommend.schedule]\nincremental_update_interval_secs = 3600\n"


class Desk:
    """A server that market data goes through one of the ways, with what it stands on."""

    def __init__(self, workbench, way):
        self.workbench, self.way = workbench, way
        self.broker, self.brokers, settings = None, None, SETTINGS
        if way == "kafka":
            PROGRAMS.mkdir(parents=True, exist_ok=True)
            kafka.install(PROGRAMS)
            folder, port = workbench.folder("kafka"), _processes.free_port()
            self.broker = _processes.Process(kafka.command(PROGRAMS, folder, port), folder / "tansu.log")
            self.brokers = f"127.0.0.1:{port}"
            settings += f'[storage.kafka]\nurl = "kafka://{self.brokers}"\npartitions = 2\n'
        self.server = Server(workbench, workbench.folder(f"data-{way}"), settings, f"server-{way}",
                             port=_processes.free_port())

    def __enter__(self):
        try:
            if self.broker:
                self.broker.wait_until(lambda: kafka.answers(int(self.brokers.rpartition(":")[2])))
            self.server.start()
        except BaseException as failure:
            self.__exit__()
            if isinstance(failure, RuntimeError):
                raise CannotMeasure(f"the broker did not start: {failure}") from failure
            raise
        return self

    def __exit__(self, *_):
        self.server.kill()
        if self.broker:
            _processes.stop_all([self.broker])

    def processor_seconds(self):
        """Of the server, and of the broker."""
        broker = machine.family_seconds(self.broker.pid) if self.broker else 0.0
        return machine.processor_seconds(self.server.pid), broker

    def feed_command(self, what, *options):
        command = [self.workbench.python(), FEED, what, "--address", self.server.address, "--key", KEY]
        if self.brokers:
            command += ["--brokers", self.brokers]
        return [str(part) for part in [*command, *options]]

    @contextlib.contextmanager
    def driven(self):
        """The feed as `drive` has it."""
        feed = subprocess.Popen(self.feed_command("drive"), env=clean_environment(), stdin=subprocess.PIPE,
                                stdout=subprocess.PIPE, text=True)
        try:
            yield feed
        finally:
            feed.kill()
            feed.communicate()

    def bars(self, instrument, interval):
        """By start in microseconds what is served, in the order of `ticks.expected`."""
        path = f"/api/v1/market/bars/{instrument}?interval={interval}&limit=1000"
        found, after = {}, ""
        while True:
            try:
                page = self.server.get_json(path + after)
            except urllib.error.HTTPError as refused:
                if refused.code == 404:
                    return found
                raise
            for bar in page["bars"]:
                start = datetime.datetime.fromisoformat(bar["interval_start"])
                values = [bar[name] for name in ("open", "high", "low", "close", "volume", "trade_count")]
                found[int(start.timestamp()) * 1_000_000] = values
            if not page.get("next_from"):
                return found
            after = f"&from={page['next_from']}"

    def trades(self, instruments):
        """Of all of them together, by their daily bars."""
        return sum(bar[5] for name in instruments for bar in self.bars(name, "1d").values())


def names():
    return [ticks.instrument(number) for number in range(ticks.INSTRUMENTS)]


def each_way(workbench, run):
    """What `run` gives for each place of the topics, as one."""
    figures, notes = [], []
    for way in WAYS:
        more, lines = run(workbench, way)
        figures += more
        notes += lines
    return Measured(figures, notes)
