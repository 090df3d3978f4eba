"""What the server is, and whether it may be used.

In: a connection. Out: `ServerFacts`, or `UnfitServer`. The rules are pure (`unfit`): Redis 7.0 or later, or Valkey 7.2
or later, and a policy that never evicts, since a record that is evicted is a match that is lost. What else is unwise
(no append-only file, replicas that no write waits for, a clock that is off) is in the facts for `doctor` to tell; it
stops nobody.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from allocator.redis_io.connect import RedisConnection
from allocator.redis_io.errors import CommandFault, Refused, UnfitServer

REDIS_VERSION_MIN = (7, 0)
VALKEY_VERSION_MIN = (7, 2)
SAFE_POLICY = "noeviction"


@dataclass(frozen=True, slots=True)
class ServerFacts:
    """What a server says of itself. `version` is its own product's; `clock_offset_seconds` its clock less ours.

    `replicas` are connected to it now; `good_replicas` of them count for `min-replicas-to-write`, None where that or
    `min-replicas-max-lag` is 0.
    """

    product: str
    version: str
    run_id: str
    replication_id: str
    role: str
    policy: str | None
    maxmemory_bytes: int
    append_only: bool
    clock_offset_seconds: float
    replicas: int = 0
    good_replicas: int | None = None

    @property
    def is_valkey(self) -> bool:
        """Whether it is Valkey, which still calls itself Redis 7.2.4 for old clients."""
        return self.product == "Valkey"


async def check_server(connection: RedisConnection, *, now: Callable[[], float] = time.time) -> ServerFacts:
    """Describe the server; UnfitServer where it may not be used, with what to do about it."""
    facts = await describe_server(connection, now=now)
    reason = unfit(facts)
    if reason is not None:
        raise UnfitServer(f"{connection.url}: {reason}")
    return facts


async def describe_server(connection: RedisConnection, *, now: Callable[[], float] = time.time) -> ServerFacts:
    """Describe the server, fit or not."""
    info = parse_info(await connection.execute("INFO"))
    sent_at = now()
    seconds, microseconds = await connection.execute("TIME")
    midpoint = (sent_at + now()) / 2
    valkey_version = info.get("valkey_version")
    return ServerFacts(
        product="Valkey" if valkey_version else "Redis",
        version=valkey_version or info.get("redis_version", ""),
        run_id=info.get("run_id", ""),
        replication_id=info.get("master_replid", ""),
        role=info.get("role", ""),
        policy=info.get("maxmemory_policy") or await _policy(connection),
        maxmemory_bytes=int(info.get("maxmemory", "0")),
        append_only=info.get("aof_enabled") == "1",
        clock_offset_seconds=int(seconds) + int(microseconds) / 1e6 - midpoint,
        replicas=int(info.get("connected_slaves", "0")),
        # It is told only where both settings are above 0; asking for it needs no leave to read the configuration.
        good_replicas=int(info["min_slaves_good_slaves"]) if "min_slaves_good_slaves" in info else None,
    )


def unfit(facts: ServerFacts) -> str | None:
    """Why this server may not be used, and what to do; None where it may. A policy that nobody tells is let pass."""
    least = VALKEY_VERSION_MIN if facts.is_valkey else REDIS_VERSION_MIN
    if _numbers(facts.version) < least:
        asked = f"{least[0]}.{least[1]}"
        return f"{facts.product} {facts.version or 'of unknown version'} is too old; {asked} or later is needed"
    if facts.policy not in (None, SAFE_POLICY):
        return (
            f"its maxmemory-policy is {facts.policy}, which throws records of matches away when it is full; "
            f"set maxmemory-policy {SAFE_POLICY}, or name another server in redis.url"
        )
    return None


def parse_info(reply: bytes) -> dict[str, str]:
    """The lines `name:value` of an INFO reply."""
    pairs = (line.partition(":") for line in reply.decode(errors="replace").splitlines() if not line.startswith("#"))
    return {name: value for name, separator, value in pairs if separator}


async def _policy(connection: RedisConnection) -> str | None:
    """The policy by CONFIG, for servers whose INFO leaves it out; None where that is not permitted either."""
    try:
        reply = await connection.execute("CONFIG", "GET", "maxmemory-policy")
    except (Refused, CommandFault):
        return None
    return reply[1].decode() if len(reply) == 2 else None


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".")[:2] if part.isdigit())
