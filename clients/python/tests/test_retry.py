"""What is sent again, and after how long: against a network that fails as told."""

import random
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from email.utils import format_datetime

import httpx
import pytest

from watershed_client import ApiError, ConnectionFailed, Retry, Watershed
from watershed_client._lines import Lines
from watershed_client._retry import retry_after_seconds

Step = int | Exception
BUSY = {"code": "OVERLOADED", "detail": "come again"}


def asked(steps: list[Step], call: Callable[[Watershed], object], attempts: int = 4) -> list[httpx.Request]:
    """The requests that were sent until the call ended; its error is raised on."""
    seen: list[httpx.Request] = []

    def network(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        step = steps[min(len(seen), len(steps)) - 1]
        if isinstance(step, Exception):
            raise step
        return httpx.Response(step, json=BUSY if step >= 400 else {})

    retry = Retry(attempts=attempts, first_bound_seconds=0.001)
    with Watershed("http://test", "key", retry=retry, transport=httpx.MockTransport(network)) as client:
        try:
            call(client)
        except (ApiError, ConnectionFailed) as error:
            error.add_note(f"{len(seen)} requests")
            raise
    return seen


@pytest.mark.parametrize("step", [429, 502, 503, 504, httpx.ConnectError("refused"), httpx.ReadTimeout("late")])
def test_what_passes_is_asked_again(step: Step) -> None:
    assert len(asked([step, step, 200], lambda client: client.get_user("ada"))) == 3


@pytest.mark.parametrize("step", [400, 401, 404, 409, 500, 507])
def test_what_stays_is_not(step: int) -> None:
    with pytest.raises(ApiError) as caught:
        asked([step], lambda client: client.get_user("ada"))
    assert caught.value.__notes__ == ["1 requests"]


def test_a_write_without_a_key_is_sent_once() -> None:
    with pytest.raises(ApiError) as caught:
        asked([503], lambda client: client.create_key({"name": "a", "permission": "read"}))
    assert caught.value.__notes__ == ["1 requests"]


def test_a_write_with_a_key_is_sent_again_with_the_same() -> None:
    seen = asked([503, httpx.ReadError("cut"), 201], lambda client: client.create_entity({"entity_id": "e"}))
    assert len(seen) == 3 and len({request.headers["idempotency-key"] for request in seen}) == 1
    assert {request.content for request in seen} == {b'{"entity_id": "e"}'}


def test_an_end_of_patience_raises_the_last_error() -> None:
    with pytest.raises(ConnectionFailed, match="refused") as caught:
        asked([httpx.ConnectError("refused")], lambda client: client.get_user("ada"), attempts=2)
    assert caught.value.__notes__ == ["2 requests"]


def test_waits_are_jittered_and_honour_the_server() -> None:
    retry = Retry(random=random.Random(7))
    for attempt, bound in ((1, 0.2), (2, 0.4), (3, 0.8)):
        waits = [retry.wait_seconds(attempt, None) or 0.0 for _ in range(200)]
        assert 0 <= min(waits) < bound / 4 and bound * 3 / 4 < max(waits) <= bound
        assert all(2 <= (retry.wait_seconds(attempt, 2.0) or 0) <= 2 + bound for _ in range(20))
    assert retry.wait_seconds(4, None) is None
    assert retry.wait_seconds(1, 31.0) is None


def test_a_date_to_come_back_at_is_understood() -> None:
    later = datetime.now(timezone.utc) + timedelta(seconds=90)
    assert 85 < (retry_after_seconds(format_datetime(later)) or 0) <= 90
    assert (retry_after_seconds("7"), retry_after_seconds("soon"), retry_after_seconds(None)) == (7.0, None, None)


def test_lines_do_not_depend_on_how_the_stream_is_cut() -> None:
    text = '{"a":1}\n{"b":"\u2028\x85"}\n'.encode()
    for size in range(1, len(text)):
        lines = Lines()
        found = [line for at in range(0, len(text), size) for line in lines.push(text[at:at + size])]
        assert found == text.strip().split(b"\n"), size
