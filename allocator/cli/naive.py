"""What a studio writes first: a loop that takes a match from a list, starts a session and writes the answer down.

It is here to be killed beside the real one by `allocator demo --chaos`. It is not careless, only simple: many at once,
a retry in the next region when one is full. What it lacks is what the allocator is for.
"""

from __future__ import annotations

import asyncio
import json
import sys

import aiohttp

from allocator.redis_io.connect import RedisConnection, connect

QUEUE, ANSWERS = "naive:requests", "naive:answers"
MATCH = "match"
"""The label that says which match a session is for."""
HEADERS = {"Authorization": "Bearer naive"}
AT_ONCE = 64


async def main(redis_url: str, gameye_url: str) -> None:
    """Serve until killed."""
    async with await connect(redis_url, name="naive") as connection, aiohttp.ClientSession(headers=HEADERS) as session:
        slots = asyncio.Semaphore(AT_ONCE)
        async with asyncio.TaskGroup() as group:
            while True:
                await slots.acquire()
                taken = await connection.execute("LPOP", QUEUE)
                if taken is None:
                    slots.release()
                    await asyncio.sleep(0.01)
                else:
                    task = group.create_task(_serve(json.loads(taken), gameye_url, connection, session))
                    task.add_done_callback(lambda _: slots.release())


async def _serve(
    match: dict[str, list[str] | str], gameye_url: str, connection: RedisConnection, session: aiohttp.ClientSession
) -> None:
    for region in match["regions"]:
        body = {"location": region, "image": match["image"], "labels": {MATCH: match["id"]}}
        try:
            async with session.post(f"{gameye_url}/session", json=body, timeout=aiohttp.ClientTimeout(8)) as reply:
                if reply.status == 201:
                    answer = await reply.json()
                    await connection.execute("HSET", ANSWERS, str(match["id"]), answer["id"])
                    return
        except (aiohttp.ClientError, TimeoutError):
            continue


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
