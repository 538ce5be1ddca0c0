"""What live made of shuffled ticks, made again from the raw topic: the same to the byte."""

import csv
import datetime
import json
import random
import re
import resource
import signal
import subprocess
import time
import urllib.request

from harness.figures import CannotMeasure, Figure, Measured
from harness.server import KEY, Server
from harness.workbench import ROOT, clean_environment

NAME = "stream-backfill"
WHAT = "day-ahead prices of five markets, shuffled, with late and repeated ticks; then `watershed backfill`"
BAR = "a month made again is what live made, to the byte; by other settings too, killed on the way or not"

SEED = 21
MARKETS = ("BE", "DE", "FR", "NP", "PJM")
# Ticks that are too late for every bar are of this market, so that the others can be compared with a batch.
TOO_LATE_MARKET = "NP"
DELAY_HOURS, LATENESS_HOURS = 3, 6
REPEATED, LATE, TOO_LATE = 0.02, 0.05, 0.02
KILLS = 5
SETTLE_SECONDS_MAX = 300
# History that comes after a pause must not be late.
SETTINGS = f"""
[market.stages]
idle_after_seconds = 86400
[market.bars]
watermark_delay_seconds = {DELAY_HOURS * 3600}
allowed_lateness_seconds = {LATENESS_HOURS * 3600}
[recommend.schedule]
incremental_update_interval_secs = 3600
"""
# The price is read from the wrong place.
WRONG = SETTINGS + '[market.mapping]\nprice = ["load"]\n'


def hours(workbench, first, last):
    """Market, time, price and load forecast of every hour."""
    for market in MARKETS:
        with open(workbench.data(f"power/{market}.csv")) as file:
            for row in list(csv.reader(file))[1:]:
                at = datetime.datetime.fromisoformat(row[0])
                if first <= at < last:
                    yield market, at, float(row[1]), float(row[2])


def shuffled(ticks, chance):
    """Messages in the order of their arrival."""
    arrivals = []
    for number, (market, at, price, load) in enumerate(ticks):
        text = json.dumps({"source_system": "power", "market": market, "symbol": f"{market}_DAY_AHEAD",
                           "sequence": number, "timestamp": at.isoformat() + "Z", "price": price, "load": load,
                           "volume": 1})
        after = chance.uniform(0, DELAY_HOURS * 0.95)
        if market == TOO_LATE_MARKET and chance.random() < TOO_LATE:
            after = chance.uniform(48, 96)
        elif chance.random() < LATE:
            after = chance.uniform(DELAY_HOURS, DELAY_HOURS + LATENESS_HOURS - 2)
        arrivals.append((at + datetime.timedelta(hours=after), text))
        if chance.random() < REPEATED:
            again = json.dumps({**json.loads(text), "received_again": True})
            arrivals.append((at + datetime.timedelta(hours=after + chance.uniform(0, 2)), again))
    return [text for _, text in sorted(arrivals)]


