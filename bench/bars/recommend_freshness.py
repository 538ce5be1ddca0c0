"""How soon the next answer reflects what a user just did."""

from harness import machine
from harness.figures import Figure, Measured
from harness.server import Server

from . import _ml1m

NAME = "recommend-freshness"
WHAT = "a posted interaction is reflected in the next answer, ML-1M, hybrid, from the start of the post"
BAR = "p99 < 50 ms, never missing, in the very next answer"


def measure(workbench):
    rounds = workbench.pick(500, 30)
    users = _ml1m.subjects(workbench.folder("users") / "users.txt", _ml1m.users(workbench))
    with Server(workbench, _ml1m.data_folder(workbench)) as server:
        fsync_p50, _ = machine.fsync_milliseconds(server.folder)
        told = server.load("freshness", "--users", users, "--rounds", rounds)
    reflected, posted = told["reflected"], told["posted"]
    figures = [
        Figure("post to reflecting answer: p99", reflected["p99_ms"], "ms", at_most=50.0),
        Figure("post to reflecting answer: p50", reflected["p50_ms"], "ms", peer=fsync_p50, peer_name="fsync of 4 KiB"),
        Figure("the post alone: p50", posted["p50_ms"], "ms"),
        Figure("rounds whose very next answer reflects it", told["at_once"], at_least=told["rounds"]),
        Figure("rounds that never did", told["never"], at_most=0),
        Figure("answers that change without a post", told["unsteady"], at_most=0),
        Figure("rounds in which the rest of the list moved too", told["others_moved"]),
    ]
    line = f"{told['rounds']} rounds, p99.9 {reflected['p999_ms']:.2f} ms, most {reflected['most_ms']:.2f} ms"
    return Measured(figures, [line])
