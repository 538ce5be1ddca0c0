"""A feed: sends ticks to a server over HTTP or to brokers of Kafka by `confluent-kafka`, as any other client does.

`follow` sends at a rate, reads prices meanwhile, and tells as JSON how long after it was due each tick of some instruments
could be read. `drive` reads a number from each line of its input, sends all ticks before it until they are acknowledged,
and answers with that number. Of several servers it asks the next one where one does not answer.
"""

import argparse
import http.client
import json
import multiprocessing
import pathlib
import queue
import sys
import threading
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from harness import ticks  # noqa: E402

TOPIC = "ingestion.market.ticks.raw.v1"
SLOT_SECONDS = 0.01
PROBES = [f"PROBE_HUB_{number}" for number in range(4)]
POLL_SECONDS = 0.002
PATIENCE_SECONDS = 10.0
ANSWER_SECONDS = 30
# Whoever can ask another server does not wait long for one that stands still.
ANSWER_SECONDS_OF_MANY = 5
CONNECTIONS = 4
BATCH = 500
RETRY_SECONDS = 0.02


class Brokers:
    """Where ticks go by Kafka's protocol."""

    def __init__(self, address):
        from confluent_kafka import Producer

        settings = {"bootstrap.servers": address, "linger.ms": 1, "enable.idempotence": True,
                    # As Java clients and the stages do, so that an instrument stays in order through all of them.
                    "partitioner": "murmur2_random", "queue.buffering.max.messages": 1_000_000}
        self.producer = Producer(settings)
        self.accepted, self.failures = 0, []

    def _delivered(self, error, _):
        self.accepted += error is None
        if error is not None:
            self.failures.append(str(error))

    def send(self, messages):
        for name, body in messages:
            self.producer.produce(TOPIC, key=name, value=body, on_delivery=self._delivered)
        self.producer.poll(0)

    def finish(self):
        if self.producer.flush(60) > 0 or self.failures:
            raise SystemExit(f"the brokers did not take every tick: {self.failures[:1]}")


class Server:
    """Where ticks go over HTTP: requests of one slot each, over some connections."""

    def __init__(self, address, key):
        self.accepted, self.failures = 0, []
        self.slots = queue.Queue()
        self.lock = threading.Lock()
        self.threads = [threading.Thread(target=self._run, args=(address, key)) for _ in range(CONNECTIONS)]
        for thread in self.threads:
            thread.start()

    def _run(self, address, key):
        connection = http.client.HTTPConnection(address, timeout=30)
        while (messages := self.slots.get()) is not None:
            try:
                taken = ticks.post(connection, key, [body for _, body in messages])
            except (OSError, http.client.HTTPException, ValueError) as failure:
                connection.close()
                self.failures.append(str(failure))
                continue
            with self.lock:
                self.accepted += taken

    def send(self, messages):
        self.slots.put(messages)

    def finish(self):
        for _ in self.threads:
            self.slots.put(None)
        for thread in self.threads:
            thread.join()


def look(address, key, pipe):
    """Reads the price of one probe after the other; what was seen when, once it is told to stop."""
    connection = http.client.HTTPConnection(address, timeout=30)
    seen, requests, failed, due = {name: [] for name in PROBES}, 0, 0, time.monotonic()
    while not pipe.poll():
        name = PROBES[requests % len(PROBES)]
        requests += 1
        try:
            connection.request("GET", f"/api/v1/market/prices/{name}", headers={"x-api-key": key})
            answer = connection.getresponse()
            body = answer.read()
        except (OSError, http.client.HTTPException):
            connection.close()
            failed += 1
            continue
        if answer.status == 200:
            sequence = json.loads(body)["sequence"]
            if not seen[name] or seen[name][-1][1] != sequence:
                seen[name].append((time.monotonic(), sequence))
        due = max(due + POLL_SECONDS, time.monotonic() - 0.1)
        time.sleep(max(0.0, due - time.monotonic()))
    pipe.send((seen, requests, failed))


