"""Scripts: what a file must say, and how often it is sent."""

from __future__ import annotations

import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest

from allocator.redis_io.connect import RedisConnection, Word, connect
from allocator.redis_io.errors import NoScript, ScriptFault, Unavailable
from allocator.redis_io.scripts import Script

SOURCE = """#!lua
-- Counts.
-- KEYS:   1 the counter
-- ARGV:   1 by how much
-- REPLY:  the count
-- MEMORY: refused when the server is full
return redis.call('INCRBY', KEYS[1], ARGV[1])
"""


class Recording:
    """A connection that notes the words that open each command."""

    def __init__(self, connection: RedisConnection) -> None:
        self.connection = connection
        self.sent: list[Word] = []

    async def execute(self, *command: Word) -> Any:
        self.sent.append(command[0])
        return await self.connection.execute(*command)


async def test_the_source_travels_only_when_the_server_does_not_hold_it(connection: RedisConnection) -> None:
    script = Script("count", SOURCE)
    recording: Any = Recording(connection)
    assert await script.run(recording, ["c"], [2]) == 2
    assert await script.run(recording, ["c"], [3]) == 5
    assert recording.sent == ["EVALSHA", "EVAL", "EVALSHA"]
    await connection.execute("SCRIPT", "FLUSH")
    assert await script.run(recording, ["c"], [1]) == 6


async def test_a_script_is_sent_once_more_at_most() -> None:
    class Forgetful:
        sent = 0

        async def execute(self, *_command: Word) -> Any:
            self.sent += 1
            raise NoScript("No matching script.")

    connection: Any = Forgetful()
    with pytest.raises(NoScript):
        await Script("count", SOURCE).run(connection, ["c"], [1])
    assert connection.sent == 2


async def test_a_lost_answer_is_not_asked_for_again() -> None:
    class Lossy:
        sent = 0

        async def execute(self, *_command: Word) -> Any:
            self.sent += 1
            raise Unavailable("lost")

    connection: Any = Lossy()
    with pytest.raises(Unavailable):
        await Script("count", SOURCE).run(connection, ["c"], [1])
    assert connection.sent == 1


async def test_a_script_that_fails_is_our_fault(connection: RedisConnection) -> None:
    with pytest.raises(ScriptFault):
        await Script("count", SOURCE).run(connection, ["c"], ["no number"])


async def test_a_marked_script_runs_on_a_full_server(redis_url: str) -> None:
    script = Script("free", SOURCE.replace("#!lua", "#!lua flags=allow-oom").replace("INCRBY", "DECRBY"))
    async with await connect(redis_url, name="test") as connection:
        await connection.execute("CONFIG", "SET", "maxmemory", 1)
        try:
            assert await script.run(connection, ["c"], [1]) == -1
        finally:
            await connection.execute("CONFIG", "SET", "maxmemory", 0)


@pytest.mark.parametrize("mark", ["#!lua", "KEYS:", "ARGV:", "REPLY:", "MEMORY:"])
def test_a_script_without_its_header_is_not_taken(mark: str) -> None:
    with pytest.raises(ValueError, match=mark):
        Script("count", SOURCE.replace(mark, ""))


def test_a_script_is_found_in_a_zip_file_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with zipfile.ZipFile(tmp_path / "p.zip", "w") as packed:
        packed.writestr("packed_scripts/__init__.py", "")
        packed.writestr("packed_scripts/count.lua", SOURCE)
    monkeypatch.syspath_prepend(tmp_path / "p.zip")
    assert Script.load("packed_scripts", "count") == Script("count", SOURCE)
    monkeypatch.delitem(sys.modules, "packed_scripts")
