"""Shared by the rows about the whole stream: servers on a log or on brokers, the feed, what is served."""

import contextlib
import datetime
import http.client
import os
import pathlib
import subprocess
import sys
import threading
import time
import urllib.error

from harness import machine, ticks
from harness.figures import CannotMeasure, Measured
from harness.partitions import LOGGING
from harness.server import KEY, Server
from harness.workbench import CACHE, ROOT, clean_environment

sys.path.insert(0, str(ROOT / "scripts"))

from engines import _crabka, _processes, postgres  # noqa: E402

PROGRAMS = pathlib.Path(os.environ.get("WATERSHED_CACHE") or CACHE) / "engines"
FEED = ROOT / "bench" / "peers" / "tick_feed.py"
WAYS = ("embedded", "kafka")
PARTITIONS = 2
# History that comes after a pause must not be late.
SETTINGS = "[market.stages]\nidle_after_seconds = 86400\n[recommend.schedule]\nincremental_update_interval_secs = 3600\n"
FEED_LOOK_SECONDS = 0.01


class Desk:
    """Servers that market data goes through one of the ways, with what they stand on: one server on its data folder, or
    several that share a database. The way says where the topics are: `embedded`, `postgres` or `kafka`."""

    def __init__(self, workbench, way, servers=1, kafka_settings=""):
        self.workbench, self.way, self.count, self.kafka_settings = workbench, way, servers, kafka_settings
        self.broker, self.brokers, self.postgres, self.servers = None, None, None, []

    def __enter__(self):
        try:
            PROGRAMS.mkdir(parents=True, exist_ok=True)
            settings = SETTINGS
            if self.way == "kafka":
                settings += self._start_broker()
            if self.count > 1:
                settings += self._start_database()
            self._start_servers(settings)
        except BaseException as failure:
            self.__exit__()
            if isinstance(failure, (RuntimeError, subprocess.CalledProcessError)):
                raise CannotMeasure(f"an engine did not start: {failure}") from failure
            raise
        return self

    def __exit__(self, *_):
        for server in self.servers:
            server.kill()
        if self.broker:
            _processes.stop_all([self.broker])
        if self.postgres:
            self.postgres.stop()

    def _start_broker(self):
        _crabka.install(PROGRAMS)
        self.broker, port = _crabka.run(PROGRAMS, self.workbench.folder("kafka"))
        self.brokers = f"127.0.0.1:{port}"
        # This broker has no usual number of replicas.
        topics = f"partitions = {PARTITIONS}\nreplicas = 1\n"
        return f'[storage.kafka]\nurl = "kafka://{self.brokers}"\n{topics}{self.kafka_settings}'

    def _start_database(self):
        postgres.install(PROGRAMS)
        self.postgres = postgres.Server(PROGRAMS, self.workbench.folder("postgres"))
        return f'[storage.postgres]\nurl = "{self.postgres.url}"\npartitions = {PARTITIONS}\n'

    def _start_servers(self, settings):
        for number in range(1, self.count + 1):
            name = f"{self.way}-{number}"
            folder, port = self.workbench.folder(f"data-{name}"), _processes.free_port()
            logging = LOGGING if self.count > 1 else None
            server = Server(self.workbench, folder, settings, f"server-{name}", port, logging)
            self.servers.append(server)
            if self.postgres and number == 1:
                self.workbench.watershed("--config", server.config, "--data-dir", folder, "migrate", "up")
            server.start()

    @property
    def server(self):
        """One that runs."""
        return next((server for server in self.servers if server.process), self.servers[0])

    def processor_seconds(self):
        """Of the server, and of the broker."""
        broker = machine.family_seconds(self.broker.pid) if self.broker else 0.0
        return machine.processor_seconds(self.server.pid), broker

    def feed_command(self, what, *options):
        addresses = ",".join(server.address for server in self.servers)
        command = [self.workbench.python(), FEED, what, "--address", addresses, "--key", KEY]
        if self.brokers:
            command += ["--brokers", self.brokers]
        return [str(part) for part in [*command, *options]]

    def bars(self, instrument, interval, server=None):
        """By start in microseconds what is served, in the order of `ticks.expected`."""
        path = f"/api/v1/market/bars/{instrument}?interval={interval}&limit=1000"
        found, after = {}, ""
        while True:
            try:
                page = (server or self.server).get_json(path + after)
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

    def behind(self):
        """Events that stages have yet to take, as the servers that run tell it; none where one of them does not answer."""
        total = 0.0
        try:
            for server in self.servers:
                if server.process:
                    with server.get("/metrics", seconds=10) as answer:
                        lines = answer.read().decode().splitlines()
                    total += sum(float(line.split()[1]) for line in lines if line.startswith("stage_lag_events{"))
        except (OSError, http.client.HTTPException):
            return None
        return total


class Feed:
    """The feed as `drive` has it: what was asked of it, what was acknowledged, what was sent again."""

    def __init__(self, desk):
        self.process = subprocess.Popen(desk.feed_command("drive"), env=clean_environment(), stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, text=True)
        self.asked, self.done, self.again = 0, 0, 0
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self):
        for line in self.process.stdout:
            done, again = line.split()
            self.done, self.again = int(done), int(again)

    def send_until(self, number):
        """Asks for all ticks before a number, and waits for nothing."""
        if number > self.asked:
            self.asked = number
            try:
                print(number, file=self.process.stdin, flush=True)
            except OSError as failure:
                raise CannotMeasure("the feed ended") from failure

    def wait(self, seconds):
        """Until what was asked for is acknowledged; false where that took longer."""
        end = time.monotonic() + seconds
        while self.done < self.asked:
            if self.process.poll() is not None:
                raise CannotMeasure("the feed ended")
            if time.monotonic() > end:
                return False
            time.sleep(FEED_LOOK_SECONDS)
        return True

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()
        with contextlib.suppress(OSError):
            self.process.stdin.close()


def names():
    return [ticks.instrument(number) for number in range(ticks.INSTRUMENTS)]


def joined(parts):
    """What parts of a row gave, as one."""
    figures, notes = [], []
    for more, lines in parts:
        figures += more
        notes += lines
    return Measured(figures, notes)