class Desk:
    """A server over a folder, fed and asked."""

    def __init__(self, workbench, name, settings):
        self.workbench, self.name = workbench, name
        self.folder = workbench.folder(f"data-{name}")
        self.server = Server(workbench, self.folder, settings, f"server-{name}")

    def feed(self, messages, last):
        with self.server as server:
            for start in range(0, len(messages), 500):
                self.post(server, messages[start:start + 500])
            end = last + datetime.timedelta(days=6)
            clock = {"source_system": "clock", "symbol": "CLOCK", "sequence": 1, "price": 1, "load": 1}
            self.post(server, [json.dumps({**clock, "timestamp": end.isoformat() + "Z"})])
            self.settle(server)

    def post(self, server, lines):
        request = urllib.request.Request(f"http://{server.address}/api/v1/market/ticks", "\n".join(lines).encode(),
                                         {"x-api-key": KEY, "content-type": "application/x-ndjson"})
        with urllib.request.urlopen(request, timeout=60) as answer:
            if json.load(answer).get("refused"):
                raise CannotMeasure("the server refused ticks")

    def settle(self, server):
        """Until every stage took what there is, and the clock's price is served."""
        end = time.monotonic() + SETTLE_SECONDS_MAX
        while time.monotonic() < end:
            with server.get("/metrics") as answer:
                text = answer.read().decode()
            lags = re.findall(r"^stage_lag_events\{[^}]*\} (\d+)", text, re.M)
            listed = server.get_json("/api/v1/market/prices?limit=100")["prices"]
            if lags and not any(map(int, lags)) and any(one["instrument_id"] == "CLOCK" for one in listed):
                # Lag is of a second ago.
                time.sleep(3)
                return
            time.sleep(0.5)
        raise CannotMeasure("the stages did not take every tick")

    def answers(self, first, last):
        """By path what is served, as it is sent."""
        found = {}
        with self.server as server:
            for market in MARKETS:
                name, day = f"{market}_DAY_AHEAD", first
                for interval in ("5m", "1h", "1d"):
                    day = first
                    while day < last:
                        after = min(day + datetime.timedelta(days=8), last)
                        path = (f"/api/v1/market/bars/{name}?interval={interval}&from={day.isoformat()}Z"
                                f"&to={after.isoformat()}Z&limit=1000&format=ndjson")
                        with server.get(path) as answer:
                            found[path] = answer.read()
                        day = after
                at = first + datetime.timedelta(hours=12)
                while at < last:
                    path = f"/api/v1/market/prices/{name}?as_of={at.isoformat()}Z"
                    with server.get(path) as answer:
                        found[path] = answer.read()
                    at += datetime.timedelta(hours=7)
        return found

    def command(self, config, first, last, *options):
        command = [self.workbench.binary("watershed"), "--config", config, "--data-dir", self.folder, "backfill"]
        command += ["--from", f"{first.isoformat()}Z", "--to", f"{last.isoformat()}Z", "--json", *options]
        return [str(part) for part in command]

    def backfill(self, config, first, last, *options):
        """The report, and what it cost."""
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        report = json.loads(self.workbench.run(self.command(config, first, last, *options)))
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return report, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    def kill_a_few(self, config, first, last, chance, most_seconds):
        """Backfills that are killed within so long; how many of them were still at work."""
        killed = 0
        for _ in range(KILLS):
            process = subprocess.Popen(self.command(config, first, last), env=clean_environment(),
                                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            time.sleep(chance.uniform(0, most_seconds))
            killed += process.poll() is None
            process.send_signal(signal.SIGKILL)
            process.wait()
        return killed


def sums(report):
    total = {"equal": 0, "added": 0, "changed": 0, "withdrawn": 0, "left_to_live": 0}
    for found in report["tables"].values():
        for name, count in found.items():
            total[name] += count
    return total


def one_less(answer):
    """An answer with each revision as it was before."""
    return re.sub(rb'"revision":(\d+)', lambda found: b'"revision":%d' % (int(found.group(1)) - 1), answer)


def unlike(ours, theirs, change=lambda answer: answer):
    """Answers that differ. When a tick came is of the run, and no two runs have it alike."""
    def shown(answer):
        return re.sub(rb'"received_at":"[^"]*"', b"", answer)
    return [path for path, answer in theirs.items() if shown(change(ours[path])) != shown(answer)]


def polars_bars(workbench, first, last):
    markets = [market for market in MARKETS if market != TOO_LATE_MARKET]
    script, folder = ROOT / "bench" / "peers" / "polars_power.py", workbench.data("power")
    command = [workbench.python(), script, folder, first.date(), last.date(), *markets]
    return workbench.run_json(command, environment=clean_environment(POLARS_MAX_THREADS="1"))


def against_batch(answers, peer):
    """Bars that differ from those of the batch, and how many were compared."""
    ours = {}
    for path, answer in answers.items():
        if interval := re.search(r"bars/(\w+)_DAY_AHEAD\?interval=(1h|1d)", path):
            for bar in map(json.loads, answer.decode().splitlines()):
                values = tuple(bar[name] for name in ("open", "high", "low", "close", "trade_count"))
                ours[interval.group(1), interval.group(2), bar["interval_start"]] = values
    theirs = {}
    for interval, rows in peer["bars"].items():
        for market, at, *values in rows:
            theirs[market, interval, at] = tuple(values)
    return sum(ours.get(place) != bar for place, bar in theirs.items()), len(theirs)


def measure(workbench):
    first = datetime.datetime(2015, 12, 1)
    last = workbench.pick(datetime.datetime(2016, 1, 1), datetime.datetime(2015, 12, 4))
    chance = random.Random(SEED)
    messages = shuffled(list(hours(workbench, first, last)), chance)
    desk = Desk(workbench, "right", SETTINGS)
    desk.feed(messages, last)
    before = desk.answers(first, last)
    again, seconds = desk.backfill(desk.server.config, first, last)
    same = sums(again)
    after = desk.answers(first, last)
    wrong_after = [path for path, answer in before.items() if after[path] != answer]
    peer = polars_bars(workbench, first, last)
    different, compared = against_batch(before, peer)
    figures = [
        Figure("rows that a backfill by the same settings makes otherwise", different_rows(same), at_most=0),
        Figure("rows that it makes the same", same["equal"], at_least=len(set(messages)) * 0.9),
        Figure("answers that it changed", len(wrong_after), at_most=0),
        Figure("bars that differ from those of a batch", different, at_most=0),
        Figure("processor time of the backfill", seconds, "s", peer=peer["cpu_seconds"],
               peer_name=f"polars {peer['version']}, from sorted memory, one thread"),
    ]
    mistaken = Desk(workbench, "wrong", WRONG)
    mistaken.feed(messages, last)
    config = desk.server.config
    began = time.monotonic()
    dry, _ = mistaken.backfill(config, first, last, "--dry-run")
    whole_seconds = time.monotonic() - began
    wrong = unlike(mistaken.answers(first, last), before)
    killed = mistaken.kill_a_few(config, first, last, chance, whole_seconds)
    mended, _ = mistaken.backfill(config, first, last)
    differing = unlike(mistaken.answers(first, last), before, one_less)
    rest, _ = mistaken.backfill(config, first, last, "--dry-run")
    stages, too_late = again["stages"]["normalization"], again["stages"]["aggregation"]["dead_lettered"]
    figures += [
        Figure("answers of live by a wrong mapping that are wrong", len(wrong), at_least=1),
        Figure("the same, mended by a backfill that was killed on the way", len(differing), at_most=0),
        Figure("backfills that were killed at work", killed, at_least=1),
        Figure("rows that another backfill finds to differ", different_rows(sums(rest)), at_most=0),
    ]
    notes = [
        f"{len(messages):,} messages, {stages['duplicates']:,} known, {too_late:,} too late for every bar; "
        f"{len(before):,} answers; {compared:,} bars compared with the batch",
        f"the dry run told {different_rows(sums(dry)):,} rows; the call after the kills still found "
        f"{different_rows(sums(mended)):,}",
    ]
    return Measured(figures, notes)


def different_rows(found):
    return found["added"] + found["changed"] + found["withdrawn"] + found["left_to_live"]
