"""Ticks that are made by number, and what prices and bars must be made of them.

The same number is the same tick, so that whoever sends one again sends it to the byte, and what should be served can be
worked out apart from what is.
"""

import json

SOURCE = "bench"
INSTRUMENTS = 50
START_US = 1_704_067_200_000_000  # 2024-01-01
STEP_US = 50_000
INTERVALS_US = {"5m": 300_000_000, "1h": 3_600_000_000, "1d": 86_400_000_000}


def instrument(number):
    return f"BENCH_HUB_{number * 31 % INSTRUMENTS:03d}"


def time_us(number):
    return START_US + number * STEP_US


def price(number):
    """Whole cents, some of them below zero."""
    return (number * 7_919 % 20_000 - 5_000) / 100


def volume(number):
    return 1 + number % 7


def message(number, name=None, at_us=None):
    """A message of the feed, as bytes."""
    return (
        '{"source_system":"%s","market":"PJM","symbol":"%s","sequence":%d,"timestamp":%d,"price":%.2f,"volume":%d}'
        % (SOURCE, name or instrument(number), number + 1, at_us or time_us(number), price(number), volume(number))
    ).encode()


def expected(count):
    """By interval, instrument and start: open, high, low, close, volume, trades. And the newest price of each instrument."""
    bars = {interval: {} for interval in INTERVALS_US}
    newest = {}
    for number in range(count):
        name, at_us, paid, size = instrument(number), time_us(number), price(number), volume(number)
        newest[name] = (paid, number + 1)
        for interval, length_us in INTERVALS_US.items():
            start = at_us - at_us % length_us
            bar = bars[interval].get((name, start))
            if bar is None:
                bars[interval][name, start] = [paid, paid, paid, paid, size, 1]
                continue
            bar[1], bar[2], bar[3] = max(bar[1], paid), min(bar[2], paid), paid
            bar[4] += size
            bar[5] += 1
    return bars, newest


def post(connection, key, messages):
    """Posts messages over an `http.client` connection; how many were taken, of which how many were there before."""
    headers = {"x-api-key": key, "content-type": "application/x-ndjson"}
    connection.request("POST", "/api/v1/market/ticks", b"\n".join(messages) + b"\n", headers)
    answer = connection.getresponse()
    told = json.loads(answer.read())
    if answer.status not in (200, 201):
        raise OSError(f"{answer.status}: {told}")
    return told.get("stored", 0) + told.get("duplicates", 0)
