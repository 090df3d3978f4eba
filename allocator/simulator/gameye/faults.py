"""What may go wrong on purpose at the simulated Gameye: the faults of the settings, with where they strike.

In: tables of the script or of options. Out: frozen values: those of `allocator.simulator.faults`, each with the calls
and the regions it strikes, and two of Gameye's own, which colour an answer (`duplicated_ports`, `new_fields`).
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from allocator.simulator import faults as shared
from allocator.simulator.tables import Names, split


class Operation(shared.Calls):
    """The ten calls of the vendor's API."""

    START = "start"
    LIST = "list"
    FIND = "find"
    STOP = "stop"
    JOIN = "join"
    LEAVE = "leave"
    LOCATIONS = "locations"
    TAG = "tag"
    LOGS = "logs"
    ARTIFACTS = "artifacts"


class _InRegions(shared.Strike):
    regions: Names = ()
    """Only there; empty means everywhere, also for calls that name no region."""
    on: Annotated[tuple[Operation, ...], BeforeValidator(split)] = (Operation.START,)

    @property
    def places(self) -> tuple[str, ...]:
        """The regions."""
        return self.regions


class _OfStarts(_InRegions):
    on: Annotated[tuple[Literal[Operation.START], ...], BeforeValidator(split)] = (Operation.START,)


class StatusFault(_InRegions, shared.AnswersStatus):
    """Answers this status before anything is done."""


class Dropped(_InRegions, shared.Drops):
    """Gives no answer, and does nothing."""


class LostReply(_InRegions, shared.LosesReply):
    """Does what was asked, then loses the answer."""


class Late(_OfStarts, shared.LandsLate):
    """Answers an error or nothing at once; the session appears `after_seconds` later."""


class MalformedBody(_InRegions, shared.HalvesBody):
    """Does what was asked; of the body only the first half arrives, well framed."""


class HtmlBody(_InRegions, shared.AnswersHtml):
    """Answers a proxy's HTML page, with any status, before anything is done."""


class Redirect(_InRegions, shared.Redirects):
    """Answers 307 to another address, before anything is done."""

    to: str = "https://elsewhere.invalid/session"


class Slow(_InRegions, shared.Slows):
    """Does what was asked, and answers later."""


class DuplicatedPorts(_OfStarts):
    """Names the first port twice, as the vendor's own example does."""

    kind: Literal["duplicated_ports"] = "duplicated_ports"


class NewFields(_InRegions, shared.AddsFields):
    """Adds fields to the answer that its description does not have yet."""


Fault = Annotated[
    StatusFault | Dropped | LostReply | Late | MalformedBody | HtmlBody | Redirect | Slow | DuplicatedPorts | NewFields,
    Field(discriminator="kind"),
]
