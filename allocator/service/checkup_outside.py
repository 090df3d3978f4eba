"""What `allocator doctor` looks at of providers that other packages bring: what the port alone can tell.

In: settings. Out: findings; nothing is started. Whether the provider can be made of its table, whether its host lists
our sessions, and where each image of the catalog has room among the locations that regions lead to.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

from allocator.providers.credential import CredentialError
from allocator.providers.outside import build_outside
from allocator.providers.provider import LookupFailed, Offered, Provider
from allocator.service.finding import Finding
from allocator.service.settings import Settings
from allocator.service.settings_outside import table_of

CALL_SECONDS = 10.0


async def check_outside(settings: Settings) -> AsyncIterator[Finding]:
    """Each of them in turn; nothing where there is none."""
    for name, table in settings.outside.items():
        try:
            provider = build_outside(name, table_of(name, table), learn=lambda _secret: None)
        except CredentialError as error:
            yield Finding(f"{name} provider", good=False, says=str(error))
            continue
        try:
            found = await provider.list(settings.deployment, timeout_seconds=CALL_SECONDS)
            if isinstance(found, LookupFailed):
                yield Finding(f"{name} host", good=False, says=f"{found.message}; check the table [{name}]")
            else:
                yield Finding(f"{name} host", good=True, says=f"answers; {len(found)} sessions bear our mark")
            for image in settings.catalog:
                yield await _image(provider, image, settings)
        finally:
            await provider.close()


async def _image(provider: Provider, image: str, settings: Settings) -> Finding:
    what = f"{provider.name} image {image}"
    places = (place.destination for found in settings.resolved.values() for place in found)
    wanted = {at.location for at in places if at.provider == provider.name}
    match await provider.offers(image, timeout_seconds=CALL_SECONDS):
        case LookupFailed(message):
            return Finding(what, good=False, says=f"{message}; correct the name in [catalog], or ask again later")
        case Offered(locations) as offered:
            missing = sorted(each for each in wanted if not offered.has_room(each))
            where = "every location" if locations is None else ", ".join(sorted(locations)) or "no location"
            says = f"has room in {where}"
            return Finding(what, good=not missing, says=says + (f"; not in {', '.join(missing)}" if missing else ""))
