"""Backups of 5 M events on the embedded engine and on PostgreSQL, their restore, and what a killed server loses."""

import datetime
import json
import re
import subprocess
import threading
import time

from harness.engines import postgres
from harness.figures import CannotMeasure, Figure, Measured
from harness.server import KEY, Server
from harness.tenants import Asker, Tenant

from .recommend_kill import ids_in
from .recommend_scale import CONFIG, generate
from .service_access import stored

NAME = "service-backup"
WHAT = "backup and restore of 5 M events on the embedded engine and on PostgreSQL; kill -9 of a server that ships"
BAR = (
    "views and records equal after each restore; recovery point < 15 min by shipping, recovery time < 15 min; nothing lost "
    "that was acknowledged before the recovery point"
)

QUARTER_SECONDS = 15 * 60
SHIP_EVERY_SECONDS = 30
# The writer ends with the server; this is far beyond it.
WRITER_SECONDS_MAX = 3_600
LOOK_SECONDS = 0.05
# Lists of what is no event. Each has something of its own before the first backup.
RECORDS = (
    "/api/v1/keys", "/api/v1/audit", "/api/v1/webhooks", "/api/v1/webhook-deliveries", "/api/v1/dead-letters",
    "/api/v1/erasures",
)
# Shipping alone: nothing trains meanwhile.
QUIET = CONFIG + "[recommend.schedule]\nincremental_update_interval_secs = 86400\n"


class Store:
    """Where events live: a folder, or a schema of a database."""

    def __init__(self, workbench, name, folder=None, database=None):
        self.workbench = workbench
        self.name = name
        self.folder = folder or workbench.folder(f"store-{name}")
        self.settings = QUIET
        if database:
            self.settings += f'[storage.postgres]\nurl = "{database}"\nschema = "{name}"\n'
        self.config = workbench.folder(f"config-{name}") / "watershed.toml"
        self.config.write_text(self.settings)
        if database:
            self.run("migrate", "up")

    def run(self, *command, minutes=120):
        began = time.monotonic()
        told = self.workbench.watershed("--config", self.config, "--data-dir", self.folder, *command, minutes=minutes)
        return told, time.monotonic() - began

    def views(self):
        """The hash of the views, which a rebuild of the log gives too."""
        return found(r"view hash +(\w+)", self.run("doctor", "--rebuild")[0])

    def server(self, section=""):
        return Server(self.workbench, self.folder, self.settings + section, name=f"server-{self.name}")

    def records(self):
        """What each list of records holds, and the head of the audit's chain."""
        with self.server() as server:
            told = {path: stored(json.dumps(server.get_json(path))) for path in RECORDS}
        return {**told, "audit verify": self.run("audit", "verify")[0]}

    def plant(self):
        """Something in every list of records."""
        with self.server() as server:
            tenant = Tenant(Asker(server.address), "default", KEY)
            erased = tenant.as_admin("DELETE", f"/api/v1/users/{tenant.mark}-user/data")
        planted = self.records()
        empty = [path for path in RECORDS if not next(iter(planted[path].values()))]
        if empty or erased.status != 200:
            raise CannotMeasure(f"nothing was planted in {empty}, the erasure was answered with {erased.status}")
        return planted


class Writer:
    """Writes to a server until it is gone, and knows what was acknowledged at what time."""

    def __init__(self, workbench, server, prefix):
        self.path = workbench.folder(f"writer-{prefix}") / "acknowledged"
        self.faults = self.path.with_name("faults")
        command = server.load_command("write", "--prefix", prefix, "--seconds", WRITER_SECONDS_MAX)
        with open(self.path, "wb") as out, open(self.faults, "wb") as faults:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=faults)
        # Bytes of acknowledgements at a time, both from before the look is over.
        self.looks = []
        self.watching = threading.Thread(target=self._watch, daemon=True)
        self.watching.start()

    def _watch(self):
        while self.process.poll() is None:
            size = self.path.stat().st_size
            self.looks.append((time.time(), size))
            time.sleep(LOOK_SECONDS)

    def end(self, seconds):
        """Waits until it has noticed that the server is gone."""
        try:
            self.process.wait(seconds)
        except subprocess.TimeoutExpired as expired:
            self.process.kill()
            self.process.wait()
            raise CannotMeasure("the writer did not notice that the server is gone") from expired
        self.watching.join()
        if self.process.returncode != 0:
            raise CannotMeasure(f"the writer failed: {self.faults.read_text()[-500:]}")

    def acknowledged(self, until=None):
        """The ids, of those that were acknowledged until a time."""
        out = self.path.read_bytes()
        if until is not None:
            out = out[: max((size for at, size in self.looks if at <= until), default=0)]
        return ids_in(out)


