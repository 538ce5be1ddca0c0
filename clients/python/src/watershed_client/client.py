"""The clients: where the server is, how long to wait for it, when to ask again."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Iterator
from types import TracebackType
from typing import Any, Self, TypeVar, cast

import httpx

from ._lines import Lines
from ._request import Request
from ._retry import PASSING, Retry
from .errors import ApiError, ConnectionFailed
from .operations import AsyncOperations, Operations

T = TypeVar("T")


class _Policy:
    """What both clients decide alike."""

    def __init__(self, retry: Retry | None) -> None:
        self.retry = retry or Retry()

    def wait_seconds(self, request: Request[T], attempt: int, error: ApiError | ConnectionFailed) -> float:
        """How long to wait before the request is sent again; raises the error where it is not."""
        retry_after = error.retry_after_seconds if isinstance(error, ApiError) else None
        is_passing = not isinstance(error, ApiError) or error.status in PASSING
        wait = self.retry.wait_seconds(attempt, retry_after)
        if wait is None or not is_passing or not request.may_repeat:
            raise error
        return wait


def _arguments(request: Request[T]) -> dict[str, Any]:
    content = None if request.body is None else json.dumps(request.body, allow_nan=False).encode()
    return {"method": request.method, "url": request.path, "params": request.parameters(), "content": content,
            "headers": request.headers()}


def _json(response: httpx.Response) -> Any:
    return response.json() if response.content else None


class Watershed(Operations):
    """A client that blocks. Safe to share between threads.

    `timeout_seconds` bounds each wait for the network. A `transport` of httpx stands in for the network.
    """

    def __init__(self, base_url: str, api_key: str, *, timeout_seconds: float = 30.0, retry: Retry | None = None,
                 transport: httpx.BaseTransport | None = None) -> None:
        self._policy = _Policy(retry)
        self._http = httpx.Client(base_url=base_url, timeout=timeout_seconds, transport=transport,
                                  headers={"Authorization": f"Bearer {api_key}"})

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Gives the connections back."""
        self._http.close()

    def _send(self, request: Request[T], stream: bool) -> httpx.Response:
        attempt = 1
        while True:
            error: ApiError | ConnectionFailed
            try:
                response = self._http.send(self._http.build_request(**_arguments(request)), stream=stream)
                if response.is_success:
                    return response
                response.read()
                error = ApiError(response)
            except httpx.HTTPError as cause:
                error = ConnectionFailed(f"{type(cause).__name__}: {cause}")
                error.__cause__ = cause
            time.sleep(self._policy.wait_seconds(request, attempt, error))
            attempt += 1

    def _call(self, request: Request[T]) -> T:
        return cast(T, _json(self._send(request, stream=False)))

    def _rows(self, request: Request[T]) -> Iterator[T]:
        response = self._send(request, stream=True)
        try:
            lines = Lines()
            for chunk in response.iter_bytes():
                for line in lines.push(chunk):
                    yield json.loads(line)
        except httpx.HTTPError as cause:
            raise ConnectionFailed(f"the answer broke off: {cause}") from cause
        finally:
            response.close()


class AsyncWatershed(AsyncOperations):
    """The same for asyncio."""

    def __init__(self, base_url: str, api_key: str, *, timeout_seconds: float = 30.0, retry: Retry | None = None,
                 transport: httpx.AsyncBaseTransport | None = None) -> None:
        self._policy = _Policy(retry)
        self._http = httpx.AsyncClient(base_url=base_url, timeout=timeout_seconds, transport=transport,
                                       headers={"Authorization": f"Bearer {api_key}"})

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None,
                        trace: TracebackType | None) -> None:
        await self.close()

    async def close(self) -> None:
        """Gives the connections back."""
        await self._http.aclose()

    async def _send(self, request: Request[T], stream: bool) -> httpx.Response:
        attempt = 1
        while True:
            error: ApiError | ConnectionFailed
            try:
                response = await self._http.send(self._http.build_request(**_arguments(request)), stream=stream)
                if response.is_success:
                    return response
                await response.aread()
                error = ApiError(response)
            except httpx.HTTPError as cause:
                error = ConnectionFailed(f"{type(cause).__name__}: {cause}")
                error.__cause__ = cause
            await asyncio.sleep(self._policy.wait_seconds(request, attempt, error))
            attempt += 1

    async def _call(self, request: Request[T]) -> T:
        return cast(T, _json(await self._send(request, stream=False)))

    async def _rows(self, request: Request[T]) -> AsyncIterator[T]:
        response = await self._send(request, stream=True)
        try:
            lines = Lines()
            async for chunk in response.aiter_bytes():
                for line in lines.push(chunk):
                    yield json.loads(line)
        except httpx.HTTPError as cause:
            raise ConnectionFailed(f"the answer broke off: {cause}") from cause
        finally:
            await response.aclose()
