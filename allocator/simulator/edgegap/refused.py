"""A call that is refused: nothing was done."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Refused:
    """Nothing was done; the vendor's error body has the message, and the details where there are any."""

    status: int
    message: str
    details: Mapping[str, str] | None = None