def found(pattern, told):
    match = re.search(pattern, told)
    if match is None:
        raise CannotMeasure(f"no `{pattern}` in: {told}")
    return match.group(1)


def restored(store, vault):
    """The recovery point as unix seconds, the recovery time in seconds, the events."""
    told, _ = store.run("restore", "--from", vault)
    point = datetime.datetime.fromisoformat(found(r"recovery point +([^,]+),", told).replace("Z", "+00:00"))
    seconds = float(found(r"recovery time +([\d.]+) s", told))
    return point.timestamp(), seconds, int(found(r"restored +(\d+) events", told))


def round_trip(source, target, vault, expected, records):
    """Backs up, verifies, restores, compares."""
    name = source.name
    told, backup_seconds = source.run("backup", "create", "--to", vault)
    sent = found(r"; ([\d.]+ \w+) sent", told)
    _, verify_seconds = source.run("backup", "verify", "--from", vault)
    _, recovery_seconds, events = restored(target, vault)
    views = target.views()
    back = target.records()
    differ = [path for path, held in records.items() if back[path] != held]
    figures = [
        Figure(f"{name}: recovery time of {events:,} events", recovery_seconds, "s", at_most=QUARTER_SECONDS),
        Figure(f"{name}: views equal (1 is yes)", int(views == expected), at_least=1),
        Figure(f"{name}: lists of records that differ, of {len(records)}", len(differ), at_most=0),
        Figure(f"{name}: backup", backup_seconds, "s"),
        Figure(f"{name}: verify", verify_seconds, "s"),
    ]
    notes = [f"{name}: {sent} in the place for backups"] + [f"{name}: differs: {path}" for path in differ]
    return figures, events, notes


def came_back(target, prefix):
    """The ids with this prefix in the restored log."""
    mark, ids = f'"{prefix}-'.encode(), set()
    with target.server() as server, server.get("/api/v1/export/interactions?format=ndjson", seconds=600) as lines:
        ids.update(json.loads(line)["id"] for line in lines if mark in line)
    return ids


def shipped(workbench, source, target, vault, before):
    """Kills a server that ships while it is written to, and restores what it had shipped."""
    section = f'[backup]\nto = "{vault}"\nevery_secs = {workbench.pick(SHIP_EVERY_SECONDS, 2)}\n'
    prefix = f"ship-{source.name}"
    server = source.server(section)
    server.start()
    try:
        writer = Writer(workbench, server, prefix)
        # Into the third pause, where most is missing.
        time.sleep(workbench.pick(3.4 * SHIP_EVERY_SECONDS, 9))
    finally:
        killed_at = time.time()
        server.kill()
    writer.end(60)
    point, recovery_seconds, events = restored(target, vault)
    back = came_back(target, prefix)
    before_point, all_of_them = set(writer.acknowledged(until=point)), set(writer.acknowledged())
    name = source.name
    return [
        Figure(f"{name}: recovery point before kill -9", killed_at - point, "s", at_most=QUARTER_SECONDS),
        Figure(f"{name}: recovery time after it", recovery_seconds, "s", at_most=QUARTER_SECONDS),
        Figure(f"{name}: acknowledged before the recovery point and lost", len(before_point - back), at_most=0),
        Figure(f"{name}: acknowledged before the recovery point", len(before_point), at_least=1),
        Figure(f"{name}: events that came back beyond the first backup", events - before, at_least=len(before_point)),
        Figure(f"{name}: acknowledged after the recovery point and lost", len(all_of_them - before_point - back)),
    ]


def measure(workbench):
    folder = workbench.prepared("scale", [CONFIG, 1], lambda folder: generate(workbench, folder))
    vaults = workbench.folder("vaults")
    notes = [f"ships every {workbench.pick(SHIP_EVERY_SECONDS, 2)} s; each restore ends when views and models answer"]
    figures = []
    with postgres(workbench) as database:
        embedded = Store(workbench, "embedded", folder=folder)
        records = embedded.plant()
        expected = embedded.views()
        across = Store(workbench, "postgres", database=database)
        first, events, note = round_trip(embedded, across, vaults / "embedded", expected, records)
        figures, notes = figures + first, [*notes, *note, "embedded: restored into PostgreSQL"]
        back = Store(workbench, "back")
        first, _, note = round_trip(across, back, vaults / "postgres", expected, records)
        figures, notes = figures + first, [*notes, *note, "postgres: restored into a folder"]
        for source in (embedded, across):
            engine = None if source is embedded else database
            target = Store(workbench, f"after_{source.name}", database=engine)
            figures += shipped(workbench, source, target, vaults / source.name, events)
    return Measured(figures, notes)
