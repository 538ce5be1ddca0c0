"""Bars of shuffled real data: right whatever the order, and fast."""

from harness.figures import Figure, Measured
from harness.workbench import ROOT, clean_environment

from . import _market

NAME = "stream-bars"
WHAT = "bars 5m+1h+1d of shuffled trades and hourly power prices under moving watermarks, against a brute-force oracle"
BAR = "every bar and revision as the oracle says, within lateness and beyond; >= 1 M ticks/s a core in memory"


def measure(workbench):
    exported = workbench.folder("exported")
    told = _market.ask(workbench, "bars", "--export", exported)
    script = ROOT / "bench" / "peers" / "polars_bars.py"
    one_thread = clean_environment(POLARS_MAX_THREADS="1")
    polars = workbench.run_json([workbench.python(), script, exported], environment=one_thread)
    batch = polars["trades"] / polars["cpu_seconds"]
    peer = {"peer": batch, "peer_name": f"polars {polars['version']}, batch, sorted before, one thread"}
    speed = told["speed"]["ticks_per_cpu_second"]
    figures = [
        Figure("ticks for each second of CPU, three intervals", speed, at_least=1e6, **peer),
        Figure("bars that differ from those of polars", polars["different"], at_most=0),
    ]
    notes = []
    for name, of in told["compared"].items():
        figures.append(Figure(f"bars that differ, {name}", of["different"], at_most=0))
        told_bars = f"{of['bars_told']:,} bars told, {of['revisions']:,} of them revisions"
        notes.append(f"{name}: {of['trades']:,} trades, {told_bars}, {of['too_late']:,} times too late")
    notes.append("a trade that is too late for three bars counts three times")
    return Measured(figures, notes)
