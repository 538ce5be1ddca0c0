"""kill -9 again and again while ticks run through the stages: what is served at the end is what was sent, once.

One server, on its data folder; and two that share a database, of which one that has partitions is killed each time and is
started again when the other one has taken some of them. Now and then it is not killed at once but stands still until it has
lost them, wakes up, and finds out. Ticks wait for the stages: no part is sent while more than the last one is not taken.
"""

import http.client
import os
import random
import signal
import time

from harness import ticks
from harness.figures import CannotMeasure, Figure
from harness.partitions import Partitions

from . import _stream

NAME = "stream-kill"
WHAT = "kill -9 at 100 random points of a run of 1 M ticks, each way; with two servers partitions move each time"
BAR = "every bar and price as the ticks make it: nothing lost, nothing twice"

# Where the topics are, and how many servers there are.
WAYS = (("embedded", 1), ("kafka", 1), ("postgres", 2), ("kafka", 2))

# The broker shares two cores with everything else: who gives it up too soon only makes more work. The lease is longer than a step of
# a stage then takes, and shorter than that of the settings, for it is waited for again and again.
KAFKA_SETTINGS = "request_timeout_ms = 30000\ndelivery_timeout_ms = 60000\n"
LEASE_MS, QUICK_LEASE_MS = 15_000, 10_000

SEED = 100
EARLIEST_SECONDS, LATEST_SECONDS = 0.02, 1.0
# Every so many rounds it is killed once more while it recovers, or stands still before it is killed.
ROUNDS_PER_RECOVERY_KILL, ROUNDS_PER_STANDSTILL = 4, 10
RECOVERY_SECONDS_MAX, AWAKE_SECONDS_MAX = 0.5, 1.0
# The rest of a part is sent in slices while partitions move.
SLICES, SLICE_SECONDS = 20, 0.5
MOVE_SECONDS_MAX = 60
LOOK_SECONDS = 0.5
# Looks at what is served in the end, without any change.
QUIET_LOOKS_MAX, QUIET_SECONDS = 20, 2.0


def differences(desk, server, wanted):
    """Which bars and prices are not what they should be; how many trades are missing, and how many too many."""
    bars, newest = wanted
    wrong, missing, extra = [], 0, 0
    for interval, of_interval in bars.items():
        found = {}
        for name in _stream.names():
            found.update({(name, start): bar for start, bar in desk.bars(name, interval, server).items()})
        for place in of_interval.keys() | found.keys():
            ours, theirs = of_interval.get(place), found.get(place)
            trades = [bar[5] if bar else 0 for bar in (ours, theirs)]
            missing += max(0, trades[0] - trades[1])
            extra += max(0, trades[1] - trades[0])
            if ours != theirs:
                wrong.append(f"{interval} {place}: {theirs} and not {ours}")
    prices = {}
    for price in server.get_json("/api/v1/market/prices?limit=1000")["prices"]:
        prices[price["instrument_id"]] = (price["price"], price["sequence"])
    wrong += [f"price of {name}: {prices.get(name)} and not {price}" for name, price in newest.items()
              if prices.get(name) != price]
    return wrong, missing, extra


