"""One request, before it is sent, and who sends it."""

import uuid
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar
from urllib.parse import quote

T = TypeVar("T")

IDEMPOTENT = frozenset({"GET", "HEAD", "PUT", "DELETE"})


@dataclass(frozen=True)
class Request(Generic[T]):
    """What an operation asks, and the type of what is answered. `repeatable` says that sending it twice does no more than sending it once."""

    method: str
    path: str
    query: Mapping[str, object] = field(default_factory=dict)
    body: object = None
    content_type: str = "application/json"
    key: str | None = None
    repeatable: bool = False

    @property
    def may_repeat(self) -> bool:
        return self.repeatable or self.key is not None or self.method in IDEMPOTENT

    def parameters(self) -> dict[str, str]:
        """The query, without what was not given."""
        return {name: text(value) for name, value in self.query.items() if value is not None}

    def headers(self) -> dict[str, str]:
        headers = {} if self.body is None else {"Content-Type": self.content_type}
        return headers if self.key is None else {**headers, "Idempotency-Key": self.key}


class Caller(Protocol):
    """Sends requests: the JSON of the answer, or its rows while they come."""

    def _call(self, request: Request[T]) -> T: ...

    def _rows(self, request: Request[T]) -> Iterator[T]: ...


class AsyncCaller(Protocol):
    """The same without blocking."""

    async def _call(self, request: Request[T]) -> T: ...

    def _rows(self, request: Request[T]) -> AsyncIterator[T]: ...


def text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def quoted(segment: str) -> str:
    """One segment of a path. A segment of dots alone would be taken for another folder."""
    return quote(segment, safe="").replace(".", "%2E") if segment.strip(".") == "" else quote(segment, safe="")


def new_key() -> str:
    return str(uuid.uuid4())
