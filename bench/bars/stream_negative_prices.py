"""Prices of zero and below, from raw messages to bars."""

from harness.figures import Figure, Measured

from . import _market

NAME = "stream-negative-prices"
WHAT = "German and Belgian hourly prices and daily WTI, as raw messages through ticks and bars, in memory"
BAR = "538 and 26 negative hours, WTI on 2020-04-20 = -36.98, every bar as its price was"

HOURS = {"DE": 538, "BE": 26}
WTI = -36.98


def measure(workbench):
    told = _market.ask(workbench, "negative-prices")
    figures = []
    for market, hours in HOURS.items():
        missing = abs(told[market]["negative_bars"] - hours)
        figures += [
            Figure(f"negative hours, {market}", told[market]["negative_bars"], at_least=hours),
            Figure(f"negative hours that should not be or are not there, {market}", missing, at_most=0),
        ]
    figures += [
        Figure("WTI on 2020-04-20", told["WTI"]["2020-04-20"] or float("nan"), "USD", at_least=WTI),
        Figure("the same, apart from -36.98", abs((told["WTI"]["2020-04-20"] or 0.0) - WTI), "USD", at_most=0),
    ]
    for name, of in told.items():
        figures.append(Figure(f"bars that differ from their price, {name}", of["wrong_bars"], at_most=0))
    prices = sum(of["prices"] for of in told.values())
    note = f"{prices:,} prices; local times are taken for UTC, as the files have 24 hours every day"
    return Measured(figures, [note])
