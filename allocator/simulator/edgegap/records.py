"""Records of the catalogue under their names: applications, versions, storages, pull profiles.

In: fields as a body gave them. Out: records with the times of their making and their last change, or a refusal. It
promises that a name is there once, also after a rename, and that order is the order of making.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from allocator.simulator.edgegap.refused import Refused


@dataclass(slots=True, eq=False)
class Record:
    """One thing of the catalogue."""

    name: str
    fields: dict[str, Any] = field(repr=False)
    created_at_ms: int
    updated_at_ms: int


_R = TypeVar("_R", bound=Record)


class Records(Generic[_R]):
    """All records of one kind; `noun` is what messages call them, `taken_status` what a name in use answers."""

    def __init__(self, noun: str, taken_status: int) -> None:
        self._noun = noun
        self._taken_status = taken_status
        self._by_name: dict[str, _R] = {}

    def __iter__(self) -> Iterator[_R]:
        return iter(self._by_name.values())

    def __contains__(self, name: str) -> bool:
        return name in self._by_name

    def find(self, name: str) -> _R | Refused:
        """The record of this name."""
        found = self._by_name.get(name)
        return Refused(404, f"{self._noun} {name} does not exist") if found is None else found

    def add(self, record: _R) -> _R | Refused:
        """Enter a record that has just been made."""
        if record.name in self._by_name:
            return self._taken(record.name)
        self._by_name[record.name] = record
        return record

    def change(self, name: str, given: dict[str, Any], now_ms: int) -> _R | Refused:
        """Give a record other fields, perhaps another name."""
        record = self.find(name)
        if isinstance(record, Refused):
            return record
        renamed = given.get("name", name)
        if renamed != name:
            if renamed in self._by_name:
                return self._taken(renamed)
            # Made anew, so that a record that is renamed keeps its place in the order.
            self._by_name = {renamed if key == name else key: each for key, each in self._by_name.items()}
            record.name = renamed
        record.fields.update(given)
        record.updated_at_ms = now_ms
        return record

    def remove(self, name: str) -> _R | Refused:
        """Take a record away."""
        found = self.find(name)
        if not isinstance(found, Refused):
            del self._by_name[name]
        return found

    def _taken(self, name: str) -> Refused:
        return Refused(self._taken_status, f"{self._noun} {name} already exists")
