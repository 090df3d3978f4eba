"""The ready check: whether a game listens in a session that its provider calls running.

In: a session as the provider started it, and what the catalog says to look at. Out: the reason why it is not ready, or
None. Promises: nothing here raises, whatever the address answers; no look outlasts the seconds given; whatever was
opened is closed. Left to others: what becomes of a match whose session never gets ready.

Only TCP can be asked: whoever is sent a datagram need not answer it, so a game that speaks UDP alone opens a TCP port
beside it as soon as it takes players, and the catalog names that one. What accepts connections in the game's place,
such as a proxy on its host, counts as an answer.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Literal, Protocol

from allocator.providers.ports import port_key
from allocator.providers.provider import Session

PAUSE_FIRST_SECONDS = 0.1
PAUSE_LAST_SECONDS = 1.0
CONNECT_SECONDS_MAX = 2.0
"""Before a connection is tried anew: a host that drops the first packets must not cost the waits of TCP's repeats."""


@dataclass(frozen=True, slots=True)
class ReadyCheck:
    """What must answer before a match is told of its session, and for how long that is waited for."""

    protocol: Literal["tcp"]
    container_port: int
    timeout_seconds: float


class ReadyProbe(Protocol):
    """Asks one address until it answers."""

    async def __call__(self, host: str, port: int, timeout_seconds: float) -> bool:
        """Whether it answered in that time; raises nothing."""
        ...


async def why_not_ready(
    session: Session, check: ReadyCheck, probe: ReadyProbe, *, seconds_max: float | None = None
) -> str | None:
    """Wait until the session answers; the reason where it does not in the check's time, or in `seconds_max` if less."""
    port = external_port(session, check)
    named = port_key(check.protocol, check.container_port)
    if port is None:
        published = ", ".join(port_key(each.protocol, each.container_port) for each in session.ports) or "none"
        return f"the session does not publish {named} (its ports: {published}); correct ready_check in [catalog]"
    seconds = check.timeout_seconds if seconds_max is None else max(0.0, min(check.timeout_seconds, seconds_max))
    if await probe(session.host, port, seconds):
        return None
    return f"{named} did not answer within {seconds:.3g} s (ready_check and ready_timeout_seconds in [catalog])"


def external_port(session: Session, check: ReadyCheck) -> int | None:
    """Where the container port of the check is reached from outside; None where the session does not publish it."""
    wanted = (check.protocol, check.container_port)
    return next((port.port for port in session.ports if (port.protocol, port.container_port) == wanted), None)


async def tcp_answers(host: str, port: int, timeout_seconds: float) -> bool:
    """Connect again and again until a connection is taken, or the time is over."""
    loop = asyncio.get_running_loop()
    deadline, pause_seconds = loop.time() + timeout_seconds, PAUSE_FIRST_SECONDS
    while (left_seconds := deadline - loop.time()) > 0:
        if await _connects(host, port, min(left_seconds, CONNECT_SECONDS_MAX)):
            return True
        await asyncio.sleep(min(pause_seconds, max(0.0, deadline - loop.time())))
        pause_seconds = min(pause_seconds * 2, PAUSE_LAST_SECONDS)
    return False


async def _connects(host: str, port: int, seconds: float) -> bool:
    try:
        async with asyncio.timeout(seconds):
            transport, _ = await asyncio.get_running_loop().create_connection(asyncio.Protocol, host, port)
    except (
        OSError,
        ValueError,
        OverflowError,
    ):  # TimeoutError is an OSError; the others are a host or port that is none
        return False
    # A connection to a port of this machine that nobody listens on can meet itself.
    met_itself = transport.get_extra_info("sockname") == transport.get_extra_info("peername")
    transport.abort()
    return not met_itself
