"""The service on real engines: its data, its replicas, a mixed load, and what became of it while an engine was away.

It refuses to judge a load that was not put on it: a client that could not keep its rate is told. To add an outage: a row
that calls `Service.outage` with what breaks and what mends.
"""

import collections
import dataclasses
import json
import subprocess
import threading
import time
import urllib.error
import urllib.request

from . import machine
from .figures import CannotMeasure, Figure
from .server import Server
from .service_engines import free_port
from .workbench import clean_environment

USERS, ENTITIES, INTERACTIONS = 1_000, 3_000, 32_000
RECOVERY_SECONDS = 5.0
SAMPLE_SECONDS = 0.1
# As the load program has them.
WRITES_SHARE, WRITE_LIMIT_SECONDS = 0.15, 5
# The tenant of the load, as the keys of its limits have it in Redis.
LIMITS_KEY = "{default}"
GOOD_READS, BAD_READS, GOOD_WRITES, REFUSED_WRITES, FAILED_WRITES = range(5)


class Service:
    """`with Service(workbench, engines) as service:` a migrated, filled and trained schema, and replicas that serve it."""

    def __init__(self, workbench, engines, replicas=1, postgres_port=None, redis_port=None, settings="",
                 keeps_ports=False):
        self.workbench = workbench
        self.settings, self.keeps_ports = settings, keeps_ports
        # Where the load goes instead of to each replica.
        self.front = None
        self.engines = engines
        self.replicas = replicas
        self.postgres_url = swap_port(engines.postgres.url, engines.postgres.port, postgres_port)
        self.redis_url = swap_port(engines.redis_url, engines.processes[0].port, redis_port)
        self.sizes = [workbench.pick(full, quick) for full, quick in
                      ((USERS, 200), (ENTITIES, 300), (INTERACTIONS, 4_000))]
        self.servers, self.outages = [], 0

    def config(self, postgres_url):
        text = (
            f'[storage.postgres]\nurl = "{postgres_url}"\n'
            f'[storage.redis]\nurl = "{self.redis_url}"\nmode = "{self.engines.redis_mode}"\n'
            # A training would be measured in place of what is.
            "[recommend.schedule]\nincremental_update_interval_secs = 3600\n"
        )
        if self.workbench.quick:
            text += "[recommend.training.algorithms]\nsequence = false\n"
        return text + self.settings

    def __enter__(self):
        # Whatever stands between the server and its engines is for the server.
        prepared = self.workbench.folder("preparing")
        config = prepared / "watershed.toml"
        config.write_text(self.config(self.engines.postgres.url))
        common = ["--config", config, "--data-dir", prepared / "data"]
        self.workbench.watershed(*common, "migrate", "up")
        users, entities, interactions = self.sizes
        self.workbench.watershed(*common, "demo", "--prepare-only", "--users", users, "--entities", entities,
                                 "--interactions", interactions)
        try:
            for number in range(1, self.replicas + 1):
                self.add_replica(number)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        for server in self.servers:
            server.stop()

    def add_replica(self, number):
        name = f"server-{number}"
        folder, port = self.workbench.folder(f"data-{number}"), free_port() if self.keeps_ports else 0
        server = Server(self.workbench, folder, self.config(self.postgres_url), name, port)
        self.servers.append(server)
        server.start()

    @property
    def server(self):
        return self.servers[0]

    def begin_load(self, seconds, prefix, *options):
        """Starts a mixed load on every replica; `.end()` gives what it told."""
        return Load(self, seconds, prefix, options)

    def load(self, seconds, prefix, *options):
        return self.begin_load(seconds, prefix, *options).end()

    def outage(self, rate, breaks, mends, seconds):
        """Breaks something for a while under load; `seconds` are those before, away and after."""
        before, away, after = seconds
        self.outages += 1
        # As many callers as may wait with a write at once: none of them makes a read wait.
        callers = int(rate * WRITES_SHARE * WRITE_LIMIT_SECONDS) + 8
        options = ["--rate", rate, "--seed", self.outages, "--write-connections", callers]
        load = self.begin_load(before + away + after, f"outage-{self.outages}", *options)
        with Watch(self.server) as watch:
            time.sleep(before)
            broken = time.time()
            breaks()
            time.sleep(max(0.0, away - (time.time() - broken)))
            mends()
            mended = time.time()
            told = load.end()
        if self.server.process.poll() is not None:
            raise CannotMeasure("the server ended")
        return Outage(told, load.acknowledged_ids(), watch, broken, mended)

    def processor_seconds(self):
        """Of every replica and every engine together."""
        return sum(machine.family_seconds(server.pid) for server in self.servers) + self.engines.processor_seconds()

    def stored(self):
        """How often each event is in the log, as the export has it."""
        counts = collections.Counter()
        with self.server.get("/api/v1/export/interactions?format=ndjson") as lines:
            counts.update(json.loads(line)["id"] for line in lines)
        return counts


