"""The sentences of refused settings.

In: what pydantic found, and the sources. Out: one line a fault: the setting, what gave it, what to do. No sentence made
here repeats a value, since any value may be a secret in the wrong place.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from allocator.service.settings_keys import Model, dotted, nearest_path, printable, variable
from allocator.service.settings_outside import as_written
from allocator.service.settings_sources import FILE_NAME, OPTION, Sources

_SENTENCES: Mapping[str, str] = {
    "greater_than_equal": "must be at least {ge:g}",
    "less_than_equal": "must be at most {le:g}",
    "finite_number": "must be a finite number",
    "int_type": "must be a whole number",
    "int_parsing": "must be a whole number",
    "int_parsing_size": "must be a whole number, and a smaller one",
    "int_from_float": "must be a whole number",
    "float_type": "must be a number",
    "float_parsing": "must be a number",
    "string_type": "must be text, in quotes",
    "string_too_short": "must have at least {min_length} characters",
    "string_too_long": "must have at most {max_length} characters",
    "string_pattern_mismatch": "must match {pattern}",
    "path_type": "must be a path, in quotes",
    "too_short": "must have at least {min_length} entries",
    "too_long": "must have at most {max_length} entries",
    "literal_error": "must be {expected}",
    "model_type": "must be a table",
    "dict_type": "must be a table",
    "tuple_type": "must be a list",
    "bool_type": "must be true or false",
    "bool_parsing": "must be true or false",
}


def sentences(error: ValidationError, model: Model, sources: Sources) -> tuple[str, ...]:
    """One line for each fault that the model found."""
    found = error.errors(include_input=False, include_url=False)
    own = (fault for fault in found if not _follows(fault, found))
    return tuple(dict.fromkeys(_sentence(fault, model, sources) for fault in own))


def _follows(fault: Mapping[str, Any], found: Sequence[Mapping[str, Any]]) -> bool:
    """Whether it only follows from another: a default that builds on a faulty key, a list short of a faulty entry."""
    loc = fault["loc"]
    within = any(len(other["loc"]) > len(loc) and other["loc"][: len(loc)] == loc for other in found)
    return fault["type"] == "default_factory_not_called" or (fault["type"] == "too_short" and within)


def sentence_of(fault: Mapping[str, Any]) -> str:
    """What a value must be, in words that do not repeat it."""
    known = _SENTENCES.get(fault["type"])
    if known is None:
        return re.sub(r"^(Value error, |Input should |\w+ should )", _beginning, str(fault["msg"]))
    return known.format(**fault.get("ctx", {}))


def _beginning(found: re.Match[str]) -> str:
    return "" if found.group(0).startswith("Value error") else "must "


def line(sources: Sources, path: tuple[str, ...], message: str) -> str:
    """`worker.concurrency (ALLOCATOR_WORKER__CONCURRENCY): must be at most 10000`."""
    return f"{dotted(as_written(path))} ({sources.source_of(path) or 'default'}): {printable(message)}"


def unknown(model: Model, sources: Sources, path: tuple[str, ...]) -> str:
    """The line for a key that no table has."""
    return line(sources, path, f"unknown setting; the nearest known one is {nearest_path(model, path)}")


def absent(path: tuple[str, ...]) -> str:
    """The line for a required setting that nothing gave."""
    key = dotted(path)
    return f"{key} (not set): is required; set it in {FILE_NAME}, as {variable(path)}, or with {OPTION} {key}=..."


def _sentence(fault: Mapping[str, Any], model: Model, sources: Sources) -> str:
    # A faulty name of a map is reported at "[key]" below it.
    path = tuple(str(part) for part in fault["loc"] if part != "[key]")
    if fault["type"] == "extra_forbidden":
        return unknown(model, sources, path)
    if fault["type"] == "missing":
        # Nothing gave it: what gave its table is where it belongs.
        return f"{dotted(path)} ({sources.source_of(path[:-1]) or 'not set'}): is required; set it"
    return line(sources, path, sentence_of(fault))
