"""The same steps for the twin and for a real server, in the same order: how such a test is drawn and run."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from hypothesis import HealthCheck, Phase, settings

from allocator.redis_io.connect import connect

if TYPE_CHECKING:
    from tests.broker.conftest import StreamsHouse, TwinHouse
    from tests.conftest import TestServer

DRAWN = settings(
    deadline=None,
    derandomize=True,
    database=None,
    phases=[Phase.generate],  # a failure tells its steps; making them fewer would take minutes
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
_numbers = itertools.count(1)


def on_both(
    run_both: Callable[[TwinHouse, StreamsHouse], Awaitable[None]],
    server: TestServer,
    twin_class: type[TwinHouse],
    streams_class: type[StreamsHouse],
) -> None:
    """Run it on a twin and on a namespace of this server, both new."""

    async def story() -> None:
        async with await connect(server.url, name="test") as connection:
            streams = streams_class(connection, server, f"differential-{next(_numbers)}")
            await run_both(twin_class(), streams)
            await streams.flush()

    asyncio.run(story())
