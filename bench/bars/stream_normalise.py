"""How many ticks a core normalises: JSON in, checked, each one once, JSON out; in memory, and with all of it durable."""

from harness.figures import Figure, Measured

NAME = "stream-normalise"
WHAT = "validate, deduplicate durably, JSON in and out, for each second of CPU: in memory; state and offsets committed"
BAR = ">= 500,000 ticks/s a core in memory; >= 150,000 with state and offsets committed durably"

ROUNDS = 3


def rate(workbench, *options):
    """The median of some runs, in ticks for each second of CPU, and the last line of what was told."""
    command = [workbench.binary("bench-stream"), "--job", "normalise", "--folder", workbench.folder("stream"),
               "--events", workbench.pick(2_000_000, 200_000), *options]
    told = [workbench.run_json(command) for _ in range(workbench.pick(ROUNDS, 1))]
    rates = sorted(run["events_per_processor_second"] for run in told)
    return rates[len(rates) // 2], told[-1]


def measure(workbench):
    memory, told = rate(workbench, "--store", "memory")
    durable, _ = rate(workbench, "--store", "embedded")
    logged, wall = rate(workbench, "--store", "embedded", "--sink", "log")
    figures = [
        Figure("in memory, outputs dropped", memory, "ticks/s", at_least=500_000),
        Figure("state, offsets and outputs committed to the embedded store", durable, "ticks/s", at_least=150_000),
        Figure("the same, and outputs appended to the embedded log", logged, "ticks/s"),
    ]
    notes = [f"{told['bytes_per_event']} bytes an event; {told['totals']}",
             f"with the log {wall['events_per_second']:,.0f} ticks in a second of time"]
    return Measured(figures, notes)
