"""The promise of the project under kill -9 at every named step, with real processes, a real server and faults about."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from itertools import product
from pathlib import Path

from tests.conftest import TestServer
from tests.crash.fleet import Simulator
from tests.crash.matrix import CASES, SIMULATOR, Case
from tests.crash.play import play

LONG = bool(os.environ.get("LONG_TESTS"))
AT_ONCE = 5


async def test_a_worker_that_dies_at_any_step_loses_nothing_and_doubles_nothing(
    private_server: TestServer, tmp_path: Path
) -> None:
    one = [case for case in CASES if case.quick or LONG]
    two = [case for case in CASES if LONG]
    faults = await _play_all([*product(one, [False]), *product(two, [True])], private_server, tmp_path)
    assert not faults, "\n".join(faults)


async def _play_all(plays: Sequence[tuple[Case, bool]], server: TestServer, directory: Path) -> list[str]:
    """Play a few at a time: each has its own namespace, deployment and account, and all share the provider."""
    gate = asyncio.Semaphore(AT_ONCE)
    faults: list[str] = []

    async def one(case: Case, *, two: bool) -> None:
        async with gate:
            found = await play(case, two=two, directory=directory, redis_url=server.url, simulator=simulator)
            faults.extend(f"{case.crash}, {'two workers' if two else 'one worker'}: {fault}" for fault in found)

    async with Simulator.running(directory, SIMULATOR) as simulator, asyncio.TaskGroup() as group:
        for case, with_two in plays:
            group.create_task(one(case, two=with_two))
    return faults
