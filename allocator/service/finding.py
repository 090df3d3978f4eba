"""What `allocator doctor` says of one thing that it looked at."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at; where it is not good, `says` ends with what to do."""

    what: str
    good: bool
    says: str
