"""A destination: one provider and one location of it. What a region of a request resolves to."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, order=True)
class Destination:
    """One place where a session can be started, such as `gameye/europe`."""

    provider: str
    location: str

    def __str__(self) -> str:
        return f"{self.provider}/{self.location}"
