"""Whether `allocator doctor` knows which rights a fleet needs: asked of real servers, with users that lack some."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from allocator.contract.partitions import Partitions
from allocator.contract.request import Priority
from allocator.redis_io.connect import connect
from allocator.service.checkup_access import ACL_RULES, COMMANDS, check_access
from allocator.service.finding import Finding
from tests.conftest import TestServer, WaitUntil
from tests.crash.fleet import Fleet, Simulator

SOURCES = Path(__file__).parents[2] / "allocator"
END_SECONDS = 20.0
Restrict = Callable[..., str]


@pytest.fixture
def restricted(private_server: TestServer, namespace: str) -> Restrict:
    """Make the user that the documents name, with some more rules; its URL."""

    def make(*rules: str, keys: tuple[str, ...] = ("~{%s}:*", "~{allocator}:internal:gate:*")) -> str:
        patterns = [each.replace("%s", namespace) for each in keys]
        private_server.command("ACL", "SETUSER", "worker", "on", ">pass", *patterns, *ACL_RULES, *rules)
        return private_server.url.replace("redis://", "redis://worker:pass@")

    return make


async def found(url: str, namespace: str, partitions: int = 1) -> Finding:
    async with await connect(url, name="test") as connection:
        return await check_access(connection, Partitions(namespace, partitions))


async def test_a_user_with_the_documented_rules_may_do_everything(restricted: Restrict, namespace: str) -> None:
    finding = await found(restricted(), namespace)
    assert finding.good, finding.says


@pytest.mark.parametrize(
    ("rule", "named"),
    [
        ("-xautoclaim", "XAUTOCLAIM"),
        ("-xgroup|delconsumer", "XGROUP DELCONSUMER"),
        ("-@stream", "XADD"),
        ("-hset", "HSET"),
    ],
)
async def test_a_command_that_the_acl_refuses_is_named_with_the_rules_that_mend_it(
    restricted: Restrict, namespace: str, rule: str, named: str
) -> None:
    finding = await found(restricted(rule), namespace)
    assert not finding.good
    assert named in finding.says
    assert f"~{{{namespace}}}:* ~{{allocator}}:internal:gate:* +@read" in finding.says


async def test_a_kind_of_key_that_the_acl_refuses_is_named(restricted: Restrict, namespace: str) -> None:
    finding = await found(restricted(keys=("~{%s}:*",)), namespace)
    assert not finding.good
    assert "SET {allocator}:internal:gate:doctor" in finding.says


async def test_a_partition_that_the_acl_leaves_out_is_named_and_the_rules_cover_them_all(
    restricted: Restrict, namespace: str
) -> None:
    left_out = await found(restricted(), namespace, partitions=2)
    assert not left_out.good
    assert f"{{{namespace}:0}}:internal" in left_out.says
    rules = left_out.says[left_out.says.index("~") :].split()
    assert (await found(restricted(keys=tuple(rules)), namespace, partitions=2)).good


async def test_keys_that_may_be_read_and_not_written_are_found_out(restricted: Restrict, namespace: str) -> None:
    keys = ("%R~{%s}:*".replace("%s", namespace), "~{allocator}:internal:gate:*")
    finding = await found(restricted(keys=keys), namespace)
    assert not finding.good
    assert "HSET" in finding.says
    assert "HGETALL" not in finding.says


async def test_a_user_who_may_run_no_script_is_told_so(restricted: Restrict, namespace: str) -> None:
    finding = await found(restricted("-@scripting"), namespace)
    assert not finding.good
    assert "scripts are refused" in finding.says


async def test_asking_leaves_nothing_behind(restricted: Restrict, namespace: str, private_server: TestServer) -> None:
    await found(restricted(), namespace)
    assert private_server.command("DBSIZE") == 0


def test_every_command_of_the_program_is_asked_about() -> None:
    asked = {words[0] for words in COMMANDS} | {" ".join(words[:2]) for words in COMMANDS}
    used: set[str] = set()
    for script in SOURCES.rglob("*.lua"):
        for command, subcommand in re.findall(r"redis\.p?call\('(\w+)'(?:, *'(\w+)')?", script.read_text()):
            used.add(f"{command} {subcommand}" if command in ("XGROUP", "XINFO") else command)
    for room in ("broker", "client", "gate", "engine"):
        for module in (SOURCES / room).rglob("*.py"):
            used |= set(
                re.findall(
                    r'\(\s*"((?:X|H|Z)[A-Z]{3,}|DEL|GET|SET|SMEMBERS|SADD|SREM|SCRIPT|PTTL|TIME|INFO)"',
                    module.read_text(),
                )
            )
    assert {"XREADGROUP", "XGROUP DELCONSUMER", "HSET"} <= used
    assert used <= asked, "add them to COMMANDS in service/checkup_access.py"


async def test_a_worker_with_the_documented_rules_is_refused_nothing(
    restricted: Restrict, private_server: TestServer, namespace: str, tmp_path: Path, wait_until: WaitUntil
) -> None:
    async with (
        Simulator.running(tmp_path, {"regions": {"europe": {}}, "faults": []}) as simulator,
        Fleet(namespace, tmp_path, restricted(), simulator.url, watch_url=private_server.url) as fleet,
    ):
        await fleet.worker()
        first, *_ = await fleet.submit(5, regions=["europe"])
        await fleet.redis.xadd(fleet.keys.requests(Priority.LOW), {"request": "no JSON"})
        await fleet.finished(END_SECONDS)
        await fleet.cancel(first)
        await wait_until(lambda: _released(fleet, first), timeout_seconds=END_SECONDS)
        await wait_until(lambda: fleet.redis.xlen(fleet.keys.dead_letters), timeout_seconds=END_SECONDS)
        refusals = private_server.command("ACL", "LOG")
    # What redis-py tells of itself it may be refused, and passes over.
    assert {_object(entry) for entry in refusals} <= {b"client|setinfo"}


async def _released(fleet: Fleet, name: str) -> bool:
    return await fleet.redis.hget(fleet.keys.allocation(name), "state") == "released"


def _object(entry: Any) -> bytes:
    """What was refused, of an entry of the log as redis-py gives it."""
    said = entry if isinstance(entry, dict) else dict(zip(entry[::2], entry[1::2], strict=True))
    return bytes(said[b"object"]) if b"object" in said else str(said["object"]).encode()