class Load:
    """A mixed load that runs beside."""

    def __init__(self, service, seconds, prefix, options):
        self.acknowledged = service.workbench.scratch / f"acknowledged-{prefix}"
        users, entities, _ = service.sizes
        others = [] if service.front else service.servers[1:]
        also = [word for server in others for word in ("--also", server.address)]
        command = service.server.load_command(
            "mixed", "--seconds", seconds, "--prefix", prefix, "--users", users, "--entities", entities,
            "--acknowledged", self.acknowledged, *also, *options, front=service.front,
        )
        self.seconds = seconds
        self.process = subprocess.Popen(
            command, env=clean_environment(), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )

    def is_running(self):
        return self.process.poll() is None

    def end(self):
        try:
            out, fault = self.process.communicate(timeout=self.seconds + 90)
        except subprocess.TimeoutExpired as expired:
            self.process.kill()
            self.process.communicate()
            raise CannotMeasure("the load did not end") from expired
        if self.process.returncode != 0:
            raise CannotMeasure(f"the load failed: {fault.decode()[-500:]}")
        return json.loads(out)

    def acknowledged_ids(self):
        return self.acknowledged.read_text().split()


class Watch:
    """Looks at a server again and again: whether it is ready, how many requests it counted alone, and how many answers its
    cache had."""

    def __init__(self, server):
        self.server = server
        self.stop = threading.Event()
        self.samples = []
        self.thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.stop.set()
        self.thread.join()

    def _run(self):
        while not self.stop.wait(SAMPLE_SECONDS):
            self.samples.append((time.time(), *self._look()))

    def _look(self):
        """Its status, its reason, and the count; what gave no answer is none."""
        base = f"http://{self.server.address}"
        try:
            with urllib.request.urlopen(f"{base}/ready", timeout=2) as answer:
                status, told = answer.status, json.load(answer)
        except urllib.error.HTTPError as refused:
            status, told = refused.code, json.load(refused)
        except OSError:
            return None, None, None, None
        try:
            with urllib.request.urlopen(f"{base}/metrics", timeout=2) as answer:
                lines = answer.read().decode().splitlines()
        except OSError:
            return status, told.get("reason"), None, None
        count = [line.split()[1] for line in lines if line.startswith("rate_limit_local_total ")]
        hits = sum(float(line.split()[1]) for line in lines if line.startswith("redis_cache_hits_total{"))
        return status, told.get("reason"), float(count[0]) if count else None, hits

    def without_hit(self, begin):
        """The longest time from `begin` on in which the cache had no answer, in seconds; none where it had none before."""
        hits = [(sample[0], sample[4]) for sample in self.samples if sample[4] is not None]
        grown = [late[0] for early, late in zip(hits, hits[1:]) if late[1] > early[1]]
        if not grown or grown[0] >= begin:
            return None
        moments = [begin, *(at for at in grown if at > begin), hits[-1][0]]
        return max(late - early for early, late in zip(moments, moments[1:]))

    def not_ready(self):
        """The samples of a server that said no."""
        return [sample for sample in self.samples if sample[1] not in (200, None)]

    def unanswered(self):
        return sum(sample[1] is None for sample in self.samples)

    def counted_alone_until(self):
        """When the count last grew, and when it first did; none where it never did."""
        grown = [late[0] for early, late in zip(self.samples, self.samples[1:])
                 if None not in (early[3], late[3]) and late[3] > early[3]]
        return (grown[0], grown[-1]) if grown else None


