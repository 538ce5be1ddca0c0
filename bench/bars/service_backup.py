"""Backups of 5 M events on the embedded engine and on PostgreSQL, their restore, and what a killed server loses."""

import datetime
import re
import subprocess
import time

from harness.engines import postgres
from harness.figures import CannotMeasure, Figure, Measured
from harness.server import Server

from .recommend_kill import acknowledged_by
from .recommend_scale import CONFIG, generate

NAME = "service-backup"
WHAT = "backup and restore of 5 M events on the embedded engine and on PostgreSQL; kill -9 of a server that ships"
BAR = "views equal after each restore; recovery point < 15 min by shipping, recovery time < 15 min"

QUARTER_SECONDS = 15 * 60
SHIP_EVERY_SECONDS = 30
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


def round_trip(source, target, vault, expected):
    """Backs up, verifies, restores, compares."""
    name = source.name
    told, backup_seconds = source.run("backup", "create", "--to", vault)
    sent = found(r"; ([\d.]+ \w+) sent", told)
    _, verify_seconds = source.run("backup", "verify", "--from", vault)
    _, recovery_seconds, events = restored(target, vault)
    figures = [
        Figure(f"{name}: recovery time of {events:,} events", recovery_seconds, "s", at_most=QUARTER_SECONDS),
        Figure(f"{name}: views equal (1 is yes)", int(target.views() == expected), at_least=1),
        Figure(f"{name}: backup", backup_seconds, "s"),
        Figure(f"{name}: verify", verify_seconds, "s"),
    ]
    return figures, events, f"{name}: {sent} in the place for backups"


def shipped(workbench, source, target, vault, before):
    """Kills a server that ships while it is written to, and restores what it had shipped."""
    section = f'[backup]\nto = "{vault}"\nevery_secs = {workbench.pick(SHIP_EVERY_SECONDS, 2)}\n'
    server = Server(workbench, source.folder, source.settings + section)
    server.start()
    try:
        command = server.load_command("write", "--prefix", f"ship-{source.name}")
        writer = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        # Into the third pause, where most is missing.
        time.sleep(workbench.pick(3.4 * SHIP_EVERY_SECONDS, 9))
    finally:
        killed_at = time.time()
        server.kill()
    acknowledged = len(acknowledged_by(writer, 60))
    point, recovery_seconds, events = restored(target, vault)
    name = source.name
    return [
        Figure(f"{name}: recovery point before kill -9", killed_at - point, "s", at_most=QUARTER_SECONDS),
        Figure(f"{name}: recovery time after it", recovery_seconds, "s", at_most=QUARTER_SECONDS),
        Figure(f"{name}: events written under shipping that came back", events - before, at_least=1),
        Figure(f"{name}: events acknowledged after the recovery point", acknowledged - (events - before)),
    ]


def measure(workbench):
    folder = workbench.prepared("scale", [CONFIG, 1], lambda folder: generate(workbench, folder))
    vaults = workbench.folder("vaults")
    notes = [f"ships every {workbench.pick(SHIP_EVERY_SECONDS, 2)} s; each restore ends when views and models answer"]
    figures = []
    with postgres(workbench) as database:
        embedded = Store(workbench, "embedded", folder=folder)
        expected = embedded.views()
        across = Store(workbench, "postgres", database=database)
        first, events, note = round_trip(embedded, across, vaults / "embedded", expected)
        figures, notes = figures + first, [*notes, f"{note}, restored into PostgreSQL"]
        back = Store(workbench, "back")
        first, _, note = round_trip(across, back, vaults / "postgres", expected)
        figures, notes = figures + first, [*notes, f"{note}, restored into a folder"]
        for source in (embedded, across):
            engine = None if source is embedded else database
            target = Store(workbench, f"after_{source.name}", database=engine)
            figures += shipped(workbench, source, target, vaults / source.name, events)
    return Measured(figures, notes)
