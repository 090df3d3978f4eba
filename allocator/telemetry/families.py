"""Every metric there is, by name, with its labels and its buckets: section 8 of the public contract in one place.

In: a registry. Out: the families in it. Which event moves which is left to `metrics`.
"""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Gauge, Info

from allocator.telemetry.cells import CounterFamily, GaugeFamily, HistogramFamily

REQUEST_SECONDS = (0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0, 20.0, 30.0, 60.0)
"""Around what a match waits for: a provider takes 0.1 to 8 s, and a request has 60 s."""

STAGE_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
"""The same, and finer below: what this program adds is counted in milliseconds."""

LAG_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)


class Families:
    """The metrics of one process."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry
        self._requests()
        self._calls()
        self._gates()
        self._fleet()
        self._process()

    def _requests(self) -> None:
        self.received = self._counter("requests_received", "Requests taken up and reserved.", "priority")
        self.finished = self._counter("requests_finished", "Requests with their last state recorded.", "state", "code")
        self.refused = self._counter("requests_refused", "Entries that made no request of their own.", "code")
        self.request_seconds = self._histogram(
            "request_duration_seconds", "From Redis taking the entry to its end recorded.", "state"
        )
        self.stage_seconds = self._histogram(
            "stage_duration_seconds", "The same by what the time went to.", "stage", bounds=STAGE_SECONDS
        )
        self.added_seconds = self._histogram(
            "added_latency_seconds", "The same less the provider's and the gate's time.", bounds=STAGE_SECONDS
        )
        self.in_progress = self._followed("requests_in_progress", "Requests that this process holds.", "state")
        self.first_choice = self._counter(
            "first_choice", "Allocations, by whether the first region named serves them.", "hit"
        )

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
        self.stopped = self._counter("sessions_stopped", "Condemned sessions found alive and stopped.", "reason")

    def _gates(self) -> None:
        self.gate_wait_seconds = self._histogram(
            "gate_wait_seconds", "Wait for the permit of each call.", "region", bounds=STAGE_SECONDS
        )
        self.gate_rate = self._followed(
            "gate_rate", "Session starts a second that the fleet gives now.", "provider", "location"
        )
        self.gate_closed = self._followed(
            "gate_closed", "1 where a limit was found shut; location * is the account.", "provider", "location"
        )

    def _fleet(self) -> None:
        self.queue_depth = self._gauge("queue_depth", "Entries that nobody has read.", "priority")
        self.queue_pending = self._gauge("queue_pending", "Entries that were read and are not yet reserved.")
        self.oldest_untaken = self._gauge("oldest_untaken_seconds", "How long the oldest of them waits.")
        self.parked = self._gauge("parked_requests", "Requests set aside until their turn is near.")
        self.condemned = self._gauge("condemned_sessions", "Sessions that must not live and are looked after.")
        self.orphans = self._gauge("orphan_sessions", "Sessions with our mark that no record explains.", "kind")
        self.redeliveries = self._counter("redeliveries", "Requests taken over from a worker that let them lapse.")
        self.lease_lost = self._counter("lease_lost", "Requests held here that another worker has taken over.")
        self.dead_letters = self._counter("dead_letters", "Entries whose bytes were kept as dead letters.", "code")

    def _process(self) -> None:
        self.redis_errors = self._counter("redis_errors", "Times that Redis could not be asked.", "kind")
        self.loop_lag = self._histogram(
            "event_loop_lag_seconds", "How late the event loop wakes a sleeper.", bounds=LAG_SECONDS
        )
        self.build = Info("allocator_build", "The version that runs.", registry=self._registry)

    def _counter(self, name: str, documentation: str, *labels: str) -> CounterFamily:
        return CounterFamily(f"allocator_{name}", documentation, labels, registry=self._registry)

    def _histogram(
        self, name: str, documentation: str, *labels: str, bounds: tuple[float, ...] = REQUEST_SECONDS
    ) -> HistogramFamily:
        return HistogramFamily(f"allocator_{name}", documentation, labels, bounds=bounds, registry=self._registry)

    def _followed(self, name: str, documentation: str, *labels: str) -> GaugeFamily:
        return GaugeFamily(f"allocator_{name}", documentation, labels, registry=self._registry)

    def _gauge(self, name: str, documentation: str, *labels: str) -> Gauge:
        return Gauge(f"allocator_{name}", documentation, labels, registry=self._registry)
