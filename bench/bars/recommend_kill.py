"""kill -9 at random moments under write load: what was acknowledged is there, once."""

import collections
import json
import random
import subprocess
import time

from harness.figures import CannotMeasure, Figure, Measured
from harness.server import Server

NAME = "recommend-kill"
WHAT = "kill -9 at 50 random moments under write load from 4 connections"
BAR = "every acknowledged event present exactly once after each restart; the views equal a rebuild of the log"

SEED = 50
EARLIEST_SECONDS, LATEST_SECONDS = 0.02, 1.5
# Every so many rounds it is killed once more while it recovers.
ROUNDS_PER_RECOVERY_KILL = 3
RECOVERY_SECONDS_MAX = 0.3


def ids_in(out):
    """The ids in the lines of a writer."""
    ids = []
    # What follows the last line's end is no acknowledgement that anybody saw whole; `end` is none at all.
    for line in out.decode().split("\n")[:-1]:
        words = line.split(" ")
        if len(words) == 3:
            prefix, first, count = words[0], int(words[1]), int(words[2])
            ids += [f"{prefix}-{number}" for number in range(first, first + count)]
    return ids


def acknowledged_by(writer, seconds):
    """The ids in the lines of the writer, once it has ended."""
    try:
        out, fault = writer.communicate(timeout=seconds)
    except subprocess.TimeoutExpired as expired:
        writer.kill()
        writer.communicate()
        raise CannotMeasure("the writer did not notice that the server is gone") from expired
    if writer.returncode != 0:
        raise CannotMeasure(f"the writer failed: {fault.decode()[-500:]}")
    return ids_in(out)


def present(server):
    """How often each event is in the log, as the export has it."""
    counts = collections.Counter()
    with server.get("/api/v1/export/interactions?format=ndjson") as lines:
        counts.update(json.loads(line)["id"] for line in lines)
    return counts


def measure(workbench):
    rounds = workbench.pick(50, 4)
    moments = random.Random(SEED)
    folder = workbench.folder("data")
    server = Server(workbench, folder)
    acknowledged, lost, twice, restarts = set(), set(), set(), []
    server.start()
    try:
        for round_number in range(rounds):
            command = server.load_command("write", "--prefix", f"r{round_number}")
            writer = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
            try:
                writer.wait(moments.uniform(EARLIEST_SECONDS, LATEST_SECONDS))
            except subprocess.TimeoutExpired:
                pass
            server.kill()
            acknowledged.update(acknowledged_by(writer, 60))
            if round_number % ROUNDS_PER_RECOVERY_KILL == 0:
                server.launch()
                time.sleep(moments.uniform(0.0, RECOVERY_SECONDS_MAX))
                server.kill()
            server.start()
            restarts.append(server.ready_seconds)
            counts = present(server)
            lost.update(id for id in acknowledged if id not in counts)
            twice.update(id for id, count in counts.items() if count > 1)
    finally:
        server.kill()
    if not acknowledged:
        raise CannotMeasure("nothing was acknowledged before the kills: the machine is too slow or too busy")
    told = workbench.watershed("--data-dir", folder, "doctor", "--rebuild")
    same = "the same view" in told
    figures = [
        Figure("acknowledged events that are lost", len(lost), at_most=0),
        Figure("events that are there twice", len(twice), at_most=0),
        Figure("views equal a rebuild of the log (1 is yes)", int(same), at_least=1),
        Figure("kills", rounds),
        Figure("acknowledged events", len(acknowledged)),
        Figure("ready after a kill, at most", max(restarts), "s"),
    ]
    lines = [f"seed of the moments: {SEED}", *(line for line in told.splitlines() if line.startswith("rebuild"))]
    return Measured(figures, lines + [f"lost: {sorted(lost)[:5]}"] * bool(lost))
