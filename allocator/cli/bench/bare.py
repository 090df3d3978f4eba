"""The loop that the allocator is compared with: the same libraries, the same queue, and no guarantee at all.

In: the settings file of the round. Out: for each match a POST to the provider and a hash with host and port, for each
batch one entry that names the matches of it. It reads and writes in batches, by redis-py's pipelines. It has no
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
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ResponseError

from allocator.contract.identity import session_id
from allocator.contract.keys import GROUP, Keys
from allocator.contract.request import Priority
from allocator.service.process import run_loop

TAKEN_AT_ONCE = 100
BLOCK_MS = 1000
ANSWERED = "ids"
"""The field of a results entry that names the matches of one batch, with blanks between."""


class BareLoop:
    """One process of it."""

    def __init__(self, redis: Redis, http: aiohttp.ClientSession, keys: Keys, *, url: str, at_once: int) -> None:
        self._redis = redis
        self._http = http
        self._keys = keys
        self._stream = keys.requests(Priority.NORMAL)
        self._url = f"{url}/session"
        self._slots = asyncio.Semaphore(at_once)
        self._answers: list[tuple[bytes, str, dict[str, Any]]] = []
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self, name: str) -> None:
        """Take and serve until ended."""
        streams: Any = {self._stream: ">"}
        while True:
            reply: Any = await self._redis.xreadgroup(GROUP, name, streams, count=TAKEN_AT_ONCE, block=BLOCK_MS)
            for entry_id, fields in reply[0][1] if reply else ():
                await self._slots.acquire()
                self._spawn(entry_id, fields[b"request"])

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
        entry_ids = [entry_id for entry_id, _, _ in batch]
        pipeline = self._redis.pipeline(transaction=False)
        for _, name, answer in batch:
            fields: dict[Any, Any] = {"state": "allocated", "host": answer["host"], "port": answer["ports"][0]["host"]}
            pipeline.hset(self._keys.allocation(name), mapping=fields)
        pipeline.xack(self._stream, GROUP, *entry_ids)
        pipeline.xdel(self._stream, *entry_ids)
        pipeline.xadd(self._keys.results, {ANSWERED: " ".join(name for _, name, _ in batch)})
        await pipeline.execute()


async def main(settings: dict[str, Any], name: str) -> int:
    """Serve by these settings until ended."""
    keys = Keys(settings["namespace"])
    connector = aiohttp.TCPConnector(limit=0)
    timeout = aiohttp.ClientTimeout(total=None)
    async with (
        Redis.from_url(settings["redis"]["url"], max_connections=10_000, retry=Retry(NoBackoff(), 0)) as redis,
        aiohttp.ClientSession(
            connector=connector,
            timeout=timeout,
            headers={"Authorization": f"Bearer {settings['gameye']['token']}"},
        ) as http,
    ):
        try:
            await redis.xgroup_create(keys.requests(Priority.NORMAL), GROUP, "0", mkstream=True)
        except ResponseError as error:
            if "BUSYGROUP" not in str(error):
                raise
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        at_once: int = settings["worker"]["concurrency"]
        await BareLoop(redis, http, keys, url=settings["gameye"]["base_url"], at_once=at_once).run(name)
    return 0


if __name__ == "__main__":
    run_loop(main(tomllib.loads(Path(sys.argv[1]).read_text(encoding="utf-8")), sys.argv[2]))
