"""Settings from a TOML script and from options, and the watch on that script; what they mean, a vendor's room says.

In: the text of a script, and option texts such as `europe:capacity=20,rate=5`. Out: tables and settings, or a
`ScriptError` whose sentence says what to mend. A script that turns faulty while it is watched changes nothing.
"""

from __future__ import annotations

import asyncio
import tomllib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from allocator.simulator.tables import Frozen, sentence

WATCH_SECONDS = 0.5

_S = TypeVar("_S", bound=Frozen)


class ScriptError(Exception):
    """A script or an option that cannot be taken; its text names the place and what is wrong."""


def load_settings(kind: type[_S], script: Path | None, overlaid: Callable[[dict[str, Any]], dict[str, Any]]) -> _S:
    """Settings of the script, if there is one, with what `overlaid` makes of its table."""
    table: dict[str, Any] = {}
    if script is not None:
        try:
            table = tomllib.loads(script.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise ScriptError(f"{script}: {error}") from error
    try:
        return kind.model_validate(overlaid(table))
    except ValidationError as error:
        source = "options" if script is None else f"{script} with the options"
        raise ScriptError(f"{source}: {sentence(error)}") from error


def laid_over(table: Mapping[str, Any], **options: str | float | None) -> dict[str, Any]:
    """A copy of the table in which each option that is given takes the place of the key of its name."""
    return {**table, **{name: value for name, value in options.items() if value is not None}}


async def watch(
    script: Path,
    load: Callable[[], _S],
    *,
    apply: Callable[[_S], None],
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
            apply(load())
        except ScriptError as error:
            say(f"the settings stay as they were: {error}")
        else:
            say(f"{script}: read again, applied")


def tables(value: Any, example: str) -> dict[str, dict[str, Any]]:
    """The tables under one key, copied; `example` shows what they look like."""
    if not isinstance(value, dict) or not all(isinstance(each, dict) for each in value.values()):
        raise ScriptError(f"{example.partition('.')[0].lstrip('[')}: must be tables, such as {example}")
    return {name: dict(each) for name, each in value.items()}


def parts(option: str, name: str) -> tuple[str, dict[str, str]]:
    """Read `NAME:key=value,key=value`; `name` is the option's own."""
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


def fault_tables(options: Sequence[str], names: Mapping[str, str]) -> list[dict[str, Any]]:
    """The faults that `--fault` adds; `names` maps an option's keys to those of the settings."""
    added = []
    for option in options:
        kind, values = parts(option, "--fault")
        added.append({"kind": kind, **{names.get(key, key): value for key, value in values.items()}})
    return added


def _stamp(script: Path) -> tuple[int, int, int] | None:
    try:
        status = script.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino
