"""Page after page of a list."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
Page = TypeVar("Page", bound=Mapping[str, object])


def pages(call: Callable[P, Page], *args: P.args, **kwargs: P.kwargs) -> Iterator[Page]:
    """Every page, by following `next_cursor`: `pages(client.list_audit, limit=100)`."""
    while True:
        page = call(*args, **kwargs)
        yield page
        if not page.get("next_cursor"):
            return
        kwargs["cursor"] = page["next_cursor"]


async def async_pages(call: Callable[P, Awaitable[Page]], *args: P.args, **kwargs: P.kwargs) -> AsyncIterator[Page]:
    """The same without blocking."""
    while True:
        page = await call(*args, **kwargs)
        yield page
        if not page.get("next_cursor"):
            return
        kwargs["cursor"] = page["next_cursor"]
