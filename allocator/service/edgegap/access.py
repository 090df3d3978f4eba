"""The way to the catalogue that the settings describe.

In: the table `[edgegap]`. Out: a `Catalog`, or CredentialError where there is no token that can be used.
"""

from __future__ import annotations

from collections.abc import Callable

from allocator.providers.credential import CredentialError
from allocator.providers.edgegap.catalog.client import Catalog
from allocator.service.live_credential import credential_of
from allocator.service.settings import Settings


def open_catalog(settings: Settings, report: Callable[[str], None]) -> Catalog:
    """The catalogue of the organisation whose token is in the settings; inside a running loop.

    `report` hears of a token file that cannot be read any more.
    """
    if settings.edgegap is None:
        raise CredentialError(
            "edgegap (not set): add the table [edgegap] with token or token_file, or set ALLOCATOR_EDGEGAP__TOKEN"
        )
    credential = credential_of(settings.edgegap, "edgegap", report=report, learn=lambda _token: None)
    return Catalog(settings.edgegap.base_url, credential.token)
