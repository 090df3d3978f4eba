"""Settings from a TOML script and from options, and the watch on that script.

In: the text of a script, and option texts such as `europe:capacity=20,rate=5,latency_ms=50-150`. Out: settings, or a
`ScriptError` whose sentence says what to mend. Options win over the script: a region they name is made or altered, a
fault they name is added. A script that turns faulty while it is watched changes nothing. A script:

    token = "secret"
    throttle_status = 429
    retry_after = { seconds = 2, form = "date" }
    images.my-game = { tags = ["v2", "v1"], ports = ["7777/udp", "80/tcp"] }

    [regions.europe]
    capacity = 200
    starts_per_second = 20
    latency_ms = "50-150"
    warm_pool = { size = 10, own_ids = true }

    [regions.us-east]
    closed = 503

    [[faults]]              # replaces the default: a fifth of the answers name a port twice
    kind = "lost_reply"     # all kinds and their keys: `faults`; all other keys: `settings`
    how = "hang"
    probability = 0.01
    regions = ["europe"]
"""

from __future__ import annotations

import asyncio
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from allocator.simulator.gameye.settings import SimulatorSettings, sentence

WATCH_SECONDS = 0.5

_REGION_KEYS = {"rate": "starts_per_second"}
_POOL_KEYS = {"warm": "size", "warm_image": "image", "own_ids": "own_ids"}
_FAULT_KEYS = {"region": "regions"}


class ScriptError(Exception):
    """A script or an option that cannot be taken; its text names the place and what is wrong."""


@dataclass(frozen=True, slots=True)
class Options:
    """The settings that options give; None and empty leave the script's."""

    token: str | None = None
    throttle_status: int | None = None
    seed: int | None = None
    regions: Sequence[str] = ()
    faults: Sequence[str] = ()


def load(script: Path | None, options: Options) -> SimulatorSettings:
    """Settings of the script, if there is one, with the options laid over it."""
    table: dict[str, Any] = {}
    if script is not None:
        try:
            table = tomllib.loads(script.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise ScriptError(f"{script}: {error}") from error
    try:
        return SimulatorSettings.model_validate(_overlaid(table, options))
    except ValidationError as error:
        source = "options" if script is None else f"{script} with the options"
        raise ScriptError(f"{source}: {sentence(error)}") from error


async def watch(
    script: Path,
    options: Options,
    *,
    apply: Callable[[SimulatorSettings], None],
    say: Callable[[str], None],
    every_seconds: float = WATCH_SECONDS,
) -> None:
    """Apply the script each time it changes, until cancelled; a faulty one is said, and the settings stay."""
    seen = _stamp(script)
    while True:
        await asyncio.sleep(every_seconds)
        stamp = _stamp(script)
        if stamp == seen:
            continue
        seen = stamp
        try:
            apply(load(script, options))
        except ScriptError as error:
            say(f"the settings stay as they were: {error}")
        else:
            say(f"{script}: read again, applied")


def _stamp(script: Path) -> tuple[int, int, int] | None:
    try:
        status = script.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino


def _overlaid(table: Mapping[str, Any], options: Options) -> dict[str, Any]:
    merged = dict(table)
    for name in ("token", "throttle_status", "seed"):
        value = getattr(options, name)
        if value is not None:
            merged[name] = value
    if options.regions:
        regions = {name: dict(region) for name, region in _tables(merged.get("regions", {})).items()}
        for option in options.regions:
            name, values = _parts(option, "--region")
            region = regions.setdefault(name, {})
            pool = dict(region.get("warm_pool", {}))
            pool.update({_POOL_KEYS[key]: value for key, value in values.items() if key in _POOL_KEYS})
            region.update({_REGION_KEYS.get(key, key): v for key, v in values.items() if key not in _POOL_KEYS})
            if pool:
                region["warm_pool"] = pool
        merged["regions"] = regions
    if options.faults:
        faults = merged.get("faults", SimulatorSettings().faults)
        added = []
        for option in options.faults:
            kind, values = _parts(option, "--fault")
            added.append({"kind": kind, **{_FAULT_KEYS.get(key, key): value for key, value in values.items()}})
        merged["faults"] = [*faults, *added]
    return merged


def _tables(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict) or not all(isinstance(each, dict) for each in value.values()):
        raise ScriptError("regions: must be tables, such as [regions.europe]")
    return value


def _parts(option: str, name: str) -> tuple[str, dict[str, str]]:
    """Read `NAME:key=value,key=value`."""
    head, _, tail = option.partition(":")
    values = {}
    for pair in filter(None, tail.split(",")):
        key, equals, value = pair.partition("=")
        if not (key and equals):
            raise ScriptError(f"{name} {option}: write it as NAME:key=value,key=value; '{pair}' is no key=value")
        values[key] = value
    if not head:
        raise ScriptError(f"{name} {option}: the name before the colon is missing")
    return head, values
