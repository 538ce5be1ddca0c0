"""kill -9 again and again while ticks run through the stages: what is served at the end is what was sent, once."""

import random
import time

from harness import ticks
from harness.figures import CannotMeasure, Figure

from . import _stream

NAME = "stream-kill"
WHAT = "kill -9 at 100 random points of a run of 1 M ticks, on the embedded log and over Kafka; bars and prices at the end"
BAR = "every bar and price as the ticks make it: nothing lost, nothing twice"

SEED = 100
EARLIEST_SECONDS, LATEST_SECONDS = 0.02, 1.0
# Every so many rounds it is killed once more while it recovers.
ROUNDS_PER_RECOVERY_KILL = 4
RECOVERY_SECONDS_MAX = 0.5
SETTLE_SECONDS_MAX = 900
QUIET_LOOKS_MAX = 60


def differences(desk, count):
    """How many bars and prices are not what they should be; how many trades are missing, and how many too many."""
    bars, newest = ticks.expected(count)
    wrong, missing, extra = [], 0, 0
    for interval, wanted in bars.items():
        found = {}
        for name in _stream.names():
            found.update({(name, start): bar for start, bar in desk.bars(name, interval).items()})
        for place in wanted.keys() | found.keys():
            ours, theirs = wanted.get(place), found.get(place)
            trades = [bar[5] if bar else 0 for bar in (ours, theirs)]
            missing += max(0, trades[0] - trades[1])
            extra += max(0, trades[1] - trades[0])
            if ours != theirs:
                wrong.append(f"{interval} {place}: {theirs} and not {ours}")
    prices = {}
    for price in desk.server.get_json("/api/v1/market/prices?limit=1000")["prices"]:
        prices[price["instrument_id"]] = (price["price"], price["sequence"])
    wrong += [f"price of {name}: {prices.get(name)} and not {price}" for name, price in newest.items()
              if prices.get(name) != price]
    return wrong, missing, extra


def settled(desk, count):
    """Waits until as many trades are in bars as were sent, or nothing changes any more."""
    end, before, quiet = time.monotonic() + SETTLE_SECONDS_MAX, -1, 0
    while time.monotonic() < end and quiet < QUIET_LOOKS_MAX:
        trades = desk.trades(_stream.names())
        if trades == count:
            return
        quiet = quiet + 1 if trades == before else 0
        before = trades
        time.sleep(1)


def run(workbench, way):
    rounds, each = workbench.pick(100, 5), workbench.pick(10_000, 4_000)
    moments, restarts = random.Random(SEED), []
    with _stream.Desk(workbench, way) as desk, desk.driven() as feed:
        began = time.monotonic()
        again = 0
        for number in range(rounds):
            print((number + 1) * each, file=feed.stdin, flush=True)
            time.sleep(moments.uniform(EARLIEST_SECONDS, LATEST_SECONDS))
            desk.server.kill()
            if number % ROUNDS_PER_RECOVERY_KILL == 0:
                desk.server.launch()
                time.sleep(moments.uniform(0.0, RECOVERY_SECONDS_MAX))
                desk.server.kill()
            desk.server.start()
            restarts.append(desk.server.ready_seconds)
            told = feed.stdout.readline().split()
            if len(told) != 2:
                raise CannotMeasure("the feed ended")
            again = int(told[1])
        sent_seconds = time.monotonic() - began
        settled(desk, rounds * each)
        wrong, missing, extra = differences(desk, rounds * each)
    figures = [
        Figure(f"{way}: trades that are missing in bars", missing, at_most=0),
        Figure(f"{way}: trades that are twice in bars", extra, at_most=0),
        Figure(f"{way}: bars and prices that are otherwise", len(wrong), at_most=0),
        Figure(f"{way}: kills", rounds + -(-rounds // ROUNDS_PER_RECOVERY_KILL)),
        Figure(f"{way}: ticks", rounds * each),
        Figure(f"{way}: ready after a kill, at most", max(restarts), "s"),
    ]
    notes = [f"{way}: seed {SEED}; {sent_seconds:.0f} s; {again} requests were sent again"]
    return figures, notes + [f"{way}: {line}" for line in wrong[:5]]


def measure(workbench):
    return _stream.each_way(workbench, run)
