"""What `allocator doctor` looks at: one finding each, with what to do where it is bad.

In: settings. Out: findings; nothing is changed anywhere. Redis is `checkup_redis`'s, this machine `checkup_here`'s,
Edgegap `checkup_edgegap`'s, what other packages bring `checkup_outside`'s. Gameye, here: the credential and what of its
scopes can be tried without a session, its clock, and for each image of the catalog the regions that can host it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

from allocator.providers.credential import CredentialError
from allocator.providers.gameye.client import GameyeProvider
from allocator.providers.provider import LookupFailed, Offered
from allocator.service.checkup_edgegap import check_edgegap
from allocator.service.checkup_here import check_files, check_provider_clock
from allocator.service.checkup_outside import check_outside
from allocator.service.checkup_redis import check_redis
from allocator.service.finding import Finding
from allocator.service.hosts import build_gameye
from allocator.service.settings import Settings

__all__ = ["Finding", "check_up"]

CALL_SECONDS = 10.0


async def check_up(settings: Settings) -> list[Finding]:
    """Look at everything, whatever is found on the way."""
    return [
        check_files(settings),
        *[finding async for finding in check_redis(settings)],
        *[
            await check_provider_clock(name, table.base_url)
            for name, table in (("gameye", settings.gameye), ("edgegap", settings.edgegap))
            if table is not None
        ],
        *[finding async for finding in _gameye(settings)],
        *[finding async for finding in check_edgegap(settings)],
        *[finding async for finding in check_outside(settings)],
    ]


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
            check = "gameye.token, its scope session:read, and gameye.environment"
            says = f"{found.message}; check {'gameye.base_url and the way out' if found.status is None else check}"
            yield Finding("gameye credential", good=False, says=says)
        else:
            yield Finding("gameye credential", good=True, says=f"accepted; {len(found)} sessions bear our mark")
        if not settings.catalog:
            says = "none is in [catalog], so none was looked for, nor the scope regions:read; add [catalog.my-game]"
            yield Finding("gameye images", good=True, says=says)
        for image in settings.catalog:
            yield await _image(gameye, image, settings)
        says = "session:start and session:stop cannot be tried without a session: 'allocator try IMAGE REGION' does"
        yield Finding("gameye scopes", good=True, says=says)
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
        case Offered(locations) as offered:
            missing = sorted(each for each in wanted if not offered.has_room(each))
            where = "every region" if locations is None else ", ".join(sorted(locations)) or "no region"
            says = f"can be hosted now in {where}"
            if missing:
                says += f"; not in {', '.join(missing)}: full, or not enabled for the application"
            return Finding(what, good=not missing, says=says)
