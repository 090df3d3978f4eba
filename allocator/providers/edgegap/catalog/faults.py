"""What a call of the catalogue can come to beside its answer.

Refused      definite: the vendor said no, and nothing was done
Unclear      5xx, no whole answer: whatever the call was to do may have been done
Unreachable  definite: the call never left this process
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Refused:
    """The vendor said no: its status, and its message with secrets blotted out."""

    status: int
    message: str

    def __str__(self) -> str:
        return f"{self.message} (HTTP {self.status})"


@dataclass(frozen=True, slots=True)
class Unclear:
    """Nobody knows what was done; `status` where at least that came."""

    message: str
    status: int | None = None

    def __str__(self) -> str:
        return self.message if self.status is None else f"{self.message} (HTTP {self.status})"


@dataclass(frozen=True, slots=True)
class Unreachable:
    """Name not resolved, connection refused, TLS failed."""

    message: str

    def __str__(self) -> str:
        return self.message


Fault = Refused | Unclear | Unreachable


@dataclass(frozen=True, slots=True)
class Done:
    """It is done, and the vendor had nothing more to say."""
