"""All that was asked for and all that was deployed, for whoever checks a client against it.

In: deployments and their changes from `fleet`, every call from `front`, every webhook from `webhooks`. Out: look-ups,
counts, and the JSON of the control door. It forgets nothing until it is reset. It decides nothing: what may be
deployed and when a deployment ends is `fleet`'s.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

from allocator.simulator.edgegap.deployment import Deployment, Event, State
from allocator.simulator.edgegap.faults import Operation
from allocator.simulator.limits import RollingPeak


@dataclass(slots=True, eq=False)
class Call:
    """One call; `status` is None until it is answered, and stays so where the answer was lost."""

    operation: Operation
    at_seconds: float
    at_ms: int
    status: int | None = None
    tags: tuple[str, ...] = ()
    """Of a deploy."""
    request_id: str | None = None
    """Of what was deployed, asked about or stopped."""

    def to_json(self) -> dict[str, Any]:
        """Every field, as the control door shows it."""
        return {name: getattr(self, name) for name in Call.__slots__}


@dataclass(slots=True, eq=False)
class Notice:
    """One webhook: what it told of which deployment, and what became of it."""

    request_id: str
    event: Event
    url: str
    at_seconds: float
    outcome: Literal["pending", "answered", "missed", "lost", "silenced"] = "pending"

    def to_json(self) -> dict[str, Any]:
        """Every field, as the control door shows it."""
        return {name: getattr(self, name) for name in Notice.__slots__}


class Ledger:
    """The deployments, the calls and the webhooks, in the order in which they came."""

    def __init__(self) -> None:
        self.deployments: list[Deployment] = []
        self.calls: list[Call] = []
        self.notices: list[Notice] = []
        self._by_id: dict[str, Deployment] = {}
        self._active: dict[str, Deployment] = {}
        self._arrived: dict[str, RollingPeak] = defaultdict(RollingPeak)

    def add_deployment(self, deployment: Deployment) -> None:
        """Enter a deployment that has just been made."""
        self.deployments.append(deployment)
        self._by_id[deployment.request_id] = self._active[deployment.request_id] = deployment

    def end(self, deployment: Deployment) -> None:
        """Let a deployment that has terminated be no more among the active ones."""
        self._active.pop(deployment.request_id, None)

    def add_call(self, call: Call) -> None:
        """Enter a call when it arrives."""
        self.calls.append(call)
        self._arrived[call.operation].add(call.at_seconds)

    def add_notice(self, notice: Notice) -> None:
        """Enter a webhook when its state is reached."""
        self.notices.append(notice)

    def find(self, request_id: str) -> Deployment | None:
        """The deployment of this id, terminated or not."""
        return self._by_id.get(request_id)

    def active(self) -> Iterable[Deployment]:
        """Those that have not terminated, oldest first."""
        return self._active.values()

    def tagged(self, tag: str) -> tuple[Deployment, ...]:
        """Every deployment that was ever made under this tag, oldest first."""
        return tuple(deployment for deployment in self.deployments if tag in deployment.tags)

    def serving(self) -> tuple[Deployment, ...]:
        """Those that are READY and that nobody has asked to stop: the ones that players could be on."""
        return tuple(each for each in self._active.values() if each.serves)

    def deployments_by_state(self) -> dict[str, dict[str, int]]:
        """How many deployments there are, by location ('' where none was found) and state."""
        counted: dict[str, Counter[State]] = defaultdict(Counter)
        for deployment in self.deployments:
            counted[deployment.location or ""][deployment.state] += 1
        return {place: {str(state): count for state, count in counter.items()} for place, counter in counted.items()}

    def calls_by_status(self) -> dict[str, dict[str, int]]:
        """How many calls came, by operation and status (`none` where no answer went out)."""
        counted: dict[str, Counter[str]] = defaultdict(Counter)
        for call in self.calls:
            counted[call.operation]["none" if call.status is None else str(call.status)] += 1
        return {operation: dict(counter) for operation, counter in counted.items()}

    def calls_per_second_max(self) -> dict[str, int]:
        """The most calls, whatever their answer, that came in any rolling second, by operation."""
        return {operation: peak.per_second_max for operation, peak in self._arrived.items()}

    def to_json(self, *, rows: bool = True) -> dict[str, Any]:
        """What the control door shows; without `rows` only the counts."""
        shown: dict[str, Any] = {
            "deployments_total": len(self.deployments),
            "calls_total": len(self.calls),
            "deployments_by_state": self.deployments_by_state(),
            "calls_by_status": self.calls_by_status(),
            "calls_per_second_max": self.calls_per_second_max(),
            "webhooks_by_outcome": dict(Counter(notice.outcome for notice in self.notices)),
        }
        if rows:
            shown["deployments"] = [deployment.to_json() for deployment in self.deployments]
            shown["calls"] = [call.to_json() for call in self.calls]
            shown["webhooks"] = [notice.to_json() for notice in self.notices]
        return shown
