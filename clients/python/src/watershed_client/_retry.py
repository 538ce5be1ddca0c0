"""When a request is sent again, and after how long."""

from dataclasses import dataclass, field
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from random import Random

# The server is there and could not answer now.
PASSING = frozenset({429, 502, 503, 504})


@dataclass
class Retry:
    """Full jitter: a random share of a bound that doubles. A server's `Retry-After` is waited for on top.

    Only requests that do no harm twice are sent again: GET, PUT, DELETE, and what has an idempotency key.
    """

    attempts: int = 4
    """How often a request is sent at most; 1 for no retries."""
    first_bound_seconds: float = 0.2
    longest_wait_seconds: float = 30.0
    """Who is asked to wait longer gives up."""
    random: Random = field(default_factory=Random, repr=False)

    def wait_seconds(self, attempt: int, retry_after_seconds: float | None) -> float | None:
        """How long to wait after the failed attempt, 1 for the first; none for no more."""
        asked = retry_after_seconds or 0.0
        if attempt >= self.attempts or asked > self.longest_wait_seconds:
            return None
        bound: float = self.first_bound_seconds * 2 ** (attempt - 1)
        return min(asked + self.random.uniform(0.0, bound), self.longest_wait_seconds)


def retry_after_seconds(header: str | None) -> float | None:
    """The header as seconds; a date is counted from now (RFC 9110, section 10.2.3)."""
    if header is None:
        return None
    if header.strip().isdigit():
        return float(header)
    try:
        date = parsedate_to_datetime(header)
    except ValueError:
        return None
    if date.tzinfo is None:
        date = date.replace(tzinfo=timezone.utc)
    return max(0.0, (date - datetime.now(timezone.utc)).total_seconds())
