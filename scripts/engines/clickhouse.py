"""ClickHouse: its engine as a library, from PyPI's wheel `chdb-core`, served over HTTP by `_clickhouse.py`.

It is one server without replicas and runs eight statements at once: what the statements mean is real, how a cluster behaves
is not shown by it.
"""

import http.client
import pathlib

from ._processes import Process, free_port, pip_install, stop_all

NAME = "clickhouse"
USER = "watershed"
PASSWORD = "watershed-test"


def install(cache: pathlib.Path):
    # What it names besides is for data frames, which nobody here makes.
    pip_install(cache / "chdb", "--no-deps", "chdb-core==26.9.0")


def start(cache: pathlib.Path, folder: pathlib.Path):
    port = free_port()
    program = pathlib.Path(__file__).with_name("_clickhouse.py")
    command = [cache / "chdb/bin/python", program, port, folder, USER, PASSWORD]
    server = Process(command, folder / "clickhouse.log")
    try:
        server.wait_until(lambda: answers(port))
    except BaseException:
        stop_all([server])
        raise
    url = f"http://{USER}:{PASSWORD}@127.0.0.1:{port}"
    # For tests that end a server and start it again.
    environment = {"WATERSHED_TEST_CLICKHOUSE_URL": url, "WATERSHED_TEST_CLICKHOUSE_PROGRAM": f"{command[0]}:{program}"}
    return environment, lambda: stop_all([server])


def answers(port):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", "/ping")
        return connection.getresponse().read() == b"Ok.\n"
    except OSError:
        return False
    finally:
        connection.close()
