"""S3: PyPI's `moto`, which keeps objects in memory, served by `_moto.py`. One bucket is made."""

import http.client
import pathlib

from ._processes import Process, free_port, pip_install, stop_all

NAME = "s3"
BUCKET = "watershed-test"
ACCESS_KEY_ID = "watershed-test-id"
SECRET_ACCESS_KEY = "watershed-test-secret"


def install(cache: pathlib.Path):
    pip_install(cache / "moto", "moto[server]==5.2.5")


def start(cache: pathlib.Path, folder: pathlib.Path):
    port = free_port()
    program = pathlib.Path(__file__).with_name("_moto.py")
    server = Process([cache / "moto/bin/python", program, port], folder / "moto.log")
    try:
        server.wait_until(lambda: makes_bucket(port))
    except BaseException:
        stop_all([server])
        raise
    environment = {
        "WATERSHED_TEST_S3_URL": f"http://127.0.0.1:{port}",
        "WATERSHED_TEST_S3_BUCKET": BUCKET,
        "WATERSHED_TEST_S3_ACCESS_KEY_ID": ACCESS_KEY_ID,
        "WATERSHED_TEST_S3_SECRET_ACCESS_KEY": SECRET_ACCESS_KEY,
    }
    return environment, lambda: stop_all([server])


def makes_bucket(port):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("PUT", f"/{BUCKET}")
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()
