"""The same bars by polars, all trades at once: the speed limit of a batch. Prints one line of JSON.

It groups a table in memory that is sorted already, and times that alone: no late trades, no revisions, no reading.
"""

import argparse
import json
import pathlib
import time

import polars

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("folder", type=pathlib.Path, help="what `bench-market bars --export` wrote")
parser.add_argument("--time-zone", default="America/New_York")
options = parser.parse_args()

trades = polars.read_csv(options.folder / "trades.csv")
trades = trades.with_columns(
    polars.from_epoch("time_us", "us").dt.replace_time_zone("UTC").dt.convert_time_zone(options.time_zone).alias("time")
).sort("time_us", "sequence")


def bars(interval):
    price, volume = polars.col("price"), polars.col("volume")
    grouped = trades.group_by_dynamic("time", every=interval, start_by="window").agg(
        price.first().alias("open"),
        price.max().alias("high"),
        price.min().alias("low"),
        price.last().alias("close"),
        volume.sum(),
        (price * volume).sum().alias("turnover"),
        polars.len().alias("trade_count"),
    )
    return grouped.select(
        polars.lit(interval).alias("interval"),
        polars.col("time").dt.epoch("us").alias("start_us"),
        *["open", "high", "low", "close", "volume", "trade_count"],
    )


bars("5m")
seconds = []
for _ in range(5):
    began = time.process_time()
    found = polars.concat([bars(interval) for interval in ("5m", "1h", "1d")])
    seconds.append(time.process_time() - began)
ours = polars.read_csv(options.folder / "bars.csv")
both = found.join(ours, on=["interval", "start_us"], how="full", suffix="_ours")
same = polars.lit(True)
for name in ("open", "high", "low", "close", "trade_count"):
    same = same & polars.col(name).eq_missing(polars.col(f"{name}_ours"))
same = same & ((polars.col("volume") - polars.col("volume_ours")).abs() <= 1e-6 * polars.col("volume_ours").abs())
print(
    json.dumps(
        {
            "trades": trades.height,
            "bars": found.height,
            "different": both.filter(~same.fill_null(False)).height,
            "cpu_seconds": sorted(seconds)[len(seconds) // 2],
            "version": polars.__version__,
        }
    )
)
