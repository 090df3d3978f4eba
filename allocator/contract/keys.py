"""The names of every key of one namespace; the braces keep them in one Redis Cluster slot.

Public keys are the contract's; every other begins `{N}:internal:`. Keys without a lifetime are listed in `LASTING`.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from allocator.contract.request import Priority

CONTRACT_VERSION = 1
REQUEST_FIELD = "request"
GROUP = "allocator"
"""The consumer group of the workers."""


@dataclass(frozen=True, slots=True)
class Keys:
    """The keys of one namespace, as text."""

    namespace: str
    prefix: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "prefix", f"{{{self.namespace}}}")

    def requests(self, priority: Priority) -> str:
        """Stream that a matchmaker adds requests of this priority to."""
        suffix = "" if priority is Priority.NORMAL else f":{priority.value}"
        return f"{self.prefix}:requests{suffix}"

    def allocation(self, request_id: str) -> str:
        """Hash that answers for one request."""
        return f"{self.prefix}:allocation:{request_id}"

    @property
    def results(self) -> str:
        """Stream of every end."""
        return f"{self.prefix}:results"

    def results_for(self, reply_to: str) -> str:
        """Stream of the ends of those requests that named it in `reply_to`."""
        return f"{self.prefix}:results:{reply_to}"

    @property
    def cancellations(self) -> str:
        """Stream that a matchmaker adds the ids to that it wants cancelled or released."""
        return f"{self.prefix}:cancellations"

    @property
    def signals(self) -> str:
        """Stream on which workers tell each other what cannot wait for a lease."""
        return f"{self.prefix}:internal:signals"

    @property
    def dead_letters(self) -> str:
        """Stream of what could not be taken up, with its original bytes."""
        return f"{self.prefix}:dead-letters"

    @property
    def meta(self) -> str:
        """Hash that says what is understood here: `contract`, `deployment`, `partitions`, `created_at`."""
        return f"{self.prefix}:meta"

    def record(self, request_id: str) -> str:
        """Hash of what the broker knows of one request: body, fence, generation, its end."""
        return f"{self.prefix}:internal:record:{request_id}"

    @property
    def leases(self) -> str:
        """Sorted set of the requests under way, by when their lease ends."""
        return f"{self.prefix}:internal:leases"

    @property
    def parked(self) -> str:
        """Set of the requests that are parked."""
        return f"{self.prefix}:internal:parked"

    @property
    def lots(self) -> str:
        """What the names of all lots begin with; a lot that is empty is no key."""
        return f"{self.prefix}:internal:parked:"

    def lot(self, lot: str, priority: Priority) -> str:
        """Sorted set of the requests of one priority that are parked for one place, by deadline."""
        return f"{self.lots}{lot}:{priority.value}"

    @property
    def lot_names(self) -> str:
        """Sorted set of the lots that hold somebody, by when a worker said last that it serves them.

        Some are empty by now; none outlives the last that is parked.
        """
        return f"{self.prefix}:internal:parked-lots"

    @property
    def lot_turns(self) -> str:
        """Hash of how many were called from each lot, modulo ten: every tenth call is a lower priority's."""
        return f"{self.prefix}:internal:parked-turns"

    @property
    def condemned(self) -> str:
        """Sorted set of the session ids that must not live, by when they are looked at next."""
        return f"{self.prefix}:internal:condemned"

    @property
    def condemned_notes(self) -> str:
        """Hash beside `condemned`: provider, reason, tries and since when."""
        return f"{self.prefix}:internal:condemned-notes"

    @property
    def reconciler(self) -> str:
        """Whose turn it is to hold the sessions at the providers against the records; its lifetime is the turn."""
        return f"{self.prefix}:internal:reconciler"

    @property
    def sampler(self) -> str:
        """Who samples what is the whole fleet's, for the metrics; its lifetime is the lead."""
        return f"{self.prefix}:internal:sampler"

    def orphans(self, provider: str) -> str:
        """Hash of what that found at one provider: counts, and the orphans by their session id."""
        return f"{self.prefix}:internal:orphans:{provider}"

    @property
    def stops(self) -> str:
        """Sorted set of the condemned that were found alive and handed to be stopped, by when: the last minute's."""
        return f"{self.prefix}:internal:stops"

    @property
    def history(self) -> str:
        """Hash by which a loss of what Redis had promised to keep is found out."""
        return f"{self.prefix}:internal:history"

    @property
    def levers(self) -> str:
        """Hash of what operators have set for the whole fleet: a few fields, each with its end."""
        return f"{self.prefix}:internal:levers"

    @property
    def lasting(self) -> frozenset[str]:
        """The keys that have no lifetime; each is bounded by trimming or by what is under way."""
        return frozenset(
            {
                *(self.requests(priority) for priority in Priority),
                self.cancellations,
                self.results,
                self.meta,
                self.leases,
                self.parked,
                self.lot_names,
                self.condemned,
                self.condemned_notes,
                self.history,
                self.levers,
            }
        )


def gate_key(provider: str, account: str, scope: str) -> str:
    """The gate's state of one limit of one account.

    Fixed to the namespace `allocator`, whatever a deployment calls its own: the rates of an account belong to all
    that use its name on one Redis, and one slot lets one step ask several limits.
    """
    return f"{{allocator}}:internal:gate:{provider}:{account}:{scope}"
