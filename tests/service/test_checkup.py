"""What `allocator doctor` finds on a real server with and without a replica."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from allocator.service.checkup import Finding, check_up
from allocator.service.settings import Settings
from tests.conftest import TestServer, _made

if TYPE_CHECKING:
    from tests.conftest import WaitUntil


@pytest.fixture
def replica(private_server: TestServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestServer]:
    """A replica of `private_server`, connected or soon to be."""
    made = _made(private_server.kind, tmp_path_factory)
    made.start("--replicaof", "127.0.0.1", str(private_server.port))
    yield made
    made.kill()


async def redis_findings(server: TestServer) -> dict[str, Finding]:
    settings = Settings.model_validate({"deployment": "d", "redis": {"url": server.url}})
    return {finding.what: finding for finding in await check_up(settings)}


async def test_a_server_without_replicas_has_none_to_promote_and_nothing_to_mend(private_server: TestServer) -> None:
    found = await redis_findings(private_server)
    assert set(found) == {"redis", "redis fit", "redis durable", "clock"}
    assert all(finding.good for finding in found.values())


async def test_a_replica_that_no_write_waits_for_is_to_be_mended(
    private_server: TestServer, replica: TestServer, wait_until: WaitUntil
) -> None:
    await wait_until(lambda: replica.command("ROLE")[3] == b"connected", timeout_seconds=10)
    bare = (await redis_findings(private_server))["redis replicas"]
    assert not bare.good
    assert "set min-replicas-to-write 1" in bare.says

    private_server.command("CONFIG", "SET", "min-replicas-to-write", "1")
    await wait_until(lambda: private_server.command("INFO", "replication")["min_slaves_good_slaves"] == 1)
    waited_for = (await redis_findings(private_server))["redis replicas"]
    assert waited_for.good
    assert "1 of 1 keep up" in waited_for.says


async def test_writes_that_no_replica_is_there_to_receive_are_told_to_be_refused(private_server: TestServer) -> None:
    private_server.command("CONFIG", "SET", "min-replicas-to-write", "1")
    found = (await redis_findings(private_server))["redis replicas"]
    assert not found.good
    assert "writes are refused" in found.says
