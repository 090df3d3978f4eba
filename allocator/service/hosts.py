"""The game-server hosts that a process serves, as the settings say.

In: settings, and what only a worker has: credentials that can be renewed, the pace of the fleet, an address for
webhooks. Out: providers by name, and what the engine must know of each. What joins them to the rest is `wiring`'s.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from allocator.engine.lane import FIRST_WINDOW
from allocator.providers.credential import Credential
from allocator.providers.edgegap.client import EdgegapProvider
from allocator.providers.edgegap.pace import Pace
from allocator.providers.edgegap.wire import Place
from allocator.providers.gameye.client import GameyeProvider
from allocator.providers.outside import build_outside
from allocator.providers.provider import Provider
from allocator.service.live_credential import Table, credential_of
from allocator.service.settings import Settings
from allocator.service.settings_outside import table_of
from allocator.service.settings_tables import Edgegap, Gameye

FOLLOWED_WINDOW = 1000
"""No window to speak of: what bounds the calls that are out is their rate and the process's concurrency."""


class Report(Protocol):
    """Hears of a token file that cannot be read any more."""

    def __call__(self, problem: str, /) -> None:
        """One sentence."""
        ...


@dataclass(frozen=True, slots=True)
class Fleet:
    """What a worker gives its providers and a command does not."""

    credentials: Mapping[Table, Credential] = field(default_factory=dict)
    pace: Pace | None = None
    """At which Edgegap is asked for lists and statuses; without it, as if nobody else did."""
    hook_url: str | None = None
    """Where Edgegap tells what has become of a start."""


def _forget(_secret: str) -> None:
    """Nobody masks."""


def build_providers(
    settings: Settings, *, report: Report, learn: Callable[[str], None] = _forget, fleet: Fleet | None = None
) -> dict[str, Provider]:
    """The providers whose tables are there; `learn` hears of every token. Raises CredentialError."""
    fleet = fleet or Fleet()
    providers: dict[str, Provider] = {}
    if settings.gameye is not None:
        credential = fleet.credentials.get("gameye")
        providers["gameye"] = build_gameye(settings.gameye, report=report, learn=learn, credential=credential)
    if settings.edgegap is not None:
        providers["edgegap"] = build_edgegap(settings.edgegap, report=report, learn=learn, fleet=fleet)
    for name, table in settings.outside.items():
        providers[name] = build_outside(name, table_of(name, table), learn=learn)
    return providers


def build_gameye(
    gameye: Gameye,
    *,
    report: Report,
    learn: Callable[[str], None] = _forget,
    credential: Credential | None = None,
) -> GameyeProvider:
    """Gameye, as its table says."""
    credential = credential or credential_of(gameye, "gameye", report=report, learn=learn)
    return GameyeProvider(gameye.base_url, gameye.account, credential, frozenset(gameye.throttle_statuses))


def build_edgegap(
    edgegap: Edgegap, *, report: Report, learn: Callable[[str], None] = _forget, fleet: Fleet | None = None
) -> EdgegapProvider:
    """Edgegap, as its table says."""
    fleet = fleet or Fleet()
    return EdgegapProvider(
        edgegap.base_url,
        edgegap.account,
        fleet.credentials.get("edgegap") or credential_of(edgegap, "edgegap", report=report, learn=learn),
        locations=_locations(edgegap),
        timeout_seconds=edgegap.timeout_seconds,
        throttle_statuses=frozenset(edgegap.throttle_statuses),
        pace=fleet.pace,
        hook_url=fleet.hook_url,
    )


def follow_settings(settings: Settings, providers: Mapping[str, Provider]) -> None:
    """Let the providers go by settings that have changed."""
    provider = providers.get("edgegap")
    if isinstance(provider, EdgegapProvider) and settings.edgegap is not None:
        provider.locations = _locations(settings.edgegap)
        provider.timeout_seconds = settings.edgegap.timeout_seconds


def first_window(provider: str) -> int:
    """How many calls may be out to a destination that has not shown that it serves.

    Edgegap takes a start at once and serves it seconds later; that it finds no room it says at once as well.
    """
    return FOLLOWED_WINDOW if provider == "edgegap" else FIRST_WINDOW


def call_timeouts(settings: Settings) -> dict[str, float]:
    """How long a start may take, by provider."""
    timeouts: dict[str, float] = {}
    if settings.gameye is not None:
        timeouts["gameye"] = settings.gameye.timeout_seconds
    if (edgegap := settings.edgegap) is not None:
        timeouts["edgegap"] = edgegap.timeout_seconds + edgegap.ready_timeout_seconds
    timeouts |= {name: table.timeout_seconds for name, table in settings.outside.items()}
    return timeouts


def names_at(settings: Settings) -> dict[str, dict[str, tuple[str, str | None]]]:
    """What an image is called by a provider that calls it otherwise, with the version that it has there."""
    known = {image: entry.edgegap for image, entry in settings.catalog.items()}
    return {"edgegap": {image: (each.application, each.version) for image, each in known.items() if each is not None}}


def _locations(edgegap: Edgegap) -> dict[str, Place]:
    return {name: (place.lat, place.lon) for name, place in edgegap.locations.items()}
