"""TOML as text, for a file that a person goes on with: tables with headings, everything deeper on one line.

In: strings, numbers, booleans, lists, mappings. Out: text that `tomllib` reads as the same. None is left out.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

_BARE = re.compile(r"[A-Za-z0-9_-]+")


def heading(path: Sequence[str]) -> str:
    """`[applications.my-game.versions."1.0"]`."""
    return f"[{'.'.join(key(part) for part in path)}]"


def assignment(name: str, value: Any) -> str:
    """`name = value`."""
    return f"{key(name)} = {inline(value)}"


def key(name: str) -> str:
    """A key, in quotes where it must be."""
    return name if _BARE.fullmatch(name) else _string(name)


def inline(value: Any) -> str:
    """A value on one line."""
    match value:
        case bool():
            return "true" if value else "false"
        case str():
            return _string(value)
        case int() | float():
            return repr(value)
        case Mapping():
            pairs = [f"{key(str(name))} = {inline(each)}" for name, each in value.items() if each is not None]
            return f"{{ {', '.join(pairs)} }}" if pairs else "{}"
        case Sequence():
            return f"[{', '.join(inline(each) for each in value)}]"
    raise TypeError(f"{type(value).__name__} has no form in TOML")


def _string(text: str) -> str:
    # JSON's escapes are TOML's. What a terminal might obey is escaped as well, since an export is printed.
    quoted = json.dumps(text, ensure_ascii=False)
    return "".join(char if char.isprintable() else f"\\U{ord(char):08x}" for char in quoted)
