"""How many events a second become durable over HTTP."""

import re

from harness import machine
from harness.figures import Figure, Measured
from harness.server import Server

NAME = "recommend-ingest"
WHAT = "POST /api/v1/events, batches of 1,000 CloudEvents from 2 connections, fsync before each answer"
BAR = ">= 50,000 events/s, none lost to kill -9"

# No training meanwhile: it has a row of its own, and would only add noise.
CONFIG = "[recommend.schedule]\nincremental_update_interval_secs = 86400\n"


def events_in_log(workbench, folder):
    """As `watershed doctor` counts them."""
    told = workbench.watershed("--data-dir", folder, "doctor")
    return sum(int(until) - int(first) for first, until in re.findall(r"partition \d+: (\d+) to (\d+)", told))


def measure(workbench):
    folder = workbench.folder("data")
    seconds = workbench.pick(15, 2)
    fsync_p50, fsync_p99 = machine.fsync_milliseconds(folder.parent)
    server = Server(workbench, folder, CONFIG)
    server.start()
    try:

        def post(prefix, batch, connections, seconds):
            options = ["--pid", server.pid, "--prefix", prefix, "--batch", batch, "--connections", connections]
            return server.load("ingest", *options, "--seconds", seconds)

        warm = post("warm", 1_000, 2, 1)
        batches = post("batch", 1_000, 2, seconds)
        single = post("single", 1, 1, workbench.pick(5, 1))
        many = post("many", 1, 64, workbench.pick(5, 1))
        resident, most = machine.memory(server.pid)
    finally:
        server.kill()
    acknowledged = sum(run["events"] for run in (warm, batches, single, many))
    in_log = events_in_log(workbench, folder)
    disk = {"peer": 1e3 / fsync_p50, "peer_name": "fsyncs/s of this disk"}
    figures = [
        Figure("events/s, batches of 1,000", batches["events_per_second"], at_least=50_000),
        Figure("events/s, single, 1 connection", single["events_per_second"], **disk),
        Figure("events/s, single, 64 connections", many["events_per_second"], **disk),
        Figure("events in the log", in_log, at_least=acknowledged, peer=acknowledged, peer_name="acknowledged"),
        Figure("a batch: p50", batches["latency"]["p50_ms"], "ms", peer=fsync_p50, peer_name="fsync of 4 KiB, median"),
        Figure("a batch: p99", batches["latency"]["p99_ms"], "ms", peer=fsync_p99, peer_name="fsync of 4 KiB, p99"),
        Figure("server CPU an event", batches["server_microseconds_per_event"], "us"),
        Figure("client CPU an event", batches["client_microseconds_per_event"], "us"),
        Figure("resident", resident / 2**20, "MiB"),
    ]
    line = f"{batches['events']:,} events in {batches['seconds']:.1f} s, {batches['megabytes_per_second']:.1f} MB/s"
    return Measured(figures, [line, f"most resident {most / 2**20:.0f} MiB"])
