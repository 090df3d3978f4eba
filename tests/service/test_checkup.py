"""What `allocator doctor` finds on a real server with and without a replica."""

from __future__ import annotations

import resource
import time
from collections.abc import AsyncIterator, Iterator
from typing import TYPE_CHECKING, Any

import pytest

from allocator.service.checkup import Finding, check_up
from allocator.service.checkup_here import check_provider_clock
from allocator.service.settings import Settings
from allocator.simulator.gameye import GameyeSimulator, ImageSettings, RegionSettings, SimulatorSettings
from allocator.simulator.gameye.settings import Scope
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
    assert set(found) == {"open files", "redis", "redis fit", "redis durable", "redis memory", "redis access", "clock"}
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


async def test_a_server_that_is_nearly_full_is_to_be_mended(private_server: TestServer) -> None:
    used = private_server.command("INFO", "memory")["used_memory"]
    private_server.command("CONFIG", "SET", "maxmemory", str(int(used * 1.1)))
    found = (await redis_findings(private_server))["redis memory"]
    assert not found.good
    assert "raise maxmemory" in found.says


async def test_a_server_that_forgets_at_a_restart_or_evicts_is_to_be_mended(private_server: TestServer) -> None:
    private_server.command("CONFIG", "SET", "appendonly", "no", "maxmemory-policy", "allkeys-lru")
    found = await redis_findings(private_server)
    assert "set appendonly yes" in found["redis durable"].says
    assert "set maxmemory-policy noeviction" in found["redis fit"].says
    assert not found["redis durable"].good
    assert not found["redis fit"].good


async def test_a_server_that_is_away_is_one_finding(private_server: TestServer) -> None:
    private_server.kill()
    found = await redis_findings(private_server)
    assert not found["redis"].good
    assert set(found) == {"open files", "redis"}


async def test_fewer_files_than_calls_is_to_be_mended(
    private_server: TestServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _which: (256, 4096))
    found = (await redis_findings(private_server))["open files"]
    assert not found.good
    assert "limit 256; a process needs 384" in found.says


@pytest.fixture
async def gameye() -> AsyncIterator[GameyeSimulator]:
    regions = {"europe": RegionSettings(), "asia": RegionSettings(capacity=0)}
    images = {"my-game": ImageSettings()}
    async with GameyeSimulator(SimulatorSettings(token="right", regions=regions, images=images)) as simulator:
        yield simulator


async def gameye_findings(simulator: GameyeSimulator, **more: Any) -> dict[str, Finding]:
    tables = {
        "deployment": "d",
        "redis": {"url": "redis://127.0.0.1:1"},
        "gameye": {"base_url": simulator.base_url, "token": "right"},
        **more,
    }
    found = await check_up(Settings.model_validate(tables))
    return {finding.what: finding for finding in found if finding.what.startswith("gameye")}


async def test_an_image_is_looked_for_in_every_region_that_the_settings_name(gameye: GameyeSimulator) -> None:
    catalog: dict[str, Any] = {"my-game": {}, "other": {}}
    found = await gameye_findings(gameye, regions={"europe": {}, "asia": {}}, catalog=catalog)
    assert found["gameye credential"].good
    assert found["gameye clock"].good
    assert not found["gameye image my-game"].good
    assert "in europe; not in asia" in found["gameye image my-game"].says
    assert "correct the name in [catalog]" in found["gameye image other"].says


async def test_what_cannot_be_tried_without_a_session_is_said(gameye: GameyeSimulator) -> None:
    found = await gameye_findings(gameye)
    assert "session:start and session:stop cannot be tried" in found["gameye scopes"].says
    assert "none is in [catalog]" in found["gameye images"].says
    assert not gameye.ledger.posts


async def test_a_refused_token_is_to_be_mended(gameye: GameyeSimulator) -> None:
    wrong = {"base_url": gameye.base_url, "token": "wrong"}
    found = await gameye_findings(gameye, gameye=wrong)
    assert not found["gameye credential"].good
    assert "check gameye.token" in found["gameye credential"].says


async def test_a_provider_that_cannot_be_reached_is_no_fault_of_the_token(gameye: GameyeSimulator) -> None:
    nobody = {"base_url": "http://127.0.0.1:1", "token": "right"}
    says = (await gameye_findings(gameye, gameye=nobody))["gameye credential"].says
    assert "check gameye.base_url" in says
    assert "token" not in says


async def test_a_token_without_a_scope_that_can_be_tried_is_to_be_mended(gameye: GameyeSimulator) -> None:
    gameye.apply(SimulatorSettings(token="right", scopes=frozenset({Scope.SESSION_START, Scope.SESSION_STOP})))
    found = await gameye_findings(gameye, catalog={"my-game": {}})
    assert "session:read" in found["gameye credential"].says
    assert "regions:read" in found["gameye image my-game"].says
    assert not found["gameye credential"].good
    assert not found["gameye image my-game"].good


async def test_a_provider_whose_clock_is_off_is_told(gameye: GameyeSimulator) -> None:
    found = await check_provider_clock("gameye", gameye.base_url, now=lambda: time.time() - 60)
    assert not found.good
    assert "+60." in found.says or "+59." in found.says


async def test_a_provider_that_cannot_be_reached_is_told(gameye: GameyeSimulator) -> None:
    found = await gameye_findings(gameye, gameye={"base_url": "http://127.0.0.1:1", "token": "right"})
    assert "check gameye.base_url" in found["gameye clock"].says
    assert not found["gameye credential"].good
