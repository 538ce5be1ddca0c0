"""The client against a real server, whose address is in `WATERSHED_URL`."""

import asyncio
import os
import uuid
from collections.abc import Iterator

import pytest

from watershed_client import ApiError, AsyncWatershed, Watershed, async_pages, pages

URL, KEY = os.environ["WATERSHED_URL"], os.environ["WATERSHED_API_KEY"]


@pytest.fixture
def client() -> Iterator[Watershed]:
    with Watershed(URL, KEY) as client:
        yield client


def name(kind: str) -> str:
    return f"{kind}-{uuid.uuid4()}"


def test_an_interaction_shows_in_the_next_answer(client: Watershed) -> None:
    film, user = name("film"), name("user")
    made = client.create_entity({"entity_id": film, "entity_type": "film", "attributes": {"year": 1994}})
    assert made["attributes"] == {"year": 1994}
    client.record_interaction({"user_id": user, "entity_id": film, "entity_type": "film", "interaction_type": "like"})
    answer = client.recommend_for_user(user, count=5, explain=True, exclude_seen=True)
    assert len(answer["recommendations"]) == 5
    assert film not in [line["entity_id"] for line in answer["recommendations"]]
    assert client.get_user(user)["interactions"] == 1


def test_ids_may_hold_anything(client: Watershed) -> None:
    for odd in ("a b/c?d#e%2F", "..", "ä✓"):
        assert client.replace_user(odd, {"attributes": {"age": 3}})["user_id"] == odd
        assert client.get_user(odd)["user_id"] == odd


def test_an_error_says_what_to_do(client: Watershed) -> None:
    with pytest.raises(ApiError) as caught:
        client.recommend_popular(count=0)
    error = caught.value
    assert (error.status, error.code, error.field) == (400, "VALIDATION_ERROR", "count")
    assert error.request_id and "between 1 and 100" in error.detail
    with pytest.raises(ApiError, match="USER_NOT_FOUND"):
        client.get_user(name("nobody"))
    with Watershed(URL, "no-such-key") as stranger, pytest.raises(ApiError, match="AUTH_ERROR"):
        stranger.recommend_popular()


def test_pages_follow_the_cursor_to_the_end(client: Watershed) -> None:
    for number in range(5):
        client.create_key({"name": f"key {number}", "permission": "read"})
    entries = [entry for page in pages(client.list_audit, limit=2) for entry in page["entries"]]
    assert len(entries) >= 5
    assert [entry["sequence"] for entry in entries] == list(range(len(entries), 0, -1))


def test_an_idempotency_key_makes_a_write_happen_once(client: Watershed) -> None:
    user, film, key = name("user"), name("film"), name("key")
    for _ in range(2):
        client.record_interaction({"user_id": user, "entity_id": film, "interaction_type": "view"}, idempotency_key=key)
    assert client.get_user(user)["interactions"] == 1


def test_exports_come_row_by_row(client: Watershed) -> None:
    odd = name("line\u2028separator")
    client.create_entity({"entity_id": odd})
    rows = client.export_entities(entity_type="item")
    assert odd in [row["entity_id"] for row in rows]
    first = next(client.export_users())
    assert first["user_id"]


def test_many_at_once(client: Watershed) -> None:
    film = name("film")
    done = client.import_entities({"entities": [{"entity_id": f"{film}-{number}"} for number in range(20)]})
    assert (done["status"], done["successful"]) == ("completed", 20)
    taken = client.post_events([{
        "specversion": "1.0", "id": film, "source": "/test", "type": "recommend.user.put.v1",
        "data": {"user_id": name("user")},
    }])
    assert (taken["stored"], taken["refused"]) == (1, 0)


def test_the_async_client_does_the_same() -> None:
    async def ask() -> None:
        async with AsyncWatershed(URL, KEY) as client:
            user = name("user")
            await client.replace_user(user, {"attributes": {"member": True}})
            assert (await client.get_user(user))["attributes"] == {"member": True}
            answers = await asyncio.gather(*(client.recommend_trending(count=count) for count in range(1, 6)))
            assert [answer["count"] for answer in answers] == [1, 2, 3, 4, 5]
            seen = 0
            async for page in async_pages(client.recommend_popular, count=30):
                seen += page["count"]
                if seen >= 60:
                    break
            assert seen >= 60
            assert [row["user_id"] async for row in client.export_users()].count(user) == 1
            with pytest.raises(ApiError, match="NOT_FOUND"):
                await client.delete_entity(name("film"))

    asyncio.run(ask())
