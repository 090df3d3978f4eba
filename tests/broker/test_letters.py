"""Dead letters on real servers: listed without their bytes, opened with them, replayed in one step or not at all."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from allocator.broker import streams_letters
from allocator.broker.broker import Done, Duplicate, Hold
from allocator.broker.letters import Empty, Gone, Homeless, Known, Letter, Replayed, ReplayReply
from allocator.broker.streams_letters import StreamsLetters
from allocator.contract.request import Priority
from allocator.redis_io.errors import OutOfMemory

if TYPE_CHECKING:
    from tests.broker.conftest import StreamsHouse

BODY = json.dumps({"id": "m-1", "image": "g", "env": {"TOKEN": "s3cr3t"}, "new": 1}).encode()


@pytest.fixture
def letters(streams: StreamsHouse) -> StreamsLetters:
    return StreamsLetters(streams.connection, streams.keys)


async def every(letters: StreamsLetters) -> list[Letter]:
    return [letter async for letter in letters.every()]


async def buried(house: StreamsHouse, raw: bytes = BODY, priority: Priority = Priority.NORMAL) -> None:
    """An invalid request whose id can be read and is new, as the engine buries it."""
    broker = await house.prepared()
    await broker.refuse(house.failing(await house.taken(broker, raw, priority)))


async def replayed(letters: StreamsLetters) -> ReplayReply:
    (letter,) = await every(letters)
    return await letters.replay(letter)


async def test_letters_are_listed_oldest_first_over_any_number_of_pages(
    streams: StreamsHouse, letters: StreamsLetters, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert await every(letters) == []
    monkeypatch.setattr(streams_letters, "PAGE", 2)
    await streams.prepared()
    for number in range(5):
        fields = ("code", "poisoned", "message", f"no {number}", "request_id", f"m-{number}")
        await streams.connection.execute("XADD", streams.keys.dead_letters, "*", *fields, "request", b"x" * number)
    await streams.connection.execute("PEXPIRE", streams.keys.dead_letters, 60_000)
    found = await every(letters)
    assert [letter.request_id for letter in found] == [f"m-{number}" for number in range(5)]
    assert [letter.size_bytes for letter in found] == list(range(5))
    assert all(0 <= letter.age_seconds < 60 for letter in found)


async def test_a_letter_opens_with_its_exact_bytes_and_no_list_holds_them(
    streams: StreamsHouse, letters: StreamsLetters
) -> None:
    raw = b'{"id":"m-1","\xff\x1b[2J\x00"}'
    await buried(streams, raw, Priority.HIGH)
    (letter,) = await every(letters)
    assert (letter.code, letter.message, letter.request_id) == ("invalid_request", "bad", "m-1")
    assert letter.stream == streams.keys.requests(Priority.HIGH)
    assert "2J" not in repr(letter)
    opened = await letters.open(letter.entry_id)
    assert opened is not None
    assert (opened.request, opened.letter.size_bytes) == (raw, len(raw))
    assert "2J" not in repr(opened)
    assert await letters.open("1-1") is None


@pytest.mark.parametrize("priority", list(Priority))
async def test_a_replay_clears_the_failure_and_sends_the_same_bytes_where_they_came_from(
    streams: StreamsHouse, letters: StreamsLetters, priority: Priority
) -> None:
    await buried(streams, BODY, priority)
    assert (await streams.allocation("m-1"))["state"] == "failed"
    reply = await replayed(letters)
    assert isinstance(reply, Replayed)
    assert await every(letters) == []
    assert await streams.allocation("m-1") == {}
    broker = streams.broker()
    (entry,) = await broker.take(10, tuple(Priority))
    assert (entry.entry_id, entry.priority, entry.raw) == (reply.entry_id, priority, BODY)
    (hold,) = await broker.reserve([streams.ask(entry)])
    assert isinstance(hold, Hold)


async def test_a_letter_without_an_id_is_replayed_and_clears_nothing(
    streams: StreamsHouse, letters: StreamsLetters
) -> None:
    broker = await streams.prepared()
    await broker.refuse(streams.refusal(await streams.taken(broker, b"{"), None, bury=True))
    assert isinstance(await replayed(letters), Replayed)
    assert await every(letters) == []
    (entry,) = await broker.take(10, tuple(Priority))
    assert entry.raw == b"{"


async def test_one_letter_is_replayed_once(streams: StreamsHouse, letters: StreamsLetters) -> None:
    await buried(streams)
    (letter,) = await every(letters)
    assert isinstance(await letters.replay(letter), Replayed)
    assert isinstance(await letters.replay(letter), Gone)
    assert len(await streams.broker().take(10, tuple(Priority))) == 1


@pytest.mark.parametrize("end", ["none", "good", "bad"])
async def test_an_id_that_is_under_way_or_has_ended_otherwise_is_left_alone(
    streams: StreamsHouse, letters: StreamsLetters, end: str
) -> None:
    broker = await streams.prepared()
    hold = await streams.held(broker)
    await buried(streams)
    if end != "none":
        assert await broker.commit((streams.good_end if end == "good" else streams.bad_end)(hold)) == Done()
    before = await streams.allocation("m-1")
    state = {"none": "allocating", "good": "allocated", "bad": "expired"}[end]
    assert await replayed(letters) == Known("m-1", state)
    assert len(await every(letters)) == 1
    assert await streams.allocation("m-1") == before
    assert await broker.take(10, tuple(Priority)) == []
    if end == "none":
        (again,) = await broker.reserve([streams.ask(await streams.taken(broker))])
        assert isinstance(again, Duplicate)


async def test_a_request_that_a_client_has_just_submitted_is_under_way(
    streams: StreamsHouse, letters: StreamsLetters
) -> None:
    await buried(streams)
    await streams.connection.execute("DEL", streams.keys.record("m-1"), streams.keys.allocation("m-1"))
    await streams.connection.execute("HSET", streams.keys.allocation("m-1"), "state", "queued")
    assert await replayed(letters) == Known("m-1", "queued")


async def test_a_failure_that_has_a_session_is_never_cleared(streams: StreamsHouse, letters: StreamsLetters) -> None:
    await buried(streams)
    await streams.connection.execute("HSET", streams.keys.record("m-1"), "session", "s-1")
    assert await replayed(letters) == Known("m-1", "failed")
    assert (await streams.allocation("m-1"))["state"] == "failed"


@pytest.mark.parametrize(
    ("fields", "reply"),
    [
        (("stream", "elsewhere", "request", "{}"), Homeless("elsewhere")),
        (("request", "{}"), Homeless("")),
        (("stream", "{N}:requests", "request", ""), Empty()),
        (("stream", "{N}:requests"), Empty()),
    ],
)
async def test_a_letter_that_cannot_be_sent_stays(
    streams: StreamsHouse, letters: StreamsLetters, fields: tuple[str, ...], reply: Any
) -> None:
    words = [word.replace("{N}", streams.keys.prefix) for word in fields]
    await streams.connection.execute("XADD", streams.keys.dead_letters, "*", *words)
    await streams.connection.execute("PEXPIRE", streams.keys.dead_letters, 60_000)
    assert await replayed(letters) == reply
    assert len(await every(letters)) == 1


async def test_a_full_server_refuses_a_replay_before_anything_is_changed(
    streams: StreamsHouse, letters: StreamsLetters
) -> None:
    await buried(streams)
    (letter,) = await every(letters)
    await streams.connection.execute("CONFIG", "SET", "maxmemory", "1")
    try:
        with pytest.raises(OutOfMemory):
            await letters.replay(letter)
        assert [each.entry_id for each in await every(letters)] == [letter.entry_id]
    finally:
        await streams.connection.execute("CONFIG", "SET", "maxmemory", "0")
    assert (await streams.allocation("m-1"))["state"] == "failed"
