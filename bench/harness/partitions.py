"""Which of several servers has which partition of the stages, by what they log: each opens a task with a line that says so.

It refuses to guess: a partition that no line names is nobody's, and a line that cannot be read says nothing. To follow
another kind of task: its line in `_read`.
"""

import dataclasses
import json
import time

# What a server must be started with for its lines to be read.
LOGGING = {"LOG_FORMAT": "json", "RUST_LOG": "warn,stream=info"}
OPENED = "a task is open"
LOOK_SECONDS = 0.1


@dataclasses.dataclass(frozen=True, order=True)
class Opening:
    """A server that began with a partition, or began with it again, at an offset."""

    at: str
    stage: str
    partition: int
    server: int
    offset: int

    @property
    def task(self):
        return self.stage, self.partition


class Partitions:
    """Of servers that were started with `LOGGING`, by their place in the list."""

    def __init__(self, servers):
        self.logs = [server.folder / "log" for server in servers]
        self.read_bytes = [0] * len(servers)
        self.openings = []

    def look(self):
        """Takes in what was logged since the last look; every opening so far, oldest first."""
        for server, log in enumerate(self.logs):
            self.openings += self._read(server, log)
        self.openings.sort()
        return self.openings

    def _read(self, server, log):
        if not log.exists():
            return
        with open(log, "rb") as lines:
            lines.seek(self.read_bytes[server])
            news = lines.read()
        # A line that is being written is read when it is whole.
        whole = news[: news.rfind(b"\n") + 1]
        self.read_bytes[server] += len(whole)
        for line in whole.splitlines():
            try:
                told = json.loads(line)
                if told["message"] == OPENED:
                    yield Opening(told["timestamp"], told["topology"], told["partition"], server, told["offset"])
            except (ValueError, KeyError, TypeError):
                continue

    def owners(self):
        """By stage and partition who opened it last, whether that server still runs or not."""
        return {opening.task: opening.server for opening in self.look()}

    def moves(self):
        """The openings of a partition that another server had before."""
        before, moved = {}, []
        for opening in self.look():
            if before.get(opening.task, opening.server) != opening.server:
                moved.append(opening)
            before[opening.task] = opening.server
        return moved

    def wait_until(self, is_so, seconds, meanwhile=lambda: None):
        """Looks until `is_so()`; false where it was not within that time."""
        end = time.monotonic() + seconds
        while not is_so():
            if time.monotonic() > end:
                return False
            meanwhile()
            time.sleep(LOOK_SECONDS)
        return True
