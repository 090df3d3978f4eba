"""Gameye's settings from a TOML script and from options.

In: the text of a script, and option texts such as `europe:capacity=20,rate=5,latency_ms=50-150`. Out: settings, or a
`ScriptError` whose sentence says what to mend. Options win over the script: a region they name is made or altered, a
fault they name is added. A script:

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

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from allocator.simulator.gameye.settings import SimulatorSettings
from allocator.simulator.script import fault_tables, laid_over, load_settings, parts, tables

_REGION_KEYS = {"rate": "starts_per_second"}
_POOL_KEYS = {"warm": "size", "warm_image": "image", "own_ids": "own_ids"}
_FAULT_KEYS = {"region": "regions"}


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
    return load_settings(SimulatorSettings, script, lambda table: _overlaid(table, options))


def _overlaid(table: Mapping[str, Any], options: Options) -> dict[str, Any]:
    merged = laid_over(table, token=options.token, throttle_status=options.throttle_status, seed=options.seed)
    if options.regions:
        regions = tables(merged.get("regions", {}), "[regions.europe]")
        for option in options.regions:
            name, values = parts(option, "--region")
            region = regions.setdefault(name, {})
            pool = dict(region.get("warm_pool", {}))
            pool.update({_POOL_KEYS[key]: value for key, value in values.items() if key in _POOL_KEYS})
            region.update({_REGION_KEYS.get(key, key): v for key, v in values.items() if key not in _POOL_KEYS})
            if pool:
                region["warm_pool"] = pool
        merged["regions"] = regions
    if options.faults:
        faults = merged.get("faults", SimulatorSettings().faults)
        merged["faults"] = [*faults, *fault_tables(options.faults, _FAULT_KEYS)]
    return merged
