"""Kafka's protocol for measurements: `crabka`, a broker in Rust that keeps segments on disk as Kafka does, with transactions.

Its author has withdrawn it from crates.io, so that tests do not stand on it: `bench/broker` builds it by a lock file, once.
"""

import os
import pathlib
import shutil
import subprocess
import sys

from ._processes import Process, free_port, stop_all
from .kafka import answers

VERSION = "0.3.0"
SOURCE = pathlib.Path(__file__).resolve().parents[2] / "bench" / "broker"


def program(cache: pathlib.Path) -> pathlib.Path:
    return pathlib.Path(cache) / f"crabka-{VERSION}/bin/bench-broker"


def install(cache: pathlib.Path):
    if program(cache).exists():
        return
    print(f"building the broker crabka {VERSION} with cargo (about 10 minutes, once)", file=sys.stderr, flush=True)
    # A folder of its own, gone afterwards: nothing else is built of the same parts.
    target = pathlib.Path(cache) / f"crabka-{VERSION}-target"
    environment = {**os.environ, "CARGO_TARGET_DIR": str(target), "CARGO_INCREMENTAL": "0"}
    command = ["cargo", "install", "--quiet", "--locked", "--path", SOURCE, "--root", program(cache).parent.parent]
    subprocess.run(command, check=True, env=environment)
    shutil.rmtree(target, ignore_errors=True)


def run(cache: pathlib.Path, folder: pathlib.Path):
    """A broker that answers, and the port that it does so on."""
    port = free_port()
    command = [program(cache), f"127.0.0.1:{port}", f"127.0.0.1:{free_port()}", folder / "crabka"]
    broker = Process(command, folder / "crabka.log")
    try:
        broker.wait_until(lambda: answers(port))
    except BaseException:
        stop_all([broker])
        raise
    return broker, port
