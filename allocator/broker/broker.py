"""The port to the queue and the record of requests: every step that must be atomic, and what each answers.

The way of a request through it::

    stream --take--> (pending) --reserve--> record + lease --commit--> answer, announcement
                                     ^  |
                          reclaim ---+  +--- renew, note, next_generation, hand_back

The streams are an inbox: `reserve` settles the entry and keeps the bytes in the request's record, so that whoever is
under way is found in one place, the leases. Each step bears the fence that `reserve` or `reclaim` gave; a stale fence
changes nothing. Every step may be repeated after a lost reply and answers the same.

A broker that cannot be asked now raises `BrokerUnavailable`; one that has no memory left raises `BrokerFull` from
`reserve` alone. Anything else it raises is a fault of this program.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Protocol

from allocator.contract.allocation import Attempt
from allocator.contract.codes import Code
from allocator.contract.request import Priority
from allocator.contract.values import quick

BATCH_MAX = 256
NEVER_MS = -(2**53)
SUSPECT_TAKES = 2
"""Who is taken more often may have ended workers, and goes on one after the other; everybody's first worker may die."""
DOUBT_MS = 24 * 3600 * 1000
"""How long after a loss a request that comes in may be one whose session is in play already."""
FIRST_STOP_MS = 1000
"""A create that was given up is looked for this much later: most of those that land late land soon."""


class BrokerUnavailable(Exception):  # noqa: N818 - a state of the world, not an error of ours
    """The broker cannot be asked now; repeat later. `kind` is a short word for a metric."""

    def __init__(self, message: str, kind: str = "unavailable") -> None:
        super().__init__(message)
        self.kind = kind


class BrokerFull(BrokerUnavailable):
    """There is no memory for new requests; those under way go on."""


class NamespaceTaken(Exception):  # noqa: N818 - as above
    """The namespace belongs to another deployment or to a newer contract."""


@lru_cache(maxsize=1024)
def _taken_at_ms(entry_id: str) -> int:
    """When Redis took the entry of this id: asked half a dozen times on the way of each."""
    return int(entry_id.partition("-")[0])


@quick
@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of a request stream, pending under our name. `raw` is None where it has no field `request`."""

    priority: Priority
    entry_id: str
    raw: bytes | None

    @property
    def enqueued_at_ms(self) -> int:
        """When Redis took it."""
        return _taken_at_ms(self.entry_id)


@quick
@dataclass(frozen=True, slots=True)
class Reservation:
    """An ask to take one request over."""

    entry: Entry
    request_id: str
    digest: str
    timeout_ms: int
    context: str | None = None
    reply_to: str | None = None
    wait_seconds: float = 0.0
    """How long it would take at the least, where others wait before it."""
    decline: bool = False
    """Leave it where it is, if the id is new: it could not be served by its deadline."""


@quick
@dataclass(frozen=True, slots=True)
class Hold:
    """A request that is ours until its lease ends; the fence proves it."""

    request_id: str
    fence: str
    entry_id: str
    priority: Priority
    deadline_ms: int
    raw: bytes
    generation: int = 1
    takes: int = 1
    uncertain: bool = False
    """A former owner may have called a provider under this generation's session id."""
    attempts: tuple[Attempt, ...] = ()
    doubtful: bool = False
    """Redis has lost something since the entry came in, or in the day before (the request may be one sent again): a
    session may be in play that no record knows of."""
    trail: str = ""
    """What was kept with it of its way so far."""

    @property
    def enqueued_at_ms(self) -> int:
        """When Redis took the entry."""
        return _taken_at_ms(self.entry_id)

    def of_generation(self, generation: int) -> Hold:
        """The same hold, as of a later generation."""
        return replace(self, generation=generation)


@dataclass(frozen=True, slots=True)
class Ended:
    """The request has ended before: announce it again. `entry_id` is the one that owned it."""

    entry_id: str
    fields: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Duplicate:
    """The request is under way through another entry; this one is settled."""


@dataclass(frozen=True, slots=True)
class OtherBody:
    """The id names another request: to be refused."""


@dataclass(frozen=True, slots=True)
class Lost:
    """Someone else has taken the entry over."""


@dataclass(frozen=True, slots=True)
class Faulty:
    """What is kept of this id is no record of ours; nothing was changed, and the entry stays pending."""

    message: str


@dataclass(frozen=True, slots=True)
class Declined:
    """The id is new and was to be declined; nothing was changed."""


ReserveReply = Hold | Ended | Duplicate | OtherBody | Lost | Declined | Faulty


@dataclass(frozen=True, slots=True)
class Condemned:
    """A session that must not live: to be stopped until the provider has confirmed and no late landing can come."""

    provider: str
    session_id: str
    reason: str
    since_ms: int = 0
    before_loss: bool = False
    """Redis has lost something since, for certain: the session may be in play by now.

    A suspicion is not enough here. What a restart or a backup has kept is what once was: an id that is condemned in it
    was condemned then, and has not been handed out since. Only a record that was lost and made anew could do that.
    """


