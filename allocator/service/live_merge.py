"""What of newly read settings may come into force while a worker runs, and what waits for its next start.

In: the settings in force, those just read. Out: the settings to have in force, and by name what changed and what has
to wait. Pure. A setting that is not listed here waits: connections, names and sizes are built into what runs.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from allocator.service.settings import Settings
from allocator.service.settings_sources import flatten

TABLES = frozenset(
    {
        "catalog",
        "default_regions",
        "placement",
        "region_defaults",
        "regions",
        "request_timeout_seconds",
        "session_ttl",
        "unknown_regions",
    }
)
"""What may change as a whole."""
WITHIN: Mapping[str, frozenset[str]] = {
    "worker": frozenset({"max_gate_wait_seconds"}),
    "gameye": frozenset({"rate", "timeout_seconds", "token", "token_file"}),
    "edgegap": frozenset({"locations", "rate", "ready_timeout_seconds", "timeout_seconds", "token", "token_file"}),
}
"""What may change of a table whose rest is built in."""


@dataclass(frozen=True, slots=True)
class Merged:
    """The settings to have in force; `changed` names what is new in them, `later` what waits for the next start."""

    settings: Settings
    changed: tuple[str, ...]
    later: tuple[str, ...]


def merge(running: Settings, read: Settings) -> Merged:
    """Take what may change from the newly read settings and everything else from those in force.

    They are copied from the new ones, so that what these derive from their regions is derived from the new regions.
    """
    kept: dict[str, Any] = {}
    for name in Settings.model_fields:
        if name in WITHIN:
            kept[name] = _merged_table(getattr(running, name), getattr(read, name), WITHIN[name])
        elif name not in TABLES:
            kept[name] = getattr(running, name)
    merged = read.model_copy(update=kept)
    return Merged(merged, _differences(running, merged), _differences(merged, read))


def unserved(settings: Settings, providers: Collection[str]) -> tuple[str, ...]:
    """A line for each region that leads to a provider that this process does not run."""
    return tuple(
        f"regions.{name} leads to {provider}, which this worker does not run; "
        "restart the workers to switch a provider on, then name it in a region"
        for name, places in settings.resolved.items()
        for provider in dict.fromkeys(place.destination.provider for place in places)
        if provider not in providers
    )


def _merged_table(running: Any, read: Any, may_change: frozenset[str]) -> Any:
    """A table that comes or goes waits as a whole."""
    if running is None or read is None:
        return running
    return running.model_copy(update={name: getattr(read, name) for name in may_change})


def _differences(one: Settings, other: Settings) -> tuple[str, ...]:
    """The names of the settings in which the two differ, never a value: it may be a secret."""
    ones, others = dict(flatten(one.model_dump())), dict(flatten(other.model_dump()))
    absent = object()
    paths = {**ones, **others}
    return tuple(sorted(".".join(path) for path in paths if ones.get(path, absent) != others.get(path, absent)))
