"""What can go wrong."""

import httpx

from ._retry import retry_after_seconds


class WatershedError(Exception):
    """Any error of this client."""


class ConnectionFailed(WatershedError):
    """No whole answer came: refused, timed out, or broken off. A write may have been taken in."""


class ApiError(WatershedError):
    """The server refused the request (RFC 9457)."""

    def __init__(self, response: httpx.Response) -> None:
        problem = problem_of(response)
        self.status = response.status_code
        self.code: str = problem.get("code", "UNKNOWN")
        """Stable; what a program looks at."""
        self.detail: str = problem.get("detail", "the answer is not from Watershed")
        self.field: str | None = problem.get("field")
        """The field or parameter it is about."""
        self.request_id = response.headers.get("x-request-id")
        """Names the request in the server's log."""
        self.retry_after_seconds = retry_after_seconds(response.headers.get("retry-after"))
        super().__init__(f"{self.status} {self.code}: {self.detail} (request {self.request_id})")


def problem_of(response: httpx.Response) -> dict[str, str]:
    try:
        problem = response.json()
    except ValueError:
        return {}
    return problem if isinstance(problem, dict) else {}
