"""What a person has to know, in words: one line where something changed, none for an allocation that went well.

In: the engine's events; the level and the form that the command line asks for. Out: lines on stderr, JSON where no
terminal reads them. It promises constant event names with keys and values, at most `LINES_A_SECOND` of one name (the
rest is summed up), no secret, no local variable, and no control character in a terminal. Numbers are the metrics'.
"""

from __future__ import annotations

import asyncio
import logging
import sys
import time
from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, Any, NoReturn

from allocator.contract.destination import Destination
from allocator.engine.observer import (
    Attempted,
    BrokerBack,
    BrokerTrouble,
    Crashed,
    Event,
    FellBack,
    Finished,
    GateOpened,
    GateShut,
    LeaseLost,
    Left,
    LeftAlone,
    Leg,
    LookedUp,
    NotReady,
    Parked,
    Received,
    Reconciled,
    Refused,
    SessionStopped,
    Slowed,
    Surveyed,
    TakenOver,
)
from allocator.gate.gate import Cause
from allocator.telemetry.redaction import Redaction, escape_controls
from allocator.telemetry.structured import structlog
from allocator.telemetry.trace_ids import recorded_by_caller

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger, Processor

LOGGER = "allocator"
LINES_A_SECOND = 5
TURN_SECONDS = 1.0
SAID_AGAIN_SECONDS = 30.0
SAID_MAX = 200

_Detail = Attempted | LookedUp | Received | FellBack | Parked | Left
_ROUTINE = frozenset({Attempted, LookedUp, Received, Finished, FellBack, Parked, Left})
_Notable = (
    GateShut
    | GateOpened
    | Refused
    | LeaseLost
    | SessionStopped
    | LeftAlone
    | NotReady
    | Slowed
    | Reconciled
    | BrokerTrouble
    | BrokerBack
    | Crashed
)
_SHUT_HINTS = {
    Cause.SET_ASIDE: "five calls in a row came to nothing: matches go elsewhere, one probe at a time goes there",
    Cause.FULL: "matches go to their next region until a probe finds it open",
    Cause.UNAVAILABLE: "matches go to their next region until a probe finds it open; see the provider's status page",
    Cause.CREDENTIAL: "no session can be started with this credential; check {provider}.token or "
    "{provider}.token_file, its rights and its quota",
}


def configure_logging(level: str, json: bool | None = None, *, secrets: Collection[str] = ()) -> None:  # noqa: FBT001 - three states of one choice
    """Send this program's lines and other libraries' warnings to stderr; JSON where None and no terminal is there.

    `level` is a name such as `info`; an unknown one raises ValueError. `secrets` are masked wherever they stand; what
    is added to that collection later is masked too.
    """
    number = logging.getLevelNamesMapping().get(level.upper())
    if number is None:
        raise ValueError(f"log level {level!r} is unknown; use debug, info, warning or error")
    as_json = not sys.stderr.isatty() if json is None else json
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
        Redaction(secrets),
    ]
    written: list[Processor] = [structlog.stdlib.ProcessorFormatter.remove_processors_meta]
    if as_json:
        written.append(structlog.processors.JSONRenderer())
    else:
        colors = sys.stderr.isatty()
        plain = structlog.dev.plain_traceback
        written += [escape_controls, structlog.dev.ConsoleRenderer(colors=colors, exception_formatter=plain)]
    to_stderr = logging.StreamHandler(sys.stderr)
    to_stderr.addFilter(OnceInAWhile())
    to_stderr.setFormatter(structlog.stdlib.ProcessorFormatter(processors=written, foreign_pre_chain=shared))
    root = logging.getLogger()
    root.handlers[:] = [to_stderr]
    # Below a warning, libraries tell of requests and headers.
    root.setLevel(logging.WARNING)
    logging.getLogger(LOGGER).setLevel(number)
    logging.captureWarnings(capture=True)
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=False,
    )


class OnceInAWhile(logging.Filter):
    """Of what a library says in the same words, lets one line pass in `SAID_AGAIN_SECONDS`; ours all pass."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._clock = clock
        self._silent_until: dict[tuple[str, str], float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether to write it. By the words before any value is put into them."""
        if record.name == LOGGER:
            return True
        said, now = (record.name, str(record.msg)[:200]), self._clock()
        if now < self._silent_until.get(said, 0.0):
            return False
        if len(self._silent_until) > SAID_MAX:
            self._silent_until.clear()
        self._silent_until[said] = now + SAID_AGAIN_SECONDS
        return True


