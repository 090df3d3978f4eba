"""Every metric there is, by name, with its labels and its buckets: section 8 of the public contract in one place.

In: a registry and a clock. Out: the families in it. What a family says in its help text is what the page of metrics
in `deploy/docs` says of it, which is made from here. Which event moves which is left to `metrics`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from prometheus_client import CollectorRegistry

from allocator.telemetry.cells import CounterFamily, Family, GaugeFamily, HistogramFamily, SampledFamily

REQUEST_SECONDS = (0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0, 20.0, 30.0, 60.0)
"""Around what a match waits for: a provider takes 0.1 to 8 s, and a request has 60 s."""

STAGE_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
"""The same, and finer below: what this program adds is counted in milliseconds. One bound is the objective's 1 s."""

LAG_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)

SUPERVISOR = ("allocator_processes_replaced", "Worker processes that ended unasked and were started anew.")
"""The one metric that a supervisor adds of its own."""

HTTP = ("allocator_http_requests", "Requests that the HTTP door has answered.", ("method", "status"))
"""The one that it adds, of whichever process serves it."""

_FamilyT = TypeVar("_FamilyT", bound=Family)


class Families:
    """The metrics of one process."""

    def __init__(self, registry: CollectorRegistry, clock: Callable[[], float]) -> None:
        self._registry = registry
        self._clock = clock
        self.every: list[Family] = []
        """In the order in which they are told."""
        self._requests()
        self._calls()
        self._gates()
        self._sessions()
        self._fleet()
        self._process()

    def _requests(self) -> None:
        self.received = self._counter("requests_received", "Requests taken up and reserved.", "priority")
        self.finished = self._counter("requests_finished", "Requests with their last state recorded.", "state", "code")
        self.refused = self._counter(
            "requests_refused", "Entries that were refused, or invalid: one whose id is new is finished, too.", "code"
        )
        self.parked_total = self._counter("requests_parked", "Times that a request was set aside to wait in Redis.")
        self.request_seconds = self._histogram(
            "request_duration_seconds", "From Redis taking the entry to its end recorded.", "state"
        )
        self.stage_seconds = self._histogram(
            "stage_duration_seconds",
            "The same by what the time went to: queue, gate (rests and time parked counted in), provider, commit.",
            "stage",
            bounds=STAGE_SECONDS,
        )
        self.added_seconds = self._histogram(
            "added_latency_seconds", "The same less provider, gate and parked time.", bounds=STAGE_SECONDS
        )
        self.in_progress = self._followed("requests_in_progress", "Requests that this process holds.", "state")
        self.first_choice = self._counter(
            "first_choice", "Allocations, by whether the first region named serves them.", "hit"
        )
        self.redeliveries = self._counter("redeliveries", "Requests taken over from a worker that let them lapse.")
        self.lease_lost = self._counter("lease_lost", "Requests held here that another worker has taken over.")
        self.dead_letters = self._counter("dead_letters", "Entries whose bytes were kept as dead letters.", "code")

    def _calls(self) -> None:
        self.attempts = self._counter(
            "attempts", "Calls to start a session that came back.", "provider", "location", "outcome"
        )
        self.provider_seconds = self._histogram(
            "provider_request_duration_seconds", "How long those calls took.", "provider", "location", "status"
        )
        self.fallbacks = self._counter(
            "fallbacks", "Requests that went on to another region.", "from_region", "to_region", "reason"
        )

    def _gates(self) -> None:
        self.gate_wait_seconds = self._histogram(
            "gate_wait_seconds", "Wait for the permit of each call.", "region", bounds=STAGE_SECONDS
        )
        self.gate_rate = self._sampled(
            "gate_rate", "Session starts a second that the fleet gives now.", "provider", "location"
        )
        self.gate_closed = self._sampled(
            "gate_closed", "1 where a limit gives nothing now; location * is the account.", "provider", "location"
        )
        self.gate_closings = self._counter(
            "gate_closings",
            "Times that a limit was shut: full, unavailable, credential (refused), set_aside (calls came to nothing).",
            "provider",
            "location",
            "cause",
        )
        self.rates_lowered = self._counter(
            "rates_lowered", "Times that a rate was lowered because starts came too fast.", "provider", "location"
        )

    def _sessions(self) -> None:
        self.stopped = self._counter("sessions_stopped", "Condemned sessions found alive and stopped.", "reason")
        self.left_alone = self._counter(
            "sessions_left_alone", "Condemned sessions left alive after a loss of Redis, for a person to look at."
        )
        self.not_ready = self._counter(
            "sessions_not_ready", "Sessions whose game never listened, left for another.", "provider", "location"
        )
        self.condemned = self._sampled("condemned_sessions", "Sessions that must not live and are looked after.")
        self.condemned_alive = self._sampled(
            "condemned_sessions_alive", "Those of them that the provider listed as running at the last pass."
        )
        self.orphans = self._sampled("orphan_sessions", "Sessions with our mark that no record explains.", "kind")

    def _fleet(self) -> None:
        self.queue_depth = self._sampled("queue_depth", "Entries that nobody has read.", "priority")
        self.queue_pending = self._sampled("queue_pending", "Entries that were read and are not yet reserved.")
        self.oldest_untaken = self._sampled(
            "oldest_untaken_seconds", "How long the oldest of the unread waits; 0: none."
        )
        self.parked = self._sampled("parked_requests", "Requests set aside until their turn is near.")

    def _process(self) -> None:
        self.ready = self._followed("workers_ready", "Worker processes here that take requests up.")
        self.redis_errors = self._counter("redis_errors", "Times that Redis could not be asked.", "kind")
        self.faults = self._counter("faults", "Faults of this program, caught so that the rest goes on.")
        self.traces_left_out = self._counter(
            "traces_left_out", "Matches whose trace is not recorded: over 100 a second, or 20 at once."
        )
        self.loop_lag = self._histogram(
            "event_loop_lag_seconds", "How late the event loop wakes a sleeper.", bounds=LAG_SECONDS
        )
        self.build = self._followed("build_info", "The version that runs.", "version")

    def _counter(self, name: str, documentation: str, *labels: str) -> CounterFamily:
        return self._told(CounterFamily(f"allocator_{name}", documentation, labels, registry=self._registry))

    def _histogram(
        self, name: str, documentation: str, *labels: str, bounds: tuple[float, ...] = REQUEST_SECONDS
    ) -> HistogramFamily:
        return self._told(
            HistogramFamily(f"allocator_{name}", documentation, labels, bounds=bounds, registry=self._registry)
        )

    def _followed(self, name: str, documentation: str, *labels: str) -> GaugeFamily:
        return self._told(GaugeFamily(f"allocator_{name}", documentation, labels, registry=self._registry))

    def _sampled(self, name: str, documentation: str, *labels: str) -> SampledFamily:
        return self._told(
            SampledFamily(f"allocator_{name}", documentation, labels, clock=self._clock, registry=self._registry)
        )

    def _told(self, family: _FamilyT) -> _FamilyT:
        self.every.append(family)
        return family
