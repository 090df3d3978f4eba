"""The settings of every command: read, checked, and traced to where each came from.

In: the path of a TOML file, a mapping of options, a mapping of variables. Out: frozen `Settings`, or one
`SettingsError` with a line for each fault. What a table may hold is in `settings_tables`, how a source is read in
`settings_sources`; what cannot be known without Redis or a provider is left to `allocator doctor`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError

from allocator.contract.destination import Destination
from allocator.engine.lanes import ACCOUNT_SCOPE
from allocator.engine.lot import GUESTS
from allocator.redis_io.url import masked
from allocator.service.settings_faults import absent, line, sentences, unknown
from allocator.service.settings_model import ResolvedDestination, Settings
from allocator.service.settings_outside import OUTSIDE, as_written, is_own
from allocator.service.settings_sources import Sources, flatten, read_sources
from allocator.service.settings_tables import BUILT_IN, WithToken, is_location_name

__all__ = ["WORKER_NEEDS", "Leaf", "Need", "Settings", "SettingsError", "Traced", "load_settings", "trace_settings"]

Need = Literal["deployment", "redis.url", "provider"]
WORKER_NEEDS: frozenset[Need] = frozenset({"deployment", "redis.url", "provider"})
"""What a worker cannot start without; `provider` includes every credential and every provider that a region names."""

MASK = "***"
SECRETS = frozenset({("gameye", "token"), ("edgegap", "token"), ("admin", "token"), ("api", "token")})


class SettingsError(Exception):
    """The settings cannot be used: one line a fault, each with the setting, its source and what to do."""

    def __init__(self, faults: tuple[str, ...]) -> None:
        self.faults = tuple(dict.fromkeys(faults))
        super().__init__("\n".join(self.faults))


@dataclass(frozen=True, slots=True)
class Leaf:
    """One effective setting, fit to be printed: its value as JSON has it, secrets masked."""

    key: str
    value: Any
    source: str
    """`default`, the file's name, the variable's name, or `--set`."""


@dataclass(frozen=True, slots=True)
class Traced:
    """Settings, where each came from, and the file that was read: what to read again when it changes."""

    settings: Settings
    leaves: tuple[Leaf, ...]
    file: Path | None


def load_settings(
    config: Path | None,
    options: Mapping[str, str],
    environ: Mapping[str, str],
    require: frozenset[Need] = WORKER_NEEDS,
) -> Settings:
    """Read and check the settings; raise `SettingsError` with every fault that can be found at once.

    `config` is the file of `--config`; without it the file is what ALLOCATOR_CONFIG names, else `allocator.toml` in
    the working directory where there is one. `options` maps dotted keys to texts.
    """
    return trace_settings(config, options, environ, require).settings


def trace_settings(
    config: Path | None,
    options: Mapping[str, str],
    environ: Mapping[str, str],
    require: frozenset[Need] = WORKER_NEEDS,
) -> Traced:
    """Do what `load_settings` does, and say where each value came from."""
    sources = read_sources(Settings, config, options, environ)
    if not sources.file_is_read:
        # What else is amiss would follow from the file's absence.
        raise SettingsError(sources.faults)
    # `BaseSettings` would take a name such as `_env_file` for an argument of its own and say nothing.
    private = (path for path in sources.given if path[0].startswith("_"))
    faults = [*sources.faults, *(unknown(Settings, sources, path) for path in private), *_missing(sources, require)]
    settings = _validated(sources)
    if isinstance(settings, tuple):
        raise SettingsError((*faults, *settings))
    faults += [*_misnamed(settings, sources), *_disagreements(settings, sources)]
    if "provider" in require:
        faults += [*_not_served(settings, sources), *_unplaced(settings, sources)]
    if faults:
        raise SettingsError(tuple(faults))
    return Traced(settings, tuple(_leaves(settings, sources)), sources.file)


def _validated(sources: Sources) -> Settings | tuple[str, ...]:
    """The settings, or the faults; as a value, so that no traceback leads to an error that holds what was given."""
    try:
        return Settings.model_validate(sources.tree())
    except ValidationError as error:
        return sentences(error, Settings, sources)


def _missing(sources: Sources, require: frozenset[Need]) -> Iterator[str]:
    for path in (("deployment",), ("redis", "url")):
        if ".".join(path) in require and path not in sources.given:
            yield absent(path)
    if "provider" in require and not any(sources.source_of((name,)) for name in (*BUILT_IN, OUTSIDE)):
        yield "gameye (not set): a worker needs a provider; add the table [gameye] or [edgegap] with its token"


def _disagreements(settings: Settings, sources: Sources) -> Iterator[str]:
    """Find where two tables that are each good by themselves contradict one another."""
    for name in settings.default_regions:
        if name not in settings.regions and (settings.unknown_regions == "refuse" or not is_location_name(name)):
            yield line(
                sources, ("default_regions",), f"no region '{name}' is known; add [regions.{name}] or take it out"
            )
    seen: dict[Destination, tuple[str, ResolvedDestination]] = {}
    for name, places in settings.resolved.items():
        for place in places:
            first_name, first = seen.setdefault(place.destination, (name, place))
            if first is place:
                continue
            if first_name == name:
                yield line(sources, ("regions", name), f"names {place.destination} twice; name it once")
            elif (first.rate, first.burst) != (place.rate, place.burst):
                yield line(
                    sources,
                    ("regions", name),
                    f"gives {place.destination} rate {place.rate:g} and burst {place.burst}, but regions.{first_name} "
                    f"gives it {first.rate:g} and {first.burst}; set the same in both",
                )


def _misnamed(settings: Settings, sources: Sources) -> Iterator[str]:
    """Find locations whose names would stand for something else in Redis: another's limit, or another's lot."""
    for name, places in settings.resolved.items():
        for place in places:
            location = place.destination.location
            if location.startswith(ACCOUNT_SCOPE) or "\n" in location or location.endswith(GUESTS):
                yield line(
                    sources,
                    ("regions", name),
                    f"leads to {place.destination}: a location must not begin with '{ACCOUNT_SCOPE}', end with "
                    f"'{GUESTS}' or hold a line break; name it as the provider calls it",
                )


def _unplaced(settings: Settings, sources: Sources) -> Iterator[str]:
    """Find destinations at Edgegap that nobody says the place of: players need not say where they are."""
    known = settings.edgegap.locations if settings.edgegap else {}
    places = [(name, place.destination) for name, found in settings.resolved.items() for place in found]
    for name, destination in places:
        if settings.edgegap and destination.provider == "edgegap" and destination.location not in known:
            mend = f"set edgegap.locations.{destination.location} = {{ lat = ..., lon = ... }}"
            yield line(sources, ("regions", name), f"leads to {destination}, and nobody says where that is; {mend}")


def _not_served(settings: Settings, sources: Sources) -> Iterator[str]:
    """Find what a process that serves could not do: a table without a credential, a region without its provider."""
    for name in (*BUILT_IN, "admin", "api"):
        table: WithToken | None = getattr(settings, name)
        if table is None:
            continue
        if table.token is None and table.token_file is None and name != "admin":
            yield line(sources, (name,), f"has no credential; set {name}.token or {name}.token_file")
        if table.token_file is not None and not table.token_file.is_file():
            yield line(sources, (name, "token_file"), "is not there or no file; write the token to it or name another")
    # Without any provider that is said once, not once a region.
    if not settings.providers:
        return
    for name, places in settings.resolved.items():
        for provider in dict.fromkeys(place.destination.provider for place in places):
            if provider not in settings.providers:
                mend = f"add the table [{provider}] or name other destinations for the region"
                yield line(sources, ("regions", name), f"leads to {provider}, which is off; {mend}")


def _leaves(settings: Settings, sources: Sources) -> Iterator[Leaf]:
    dumped = settings.model_dump(mode="json")
    for path, value in flatten(dumped):
        shown = masked(settings.redis.url.get_secret_value()) if path == ("redis", "url") else value
        if (path in SECRETS or is_own(path)) and value is not None:
            shown = MASK
        yield Leaf(
            ".".join(as_written(path)), shown, sources.given[path].source if path in sources.given else "default"
        )
