"""Kafka's protocol: `tansu`, a broker in Rust that keeps everything in a SQLite file, built once from crates.io.

The build takes about 20 minutes of one core. It is started as one broker; a test that stops and starts a broker gets the
program's path and starts its own.
"""

import contextlib
import os
import pathlib
import shutil
import socket
import sqlite3
import subprocess
import sys

from ._processes import Process, free_port, stop_all

NAME = "kafka"
VERSION = "0.6.0"


def program(cache: pathlib.Path) -> pathlib.Path:
    return pathlib.Path(cache) / f"tansu-{VERSION}/bin/tansu"


def install(cache: pathlib.Path):
    if program(cache).exists():
        return
    print(f"installing tansu {VERSION} with cargo (about 20 minutes, once)", file=sys.stderr, flush=True)
    # A folder of its own, gone afterwards: nothing else is built of the same parts.
    target = pathlib.Path(cache) / f"tansu-{VERSION}-target"
    environment = {**os.environ, "CARGO_TARGET_DIR": str(target), "CARGO_INCREMENTAL": "0"}
    command = ["cargo", "install", "--quiet", "--locked", "tansu", "--version", VERSION, "--features", "libsql"]
    subprocess.run([*command, "--root", program(cache).parent.parent], check=True, env=environment)
    shutil.rmtree(target, ignore_errors=True)


def start(cache: pathlib.Path, folder: pathlib.Path):
    broker, port = run(cache, folder)
    environment = {
        "WATERSHED_TEST_KAFKA_URL": f"kafka://127.0.0.1:{port}",
        "WATERSHED_TEST_KAFKA_BROKER": str(program(cache)),
    }
    return environment, lambda: stop_all([broker])


def run(cache: pathlib.Path, folder: pathlib.Path):
    """A broker that answers, and the port that it does so on."""
    port = free_port()
    broker = Process(command(cache, folder, port), folder / "tansu.log")
    try:
        broker.wait_until(lambda: answers(port))
        _index_headers(folder / "tansu.db")
    except BaseException:
        stop_all([broker])
        raise
    return broker, port


def _index_headers(database):
    """The broker looks up the headers of each record that it hands over, in a table without an index: each record would cost
    a look at those of all records of all topics."""
    with contextlib.closing(sqlite3.connect(database, timeout=10)) as connection, connection:
        connection.execute("CREATE INDEX IF NOT EXISTS header_place ON header (topition, offset_id)")


def command(cache, folder, port):
    address = f"tcp://127.0.0.1:{port}"
    # The broker takes the name of its file for one in the folder that it runs in.
    return ["env", f"--chdir={folder}", program(cache), "broker", "--listener-url", address,
            "--advertised-listener-url", address, "--storage-engine", "sqlite://tansu.db"]


def answers(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
