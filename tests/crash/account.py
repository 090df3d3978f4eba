"""What is left of a number of matches: pure book-keeping over what Redis and the provider's ledger say.

In: allocation hashes, announcements, sessions. Out: sentences, each a broken promise; none where all is well.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from dataclasses import dataclass
from typing import Any

from allocator.contract.identity import session_id

GENERATIONS_MAX = 30


@dataclass(frozen=True, slots=True)
class Account:
    """One look at everything."""

    deployment: str
    hashes: dict[str, dict[str, str]]
    results: list[dict[str, str]]
    alive: list[dict[str, Any]]
    started: list[dict[str, Any]]
    waiting: int
    leases: int

    @property
    def states(self) -> Counter[str]:
        """How many ended how; the empty state has no hash."""
        return Counter(fields.get("state", "") for fields in self.hashes.values())

    def lost(self) -> list[str]:
        """Matches without a last state."""
        return [name for name, fields in self.hashes.items() if fields.get("final") != "1"]

    def doubled(self) -> list[str]:
        """Matches with more than one server alive."""
        by_match: dict[str, int] = defaultdict(int)
        names = self._names()
        for session in self.alive:
            by_match[names.get(session["id"], session["id"])] += 1
        return [name for name, count in by_match.items() if count > 1]

    def left_over(self) -> list[str]:
        """Sessions alive that no allocated hash names."""
        recorded = {fields["session_id"] for fields in self.hashes.values() if fields.get("state") == "allocated"}
        names = self._names()
        return [f"{names.get(each['id'])}:{each['id']}" for each in self.alive if each["id"] not in recorded]

    def dead(self) -> list[str]:
        """Matches whose recorded session does not run: a live match that was stopped."""
        running = {session["id"] for session in self.alive}
        return [
            name
            for name, fields in self.hashes.items()
            if fields.get("state") == "allocated" and fields["session_id"] not in running
        ]

    def announcements(self) -> list[str]:
        """Matches of which other was announced than their last state, once; before a release, the allocation."""
        said: dict[str, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
        for fields in self.results:
            said[fields["request_id"]][fields["state"]].add(json.loads(fields["event"])["id"])
        wrong = []
        for name, fields in self.hashes.items():
            state = fields.get("state", "")
            due = ["allocated", "released"] if state == "released" else [state]
            if sorted(said[name]) != due or any(len(ids) != 1 for ids in said[name].values()):
                wrong.append(name)
        return wrong

    def faults(self) -> list[str]:
        """Everything that is not as promised."""
        found = {
            "without a last state": self.lost(),
            "with two servers alive": self.doubled(),
            "sessions left over": self.left_over(),
            "recorded, and not running": self.dead(),
            "not announced once": self.announcements(),
        }
        sentences = [f"{len(names)} {what}: {names[:5]}" for what, names in found.items() if names]
        if self.waiting or self.leases:
            sentences.append(f"{self.waiting} entries and {self.leases} leases left")
        return sentences

    def _names(self) -> dict[str, str]:
        return {
            session_id(self.deployment, name, generation): name
            for name in self.hashes
            for generation in range(1, GENERATIONS_MAX)
        }
