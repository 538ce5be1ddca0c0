"""How long a recommendation takes over HTTP, and what it costs the server.

Each user is asked about for the first time since the server started: no answer is kept. What the server makes ahead
after a start, the states of its users, it has made: that work is printed, and not spread over the requests. A second round
asks about the same users again, and a third about users who just did something, whose state is made anew.
"""

import json
import urllib.request

from harness.figures import Figure, Measured
from harness.server import KEY, Server

from . import _ml1m

NAME = "recommend-latency"
WHAT = "recommend(10) over HTTP, ML-1M, hybrid, random users asked for the first time, 500 requests/s"
BAR = "p50 < 0.35 ms, p99 < 2 ms, <= 200 us of server CPU a request"

RATE = 500
PATH = "/api/v1/recommendations/user/{}?count=10"
# Enough to have the code and the model in memory.
WARM_UP_USERS = 200
CLOSED_USERS = 1_500


def measure(workbench):
    names = _ml1m.users(workbench)
    lists = workbench.folder("users")
    closed_count = min(CLOSED_USERS, len(names) // 3)
    warm_count = min(WARM_UP_USERS, len(names) // 10)
    warm, closed = names[:warm_count], names[warm_count : warm_count + closed_count]
    opened = names[warm_count + closed_count :]
    with Server(workbench, _ml1m.data_folder(workbench)) as server:

        def ask(users, *options, path=PATH):
            file = _ml1m.subjects(lists / "users.txt", users)
            return server.load("latency", "--pid", server.pid, "--path", path, "--subjects", file, *options)

        ahead = server.settle()
        open_loop = ["--rate", RATE, "--connections", 8]
        ask(warm)
        first = ask(opened, *open_loop)
        alone = ask(closed)
        again = ask(opened, *open_loop, "--requests", workbench.pick(20 * RATE, len(opened)), "--seed", 2)
        acted = opened[: len(opened) // 3]
        for name in acted:
            act(server, name)
        fresh = ask(acted)
        floor = ask(opened, *open_loop, path="/health")
    return told(first, alone, again, fresh, floor, ahead)


def act(server, user):
    """The user clicks on the first film."""
    body = json.dumps({"user_id": user, "entity_id": "1", "interaction_type": "click"}).encode()
    headers = {"x-api-key": KEY, "content-type": "application/json"}
    request = urllib.request.Request(f"http://{server.address}/api/v1/interactions", body, headers)
    urllib.request.urlopen(request, timeout=30).close()


def told(first, alone, again, fresh, floor, ahead):
    figures = []

    def add(what, run, bars=(None, None, None), peer=None):
        latency = run["latency"]
        other = peer["latency"] if peer else {}
        for percentile, bar in zip(("p50", "p99"), bars):
            key = f"{percentile}_ms"
            what_of = f"{what}: {percentile}"
            figures.append(Figure(what_of, latency[key], "ms", at_most=bar, peer=other.get(key)))
        cost = "server_microseconds_per_request"
        figures.append(Figure(f"{what}: server CPU", run[cost], "us", at_most=bars[2], peer=peer and peer[cost]))
        for figure in figures[-3:] if peer else []:
            figure.peer_name = "GET /health of the same server"

    add("first time", first, (0.35, 2.0, 200.0), floor)
    add("one after another", alone)
    add("again", again)
    add("one after another, who just did something", fresh)
    runs = {"first time": first, "one after another": alone, "again": again, "who just did something": fresh}
    failures = sum(run["failures"] for run in runs.values())
    fallbacks = sum(run["fallbacks"] for run in runs.values())
    figures.append(Figure("failed requests", failures, at_most=0))
    figures.append(Figure("answers that are not the hybrid's", fallbacks, at_most=0))
    lines = [f"the start, and the states of users made ahead: {ahead:.1f} processor seconds"]
    for what, run in runs.items():
        latency, late = run["latency"], run["late"]
        lines.append(
            f"{what}: {latency['count']} requests at {run['requests_per_second']:.0f}/s, p90 {latency['p90_ms']:.3f}, "
            f"p99.9 {latency['p999_ms']:.3f}, most {latency['most_ms']:.3f} ms; of that the client's lateness: "
            f"p50 {late['p50_ms']:.3f}, p99 {late['p99_ms']:.3f} ms"
        )
        if run["first_failure"]:
            lines.append(f"{what}: first failure: {run['first_failure']}")
    return Measured(figures, lines)
