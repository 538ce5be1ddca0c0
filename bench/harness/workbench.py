"""Where things are, and how programs are built and run.

It refuses to leave anything running: every program has a time limit and is ended by its pid.
"""

import hashlib
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time

from .figures import CannotMeasure

ROOT = pathlib.Path(__file__).resolve().parents[2]
CACHE = pathlib.Path.home() / ".cache" / "watershed"
MINUTE_SECONDS = 60


class Workbench:
    """Handed to each row. `quick` asks for sizes that only show that the row works."""

    def __init__(self, quick=False, binaries=None):
        self.quick = quick
        self.binaries = pathlib.Path(binaries).resolve() if binaries else None
        # Not in /tmp, which may be memory: an fsync there would cost nothing.
        CACHE.mkdir(parents=True, exist_ok=True)
        self.scratch = pathlib.Path(tempfile.mkdtemp(prefix="bench-run-", dir=CACHE))

    def close(self):
        shutil.rmtree(self.scratch, ignore_errors=True)

    def say(self, text):
        print(f"  {text}", file=sys.stderr, flush=True)

    def pick(self, full, quick):
        """The size of something: of a measurement, or of a trial."""
        return quick if self.quick else full

    def folder(self, name):
        """An empty folder that is gone when the benchmark ends."""
        path = self.scratch / name
        shutil.rmtree(path, ignore_errors=True)
        path.mkdir(parents=True)
        return path

    def data(self, name):
        """A file or folder of the real data."""
        folder = pathlib.Path(os.environ.get("WATERSHED_DATA") or ROOT / ".." / "shared" / "data").resolve()
        path = folder / name
        if not path.exists():
            raise CannotMeasure(f"{path} is not there; set WATERSHED_DATA to the folder of the real data")
        return path

    def binary(self, name):
        """A program of the workspace: `watershed` or one of `bench/programs`."""
        if self.binaries is None:
            self._build()
        path = self.binaries / name
        if not path.exists():
            raise CannotMeasure(f"{path} is not there")
        return path

    def _build(self):
        target = pathlib.Path(os.environ.get("CARGO_TARGET_DIR") or CACHE / "target")
        self.say("building the release binaries")
        command = ["cargo", "build", "--release", "--locked", "-p", "watershed", "-p", "bench"]
        # Rows that stand on servers need their engines.
        command += ["--features", "watershed/full"]
        environment = {**os.environ, "CARGO_TARGET_DIR": str(target)}
        built = subprocess.run(command, cwd=ROOT, env=environment, check=False)
        if built.returncode != 0:
            raise CannotMeasure("the build failed; see above")
        self.binaries = target / "release"

    def python(self):
        """The interpreter that has the peers."""
        folder = CACHE / "bench-venv"
        requirements = ROOT / "bench" / "requirements.txt"
        wanted = hashlib.sha256(requirements.read_bytes()).hexdigest()
        stamp = folder / "requirements.sha256"
        python = folder / "bin" / "python"
        if not stamp.exists() or stamp.read_text() != wanted:
            self.say("installing the peers")
            folder.parent.mkdir(parents=True, exist_ok=True)
            steps = [
                [sys.executable, "-m", "venv", "--clear", folder],
                [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r", requirements],
            ]
            for step in steps:
                if subprocess.run(step, stdout=sys.stderr, check=False).returncode != 0:
                    raise CannotMeasure("the peers could not be installed; python3-venv and PyPI are needed")
            stamp.write_text(wanted)
        return python

    def run(self, command, minutes=60, environment=None, folder=None):
        """Runs a program to its end and returns what it printed. What it says on the way goes to a file."""
        command = [str(part) for part in command]
        log = self.scratch / "log"
        with open(log, "wb") as said:
            try:
                ended = subprocess.run(
                    command,
                    cwd=folder or self.scratch,
                    env=environment or clean_environment(),
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=said,
                    timeout=minutes * MINUTE_SECONDS,
                    check=False,
                )
            except subprocess.TimeoutExpired as expired:
                raise CannotMeasure(f"{' '.join(command[:3])} did not end within {minutes} minutes") from expired
        if ended.returncode != 0:
            last = "\n".join(log.read_text(errors="replace").splitlines()[-5:])
            raise CannotMeasure(f"{' '.join(command[:3])} ended with {ended.returncode}: {last}")
        return ended.stdout.decode()

    def run_json(self, command, **options):
        return json.loads(self.run(command, **options).splitlines()[-1])

    def watershed(self, *arguments, **options):
        return self.run([self.binary("watershed"), *arguments], **options)

    def prepared(self, name, recipe, make):
        """A data folder that `make(folder)` fills, kept between runs for as long as `recipe` and the binary stay the
        same. Returns a copy that may be changed."""
        digest = hashlib.sha256(self.binary("watershed").read_bytes())
        digest.update(json.dumps([recipe, self.quick]).encode())
        # A trial leaves the prepared data of a measurement where it is.
        name = f"quick-{name}" if self.quick else name
        kept = CACHE / "bench" / f"{name}-{digest.hexdigest()[:16]}"
        if not kept.exists():
            for old in kept.parent.glob(f"{name}-*"):
                shutil.rmtree(old, ignore_errors=True)
            began = time.monotonic()
            self.say(f"preparing {name}")
            making = self.folder("making")
            make(making)
            kept.parent.mkdir(parents=True, exist_ok=True)
            shutil.move(making, kept)
            self.say(f"prepared {name} in {time.monotonic() - began:.0f} s; kept in {kept}")
        copy = self.folder("data")
        shutil.copytree(kept, copy, dirs_exist_ok=True)
        return copy


def clean_environment(**variables):
    """Nothing of the caller's settings reaches what is measured."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "TMPDIR") if name in os.environ}
    return {**kept, "PYTHONDONTWRITEBYTECODE": "1", **variables}
