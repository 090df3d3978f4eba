"""What a checker is: it looks while the world is calming down, says when it is content, and judges at the end."""

from __future__ import annotations

from typing import Protocol


class Checker(Protocol):
    """One family of promises."""

    def settled(self) -> bool:
        """Whether there is nothing left to wait for."""
        ...

    def look(self) -> None:
        """Look between faults and end."""
        ...

    def judge(self) -> None:
        """Judge the world at rest."""
        ...