class Log:
    """The observer that writes; made after `configure_logging`."""

    def __init__(
        self,
        *,
        match_lines: bool = False,
        trace_of: Callable[[Leg], str] = recorded_by_caller,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`match_lines`: the end of each match is a line; `trace_of` gives the trace id that it bears, or nothing."""
        self._log: FilteringBoundLogger = structlog.get_logger(LOGGER)
        self._match_lines = match_lines
        self._trace_of = trace_of
        self._verbose: bool = self._log.is_enabled_for(logging.DEBUG)
        silent = frozenset() if self._verbose else _ROUTINE
        self.deaf_to: frozenset[type] = silent - {Finished} if match_lines else silent
        """The events of every match that make no line here, so that nobody need tell them."""
        self._clock = clock
        self._window_at = clock()
        self._written: dict[str, int] = {}
        self._withheld: dict[str, tuple[int, int]] = {}
        self._taken_over = 0
        self._counted: dict[str, int] = {}
        self._shut: dict[Destination, tuple[Cause, float]] = {}

    def observe(self, event: Event) -> None:
        """Write a line where this event is one to know of."""
        if type(event) in self.deaf_to:
            return
        match event:
            case Finished():
                self._finished(event)
            case Attempted() | LookedUp() | Received() | FellBack() | Parked() | Left():
                self._detail(event)
            case TakenOver():
                self._taken_over += 1
                if self._verbose:
                    told = {"request_id": event.request_id, "uncertain": event.uncertain}
                    self._log.debug("request taken over", **told)
            case Surveyed():
                pass
            case _:
                self._notable(event)

    async def tell_on(self) -> NoReturn:
        """Tell what was withheld even when nothing follows it, until cancelled."""
        while True:
            await asyncio.sleep(TURN_SECONDS)
            self.turn()

    def flush(self) -> None:
        """Tell what was withheld or summed; for the end of the process."""
        withheld, self._withheld = self._withheld, {}
        for name, (level, count) in withheld.items():
            self._log.log(level, "more of the same", of=name, count=count)
        if self._taken_over:
            self._log.info("requests taken over", count=self._taken_over)
            self._taken_over = 0

    def _notable(self, event: _Notable) -> None:
        match event:
            case GateShut() | GateOpened() | Slowed():
                self._gate(event)
            case Refused():
                told = {"code": event.code.value, "request_id": event.request_id, "buried": event.buried}
                self._line(logging.WARNING, "request refused", **told, message=event.message)
            case LeaseLost():
                self._line(logging.WARNING, "lease lost", request_id=event.request_id)
            case SessionStopped():
                told = {"session_id": event.session_id, "reason": event.reason}
                self._line(logging.INFO, "session stopped", provider=event.provider, **told)
            case LeftAlone():
                told = {"session_id": event.session_id, "reason": event.reason}
                hint = "condemned before redis lost data, and alive: stop it by hand if no match plays on it"
                self._line(logging.WARNING, "session left alone", provider=event.provider, hint=hint, **told)
            case NotReady():
                told = {"request_id": event.request_id, "message": event.message}
                self._line(logging.WARNING, "session not ready", destination=str(event.destination), **told)
            case Reconciled():
                self._reconciled(event)
            case BrokerTrouble():
                told = {"step": event.step, "kind": event.kind, "message": event.message}
                self._line(logging.WARNING, "redis cannot be asked", **told)
            case BrokerBack():
                self._line(logging.INFO, "redis answers again", away_seconds=round(event.away_seconds, 3))
            case Crashed():
                self._line(logging.ERROR, "fault of this program", where=event.where, exc_info=event.error)

    def _gate(self, event: GateShut | GateOpened | Slowed) -> None:
        match event:
            case GateShut():
                self._gate_shut(event)
            case GateOpened(destination):
                self._shut.pop(destination, None)
                self._shut.pop(Destination(destination.provider, "*"), None)
                self._line(logging.INFO, "gate opened", destination=str(destination))
            case Slowed(destination, rate):
                hint = "starts came too fast: the rate climbs back by itself; set it lower where this goes on"
                self._line(logging.INFO, "rate lowered", destination=str(destination), rate=round(rate, 2), hint=hint)

    def _reconciled(self, event: Reconciled) -> None:
        """A pass is told by the worker that made it, where its counts are others than those told last."""
        if not event.passed:
            return
        for provider, message in event.failures.items():
            hint = f"nothing was changed; the credential needs the right to list: see {provider}.token"
            self._line(logging.WARNING, "sessions cannot be listed", provider=provider, message=message, hint=hint)
        counted = {**event.orphans, "condemned_alive": event.condemned_alive}
        if counted == self._counted or (not self._counted and not any(counted.values())):
            return
        self._counted = counted
        level = logging.WARNING if any(event.orphans.values()) else logging.INFO
        hint = "an orphan is never stopped by itself, its ttl ends it: `allocator orphans` lists them"
        self._line(level, "sessions reconciled", **counted, hint=hint)

    def _gate_shut(self, event: GateShut) -> None:
        """Of calls that come back from one shut limit, the first is told; a probe that fails later is told again."""
        now, (cause, until) = self._clock(), self._shut.get(event.destination, (None, 0.0))
        self._shut[event.destination] = (event.cause, now + event.seconds)
        level = logging.INFO if event.cause is Cause.FULL else logging.WARNING
        if cause is event.cause and now < until:
            level = logging.DEBUG
        hint = _SHUT_HINTS[event.cause].format(provider=event.destination.provider)
        told = {"cause": event.cause.value, "seconds": round(event.seconds, 3), "message": event.message, "hint": hint}
        self._line(level, "gate shut", destination=str(event.destination), **told)

    def _line(self, level: int, name: str, **told: Any) -> None:
        """Write it, or count it where this second has had enough of that name."""
        if not self._log.is_enabled_for(level):
            return
        self.turn()
        self._written[name] = self._written.get(name, 0) + 1
        if level <= logging.DEBUG or self._written[name] <= LINES_A_SECOND:
            self._log.log(level, name, **told)
        else:
            self._withheld[name] = (level, self._withheld.get(name, (level, 0))[1] + 1)

    def turn(self) -> None:
        """Begin a new second where one is over, and tell what the last one withheld."""
        now = self._clock()
        if now - self._window_at >= 1.0:
            self._window_at = now
            self._written.clear()
            self._shut = {each: (cause, until) for each, (cause, until) in self._shut.items() if until > now}
            self.flush()

    def _detail(self, event: _Detail) -> None:
        log = self._log
        match event:
            case Received():
                log.debug("request received", priority=event.leg.priority.value, queued_seconds=event.queued_seconds)
            case Attempted():
                log.debug(
                    "attempt",
                    request_id=event.request_id,
                    region=event.region,
                    destination=str(event.destination),
                    outcome=event.outcome.value,
                    status=event.status,
                    waited_seconds=event.waited_seconds,
                    provider_seconds=event.provider_seconds,
                    message=event.message,
                )
            case FellBack():
                told = {"from_region": event.from_region, "to_region": event.to_region}
                log.debug("fell back", **told, reason=event.reason)
            case Parked():
                log.debug("request parked", request_id=event.request_id)
            case LookedUp():
                told = {"request_id": event.leg.request_id, "provider": event.provider}
                log.debug("session looked up", **told, found=event.found, seconds=event.seconds)
            case Left():
                log.debug("request left", request_id=event.leg.request_id, why=event.why, seconds=event.leg_seconds)

    def _finished(self, event: Finished) -> None:
        self._log.log(
            logging.INFO if self._match_lines else logging.DEBUG,
            "request finished",
            request_id=event.request_id,
            state=event.state.value,
            code=event.code.value if event.code else None,
            region=event.region,
            destination=str(event.destination) if event.destination else None,
            attempts=event.attempts,
            total_seconds=round(event.total_seconds, 3),
            gate_seconds=round(event.gate_seconds, 3),
            provider_seconds=round(event.provider_seconds, 3),
            trace_id=self._trace_of(event.leg) or None,
        )
