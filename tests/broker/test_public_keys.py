"""Keys that others may write to: what is found there undoes nothing and costs no neighbour anything."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from allocator.broker.broker import Done
from allocator.contract.codes import Code

if TYPE_CHECKING:
    from tests.broker.conftest import StreamsHouse


async def test_a_hash_or_a_reply_stream_of_a_foreign_type_does_not_undo_an_end(streams: StreamsHouse) -> None:
    broker = await streams.prepared()
    holds = [await streams.held(broker, f"m-{number}", reply_to="mm") for number in range(2)]
    bad = await streams.taken(broker, b"bad")
    await streams.connection.execute("SET", streams.keys.allocation("m-0"), "x")
    await streams.connection.execute("SET", streams.keys.results_for("mm"), "x", "PX", 60_000)
    assert await broker.note(holds[0], (), Code.NO_CAPACITY, "full") is True
    assert await asyncio.gather(*(broker.commit(streams.good_end(hold)) for hold in holds)) == [Done(), Done()]
    assert (await streams.allocation("m-0"))["state"] == "allocated"
    await broker.refuse(streams.failing(bad, "m-9", reply_to="mm"))
    assert len(await streams.results()) == 3
    assert await streams.left() == {}


async def test_a_refusal_is_told_to_whom_it_can_be_where_public_streams_are_something_else(
    streams: StreamsHouse,
) -> None:
    broker = await streams.prepared()
    refused, bad = await streams.taken(broker, b"late"), await streams.taken(broker, b"bad")
    for key in (streams.keys.results, streams.keys.dead_letters):
        await streams.connection.execute("SET", key, "foreign")
    await broker.refuse(streams.refusal(refused, "m-1", reply_to="mm-1"))
    assert await streams.replies("mm-1") == [("m-1", "refused", "refused-event")]
    await broker.refuse(streams.failing(bad, "m-2"))
    assert (await streams.allocation("m-2"))["state"] == "failed"
    assert await streams.left() == {}
    for key in (streams.keys.results, streams.keys.dead_letters):
        assert await streams.connection.execute("GETDEL", key) == b"foreign"


async def test_what_others_write_to_a_public_hash_costs_no_neighbour_its_take_over(streams: StreamsHouse) -> None:
    broker = await streams.prepared()
    holds = [await streams.held(broker, f"m-{number}") for number in range(3)]
    await streams.connection.execute("HSET", streams.keys.allocation("m-1"), "attempts", "[{}]")
    await streams.connection.execute("HSET", streams.keys.record("m-2"), "trail", b"\xff")
    await broker.hand_back([(hold, True) for hold in holds])
    assert {hold.request_id: hold.attempts for hold in await broker.reclaim(10)} == {"m-0": (), "m-1": (), "m-2": ()}


async def test_what_a_client_wrote_as_queued_gives_way_to_what_is_so(streams: StreamsHouse) -> None:
    broker, key = await streams.prepared(), streams.keys.allocation("m-1")
    await streams.connection.execute("HSET", key, "state", "queued", "error_code", "old")
    await streams.connection.execute("PEXPIRE", key, 1000)
    await streams.held(broker)
    fields = await streams.allocation("m-1")
    assert fields["state"] == "allocating"
    assert "error_code" not in fields
    assert await streams.keeps_ms("m-1") is None


async def test_what_a_client_wrote_as_queued_goes_when_its_request_is_refused(streams: StreamsHouse) -> None:
    broker = await streams.prepared()
    for name in ("m-1", "m-2"):
        await streams.connection.execute("HSET", streams.keys.allocation(name), "state", "queued")
    await streams.connection.execute("SET", streams.keys.allocation("m-3"), "foreign")
    await streams.held(broker, "m-2")
    for name in ("m-1", "m-2", "m-3"):
        await broker.refuse(streams.refusal(await streams.taken(broker, b"late"), name))
    assert await streams.allocation("m-1") == {}
    assert (await streams.allocation("m-2"))["state"] == "allocating"
    assert await streams.connection.execute("GETDEL", streams.keys.allocation("m-3")) == b"foreign"
    assert [(name, state) for name, state, _ in await streams.results()] == [
        ("m-1", "refused"),
        ("m-2", "refused"),
        ("m-3", "refused"),
    ]
