"""Hourly and daily bars of day-ahead prices by polars, a range of months at once. Prints one line of JSON."""

import argparse
import json
import pathlib
import time

import polars

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("folder", type=pathlib.Path, help="the power prices of the real data")
parser.add_argument("first", help="the first day")
parser.add_argument("last", help="the day after the last")
parser.add_argument("markets", nargs="+")
options = parser.parse_args()

tables = []
for market in options.markets:
    table = polars.read_csv(options.folder / f"{market}.csv")
    time_name, price_name = table.columns[:2]
    tables.append(table.select(
        polars.lit(market).alias("market"),
        polars.col(time_name).str.to_datetime("%Y-%m-%d %H:%M:%S").alias("time"),
        polars.col(price_name).alias("price"),
    ))
first, last = (polars.lit(day).str.to_datetime("%Y-%m-%d") for day in (options.first, options.last))
prices = polars.concat(tables).filter((polars.col("time") >= first) & (polars.col("time") < last))
prices = prices.sort("market", "time")


def bars(interval):
    price = polars.col("price")
    grouped = prices.group_by_dynamic("time", every=interval, group_by="market").agg(
        price.first().alias("open"), price.max().alias("high"), price.min().alias("low"), price.last().alias("close"),
        polars.len().alias("count"))
    return grouped.sort("market", "time").with_columns(polars.col("time").dt.strftime("%Y-%m-%dT%H:%M:%SZ"))


bars("1h")
began = time.process_time()
found = {interval: bars(interval).rows() for interval in ("1h", "1d")}
spent = time.process_time() - began
print(json.dumps({"version": polars.__version__, "cpu_seconds": spent, "rows": prices.height, "bars": found}))
