"""Lines of a stream of bytes."""

from collections.abc import Iterator


class Lines:
    """Cuts at `\\n` alone: a JSON text may hold what Python takes for other ends of lines. Each line ends with one."""

    def __init__(self) -> None:
        self._open = b""

    def push(self, chunk: bytes) -> Iterator[bytes]:
        """The lines that end in the chunk."""
        *whole, self._open = (self._open + chunk).split(b"\n")
        yield from (line for line in whole if line)