@quick
@dataclass(frozen=True, slots=True)
class Ending:
    """The last state of one request: `fields` of its hash begin with `state`; `event` announces it.

    `session` is what an allocation hands over, as (provider, session id), `native_id` what its provider calls it where
    it takes no id of ours; neither may be condemned. `condemn` is what must not outlive it. `bury` keeps the bytes as a
    dead letter of this code. `trail` is kept with the record, in place of an earlier one.
    """

    hold: Hold
    fields: Mapping[str, str]
    event: str
    keep_ms: int
    session: tuple[str, str] | None = None
    native_id: str | None = None
    condemn: tuple[Condemned, ...] = ()
    bury: Code | None = None
    trail: str = ""


@quick
@dataclass(frozen=True, slots=True)
class Done:
    """Recorded and announced."""


@dataclass(frozen=True, slots=True)
class Already:
    """It had ended before, by us: with this session, or none."""

    session_id: str | None


@dataclass(frozen=True, slots=True)
class Stale:
    """The request is not ours any more; nothing was changed."""

    state: str | None = None
    session_id: str | None = None


@dataclass(frozen=True, slots=True)
class IsCondemned:
    """The session it would hand over has been condemned; nothing was changed."""


CommitReply = Done | Already | Stale | IsCondemned


@dataclass(frozen=True, slots=True)
class Refusal:
    """An entry that makes no request of its own.

    `event` (of `state`) goes to the results streams. `bury_message` also keeps the bytes as a dead letter. `failure`
    is the hash of a new id that ends here, `failure_event` its announcement.
    """

    entry: Entry
    code: Code
    message: str
    request_id: str | None = None
    reply_to: str | None = None
    state: str = ""
    event: str = ""
    bury: bool = False
    failure: Mapping[str, str] | None = None
    failure_event: str = ""


@dataclass(frozen=True, slots=True)
class Depth:
    """One request stream: what nobody has read, what is read and not yet reserved, how long the oldest waits."""

    untaken: int
    pending: int
    oldest_seconds: float


@dataclass(frozen=True, slots=True)
class Survey:
    """What waits, what is held and what is parked (which is not held), over the whole fleet."""

    held: int
    condemned: int
    depths: Mapping[Priority, Depth]
    parked: int = 0


class Broker(Protocol):
    """One namespace."""

    def now_ms(self) -> int:
        """The broker's clock, Unix milliseconds: the one that deadlines are counted on."""
        ...

    def loss_ms(self) -> int:
        """When the broker lost something last, as far as was found out here; NEVER_MS where it never did."""
        ...

    async def prepare(self) -> None:
        """Make the groups and the namespace's `meta`, or check them; NamespaceTaken where they are another's."""
        ...

    async def look_back(self) -> int:
        """Find out whether the broker has lost something; holds and condemned from before are marked from now on.

        Gives the Unix milliseconds of the last loss, suspected ones included; NEVER_MS where there was none.
        """
        ...

    async def take(self, count: int, order: Sequence[Priority]) -> list[Entry]:
        """Read up to `count` new entries, the best stream first, at once."""
        ...

    async def wait(self, count: int) -> list[Entry]:
        """Read up to `count` new entries, waiting at most 2 s for the first."""
        ...

    async def strays(self, count: int, idle_ms: int) -> list[Entry]:
        """Take over entries that were read `idle_ms` ago and never reserved, by whomever, us included."""
        ...

    async def reserve(self, asks: Sequence[Reservation]) -> list[ReserveReply]:
        """Take requests over from their entries before any money is spent; at most 256."""
        ...

    async def reclaim(self, count: int) -> list[Hold]:
        """Take over requests whose lease has ended; beyond `SUSPECT_TAKES` the take counts from `begin` on."""
        ...

    async def begin(self, hold: Hold) -> bool:
        """The processing of a suspect begins: if it ends this worker, it was this take. False: the fence is stale."""
        ...

    async def renew(self, holds: Sequence[Hold]) -> list[bool]:
        """Extend our leases; False where a request is not ours any more."""
        ...

    async def note(self, hold: Hold, attempts: tuple[Attempt, ...], code: Code, message: str) -> bool:
        """Say in the allocation hash what a waiting request was answered so far."""
        ...

    async def next_generation(self, hold: Hold, condemned: Sequence[Condemned]) -> int | None:
        """Persist the generation after `hold.generation` and condemn this one's sessions; None: the fence is stale."""
        ...

    async def commit(self, ending: Ending) -> CommitReply:
        """Record the end, announce it and let go, in one step; repeating it is harmless."""
        ...

    async def refuse(self, refusal: Refusal) -> bool:
        """Settle an entry that makes no request of its own, and tell its sender; True where a new id ended by it."""
        ...

    async def hand_back(self, holds: Sequence[tuple[Hold, bool]]) -> None:
        """Let others take requests over at once; True where no call is left unanswered."""
        ...

    async def claim_condemned(self, count: int, hold_ms: int) -> list[Condemned]:
        """Take the condemned that are due, for `hold_ms`."""
        ...

    async def recheck(self, condemned: Condemned, after_ms: int | None) -> None:
        """Look at a condemned session again after so long; None: it can never live again."""
        ...

    async def survey(self) -> Survey:
        """Count what waits and what is held."""
        ...

    async def close(self) -> None:
        """Leave: a name with nothing pending is taken off the group."""
        ...
