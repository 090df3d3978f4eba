"""Waiting: what answers, what does not, and that nothing is missed."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from allocator.client import (
    Allocation,
    AllocatorClient,
    InvalidRequestError,
    RedisFault,
    RefusedError,
    State,
    UnreadableAnswerError,
)
from allocator.client.listener import Listener
from allocator.contract.allocation import Attempt, Outcome, Port
from allocator.contract.codes import Code
from allocator.contract.keys import Keys
from allocator.redis_io.connect import BLOCK_MS_MAX, RedisConnection, Word, connect
from allocator.redis_io.errors import Refused

if TYPE_CHECKING:
    from tests.client.conftest import Words, Workers
    from tests.conftest import TestServer, WaitUntil

REQUEST = {"id": "m-1", "image": "my-game"}


def allocated(request_id: str, **fields: Any) -> Allocation:
    given = {"host": "203.0.113.7", "endpoint": "203.0.113.7:20113", "updated_at": 5, "context": {"party": [1, "ü"]}}
    return Allocation(state=State.ALLOCATED, final=True, request_id=request_id, **{**given, **fields})


def listener_of(client: AllocatorClient) -> Listener:
    return next(iter(client._open._shares.values())).listener


async def listening(client: AllocatorClient, wait_until: WaitUntil) -> None:
    """Return once the reader has its place, and the hashes of all who wait are asked for."""
    listener = listener_of(await wait_until(lambda: client._open._shares and client))
    await wait_until(lambda: listener._position is not None and not listener._fresh)


async def test_an_announcement_answers_with_all_that_the_hash_says(
    client: AllocatorClient, workers: Workers, wait_until: WaitUntil
) -> None:
    end = allocated(
        "m-1",
        ports=(Port("game", "udp", 7777, 20113),),
        attempts=(Attempt("europe", "gameye", "europe", Outcome.CREATED, 201, 4, 1.5, 0.0),),
        error_message="",
        context="a text",
    )
    waiting = asyncio.create_task(client.wait("m-1"))
    await listening(client, wait_until)
    await workers.announce(end)
    assert await waiting == end


async def test_an_end_of_before_the_wait_answers_at_once(client: AllocatorClient, workers: Workers) -> None:
    await workers.end(allocated("m-1"))
    assert await client.wait("m-1") == allocated("m-1")
    assert await client.get("m-1") == allocated("m-1")


async def test_a_bad_end_is_an_answer_and_no_error(client: AllocatorClient, workers: Workers) -> None:
    end = allocated("m-1", host=None, endpoint=None, error_code="no_capacity", retry_after_ms=300)
    await workers.end(end)
    assert (await client.wait("m-1")).error_code == "no_capacity"


async def test_an_end_between_two_waits_is_not_missed(client: AllocatorClient, workers: Workers) -> None:
    for number in range(20):
        waiting = asyncio.create_task(client.wait(f"m-{number}"))
        await workers.end(allocated(f"m-{number}"))
        async with asyncio.timeout(5):
            await waiting


async def test_what_is_not_the_end_answers_nobody(
    client: AllocatorClient, workers: Workers, wait_until: WaitUntil
) -> None:
    await client.submit(REQUEST)
    waiting = asyncio.create_task(client.wait("m-1"))
    await listening(client, wait_until)
    await workers.connection.execute(*workers.words.raw("m-1", "allocated", "no JSON"))
    await workers.connection.execute("XADD", workers.keys.results, "*", "other", "fields")
    await workers.refuse("m-1", "1-1")
    await workers.end(allocated("m-2"))
    await client.wait("m-2")
    assert not waiting.done()
    await workers.end(allocated("m-1"))
    assert (await waiting).state is State.ALLOCATED


async def test_a_wait_ends_when_its_time_is_up(client: AllocatorClient) -> None:
    with pytest.raises(TimeoutError, match=r"m-1 within 0\.05 s"):
        await client.wait("m-1", timeout_seconds=0.05)
    with pytest.raises(TimeoutError, match=r"m-1 within 0\.05 s"):
        await client.allocate(REQUEST, timeout_seconds=0.05)


async def test_an_id_that_no_request_can_bear_is_not_waited_for(client: AllocatorClient) -> None:
    with pytest.raises(InvalidRequestError, match="id: "):
        await client.wait("m 1")


async def test_one_that_gives_up_leaves_the_others_in_peace(
    client: AllocatorClient, workers: Workers, wait_until: WaitUntil
) -> None:
    given_up, same, other = (asyncio.create_task(client.wait(each)) for each in ("m-1", "m-1", "m-2"))
    await listening(client, wait_until)
    given_up.cancel()
    await asyncio.wait([given_up])
    await workers.end(allocated("m-1"))
    await workers.end(allocated("m-2"))
    assert (await same, await other) == (allocated("m-1"), allocated("m-2"))


async def test_ten_thousand_wait_over_two_connections_and_leave_nothing_behind(
    client: AllocatorClient, workers: Workers, wait_until: WaitUntil
) -> None:
    ids = [f"m-{number}" for number in range(10_000)]
    began_at = time.monotonic()
    waits = [asyncio.create_task(client.wait(each, 60)) for each in ids]
    await listening(client, wait_until)
    events = [workers.words.announce(allocated(each)) for each in ids]
    await workers.connection.execute_many(events)
    answers = await asyncio.gather(*waits)
    assert [answer.request_id for answer in answers] == ids
    assert time.monotonic() - began_at < 10
    clients = (await workers.connection.execute("CLIENT", "LIST")).decode()
    assert 1 <= clients.count("name=allocator:client ") <= 2
    listener = listener_of(client)
    assert not listener._waiters
    assert not listener._fresh


async def test_the_loops_end_with_the_last_wait_and_begin_again_with_the_next(
    connection: RedisConnection, keys: Keys, workers: Workers, wait_until: WaitUntil
) -> None:
    listener = Listener(connection, keys, sweep_seconds=0.01)
    for request_id in ("m-1", "m-2"):
        with listener.waiter(request_id) as waiter:
            await workers.announce(allocated("m-0"))
            await wait_until(lambda: listener._position is not None)
            await workers.announce(allocated(request_id))
            assert (await waiter.answer).request_id == request_id
        await workers.announce(allocated("m-0"))  # which wakes the reader
        await wait_until(lambda: all(loop.done() for loop in listener._loops.values()))
        assert listener._position is None
    await listener.aclose()


async def test_a_restart_of_redis_loses_no_announcement(
    private_server: TestServer, namespace: str, words: Words, wait_until: WaitUntil
) -> None:
    async with AllocatorClient(private_server.url, namespace) as client:
        waiting = asyncio.create_task(client.wait("m-1"))
        await listening(client, wait_until)
        private_server.stop()
        private_server.start()
        # No hash: only who goes on from where it was can hear this.
        private_server.command(*words.announce(allocated("m-1")))
        async with asyncio.timeout(10):
            assert await waiting == allocated("m-1")


async def test_a_wait_that_begins_while_redis_is_away_ends_when_it_is_back(
    private_server: TestServer, namespace: str, words: Words
) -> None:
    for command in words.record(allocated("m-1")):
        private_server.command(*command)
    private_server.stop()
    async with AllocatorClient(private_server.url, namespace) as client:
        waiting = asyncio.create_task(client.wait("m-1"))
        with pytest.raises(TimeoutError):
            await client.wait("m-1", timeout_seconds=0.1)
        private_server.start()
        async with asyncio.timeout(10):
            assert await waiting == allocated("m-1")


async def test_a_wait_that_begins_in_an_outage_is_not_left_to_the_next_sweep(
    private_server: TestServer, namespace: str, words: Words, wait_until: WaitUntil
) -> None:
    for command in words.record(allocated("m-2")):
        private_server.command(*command)
    async with await connect(private_server.url, name="client") as connection:
        listener = Listener(connection, Keys(namespace), sweep_seconds=3600)
        with listener.waiter("m-1"):
            await wait_until(lambda: listener._position is not None and not listener._fresh)
            private_server.stop()
            with listener.waiter("m-2") as waiter:
                await wait_until(lambda: not listener._fresh)  # it has been asked for, in vain
                private_server.start()
                async with asyncio.timeout(10):
                    assert await waiter.answer == allocated("m-2")
        await listener.aclose()


async def test_an_end_whose_announcement_is_gone_is_found_in_the_hash(
    connection: RedisConnection, keys: Keys, workers: Workers, wait_until: WaitUntil
) -> None:
    listener = Listener(connection, keys, sweep_seconds=0.02)
    with listener.waiter("m-1") as waiter:
        await wait_until(lambda: listener._position is not None and not listener._fresh)
        await workers.record(allocated("m-1"))
        async with asyncio.timeout(5):
            assert await waiter.answer == allocated("m-1")
    await listener.aclose()


async def test_after_a_loss_of_history_announcements_are_heard_again(
    connection: RedisConnection, keys: Keys, workers: Workers, wait_until: WaitUntil
) -> None:
    ahead = (int(time.time() * 1000) + 3_600_000, 0)
    await connection.execute("XADD", keys.results, f"{ahead[0]}-0", "request_id", "m-0")
    listener = Listener(connection, keys, sweep_seconds=0.02)
    with listener.waiter("m-1") as waiter:
        await wait_until(lambda: listener._position == ahead)
        await connection.execute("DEL", keys.results)
        await wait_until(lambda: listener._position == (0, 0))
        await workers.announce(allocated("m-1"))
        async with asyncio.timeout(5):
            assert await waiter.answer == allocated("m-1")
    await listener.aclose()


async def test_a_refused_credential_ends_every_wait(private_server: TestServer, namespace: str) -> None:
    private_server.command("CONFIG", "SET", "requirepass", "secret")
    async with AllocatorClient(private_server.url, namespace) as client:
        answers = await asyncio.gather(client.wait("m-1"), client.wait("m-2"), return_exceptions=True)
    assert [type(answer) for answer in answers] == [Refused, Refused]


async def test_a_key_of_another_kind_ends_its_own_wait_alone(
    client: AllocatorClient, workers: Workers, keys: Keys
) -> None:
    await workers.connection.execute("SET", keys.allocation("m-1"), "x", "EX", 60)
    await workers.end(allocated("m-2"))
    bad, good = await asyncio.gather(client.wait("m-1"), client.wait("m-2"), return_exceptions=True)
    assert isinstance(bad, RedisFault)
    assert good == allocated("m-2")


async def test_a_state_of_a_later_contract_is_handed_on_once_it_is_final(
    client: AllocatorClient, workers: Workers, keys: Keys
) -> None:
    await workers.record(allocated("m-1"))
    await workers.connection.execute("HSET", keys.allocation("m-1"), "state", "hibernating", "mood", "calm")
    answer = await client.wait("m-1", timeout_seconds=5)
    assert answer == replace(allocated("m-1"), state="hibernating")


async def test_an_answer_whose_shape_is_of_a_later_contract_is_said_to_be_one(
    client: AllocatorClient, workers: Workers, keys: Keys, wait_until: WaitUntil
) -> None:
    waiting = asyncio.create_task(client.wait("m-1"))
    await listening(client, wait_until)
    await workers.record(allocated("m-1"))
    await workers.connection.execute("HSET", keys.allocation("m-1"), "ports", "many")
    await workers.connection.execute(*workers.words.raw("m-1", "hibernating", '{"type":"x","data":{}}'))
    with pytest.raises(UnreadableAnswerError, match="upgrade"):
        await waiting


async def test_who_still_waits_when_the_client_is_closed_is_told_so(redis_url: str, namespace: str) -> None:
    client = AllocatorClient(redis_url, namespace)
    async with client:
        waiting = asyncio.create_task(client.wait("m-1"))
        await asyncio.sleep(0)  # it waits
    with pytest.raises(RuntimeError, match="closed"):
        await waiting


async def test_closing_never_waits_for_a_read_that_blocks(
    redis_url: str, words: Words, connection: RedisConnection
) -> None:
    await connection.execute_many(words.record(allocated("m-1")))
    for _ in range(3):
        async with AllocatorClient(redis_url, words.keys.namespace) as client:
            await client.wait("m-1")
            closing_at = time.monotonic()
        assert time.monotonic() - closing_at < BLOCK_MS_MAX / 1000 / 2


async def own_entry(workers: Workers, wait_until: WaitUntil) -> str:
    await wait_until(workers.entries)
    ((entry_id, _),) = await workers.entries()
    return entry_id


async def test_allocate_submits_and_waits(client: AllocatorClient, workers: Workers, wait_until: WaitUntil) -> None:
    asking = asyncio.create_task(client.allocate(REQUEST))
    entry_id = await own_entry(workers, wait_until)
    await workers.end(allocated("m-1"), settle=entry_id)
    assert await asking == allocated("m-1")


async def test_allocate_submits_only_once_no_announcement_can_be_missed(
    client: AllocatorClient, workers: Workers, wait_until: WaitUntil, monkeypatch: pytest.MonkeyPatch
) -> None:
    execute, may_answer = client._open.connection.execute, asyncio.Event()

    async def slow(*command: Word) -> Any:
        _ = command[0] == "HGET" or await may_answer.wait()  # how many partitions there are
        return await execute(*command)

    monkeypatch.setattr(client._open.connection, "execute", slow)
    asking = asyncio.create_task(client.allocate(REQUEST))
    try:
        other = await client.submit({"id": "m-2", "image": "g"})  # takes the same way, and goes ahead
        assert [entry_id for entry_id, _ in await workers.entries()] == [other]
    finally:
        may_answer.set()
    await wait_until(lambda: listener_of(client)._position)
    await workers.settle(other)
    await workers.end(allocated("m-1"), settle=await own_entry(workers, wait_until))
    assert (await asking).endpoint == "203.0.113.7:20113"


@pytest.mark.parametrize("code", [Code.ID_CONFLICT, Code.OVERLOADED])
async def test_the_refusal_of_ones_own_entry_is_raised(
    client: AllocatorClient, workers: Workers, wait_until: WaitUntil, code: Code
) -> None:
    asking = asyncio.create_task(client.allocate(REQUEST))
    entry_id = await own_entry(workers, wait_until)
    await workers.refuse("m-1", entry_id, code)
    with pytest.raises(RefusedError) as caught:
        await asking
    assert (caught.value.code, caught.value.message) == (code, "no")


async def test_the_refusal_of_anothers_entry_is_passed_over(
    client: AllocatorClient, workers: Workers, wait_until: WaitUntil
) -> None:
    asking = asyncio.create_task(client.allocate(REQUEST))
    entry_id = await own_entry(workers, wait_until)
    await workers.refuse("m-1", "1-1")
    await workers.end(allocated("m-1"), settle=entry_id)
    assert await asking == allocated("m-1")


async def test_another_body_under_a_known_id_never_gets_the_others_server(
    client: AllocatorClient, workers: Workers, wait_until: WaitUntil
) -> None:
    await workers.end(allocated("m-1"))
    asking = asyncio.create_task(client.allocate(REQUEST))
    entry_id = await own_entry(workers, wait_until)
    await workers.announce(allocated("m-1"))  # to another who asked again
    await workers.end(allocated("m-2"))
    await client.wait("m-2")  # so the announcement has been heard
    await workers.end(allocated("m-3"))
    await client.wait("m-3")  # so the hash has been asked after it
    assert not asking.done()
    await workers.refuse("m-1", entry_id)
    with pytest.raises(RefusedError, match="id_conflict"):
        await asking


async def test_the_same_body_under_an_id_that_has_ended_gets_its_answer_again(
    client: AllocatorClient, workers: Workers, wait_until: WaitUntil
) -> None:
    await workers.end(allocated("m-1"))
    asking = asyncio.create_task(client.allocate(REQUEST))
    entry_id = await own_entry(workers, wait_until)
    await workers.announce(allocated("m-1"), settle=entry_id)
    async with asyncio.timeout(5):
        assert await asking == allocated("m-1")


async def test_the_same_body_under_way_is_answered_by_its_end(
    client: AllocatorClient, workers: Workers, wait_until: WaitUntil
) -> None:
    first = await client.submit(REQUEST)
    await workers.settle(first)
    asking = asyncio.create_task(client.allocate(REQUEST))
    await workers.settle(await own_entry(workers, wait_until))
    await workers.end(allocated("m-1"))
    async with asyncio.timeout(5):
        assert (await asking).endpoint == "203.0.113.7:20113"
