"""What `allocator doctor` looks at in Redis: reachable, fit, durable, its room, its replicas, its clock, our rights.

In: settings. Out: findings; nothing is changed. In a cluster every primary is looked at, and named in what it says.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

from allocator.contract.partitions import Partitions
from allocator.redis_io.connect import RedisConnection, connect
from allocator.redis_io.errors import RedisFault, RedisUrlError, Refused
from allocator.redis_io.server import ServerFacts, describe_server, parse_info, unfit
from allocator.service.checkup_access import check_access
from allocator.service.finding import Finding
from allocator.service.settings import Settings

REDIS = "redis"
"""What stands for the server itself: where that is not good, nothing else of it could be looked at."""
CLOCK_SECONDS_MAX = 5.0
MEMORY_SHARE_MAX = 0.8


async def check_redis(settings: Settings) -> AsyncIterator[Finding]:
    """Look at all of it, server by server."""
    try:
        async with await connect(settings.redis.url.get_secret_value(), name="doctor") as connection:
            servers = await connection.servers()
            for number, server in enumerate(servers, 1):
                mark = "" if len(servers) == 1 else f" {number}"
                async for finding in _server(server, Partitions(settings.namespace, settings.partitions), mark):
                    yield finding
    except (RedisFault, RedisUrlError) as error:
        yield Finding(REDIS, good=False, says=str(error))


async def _server(server: RedisConnection, partitions: Partitions, mark: str) -> AsyncIterator[Finding]:
    access = await check_access(server, partitions, what=f"redis access{mark}")
    try:
        facts = await describe_server(server)
        info = parse_info(await server.execute("INFO"))
    except Refused as error:
        yield Finding(f"redis{mark}", good=False, says=str(error))
        yield access
        return
    yield Finding(f"redis{mark}", good=True, says=f"{facts.product} {facts.version}, {facts.role}, at {server.url}")
    reason = unfit(facts)
    yield Finding(
        f"redis fit{mark}", good=reason is None, says=reason or f"maxmemory-policy {facts.policy or 'not told'}"
    )
    yield _durable(facts, info, mark)
    yield _memory(facts, info, mark)
    for finding in _replicated(facts, mark):
        yield finding
    yield access
    yield clock_finding(f"clock{mark}", facts.clock_offset_seconds, "Redis'")


def _durable(facts: ServerFacts, info: dict[str, str], mark: str) -> Finding:
    what = f"redis durable{mark}"
    if not facts.append_only:
        return Finding(what, good=False, says="a restart loses matches; set appendonly yes, appendfsync everysec")
    if info.get("aof_last_write_status", "ok") != "ok":
        return Finding(what, good=False, says="appendonly is on, but its last write failed; make room on its disk")
    return Finding(what, good=True, says="appendonly is on")


def _memory(facts: ServerFacts, info: dict[str, str], mark: str) -> Finding:
    what = f"redis memory{mark}"
    used = int(info.get("used_memory", "0"))
    if facts.maxmemory_bytes == 0:
        says = f"{_mib(used)} used, no maxmemory: the machine's is the limit, and there the kernel ends the server"
        return Finding(what, good=True, says=says)
    says = f"{_mib(used)} of {_mib(facts.maxmemory_bytes)} used"
    if used < MEMORY_SHARE_MAX * facts.maxmemory_bytes:
        return Finding(what, good=True, says=says)
    return Finding(what, good=False, says=f"{says}; raise maxmemory: when it is full, new requests are not taken up")


def _replicated(facts: ServerFacts, mark: str) -> Iterator[Finding]:
    """Whether a replica that is promoted has what was acknowledged; nothing where there is none to promote."""
    what = f"redis replicas{mark}"
    match facts.good_replicas:
        case None if facts.replicas:
            says = (
                "a promoted replica may lack acknowledged matches; set min-replicas-to-write 1, min-replicas-max-lag 2"
            )
            yield Finding(what, good=False, says=f"{facts.replicas} connected; {says}")
        case None:
            pass
        case 0:
            says = "min-replicas-to-write is set and no replica keeps up, so that writes are refused; bring one back"
            yield Finding(what, good=False, says=says)
        case good:
            yield Finding(what, good=True, says=f"{good} of {facts.replicas} keep up; min-replicas-to-write is set")


def clock_finding(what: str, offset_seconds: float, whose: str) -> Finding:
    """How far another clock is ahead of this machine's."""
    says = f"{whose} is {offset_seconds:+.1f} s from this machine's"
    good = abs(offset_seconds) <= CLOCK_SECONDS_MAX
    return Finding(what, good=good, says=says if good else f"{says}; set both by NTP")


def _mib(size_bytes: int) -> str:
    return f"{size_bytes / 2**20:.0f} MiB"