class Course:
    """A run through one of the ways: what was sent, killed and started so far."""

    def __init__(self, workbench, desk, feed, label):
        self.workbench, self.desk, self.feed, self.label = workbench, desk, feed, label
        is_pair = len(desk.servers) > 1
        self.rounds, self.each = workbench.pick(100, 4 if is_pair else 5), workbench.pick(10_000, 4_000)
        self.part_seconds_max, self.seconds_max = workbench.pick((300, 5_400), (60, 90))
        self.settle_seconds_max = workbench.pick(900, 90)
        self.moments = random.Random(SEED)
        self.partitions = Partitions(desk.servers) if is_pair else None
        self.number, self.kills, self.stood_still, self.unmoved = 0, 0, 0, 0
        self.restarts, self.shares, self.notes, self.taken = [], [], [], 0
        self.began = time.monotonic()

    def run(self):
        """Part after part, until all are done or one takes too long: then what was sent until there is what counts."""
        for self.number in range(self.rounds):
            if time.monotonic() - self.began > self.seconds_max:
                return self.end_early(f"{self.seconds_max} s are over")
            if not self.is_taken():
                return self.end_early(f"stages took {self.taken:,} of {self.feed.done:,} ticks within "
                                      f"{self.part_seconds_max} s")
            begin, end = self.number * self.each, (self.number + 1) * self.each
            self.feed.send_until(begin + self.each // 2 if self.partitions else end)
            if self.partitions:
                self.kill_and_move(end)
            else:
                time.sleep(self.moments.uniform(EARLIEST_SECONDS, LATEST_SECONDS))
                self.kill(self.desk.server)
                self.start_again(self.desk.server)
            self.feed.send_until(end)
            if not self.feed.wait(self.part_seconds_max):
                raise CannotMeasure(f"part {self.number + 1} was not acknowledged within {self.part_seconds_max} s")
            self.tell()
        self.number = self.rounds

    def end_early(self, why):
        self.notes.append(f"ended before part {self.number + 1} of {self.rounds}: {why}")

    def tell(self):
        if (self.number + 1) % self.workbench.pick(5, 1) == 0:
            moved = f", {len(self.partitions.moves())} partitions moved" if self.partitions else ""
            self.workbench.say(f"{self.label}: part {self.number + 1} of {self.rounds}, {self.feed.done:,} sent, "
                               f"{self.taken:,} seen in bars, {self.kills} kills{moved}, "
                               f"{time.monotonic() - self.began:.0f} s")

    def is_taken(self):
        """Waits until the stages are not more than a part behind what was sent; false where that takes too long."""
        end = time.monotonic() + self.part_seconds_max
        while time.monotonic() < end:
            try:
                self.taken = self.desk.trades(_stream.names())
            except (OSError, http.client.HTTPException):
                # It recovers, or waits for what another one had.
                time.sleep(LOOK_SECONDS)
                continue
            behind = self.desk.behind()
            # A tick is behind in up to four stages.
            if self.feed.done - self.taken <= self.each and behind is not None and behind <= 4 * self.each:
                return True
            time.sleep(LOOK_SECONDS)
        return False

    def kill(self, server):
        server.kill()
        self.kills += 1

    def start_again(self, server):
        if self.number % ROUNDS_PER_RECOVERY_KILL == 0:
            server.launch()
            time.sleep(self.moments.uniform(0.0, RECOVERY_SECONDS_MAX))
            self.kill(server)
        server.start()
        self.restarts.append(server.ready_seconds)

    def kill_and_move(self, end):
        """Ends one that has partitions, while ticks go on until `end`; starts it when the other one has some of them."""
        if not self.partitions.wait_until(self.partitions.owners, MOVE_SECONDS_MAX):
            raise CannotMeasure(f"no server opened a partition within {MOVE_SECONDS_MAX} s")
        time.sleep(self.moments.uniform(EARLIEST_SECONDS, LATEST_SECONDS))
        owners = self.partitions.owners()
        loser = self.moments.choice(sorted(set(owners.values())))
        held, victim = [task for task, owner in owners.items() if owner == loser], self.desk.servers[loser]
        self.shares.append(len(held) / len(owners))
        stands_still = self.number % ROUNDS_PER_STANDSTILL == 1
        if stands_still:
            os.kill(victim.pid, signal.SIGSTOP)
        else:
            self.kill(victim)
        slices, lost = self.slices(end), lambda: any(self.partitions.owners()[task] != loser for task in held)
        if not self.partitions.wait_until(lost, MOVE_SECONDS_MAX, lambda: next(slices, None)):
            self.unmoved += 1
            self.notes.append(f"part {self.number + 1}: no partition moved within {MOVE_SECONDS_MAX} s")
        elif stands_still:
            self.stood_still += 1
        if stands_still:
            os.kill(victim.pid, signal.SIGCONT)
            time.sleep(self.moments.uniform(EARLIEST_SECONDS, AWAKE_SECONDS_MAX))
            self.kill(victim)
        self.start_again(victim)

    def slices(self, end):
        """Asks for what is left of the part, a little each time it is gone on with and time for it has come."""
        left, due = end - self.feed.asked, time.monotonic()
        for number in range(1, SLICES + 1):
            while time.monotonic() < due:
                yield
            self.feed.send_until(end - left + left * number // SLICES)
            due += SLICE_SECONDS
            yield

    def settled(self):
        """What each server serves, against what was acknowledged, once it is the same or nothing changes any more."""
        wanted = ticks.expected(self.feed.done)
        end, found, quiet = time.monotonic() + self.settle_seconds_max, None, 0
        while quiet < QUIET_LOOKS_MAX and (found is None or time.monotonic() < end):
            before = found
            try:
                found = [differences(self.desk, server, wanted) for server in self.desk.servers]
            except (OSError, http.client.HTTPException) as failure:
                if time.monotonic() > end:
                    raise CannotMeasure(f"what is served in the end cannot be read: {failure}") from failure
            else:
                if not any(wrong for wrong, _, _ in found):
                    break
                quiet = quiet + 1 if found == before else 0
            time.sleep(QUIET_SECONDS)
        wrong = [line for lines, _, _ in found for line in lines]
        return wrong, sum(missing for _, missing, _ in found), sum(extra for *_, extra in found)

    def move_figures(self):
        moves = self.partitions.moves()
        in_the_middle = sum(move.offset > 0 for move in moves)
        kinds = sorted({move.task for move in moves})
        share = sum(self.shares) / max(1, len(self.shares))
        self.notes.append(f"who was killed had {share:.0%} of the partitions on average; moved: "
                          + ", ".join(f"{stage}/{partition}" for stage, partition in kinds))
        return [
            Figure("partitions that moved to the other server", len(moves), at_least=self.rounds),
            Figure("those that moved in the middle", in_the_middle, at_least=1),
            Figure("rounds in which none moved", self.unmoved, at_most=0),
            Figure("servers that stood still, lost partitions and woke", self.stood_still, at_least=1),
        ]


def run(workbench, way, servers):
    label = way if servers == 1 else f"{way}, {servers} servers"
    kafka_settings = f"{KAFKA_SETTINGS}session_timeout_ms = {workbench.pick(LEASE_MS, QUICK_LEASE_MS)}\n"
    with _stream.Desk(workbench, way, servers, kafka_settings) as desk, _stream.Feed(desk) as feed:
        course = Course(workbench, desk, feed, label)
        course.run()
        seconds = time.monotonic() - course.began
        moved = len(course.partitions.moves()) if servers > 1 else 0
        wrong, missing, extra = course.settled()
        behind = desk.behind()
        figures = [
            Figure("trades that are missing in bars", missing, at_most=0),
            Figure("trades that are twice in bars", extra, at_most=0),
            Figure("bars and prices that are otherwise", len(wrong), at_most=0),
            # Above nought, or with partitions that still moved, what is missing may be late and not lost.
            Figure("events that stages said they had yet to take", float("nan") if behind is None else behind),
            *([Figure("partitions that moved while that was waited for", len(course.partitions.moves()) - moved)]
              if servers > 1 else []),
            *(course.move_figures() if servers > 1 else []),
            Figure("kills", course.kills, at_least=course.rounds),
            Figure("ticks", feed.done, at_least=course.rounds * course.each),
            Figure("ready after a kill, at most", max(course.restarts, default=0.0), "s"),
        ]
        notes = [f"seed {SEED}; {seconds:.0f} s, then {time.monotonic() - course.began - seconds:.0f} s until all was "
                 f"served; {feed.again} requests were sent again", *course.notes, *wrong[:5]]
    for figure in figures:
        figure.what = f"{label}: {figure.what}"
    return figures, [f"{label}: {note}" for note in notes]


def one(workbench, way, servers):
    """The same, where that cannot be measured as a figure that does not hold: the other ways are measured all the same."""
    try:
        return run(workbench, way, servers)
    except CannotMeasure as reason:
        label = f"{way}, {servers} servers" if servers > 1 else way
        return [Figure(f"{label}: was measured (1 is yes)", 0, at_least=1)], [f"{label}: not measured: {reason}"]


def measure(workbench):
    return _stream.joined(one(workbench, way, servers) for way, servers in WAYS)
