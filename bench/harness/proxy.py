"""HAProxy before replicas, with the configuration that `deploy/haproxy` gives to operators.

It refuses to go on without every server that it was given. It needs Debian's `haproxy`, and installs it where it may.
"""

import csv
import os
import shutil
import socket
import subprocess
import time

from .figures import CannotMeasure
from .service_engines import _processes, free_port
from .workbench import ROOT

CONFIG = ROOT / "deploy" / "haproxy" / "watershed.cfg"
NAMES = ("one", "two", "three")
UP_SECONDS_MAX = 60
# Columns of the statistics.
BACKEND, SERVER, STATUS = "# pxname", "svname", "status"


class Proxy:
    """`with Proxy(workbench, servers) as proxy:` listens at `proxy.address`."""

    def __init__(self, workbench, servers):
        self.folder = workbench.folder("proxy")
        self.servers = servers
        self.address = f"127.0.0.1:{free_port()}"
        self.socket = self.folder / "stats"
        self.process = None

    def __enter__(self):
        try:
            _processes.apt_install("haproxy", "haproxy")
        except (OSError, subprocess.CalledProcessError) as failure:
            raise CannotMeasure(f"haproxy is missing and cannot be installed: {failure}") from failure
        own = self.folder / "bench.cfg"
        own.write_text(f"global\n    stats socket {self.socket}\n")
        addresses = {f"WATERSHED_{number}": server.address for number, server in enumerate(self.servers, 1)}
        program = shutil.which("haproxy") or "/usr/sbin/haproxy"
        environment = {**os.environ, "WATERSHED_LISTEN": self.address, **addresses}
        command = [program, "-db", "-f", CONFIG, "-f", own]
        self.process = _processes.Process(command, self.folder / "haproxy.log", environment)
        try:
            for server in self.servers:
                self.wait_for(server)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        _processes.stop_all([self.process])

    @property
    def pid(self):
        return self.process.pid

    def _ask(self, command):
        with socket.socket(socket.AF_UNIX) as line:
            line.connect(str(self.socket))
            line.sendall(f"{command}\n".encode())
            return b"".join(iter(lambda: line.recv(1 << 16), b"")).decode()

    def state(self, server):
        """What the checks of readiness found last."""
        name = NAMES[self.servers.index(server)]
        try:
            rows = csv.DictReader(self._ask("show stat").splitlines())
        except OSError:
            return "unknown"
        return next(row[STATUS] for row in rows if row[BACKEND] == "ready" and row[SERVER] == name)

    def wait_for(self, server):
        """Returns when requests are sent to this server."""
        end = time.monotonic() + UP_SECONDS_MAX
        while self.state(server) != "UP":
            if self.process.child.poll() is not None:
                last = self.process.log.read_text(errors="replace").splitlines()[-5:]
                raise CannotMeasure("haproxy ended: " + "\n".join(last))
            if time.monotonic() > end:
                raise CannotMeasure(f"haproxy does not find {server.address} ready: {self.state(server)}")
            time.sleep(0.05)
