"""Edgegap's settings from a TOML script and from options.

In: the text of a script, and option texts such as `amsterdam:lat=52.4,lon=4.9,capacity=20`. Out: settings, or a
`ScriptError` whose sentence says what to mend. Options win over the script: a location they name is made or altered, a
fault they name is added. A script:

    token = "secret"
    start_seconds = "0.5-3"
    any_application = false
    unpullable = ["studio/broken"]
    images."studio/arena" = ["v2", "v1"]
    rates = { deploy = 40, status = 20, list = 10 }

    [locations.amsterdam]
    lat = 52.37
    lon = 4.89
    capacity = 200

    [applications.arena.versions.v2]      # a body of POST /v1/app/arena/version; all has a default
    ports = [{ port = 7777, protocol = "UDP", name = "gameport" }]
    max_duration = 60

    [[faults]]
    kind = "failed"         # all kinds and their keys: `faults`; all other keys: `settings`
    detail = "Pull image timeout exceeded"
    probability = 0.01
    locations = ["amsterdam"]
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from allocator.simulator.edgegap.settings import SimulatorSettings
from allocator.simulator.script import fault_tables, laid_over, load_settings, parts, tables

_FAULT_KEYS = {"location": "locations"}


@dataclass(frozen=True, slots=True)
class Options:
    """The settings that options give; None and empty leave the script's."""

    token: str | None = None
    start_seconds: str | None = None
    any_application: bool | None = None
    seed: int | None = None
    locations: Sequence[str] = ()
    faults: Sequence[str] = ()


def load(script: Path | None, options: Options) -> SimulatorSettings:
    """Settings of the script, if there is one, with the options laid over it."""
    return load_settings(SimulatorSettings, script, lambda table: _overlaid(table, options))


def _overlaid(table: Mapping[str, Any], options: Options) -> dict[str, Any]:
    merged = laid_over(
        table,
        token=options.token,
        start_seconds=options.start_seconds,
        any_application=options.any_application,
        seed=options.seed,
    )
    if options.locations:
        locations = tables(merged.get("locations", {}), "[locations.amsterdam]")
        # The default locations are known by name, so that one can be made small without saying where it is.
        known = {name: each.model_dump() for name, each in SimulatorSettings().locations.items()}
        for option in options.locations:
            name, values = parts(option, "--location")
            locations.setdefault(name, known.get(name, {})).update(values)
        merged["locations"] = locations
    if options.faults:
        merged["faults"] = [*merged.get("faults", ()), *fault_tables(options.faults, _FAULT_KEYS)]
    return merged
