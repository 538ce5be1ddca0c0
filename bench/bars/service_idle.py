"""What idle connections cost, and whether they keep new ones from being answered.

Half of the idle connections never said a word, the other half asked once and stay for the next request. Meanwhile others
come, each on a connection of its own, and ask for recommendations; the time is from the connect to the last byte.
"""

import http.client
import random
import resource
import socket
import time

from harness import machine
from harness.figures import CannotMeasure, Figure, Measured
from harness.server import KEY, Server

NAME = "service-idle-connections"
WHAT = "10,000 idle connections on one server; meanwhile requests at 100/s, each on a new connection"
BAR = "p99 < 50 ms, 0 failed requests, every idle connection still served"

IDLE = 10_000
# Files that this program and the server need beside the connections.
SPARE_FILES = 2_000
RATE = 100
SEED = 10
# Longer than the measurement, so that no connection ends by itself meanwhile.
CONFIG = "[server]\nidle_timeout_secs = 600\n"
PROBE = b"GET /health HTTP/1.1\r\nhost: x\r\n\r\n"
PATH = "/api/v1/recommendations/popular"
CONNECT_SECONDS_MAX = 10


def make_room(connections):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = connections + SPARE_FILES
    if hard != resource.RLIM_INFINITY and hard < needed:
        raise CannotMeasure(f"the limit of open files is {hard}; raise it to {needed} (`ulimit -Hn`)")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, needed), hard))


def is_answered(connection):
    connection.sendall(PROBE)
    return connection.recv(4096).startswith(b"HTTP/1.1 200 ")


def open_idle(address, count):
    idle = []
    for number in range(count):
        connection = socket.create_connection(address, CONNECT_SECONDS_MAX)
        if number % 2 and not is_answered(connection):
            raise CannotMeasure("an idle connection was not answered before it became idle")
        idle.append(connection)
    return idle


def ask(address, seconds):
    """Milliseconds of each request from when it was due, sorted, and how many failed."""
    times, failed = [], 0
    moments = random.Random(SEED)
    due = time.monotonic()
    end = due + seconds
    while due < end:
        time.sleep(max(0.0, due - time.monotonic()))
        try:
            connection = http.client.HTTPConnection(*address, timeout=CONNECT_SECONDS_MAX)
            connection.request("GET", PATH, headers={"x-api-key": KEY})
            answer = connection.getresponse()
            failed += not (answer.status == 200 and answer.read())
            connection.close()
        except OSError:
            failed += 1
        times.append((time.monotonic() - due) * 1e3)
        due += moments.expovariate(RATE)
    return sorted(times), failed


def percentile(times, share):
    return times[min(len(times) - 1, int(len(times) * share))]


def measure(workbench):
    count = workbench.pick(IDLE, 500)
    seconds = workbench.pick(20, 2)
    make_room(count)
    with Server(workbench, workbench.folder("data"), CONFIG) as server:
        host, port = server.address.rsplit(":", 1)
        address = (host, int(port))
        alone, failed_alone = ask(address, seconds)
        before, _ = machine.memory(server.pid)
        began = time.monotonic()
        idle = open_idle(address, count)
        opened = time.monotonic() - began
        resident, _ = machine.memory(server.pid)
        spent = machine.processor_seconds(server.pid)
        time.sleep(workbench.pick(5, 1))
        resting = machine.processor_seconds(server.pid) - spent
        times, failed = ask(address, seconds)
        served = sum(is_answered(connection) for connection in idle)
        for connection in idle:
            connection.close()
    peer = {"peer_name": "without idle connections"}
    figures = [
        Figure("a request on a new connection: p99", percentile(times, 0.99), "ms", at_most=50.0,
               peer=percentile(alone, 0.99), **peer),
        Figure("p50", percentile(times, 0.5), "ms", peer=percentile(alone, 0.5), **peer),
        Figure("failed requests", failed + failed_alone, at_most=0),
        Figure("idle connections that are served at the end", served, at_least=count),
        Figure("resident memory a connection", (resident - before) / count / 1024, "KiB"),
        Figure("server CPU while all rest", resting, "s"),
    ]
    lines = [f"{count:,} connections opened in {opened:.1f} s; {len(times):,} requests; server {resident >> 20} MiB"]
    return Measured(figures, lines)
