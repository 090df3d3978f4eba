"""Submitting: what is sent, what never is, and what its sender hears."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest

from allocator.client import (
    AllocationRequest,
    AllocatorClient,
    InvalidRequestError,
    Priority,
    RedisFault,
    Unavailable,
)
from allocator.contract.keys import Keys
from allocator.contract.request import Decoded, decode_request
from allocator.redis_io.connect import RedisConnection
from allocator.redis_io.errors import OutOfMemory, RedisUrlError

if TYPE_CHECKING:
    from tests.client.conftest import Workers
    from tests.conftest import TestServer

REQUEST = {"id": "m-1", "image": "my-game", "regions": ["europe", "us-east"], "context": {"party": "ü"}}


@pytest.mark.parametrize("priority", list(Priority))
async def test_a_request_enters_the_stream_of_its_priority_as_it_was_written(
    client: AllocatorClient, workers: Workers, priority: Priority
) -> None:
    body = b'{ "id": "m-1",  "image": "my-game" }'
    entry_id = await client.submit(body, priority)
    assert await workers.entries(priority) == [(entry_id, body)]
    for other in set(Priority) - {priority}:
        assert await workers.entries(other) == []


@pytest.mark.parametrize("form", [REQUEST, json.dumps(REQUEST), json.dumps(REQUEST).encode()])
async def test_every_form_of_a_request_is_the_same_request(
    client: AllocatorClient, workers: Workers, form: dict[str, Any] | str | bytes
) -> None:
    await client.submit(form)
    await client.submit(AllocationRequest.model_validate(REQUEST))
    read = [decode_request(body) for _, body in await workers.entries()]
    assert all(isinstance(each, Decoded) for each in read)
    assert len({each.digest for each in read if isinstance(each, Decoded)}) == 1


@pytest.mark.parametrize(
    ("request_", "named"),
    [
        ({"id": "m-1"}, "image: Field required"),
        ({"id": "m 1", "image": "g"}, "id: "),
        ({"id": "m-1", "image": "g", "regoins": []}, "regoins: unknown key"),
        ({"id": "m-1", "image": "g", "context": {1, 2}}, "context: cannot be written as JSON"),
        ({"id": "m-1", "image": "g", "labels": {"a": float("nan")}}, "NaN"),
        ({"id": "m-1", "image": "\ud800"}, "surrogate"),
        ('{"id": "m-1", "image": "\ud800"}', "surrogate"),
        (b"{", "not JSON"),
        (b'{"id":"m-1","image":"' + b"x" * 70_000 + b'"}', "at most 65536"),
    ],
)
async def test_an_invalid_request_is_never_sent_and_its_key_is_named(
    client: AllocatorClient, connection: RedisConnection, request_: Any, named: str
) -> None:
    for ask in (client.submit, client.allocate):
        with pytest.raises(InvalidRequestError, match=named):
            await ask(request_)
    assert await connection.execute("DBSIZE") == 0


async def test_an_error_never_repeats_a_secret(client: AllocatorClient) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        await client.submit({"id": "m-1", "image": "g", "env": {"TOKEN": ["s3cr3t"]}})
    assert "s3cr3t" not in repr(caught.value)


async def test_a_new_id_is_queued_and_does_not_stay_so_for_ever(
    client: AllocatorClient, connection: RedisConnection, keys: Keys
) -> None:
    entry_id = await client.submit(REQUEST, Priority.HIGH)
    allocation = await client.get("m-1")
    assert allocation is not None
    enqueued_at = int(entry_id.partition("-")[0])
    assert (allocation.state, allocation.final, allocation.priority) == ("queued", False, "high")
    assert (allocation.request_id, allocation.context) == ("m-1", {"party": "ü"})
    assert (allocation.enqueued_at, allocation.updated_at) == (enqueued_at, enqueued_at)
    assert 3600_000 < await connection.execute("PTTL", keys.allocation("m-1")) <= 2 * 3600_000


async def test_what_is_known_of_an_id_is_left_as_it_is(
    client: AllocatorClient, connection: RedisConnection, keys: Keys
) -> None:
    await connection.execute("HSET", keys.allocation("m-1"), "state", "allocating", "request_id", "m-1")
    await connection.execute("EXPIRE", keys.allocation("m-1"), 60)
    await client.submit(REQUEST)
    assert await connection.execute("HGETALL", keys.allocation("m-1")) == [
        *(b"state", b"allocating"),
        *(b"request_id", b"m-1"),
    ]


async def test_many_submits_enter_the_stream_once_each_and_in_their_order(
    client: AllocatorClient, workers: Workers
) -> None:
    sent = [f"m-{number}" for number in range(1500)]
    entry_ids = await asyncio.gather(*(client.submit({"id": each, "image": "g"}) for each in sent))
    entries = await workers.entries()
    assert [json.loads(body)["id"] for _, body in entries] == sent
    assert [entry_id for entry_id, _ in entries] == entry_ids


async def test_a_server_that_has_lost_the_script_gets_each_request_once(
    client: AllocatorClient, connection: RedisConnection, workers: Workers
) -> None:
    await client.submit({"id": "m-0", "image": "g"})
    await connection.execute("SCRIPT", "FLUSH")
    await asyncio.gather(*(client.submit({"id": f"m-{number}", "image": "g"}) for number in (1, 2)))
    assert [json.loads(body)["id"] for _, body in await workers.entries()] == ["m-0", "m-1", "m-2"]


async def test_a_full_server_takes_nothing_and_says_so(private_server: TestServer, namespace: str) -> None:
    private_server.command("CONFIG", "SET", "maxmemory", "1")
    async with AllocatorClient(private_server.url, namespace) as client:
        with pytest.raises(OutOfMemory):
            await client.submit(REQUEST)
        assert private_server.command("DBSIZE") == 0
        assert await client.get("m-1") is None


async def test_a_submit_while_redis_is_away_says_to_send_the_same_again(
    private_server: TestServer, namespace: str
) -> None:
    async with AllocatorClient(private_server.url, namespace) as client:
        private_server.kill()
        for ask in (client.submit, client.allocate):
            with pytest.raises(Unavailable, match=r"cannot be reached.*m-1 was not sent: send the same request again"):
                await ask(REQUEST)
        private_server.start()
        private_server.command("HSET", Keys(namespace).meta, "partitions", 1)
        assert await client.get("m-1") is None
        private_server.kill()
        with pytest.raises(Unavailable, match="m-1 was sent is not known: send the same request again"):
            await client.submit(REQUEST)
        private_server.start()
        await client.submit(REQUEST)
        assert private_server.command("XLEN", Keys(namespace).requests(Priority.NORMAL)) == 1


async def test_a_key_of_another_kind_fails_its_own_request_alone(
    client: AllocatorClient, connection: RedisConnection, keys: Keys, workers: Workers
) -> None:
    await connection.execute("SET", keys.requests(Priority.HIGH), "x")
    bad, good = await asyncio.gather(
        client.submit(REQUEST, Priority.HIGH), client.submit(REQUEST), return_exceptions=True
    )
    assert isinstance(bad, RedisFault)
    assert not isinstance(bad, Unavailable)
    assert await workers.entries() == [(good, json.dumps(REQUEST, separators=(",", ":"), ensure_ascii=False).encode())]


async def test_a_client_that_is_not_open_says_how_to_open_it() -> None:
    with pytest.raises(RuntimeError, match="async with"):
        await AllocatorClient("redis://127.0.0.1:1").get("m-1")


async def test_a_url_that_cannot_be_understood_is_said_when_it_is_opened() -> None:
    with pytest.raises(RedisUrlError, match=r"redis\.url"):
        async with AllocatorClient("http://127.0.0.1"):
            pass
