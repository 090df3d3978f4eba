"""How many partitions a namespace has, as its `meta` says.

In: a connection, a namespace. Out: its `Partitions`. A number that was seen holds for good: it cannot change. While no
worker has made the namespace nobody knows, and what the caller expects is taken without being remembered.
"""

from __future__ import annotations

from allocator.contract.partitions import PARTITIONS_MAX, Partitions
from allocator.redis_io.connect import RedisConnection
from allocator.redis_io.errors import UnfitServer


async def read_partitions(connection: RedisConnection, namespace: str) -> Partitions | None:
    """Ask Redis; None where no worker has made the namespace. UnfitServer: they cannot be counted here."""
    text: bytes | None = await connection.execute("HGET", Partitions(namespace).whole.meta, "partitions")
    if text is None:
        return None
    if not text.isdigit() or not 1 <= int(text) <= PARTITIONS_MAX:
        raise UnfitServer(
            f"namespace {namespace!r} at {connection.url} has {text.decode(errors='replace')!r} partitions, "
            f"and this version knows 1 to {PARTITIONS_MAX}: upgrade the package allocator"
        )
    return Partitions(namespace, int(text))
