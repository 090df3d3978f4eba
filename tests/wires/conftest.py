"""Real parts with a faulty wire between them: the shared server, the simulated provider, and a fleet to start.

The proxies stand between the workers and what they talk to; the test itself looks past them.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import KINDS, TestServer, _binary
from tests.crash.fleet import Fleet, Simulator
from tests.wires.proxy import Proxy
from tests.wires.wired import Wired

SIMULATOR: dict[str, Any] = {
    "regions": {"europe": {"latency_ms": "20-40"}, "us-east": {"latency_ms": "20-40"}},
    "faults": [],
}
LEASE_SECONDS = 1.5


@pytest.fixture
async def wired(redis_server: TestServer, namespace: str, tmp_path: Path) -> AsyncIterator[Wired]:
    """One worker, started, whose wires are good."""
    if redis_server.kind != KINDS[0] and _binary(KINDS[0]) and not os.environ.get("LONG_TESTS"):
        pytest.skip("a wire is the same to every server: LONG_TESTS=1 asks for all of them")
    async with contextlib.AsyncExitStack() as stack:
        simulator = await stack.enter_async_context(Simulator.running(tmp_path, SIMULATOR))
        redis = await stack.enter_async_context(Proxy.to(redis_server.port))
        gameye = await stack.enter_async_context(Proxy.to(simulator.port))
        fleet = Fleet(
            namespace,
            tmp_path,
            f"redis://127.0.0.1:{redis.port}/0",
            f"http://127.0.0.1:{gameye.port}",
            lease_seconds=LEASE_SECONDS,
            settings=("gameye.timeout_seconds=2",),
            watch_url=redis_server.url,
        )
        await stack.enter_async_context(fleet)
        await fleet.worker()
        yield Wired(fleet, simulator, redis, gameye)