@dataclasses.dataclass
class Outage:
    """What a load told while something was away from `broken` to `mended`."""

    told: dict
    acknowledged: list
    watch: Watch
    broken: float
    mended: float

    def reads(self):
        """Reads that were sent, and those that were answered well and in time."""
        kinds = [self.told["recommend"], self.told["entity"]]
        return sum(kind["sent"] for kind in kinds), sum(kind["good"] for kind in kinds)

    def recovery_seconds(self):
        """From the return of the engine to the end of the last tenth of a second with a write that was not taken."""
        began, bucket = self.told["began_unix_ms"] / 1e3, self.told["bucket_ms"] / 1e3
        bad = [number for number, counts in enumerate(self.told["timeline"])
               if counts[REFUSED_WRITES] + counts[FAILED_WRITES] > 0]
        good = [number for number, counts in enumerate(self.told["timeline"]) if counts[GOOD_WRITES] > 0]
        if not good or began + good[-1] * bucket < self.mended:
            return float("inf")
        return max(0.0, began + (bad[-1] + 1) * bucket - self.mended) if bad else 0.0

    def ready_seconds(self):
        """From the return of the engine to the last time that the server said it was not ready."""
        late = [sample[0] for sample in self.watch.not_ready()]
        return max(0.0, late[-1] - self.mended) if late else 0.0

    def lost_and_twice(self, counts):
        lost = [id for id in self.acknowledged if counts[id] == 0]
        return len(lost), sum(counts[id] > 1 for id in self.acknowledged)

    def figures(self, counts):
        """What every outage has to hold."""
        told = self.told
        sent, good = self.reads()
        over = sum(told[kind]["over_limit"] for kind in ("recommend", "entity", "write"))
        lost, twice = self.lost_and_twice(counts)
        return [
            Figure("reads that are good", 100.0 * good / max(1, sent), "%", at_least=99.9),
            Figure("requests over their limit (reads 1 s, writes 5 s)", over, at_most=0),
            Figure("writes neither stored nor refused with Retry-After", told["write"]["failed"], at_most=0),
            Figure("acknowledged events that are lost", lost, at_most=0),
            Figure("acknowledged events that are there twice", twice, at_most=0),
            Figure("from the engine's return to the last refused write", self.recovery_seconds(), "s",
                   at_most=RECOVERY_SECONDS),
            Figure("from the engine's return to ready for good", self.ready_seconds(), "s", at_most=RECOVERY_SECONDS),
            Figure("probes without an answer", self.watch.unanswered(), at_most=0),
            Figure("acknowledged events", len(self.acknowledged), at_least=1),
            Figure("reads", sent),
            Figure("longest wait for a read", max(told[kind]["most_ms"] for kind in ("recommend", "entity")), "ms"),
            Figure("longest wait for a write", told["write"]["most_ms"], "ms"),
        ]

    def was_refused(self):
        """That writes were refused, and that `/ready` said why."""
        reasons = [sample[2] for sample in self.watch.not_ready()]
        named = [reason for reason in reasons if reason and "database" in reason]
        return [
            Figure("writes refused with 503 and Retry-After", self.told["write"]["refused"], at_least=1),
            Figure("probes that were told that the database is away", len(named), at_least=1),
        ]

    def counted_alone(self, longest):
        """For how long limits were counted by the server alone."""
        span = self.watch.counted_alone_until()
        seconds = span[1] - span[0] if span else 0.0
        return Figure("limits counted by the server alone for", seconds, "s", at_most=longest)

    def without_hit(self, longest):
        """For how long the cache had no answer at all."""
        seconds = self.watch.without_hit(self.broken)
        if seconds is None:
            raise CannotMeasure("the cache had no answer before anything broke")
        return Figure("longest time without an answer from the cache", seconds, "s", at_most=longest)

    def alone_after_return(self):
        span = self.watch.counted_alone_until()
        seconds = max(0.0, span[1] - self.mended) if span else 0.0
        return Figure("from the engine's return to the last limit counted alone", seconds, "s",
                      at_most=RECOVERY_SECONDS)

    def was_counted_alone(self):
        last = [sample[3] for sample in self.watch.samples if sample[3] is not None]
        return Figure("requests counted by the server alone", last[-1] if last else 0, at_least=1)

    def notes(self):
        told = self.told
        lines = [
            f"{told['requests_per_second']:.0f} requests/s; the client was late by p50 {told['late']['p50_ms']:.2f}, "
            f"p99 {told['late']['p99_ms']:.2f} ms; away for {self.mended - self.broken:.1f} s",
        ]
        lines += [f"failure: {failure}" for failure in told["failures"]]
        reasons = sorted({sample[2] for sample in self.watch.not_ready() if sample[2]})
        return lines + [f"/ready said: {reason}" for reason in reasons]


def swap_port(url, port, other):
    return url if other is None else url.replace(f":{port}", f":{other}")
