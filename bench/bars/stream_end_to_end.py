"""How soon a tick can be read as a price, at a rate, and how many of them are there in the end."""

import sys
import time

from harness import machine
from harness.figures import CannotMeasure, Figure, Measured
from harness.workbench import ROOT

from . import _stream

sys.path.insert(0, str(ROOT / "bench" / "peers"))

from tick_feed import PROBES  # noqa: E402

NAME = "stream-end-to-end"
WHAT = "20,000 ticks/s in over HTTP (embedded log) and by a plain Kafka client; until the price can be read"
BAR = "p95 < 200 ms, p99 < 500 ms, success > 99 %"

SETTLE_SECONDS_MAX = 120
RATES = (20_000, 10_000, 5_000, 2_000)


def run(workbench, way, rate, seconds):
    with _stream.Desk(workbench, way) as desk:
        fsync_p50, _ = machine.fsync_milliseconds(desk.server.folder)
        # The first ticks make topics and open tasks.
        warm = desk.feed_command("follow", "--rate", 1_000, "--seconds", 2)
        before = workbench.run_json(warm, minutes=3)["sent"]
        spent = desk.processor_seconds()
        command = desk.feed_command("follow", "--rate", rate, "--seconds", seconds, "--first", before)
        told = workbench.run_json(command, minutes=6)
        used = [late - early for early, late in zip(spent, desk.processor_seconds())]
        wanted, visible = before + told["sent"], 0
        end = time.monotonic() + SETTLE_SECONDS_MAX
        while visible < wanted and time.monotonic() < end:
            time.sleep(1)
            visible = desk.trades(_stream.names() + PROBES)
    success = 100.0 * min(visible - before, told["sent"]) / told["sent"]
    at = f"{way}, {rate:,}/s"
    figures = [
        Figure(f"{at}: tick in to price readable: p95", told["p95_ms"], "ms", at_most=200.0),
        Figure(f"{at}: tick in to price readable: p99", told["p99_ms"], "ms", at_most=500.0),
        Figure(f"{at}: p50", told["p50_ms"], "ms", peer=fsync_p50, peer_name="fsync of 4 KiB"),
        Figure(f"{at}: ticks that are in bars", success, "%", at_least=99.0),
        Figure(f"{at}: ticks that are in bars twice", max(0, visible - wanted), at_most=0),
        Figure(f"{at}: probes that were never read", told["never"], at_most=told["probes"] // 100),
        Figure(f"{at}: reads that failed", told["reads_failed"], at_most=told["reads"] // 100),
        Figure(f"{at}: ticks a second", told["rate"], at_least=0.98 * rate),
        Figure(f"{at}: CPU of the server for a million ticks", used[0] / told["sent"] * 1e6, "s"),
    ]
    if way == "kafka":
        figures.append(Figure(f"{at}: CPU of the broker for a million ticks", used[1] / told["sent"] * 1e6, "s"))
    line = f"{at}: {told['probes']} probes, most {told['most_ms']:.0f} ms; the feed was late by p99 "
    line += f"{told['late_p99_ms']:.1f} ms; a probe is read every 8 ms"
    return figures, [line, *(f"{at}: failure: {failure}" for failure in told["failures"])]


def measure(workbench):
    rates, seconds = workbench.pick(RATES, (2_000,)), workbench.pick(60, 8)
    figures, notes = [], []
    for way in _stream.WAYS:
        # Where the first rate is too much, which one is not.
        for rate in rates if way == "kafka" else rates[:1]:
            try:
                more, lines = run(workbench, way, rate, seconds)
            except CannotMeasure as failure:
                more, lines = [], [f"{way}, {rate:,}/s: {failure}"]
            notes += lines
            holds = bool(more) and all(figure.holds for figure in more)
            if holds:
                break
            notes += [f"{figure.what}: {figure.value:.0f} {figure.unit}" for figure in more if not figure.holds]
        figures += more
        figures.append(Figure(f"{way}: the greatest rate that was tried and holds", rate if holds else 0, "ticks/s",
                              at_least=rates[0]))
    return Measured(figures, notes)