def slot_messages(first, count, number, dues, due):
    """The ticks of one slot, the first of which is that of a probe."""
    at_us = int(time.time() * 1e6)
    probe = PROBES[number % len(PROBES)]
    dues[probe].append((first + 1, due))
    messages = [(probe, ticks.message(first, probe, at_us))]
    for tick in range(first + 1, first + count):
        name = ticks.instrument(tick)
        messages.append((name, ticks.message(tick, name, at_us)))
    return messages


def follow(options):
    to = Brokers(options.brokers) if options.brokers else Server(options.address, options.key)
    ours, theirs = multiprocessing.Pipe()
    # It ends with this process, also where that ends early.
    reader = multiprocessing.Process(target=look, args=(options.address, options.key, theirs), daemon=True)
    reader.start()
    each = max(1, int(options.rate * SLOT_SECONDS))
    began, late, dues = time.monotonic() + 0.2, [], {name: [] for name in PROBES}
    slots = int(options.seconds / SLOT_SECONDS)
    for number in range(slots):
        due = began + number * SLOT_SECONDS
        time.sleep(max(0.0, due - time.monotonic()))
        late.append(time.monotonic() - due)
        to.send(slot_messages(options.first + number * each, each, number, dues, due))
    to.finish()
    ended = time.monotonic()
    time.sleep(min(PATIENCE_SECONDS, options.patience))
    ours.send("stop")
    seen, requests, failed = ours.recv()
    reader.join()
    latencies, never = [], 0
    for name, due_at in dues.items():
        place, shown = 0, seen[name]
        for sequence, due in due_at:
            while place < len(shown) and shown[place][1] < sequence:
                place += 1
            if place == len(shown):
                never += 1
            else:
                latencies.append((shown[place][0] - due) * 1e3)
    latencies.sort()
    late.sort()
    part = lambda values, share: values[min(len(values) - 1, int(len(values) * share))] if values else float("nan")
    told = {
        "sent": slots * each, "accepted": to.accepted, "rate": slots * each / max(1e-9, ended - began),
        "probes": len(latencies) + never, "never": never,
        "p50_ms": part(latencies, 0.5), "p95_ms": part(latencies, 0.95), "p99_ms": part(latencies, 0.99),
        "most_ms": part(latencies, 1.0), "late_p99_ms": part(late, 0.99) * 1e3,
        "reads": requests, "reads_failed": failed, "failures": to.failures[:5],
    }
    print(json.dumps(told))


def drive(options):
    brokers = Brokers(options.brokers) if options.brokers else None
    addresses = options.address.split(",")
    timeout = ANSWER_SECONDS if len(addresses) == 1 else ANSWER_SECONDS_OF_MANY
    connections = [http.client.HTTPConnection(address, timeout=timeout) for address in addresses]
    done, again = 0, 0
    for line in sys.stdin:
        until = int(line)
        while done < until:
            numbers = range(done, min(until, done + BATCH))
            if brokers:
                brokers.send([(ticks.instrument(number), ticks.message(number)) for number in numbers])
            else:
                connection = connections[again % len(connections)]
                try:
                    ticks.post(connection, options.key, [ticks.message(number) for number in numbers])
                except (OSError, http.client.HTTPException, ValueError):
                    # Nobody knows whether they were taken, so they are sent again.
                    connection.close()
                    again += 1
                    time.sleep(RETRY_SECONDS)
                    continue
            done = numbers.stop
        if brokers:
            brokers.finish()
        print(done, again, flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["follow", "drive"])
    parser.add_argument("--address", required=True, help="of the server; for `drive` of several, with commas")
    parser.add_argument("--key", required=True)
    parser.add_argument("--brokers", help="where ticks go, instead of to the server")
    parser.add_argument("--rate", type=float, default=20_000)
    parser.add_argument("--seconds", type=float, default=30)
    parser.add_argument("--first", type=int, default=0, help="the number of the first tick")
    parser.add_argument("--patience", type=float, default=3)
    options = parser.parse_args()
    {"follow": follow, "drive": drive}[options.what](options)


if __name__ == "__main__":
    main()
