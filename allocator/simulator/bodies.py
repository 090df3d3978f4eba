"""What came over HTTP, before anyone says what it means: JSON values and the booleans of a query.

In: bytes and texts. Out: values, or a `Violation` that names what is wrong with them.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

_BOOLEANS = {"true": True, "1": True, "false": False, "0": False}


@dataclass(frozen=True, slots=True)
class Violation:
    """One thing wrong with a body or a query."""

    field: str
    description: str


def read_json(raw: bytes) -> Any:
    """The JSON value of a body; a `Violation` where it is none."""
    try:
        return json.loads(raw.decode())
    except (ValueError, RecursionError) as error:
        return Violation("body", f"must be JSON: {error}")


def read_boolean(key: str, text: str) -> bool | Violation:
    """A boolean of a query, as `true` or `false`."""
    return _BOOLEANS.get(text.lower(), Violation(key, "must be true or false"))
