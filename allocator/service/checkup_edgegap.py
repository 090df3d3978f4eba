"""What `allocator doctor` looks at of Edgegap: the token, and each image that may be asked for there.

In: settings. Out: findings; nothing is started. An image of the catalog is looked for under the application and version
that it has there, where it names one; a version that is not cached starts slower, which is said and mends nothing.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

from allocator.providers.credential import CredentialError
from allocator.providers.edgegap.client import EdgegapProvider
from allocator.providers.edgegap.wire import Version
from allocator.providers.provider import LookupFailed
from allocator.service.finding import Finding
from allocator.service.hosts import build_edgegap, names_at
from allocator.service.settings import Settings

CALL_SECONDS = 10.0
CACHED_ENOUGH = 0.8
"""The share of its locations in which a version should be cached, by the vendor's own advice."""


async def check_edgegap(settings: Settings) -> AsyncIterator[Finding]:
    """The credential, then each image; nothing where Edgegap is off."""
    if settings.edgegap is None:
        return
    try:
        edgegap = build_edgegap(settings.edgegap, report=lambda _message: None)
    except CredentialError as error:
        yield Finding("edgegap credential", good=False, says=str(error))
        return
    try:
        found = await edgegap.list(settings.deployment, timeout_seconds=CALL_SECONDS)
        if isinstance(found, LookupFailed):
            says = f"{found.message}; check edgegap.token and edgegap.base_url"
            yield Finding("edgegap credential", good=False, says=says)
        else:
            yield Finding("edgegap credential", good=True, says=f"accepted; {len(found)} deployments bear our mark")
        known = names_at(settings)["edgegap"]
        for image in settings.catalog:
            application, version = known.get(image, (image, None))
            yield await _image(edgegap, image, application, version)
        if not settings.catalog:
            says = "none is in [catalog], so none was looked for; add [catalog.my-game] with its edgegap names"
            yield Finding("edgegap images", good=True, says=says)
    finally:
        await edgegap.close()


async def _image(edgegap: EdgegapProvider, image: str, application: str, version: str | None) -> Finding:
    what = f"edgegap image {image}"
    if version is None:
        says = f"requests must name its version: set version in [catalog.{image}] edgegap to have one checked here"
        return Finding(what, good=True, says=says)
    name = f"{application} {version}"
    match await edgegap.version(application, version):
        case Version(is_active=False):
            return Finding(what, good=False, says=f"{name} is not active; activate it, or name another version")
        case Version(caching_percent=cached):
            says = f"{name} is there and active"
            if cached is not None:
                slow = "" if cached >= CACHED_ENOUGH else ": starts are slow where it is not; set its force_cache"
                says += f", cached in {cached:.0%} of the locations{slow}"
            return Finding(what, good=True, says=says)
        case LookupFailed(message, 404):
            says = f"{name}: {message}; correct the names in [catalog], or make it: allocator edgegap"
            return Finding(what, good=False, says=says)
        case LookupFailed(message):
            return Finding(what, good=False, says=f"{name}: {message}; ask again later")
    raise AssertionError("every answer is one of these")
