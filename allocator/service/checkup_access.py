"""Whether Redis lets this user do what workers and clients do: every command, every kind of key.

In: a connection to one server, the namespace with its partitions. Out: one finding. Nothing is run and nothing written:
the server is asked what its ACL would say. A test holds `COMMANDS` to the scripts of the program and a real worker to
`ACL_RULES`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

from allocator.contract.keys import Keys, gate_key
from allocator.contract.partitions import Partitions
from allocator.contract.request import Priority
from allocator.redis_io.connect import RedisConnection
from allocator.redis_io.errors import CommandFault, Refused
from allocator.redis_io.scripts import Script
from allocator.service.finding import Finding

ACL_RULES = ("+@read", "+@write", "+@stream", "+@scripting", "-@dangerous", "+info", "+time", "+client|setname")
"""What a worker's user needs on its keys; dangerous are FLUSHALL, KEYS and their like."""

KEY = "\0"
"""Stands for a key in the commands below."""

COMMANDS = tuple(
    tuple(KEY if word == "K" else word for word in line.split())
    for line in """\
DEL K
EVAL return 0
EVALSHA 0 0
EXISTS K
GET K
HDEL K f
HGET K f
HGETALL K
HMGET K f
HSET K f v
HSETNX K f v
INFO
PEXPIRE K 1
SADD K m
SCARD K
SCRIPT LOAD x
SET K v
SREM K m
TIME
XACK K g 0-1
XADD K * f v
XAUTOCLAIM K g c 0 0
XDEL K 0-1
XGROUP CREATE K g $
XGROUP DELCONSUMER K g c
XINFO CONSUMERS K g
XINFO GROUPS K
XINFO STREAM K
XLEN K
XRANGE K - +
XREAD STREAMS K 0
XREADGROUP GROUP g c STREAMS K >
XREVRANGE K + -
XTRIM K MAXLEN 1
ZADD K 1 m
ZCARD K
ZRANGE K 0 1
ZRANGEBYSCORE K 0 1
ZREM K m
ZREMRANGEBYSCORE K 0 1
ZSCORE K m
""".splitlines()
)


async def check_access(server: RedisConnection, partitions: Partitions, *, what: str = "redis access") -> Finding:
    """Ask the server of every command and every kind of key."""
    asked = list(_questions(partitions))
    try:
        reply = await Script.load("allocator.service.scripts", "may").run(server, (), (json.dumps(asked),))
    except Refused as error:
        return Finding(what, good=False, says=f"scripts are refused ({error}); {_mend(partitions)}")
    except CommandFault as error:
        # A proxy that speaks Redis may know neither EVAL nor ACL; a worker would find out with its first request.
        return Finding(what, good=False, says=f"scripts do not run here ({error}); use Redis 7.0 or Valkey 7.2")
    refused = [asked[position - 1] for position in reply]
    if not refused:
        return Finding(what, good=True, says=f"scripts run, and {len(asked)} commands are allowed")
    listed = ", ".join(dict.fromkeys(" ".join(_shown(command)) for command in refused[:4]))
    more = f" and {len(refused) - 4} more" if len(refused) > 4 else ""
    return Finding(what, good=False, says=f"its ACL refuses {listed}{more}; {_mend(partitions)}")


def _questions(partitions: Partitions) -> Iterator[list[str]]:
    """Every command on one key, then reading and writing on every kind of key."""
    own = partitions.every[0].record("doctor")
    for command in COMMANDS:
        yield [own if word == KEY else word for word in command]
    kinds = [key for keys in partitions.every for key in _kinds(keys)]
    for key in (*kinds, partitions.whole.meta, gate_key("doctor", "doctor", "doctor")):
        yield ["GET", key]
        yield ["SET", key, "v"]


def _kinds(keys: Keys) -> Iterator[str]:
    """A key of each kind in one partition."""
    for priority in Priority:
        yield keys.requests(priority)
    yield from (keys.cancellations, keys.results, keys.results_for("doctor"), keys.dead_letters, keys.meta)
    yield from (keys.allocation("doctor"), keys.record("doctor"))


def _shown(command: list[str]) -> list[str]:
    """The command without the arguments that were made up."""
    return [word for word in command[:3] if word.isupper() or word.startswith("{")]


def _mend(partitions: Partitions) -> str:
    patterns = [f"~{partitions.whole.prefix}:*", "~{allocator}:internal:gate:*"]
    if partitions.count > 1:
        patterns.append(f"~{{{partitions.namespace}:*}}:*")
    return f"ACL SETUSER <name> {' '.join(patterns)} {' '.join(ACL_RULES)}"
