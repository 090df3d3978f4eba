"""The options that commands share, and the way from them to settings.

In: what typer read. Out: `Settings`, or each fault as one line on stderr and exit code 2. A command with an option of
its own for a setting passes it on as `options`; it takes the place of the same key in `--set`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Annotated

import typer

from allocator.service.settings import WORKER_NEEDS, Need, Settings, SettingsError, Traced, trace_settings

EXIT_SETTINGS = 2

ConfigOption = Annotated[
    Path | None,
    typer.Option(
        "--config",
        metavar="FILE",
        help="The TOML file with the settings. Without it: ALLOCATOR_CONFIG, else allocator.toml here.",
        show_default=False,
    ),
]
SetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="One setting, such as worker.concurrency=64. Can be given many times.",
        show_default=False,
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]

_NONE: Mapping[str, str] = MappingProxyType({})


def load_or_exit(
    config: Path | None,
    assignments: Sequence[str] | None = None,
    *,
    require: frozenset[Need] = WORKER_NEEDS,
    options: Mapping[str, str] = _NONE,
) -> Settings:
    """Load the settings; where they cannot be used, print each fault as one line on stderr and exit 2."""
    return trace_or_exit(config, assignments, require=require, options=options).settings


def trace_or_exit(
    config: Path | None,
    assignments: Sequence[str] | None = None,
    *,
    require: frozenset[Need] = WORKER_NEEDS,
    options: Mapping[str, str] = _NONE,
) -> Traced:
    """Do what `load_or_exit` does, and say where each setting came from."""
    try:
        return trace_settings(config, {**read_assignments(assignments or ()), **options}, os.environ, require)
    except SettingsError as error:
        for fault in error.faults:
            typer.echo(fault, err=True)
        raise typer.Exit(EXIT_SETTINGS) from None


def read_assignments(assignments: Sequence[str]) -> dict[str, str]:
    """Read `KEY=VALUE` texts; the last one of a key counts. A text without `=` may be a secret and is not repeated."""
    read: dict[str, str] = {}
    for number, assignment in enumerate(assignments, 1):
        key, equals, value = assignment.partition("=")
        if not equals or not key.strip():
            raise SettingsError((f"--set (number {number}): must be KEY=VALUE, such as worker.concurrency=64",))
        read[key.strip()] = value
    return read
