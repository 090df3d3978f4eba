"""What `allocator doctor` looks at: one finding each, with what to do where it is bad.

In: settings. Out: findings; nothing is changed anywhere. Redis: reachable, fit, durable, its replicas, its clock.
Gameye: the credential, and for each image of the catalog the regions that can host it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass

from allocator.providers.gameye.client import GameyeProvider
from allocator.providers.gameye.credential import CredentialError
from allocator.providers.provider import LookupFailed, Offered
from allocator.redis_io.connect import connect
from allocator.redis_io.errors import RedisFault, RedisUrlError
from allocator.redis_io.server import ServerFacts, describe_server, unfit
from allocator.service.settings import Settings
from allocator.service.wiring import build_gameye

CLOCK_SECONDS_MAX = 5.0
CALL_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at."""

    what: str
    good: bool
    says: str


async def check_up(settings: Settings) -> list[Finding]:
    """Look at everything, whatever is found on the way."""
    return [*[finding async for finding in _redis(settings)], *[finding async for finding in _gameye(settings)]]


async def _redis(settings: Settings) -> AsyncIterator[Finding]:
    try:
        async with await connect(settings.redis.url.get_secret_value(), name="doctor") as connection:
            facts = await describe_server(connection)
    except (RedisFault, RedisUrlError) as error:
        yield Finding("redis", good=False, says=str(error))
        return
    yield Finding("redis", good=True, says=f"{facts.product} {facts.version}, {facts.role}, at {connection.url}")
    reason = unfit(facts)
    yield Finding("redis fit", good=reason is None, says=reason or f"maxmemory-policy {facts.policy or 'not told'}")
    durable = "appendonly is on" if facts.append_only else "a restart loses matches; set appendonly yes"
    yield Finding("redis durable", good=facts.append_only, says=durable)
    if (replicated := _replicated(facts)) is not None:
        yield replicated
    offset = facts.clock_offset_seconds
    clock = f"{offset:+.1f} s from this machine's"
    if abs(offset) > CLOCK_SECONDS_MAX:
        clock += "; set both by NTP"
    yield Finding("clock", good=abs(offset) <= CLOCK_SECONDS_MAX, says=clock)


def _replicated(facts: ServerFacts) -> Finding | None:
    """Whether a replica that is promoted has what was acknowledged; None where there is none to promote."""
    what = "redis replicas"
    match facts.good_replicas:
        case None if facts.replicas:
            says = (
                "a promoted replica may lack acknowledged matches; set min-replicas-to-write 1, min-replicas-max-lag 2"
            )
            return Finding(what, good=False, says=f"{facts.replicas} connected; {says}")
        case None:
            return None
        case 0:
            says = "min-replicas-to-write is set and no replica keeps up, so that writes are refused; bring one back"
            return Finding(what, good=False, says=says)
        case good:
            return Finding(what, good=True, says=f"{good} of {facts.replicas} keep up; min-replicas-to-write is set")


async def _gameye(settings: Settings) -> AsyncIterator[Finding]:
    if settings.gameye is None:
        return
    try:
        gameye = build_gameye(settings.gameye, report=lambda _message: None)
    except CredentialError as error:
        yield Finding("gameye credential", good=False, says=str(error))
        return
    try:
        found = await gameye.list(settings.deployment, timeout_seconds=CALL_SECONDS)
        if isinstance(found, LookupFailed):
            says = f"{found.message}; check gameye.token, its scope session:read, and gameye.environment"
            yield Finding("gameye credential", good=False, says=says)
        else:
            yield Finding("gameye credential", good=True, says=f"accepted; {len(found)} sessions bear our mark")
        for image in settings.catalog:
            yield await _image(gameye, image, settings)
    finally:
        await gameye.close()


async def _image(gameye: GameyeProvider, image: str, settings: Settings) -> Finding:
    what = f"gameye image {image}"
    wanted = {
        place.destination.location
        for places in settings.resolved.values()
        for place in places
        if place.destination.provider == gameye.name
    }
    answer = await gameye.offers(image, timeout_seconds=CALL_SECONDS)
    match answer:
        case LookupFailed(message, 404):
            says = f"{message}; correct the name in [catalog], or make the application there"
            return Finding(what, good=False, says=says)
        case LookupFailed(message):
            return Finding(what, good=False, says=f"{message}; check the token's scope regions:read")
        case Offered(locations):
            missing = sorted(wanted - locations)
            says = f"can be hosted now in {', '.join(sorted(locations)) or 'no region'}"
            if missing:
                says += f"; not in {', '.join(missing)}: full, or not enabled for the application"
            return Finding(what, good=not missing, says=says)
