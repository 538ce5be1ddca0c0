"""What engines share: packages, virtual environments, free ports, processes that are stopped by their id."""

import os
import pathlib
import random
import shutil
import socket
import subprocess
import sys
import threading
import time

START_SECONDS = 60
STOP_SECONDS = 5

# Below the ports that the system hands out to connections, so that no connection takes one before its server does.
PORTS = range(20_000, 32_000)
_given = set()
_lock = threading.Lock()


def apt_install(command, package):
    """Installs a Debian package unless its command is there."""
    if shutil.which(command):
        return
    as_root = [] if os.geteuid() == 0 else ["sudo"]
    print(f"installing {package} with apt", file=sys.stderr, flush=True)
    for arguments in (["update", "-qq"], ["install", "-y", "-qq", "--no-install-recommends", package]):
        subprocess.run([*as_root, "apt-get", *arguments], check=True, stdout=subprocess.DEVNULL)


def pip_install(venv: pathlib.Path, *requirements):
    """A virtual environment that has the requirements; made anew when they change."""
    note = venv / "requirements"
    wanted = "\n".join(requirements)
    if note.exists() and note.read_text() == wanted:
        return
    print(f"installing {' '.join(requirements)} with pip", file=sys.stderr, flush=True)
    shutil.rmtree(venv, ignore_errors=True)
    subprocess.run([sys.executable, "-m", "venv", venv], check=True)
    subprocess.run([venv / "bin/pip", "install", "--quiet", *requirements], check=True)
    note.write_text(wanted)


def free_port():
    """A port of 127.0.0.1 that is free now and that this process gives out once."""
    with _lock:
        for _ in range(1_000):
            port = random.choice(PORTS)
            with socket.socket() as probe:
                if port not in _given and probe.connect_ex(("127.0.0.1", port)) != 0:
                    _given.add(port)
                    return port
    raise RuntimeError("no port is free")


class Process:
    """A server that was started here."""

    def __init__(self, command, log: pathlib.Path, environment=None):
        self.name = log.stem
        self.log = log
        self.command = [str(part) for part in command]
        self.environment = {**os.environ, **(environment or {})}
        self.launch()

    def launch(self):
        """Starts it, also again after it ended."""
        with self.log.open("ab") as output:
            self.child = subprocess.Popen(
                self.command, env=self.environment,
                stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT,
                # A Ctrl-C in the terminal is for the command; servers end after it.
                start_new_session=True,
            )

    def kill(self):
        """Ends it between two instructions."""
        self.child.kill()
        self.child.wait()

    @property
    def pid(self):
        return self.child.pid

    def wait_until(self, answers):
        """Returns when `answers()` is true."""
        end = time.monotonic() + START_SECONDS
        while not answers():
            if self.child.poll() is not None:
                raise RuntimeError(f"{self.name} ended with code {self.child.returncode}")
            if time.monotonic() > end:
                raise RuntimeError(f"{self.name} does not answer after {START_SECONDS} s")
            time.sleep(0.05)


def stop_all(processes):
    """Ends them together: asked first, then forced."""
    for process in processes:
        process.child.terminate()
    end = time.monotonic() + STOP_SECONDS
    for process in processes:
        try:
            process.child.wait(max(0.0, end - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.child.kill()
            process.child.wait()
