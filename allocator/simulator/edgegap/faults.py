"""What may go wrong on purpose at the simulated Edgegap: the faults of the settings, with where they strike.

In: tables of the script or of options. Out: frozen values: those of `allocator.simulator.faults`, each with the calls
and the locations it strikes, and Edgegap's own. These decide what becomes of a deployment:

    unplaced      422 with a request_id, though there is room    never_ready   stays DEPLOYING, ERROR much later
    failed        ends in ERROR instead of READY                 slow_start    takes longer to be READY
    doubled       one POST makes two deployments; the answer names the second

and these of the word about it: `lost_webhook` (never sent), `late_webhook` (sent later).
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from allocator.simulator import faults as shared
from allocator.simulator.tables import Names, Seconds, SpanSeconds, split


class Operation(shared.Calls):
    """The calls of the vendor's API, those of its catalogue as two kinds; and the one that the vendor makes."""

    DEPLOY = "deploy"
    STATUS = "status"
    LIST = "list"
    STOP = "stop"
    CATALOG_READ = "catalog_read"
    CATALOG_WRITE = "catalog_write"
    WEBHOOK = "webhook"


class _AtLocations(shared.Strike):
    locations: Names = ()
    """Only there; empty means everywhere, also for calls that name no location."""
    on: Annotated[tuple[Operation, ...], BeforeValidator(split)] = (Operation.DEPLOY,)

    @property
    def places(self) -> tuple[str, ...]:
        """The locations."""
        return self.locations


class _OfDeployments(_AtLocations):
    on: Annotated[tuple[Literal[Operation.DEPLOY], ...], BeforeValidator(split)] = (Operation.DEPLOY,)


class _OfWebhooks(_AtLocations):
    on: Annotated[tuple[Literal[Operation.WEBHOOK], ...], BeforeValidator(split)] = (Operation.WEBHOOK,)


class StatusFault(_AtLocations, shared.AnswersStatus):
    """Answers this status before anything is done."""


class Dropped(_AtLocations, shared.Drops):
    """Gives no answer, and does nothing."""


class LostReply(_AtLocations, shared.LosesReply):
    """Does what was asked, then loses the answer."""


class Late(_OfDeployments, shared.LandsLate):
    """Answers an error or nothing at once; the deployment appears `after_seconds` later."""


class MalformedBody(_AtLocations, shared.HalvesBody):
    """Does what was asked; of the body only the first half arrives, well framed."""


class HtmlBody(_AtLocations, shared.AnswersHtml):
    """Answers a proxy's HTML page, with any status, before anything is done."""


class Redirect(_AtLocations, shared.Redirects):
    """Answers 307 to another address, before anything is done."""


class Slow(_AtLocations, shared.Slows):
    """Does what was asked, and answers later."""


class NewFields(_AtLocations, shared.AddsFields):
    """Adds fields to the answer that its description does not have yet."""


class Unplaced(_OfDeployments):
    """Finds no place for the deployment, though there is one."""

    kind: Literal["unplaced"] = "unplaced"


class Failed(_OfDeployments):
    """Ends the start in ERROR."""

    kind: Literal["failed"] = "failed"
    detail: str = "Pull image timeout exceeded"


class NeverReady(_OfDeployments):
    """Leaves the deployment DEPLOYING for so long, then in ERROR."""

    kind: Literal["never_ready"] = "never_ready"
    seconds: Seconds = 600.0


class SlowStart(_OfDeployments):
    """Takes this long from the POST to READY."""

    kind: Literal["slow_start"] = "slow_start"
    seconds: SpanSeconds = (10.0, 30.0)


class Doubled(_OfDeployments):
    """Makes two deployments of one POST."""

    kind: Literal["doubled"] = "doubled"


class LostWebhook(_OfWebhooks):
    """Never sends it, and goes on sending the others."""

    kind: Literal["lost_webhook"] = "lost_webhook"


class LateWebhook(_OfWebhooks):
    """Sends it this much later."""

    kind: Literal["late_webhook"] = "late_webhook"
    seconds: SpanSeconds = (1.0, 5.0)


_OfAnswers = StatusFault | Dropped | LostReply | Late | MalformedBody | HtmlBody | Redirect | Slow | NewFields
_OfStates = Unplaced | Failed | NeverReady | SlowStart | Doubled | LostWebhook | LateWebhook
Fault = Annotated[_OfAnswers | _OfStates, Field(discriminator="kind")]
