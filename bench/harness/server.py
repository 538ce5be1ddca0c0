"""A server under test: started on a free port of this machine, stopped by its pid."""

import json
import os
import pathlib
import signal
import subprocess
import time
import urllib.error
import urllib.request

from .figures import CannotMeasure
from . import machine
from .workbench import clean_environment

KEY = "bench-key-0123456789abcdef"
# The limiter is asked as ever, and lets everything pass.
UNLIMITED = {
    f"RATE_LIMIT_{whose}{what}": count
    for whose in ("", "TENANT_")
    for what, count in (("REQUESTS_PER_MINUTE", "60000000"), ("BURST_SIZE", "1000000"))
}
READY_SECONDS_MAX = 300
STOP_SECONDS_MAX = 60
SETTLE_SECONDS_MAX = 120


class Server:
    """`with Server(workbench, data_folder) as server:`"""

    def __init__(self, workbench, data_folder, config="", name="server", port=0, environment=None):
        self.workbench = workbench
        self.data_folder = pathlib.Path(data_folder)
        self.folder = workbench.folder(name)
        self.config = self.folder / "watershed.toml"
        self.config.write_text(config)
        self.port = port
        self.environment = {"API_KEY": KEY, "LOG_LEVEL": "warn", **UNLIMITED, **(environment or {})}
        self.process, self.exit_code = None, None
        self.address = None
        self.ready_seconds = None

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.stop()

    @property
    def pid(self):
        return self.process.pid

    def launch(self):
        """Starts the process and waits for nothing; returns where it will write its address."""
        address_file = self.folder / "address"
        address_file.unlink(missing_ok=True)
        command = [self.workbench.binary("watershed"), "--config", self.config, "--data-dir", self.data_folder]
        command += ["serve", "--host", "127.0.0.1", "--port", self.port, "--address-file", address_file]
        self.log = open(self.folder / "log", "ab")
        self.process = subprocess.Popen(
            [str(part) for part in command],
            cwd=self.folder,
            env=clean_environment(**self.environment),
            stdin=subprocess.DEVNULL,
            stdout=self.log,
            stderr=self.log,
        )
        return address_file

    def start(self):
        """Returns when `/ready` says yes, and keeps how long that took from the start of the process."""
        began = time.monotonic()
        address_file = self.launch()
        while not self._is_ready(address_file):
            gone = self.process.poll() is not None
            if gone or time.monotonic() - began > READY_SECONDS_MAX:
                self.kill()
                last = (self.folder / "log").read_text(errors="replace").splitlines()[-5:]
                raise CannotMeasure("the server did not become ready: " + "\n".join(last))
            time.sleep(0.002)
        self.ready_seconds = time.monotonic() - began

    def settle(self):
        """Waits until the work that follows a start is done: two quiet seconds. Returns its processor seconds."""
        began = time.monotonic()
        spent = machine.processor_seconds(self.pid)
        while time.monotonic() - began < SETTLE_SECONDS_MAX:
            time.sleep(2)
            before, spent = spent, machine.processor_seconds(self.pid)
            if spent - before < 0.05:
                return spent
        raise CannotMeasure("the server did not come to rest")

    def _is_ready(self, address_file):
        try:
            text = address_file.read_text()
        except FileNotFoundError:
            return False
        if not text.endswith("\n"):
            return False
        self.address = text.strip()
        try:
            with urllib.request.urlopen(f"http://{self.address}/ready", timeout=5) as answer:
                return answer.status == 200
        except (urllib.error.URLError, OSError):
            return False

    def get(self, path, seconds=120):
        """The answer as a stream of bytes; close it."""
        request = urllib.request.Request(f"http://{self.address}{path}", headers={"x-api-key": KEY})
        return urllib.request.urlopen(request, timeout=seconds)

    def get_json(self, path):
        with self.get(path) as answer:
            return json.load(answer)

    def load_command(self, kind, *options, front=None):
        """The command line of the load program against this server, or against what stands before it."""
        program = self.workbench.binary("bench-load")
        target = ["--address", front or self.address, "--key", KEY]
        return [str(part) for part in [program, *target, kind, *options]]

    def load(self, kind, *options, minutes=10):
        """Runs the load program against this server; returns what it told."""
        return self.workbench.run_json(self.load_command(kind, *options), minutes=minutes)

    def _end(self, how, seconds):
        if self.process is None:
            return
        if self.process.poll() is None:
            os.kill(self.process.pid, how)
        try:
            self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.exit_code = self.process.returncode
        self.process = None
        self.log.close()

    def stop(self):
        self._end(signal.SIGTERM, STOP_SECONDS_MAX)

    def kill(self):
        """Ends it between two instructions."""
        self._end(signal.SIGKILL, STOP_SECONDS_MAX)
