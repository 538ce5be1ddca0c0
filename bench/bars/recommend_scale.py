"""A large catalogue on a small machine: memory while it answers, and how soon it is back."""

from harness import machine
from harness.figures import Figure, Measured
from harness.server import Server

NAME = "recommend-scale"
WHAT = "50,000 entities x 1,000 categories, 5 M interactions of 100,000 users, trained and served after a restart"
BAR = "most resident < 1 GB, ready < 5 s, also after kill -9"

GIGABYTE = 1e9
# Without the sequence model, whose training at this size would take most of the time of the row.
CONFIG = "[recommend.training.algorithms]\nsequence = false\n"
PATH = "/api/v1/recommendations/user/{}?count=10"


def generate(workbench, folder):
    config = workbench.folder("config") / "watershed.toml"
    config.write_text(CONFIG)
    sizes = {
        "users": workbench.pick(100_000, 200),
        "entities": workbench.pick(50_000, 500),
        "categories": workbench.pick(1_000, 20),
        "interactions": workbench.pick(5_000_000, 5_000),
    }
    options = [word for name, size in sizes.items() for word in (f"--{name}", size)]
    command = ["--config", config, "--data-dir", folder, "demo", "--prepare-only", *options]
    workbench.watershed(*command, minutes=240)
    return sizes


def measure(workbench):
    folder = workbench.prepared("scale", [CONFIG, 1], lambda folder: generate(workbench, folder))
    user_count = workbench.pick(100_000, 200)
    width = len(str(user_count))
    users = workbench.folder("users") / "users.txt"
    asked = range(0, user_count, max(1, user_count // workbench.pick(2_000, 50)))
    users.write_text("".join(f"user-{number:0{width}}\n" for number in asked))
    server = Server(workbench, folder, CONFIG)

    def restart():
        server.start()
        at_ready, _ = machine.memory(server.pid)
        told = server.load("latency", "--pid", server.pid, "--path", PATH, "--subjects", users)
        resident, most = machine.memory(server.pid)
        return server.ready_seconds, at_ready, resident, most, told

    try:
        # Once unmeasured: the files' pages are as warm as after any restart of the program alone.
        server.start()
        server.stop()
        after_stop = restart()
        server.kill()
        after_kill = restart()
    finally:
        server.stop()
    figures = []
    for what, (seconds, at_ready, resident, most, told) in (("stop", after_stop), ("kill -9", after_kill)):
        figures += [
            Figure(f"after {what}: most resident", most / GIGABYTE, "GB", at_most=1.0),
            Figure(f"after {what}: ready", seconds, "s", at_most=5.0),
            Figure(f"after {what}: resident at ready", at_ready / GIGABYTE, "GB"),
            Figure(f"after {what}: resident after {told['latency']['count']:,} answers", resident / GIGABYTE, "GB"),
            Figure(f"after {what}: recommend p50", told["latency"]["p50_ms"], "ms"),
            Figure(f"after {what}: failed or fallback answers", told["failures"] + told["fallbacks"], at_most=0),
        ]
    return Measured(figures, ["the served model is the hybrid without the sequence model"])
