"""The loop that the allocator is compared with: the same libraries, the same queue, and no guarantee at all.

In: the settings file of the round. Out: for each match a POST to the provider and a hash with host and port, for each
batch one entry that names the matches of it. It reads and writes in batches over the connection that the worker uses
too, which packs in C what redis-py joins in Python: a bar an eighth higher than redis-py's own pipelines. It has no
limiter, no fallback, no lease, no retry, no metrics, no log; what is under way when it dies is lost.
"""

from __future__ import annotations

import asyncio
import json
import sys
import tomllib
from pathlib import Path
from typing import Any

import aiohttp

from allocator.contract.identity import session_id
from allocator.contract.keys import GROUP, Keys
from allocator.contract.request import Priority
from allocator.redis_io.connect import RedisConnection, connect
from allocator.redis_io.errors import CommandFault
from allocator.service.process import run_loop

TAKEN_AT_ONCE = 100
BLOCK_MS = 1000
ANSWERED = "ids"
"""The field of a results entry that names the matches of one batch, with blanks between."""


class BareLoop:
    """One process of it."""

    def __init__(
        self, connection: RedisConnection, http: aiohttp.ClientSession, keys: Keys, *, url: str, at_once: int
    ) -> None:
        self._connection = connection
        self._http = http
        self._keys = keys
        self._stream = keys.requests(Priority.NORMAL)
        self._url = f"{url}/session"
        self._slots = asyncio.Semaphore(at_once)
        self._answers: list[tuple[bytes, str, dict[str, Any]]] = []
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self, name: str) -> None:
        """Take and serve until ended."""
        read = ("XREADGROUP", "GROUP", GROUP, name, "COUNT", TAKEN_AT_ONCE, "BLOCK", BLOCK_MS)
        while True:
            reply = await self._connection.execute_blocking(*read, "STREAMS", self._stream, ">")
            for entry_id, fields in reply[0][1] if reply else ():
                await self._slots.acquire()
                self._spawn(entry_id, fields[1])

    def _spawn(self, entry_id: bytes, request: bytes) -> None:
        task = asyncio.get_running_loop().create_task(self._serve(entry_id, request))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, entry_id: bytes, raw: bytes) -> None:
        request = json.loads(raw)
        body = {
            "id": str(session_id(self._keys.namespace, request["id"], 1)),
            "location": request["regions"][0],
            "image": request["image"],
        }
        async with self._http.post(self._url, json=body) as reply:
            answer = await reply.json()
        self._slots.release()
        self._answers.append((entry_id, request["id"], answer))
        if len(self._answers) == 1:
            asyncio.get_running_loop().call_soon(self._flush_soon)

    def _flush_soon(self) -> None:
        task = asyncio.get_running_loop().create_task(self._flush())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _flush(self) -> None:
        batch, self._answers = self._answers, []
        commands: list[tuple[bytes | str, ...]] = [
            *(
                (
                    *("HSET", self._keys.allocation(name), "state", "allocated", "host", answer["host"]),
                    *("port", str(answer["ports"][0]["host"])),
                )
                for _, name, answer in batch
            ),
            ("XACK", self._stream, GROUP, *(entry_id for entry_id, _, _ in batch)),
            ("XDEL", self._stream, *(entry_id for entry_id, _, _ in batch)),
            ("XADD", self._keys.results, "*", ANSWERED, " ".join(name for _, name, _ in batch)),
        ]
        await self._connection.execute_many(commands)


async def main(settings: dict[str, Any], name: str) -> int:
    """Serve by these settings until ended."""
    keys = Keys(settings["namespace"])
    connector = aiohttp.TCPConnector(limit=0)
    timeout = aiohttp.ClientTimeout(total=None)
    async with (
        await connect(settings["redis"]["url"], name="bare") as connection,
        aiohttp.ClientSession(connector=connector, timeout=timeout) as http,
    ):
        try:
            group = ("XGROUP", "CREATE", keys.requests(Priority.NORMAL), GROUP, "0", "MKSTREAM")
            await connection.execute(*group)
        except CommandFault as fault:
            if "BUSYGROUP" not in str(fault):
                raise
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        at_once: int = settings["worker"]["concurrency"]
        await BareLoop(connection, http, keys, url=settings["gameye"]["base_url"], at_once=at_once).run(name)
    return 0


if __name__ == "__main__":
    run_loop(main(tomllib.loads(Path(sys.argv[1]).read_text(encoding="utf-8")), sys.argv[2]))
