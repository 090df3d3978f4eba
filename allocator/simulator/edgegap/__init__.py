"""A simulated Edgegap: its API of deployments and of the catalogue, with capacity, rates, start times and faults.

    async with EdgegapSimulator(SimulatorSettings(token="secret")) as simulator:
        ...  # call simulator.base_url, then look at simulator.ledger

It promises the shapes and statuses of the vendor's OpenAPI descriptions, webhooks, and a complete ledger; it runs no
game server, so nothing listens on the ports it hands out. For other processes the same is served under `/_simulator/`
(`control`).
"""

from allocator.simulator.clock import Clock
from allocator.simulator.edgegap.deployment import Deployment, Event, State
from allocator.simulator.edgegap.faults import (
    Doubled,
    Dropped,
    Failed,
    Fault,
    HtmlBody,
    Late,
    LateWebhook,
    LostReply,
    LostWebhook,
    MalformedBody,
    NeverReady,
    NewFields,
    Operation,
    Redirect,
    Slow,
    SlowStart,
    StatusFault,
    Unplaced,
)
from allocator.simulator.edgegap.ledger import Call, Ledger, Notice
from allocator.simulator.edgegap.server import EdgegapSimulator
from allocator.simulator.edgegap.settings import (
    ApplicationSettings,
    LocationSettings,
    RateSettings,
    SimulatorSettings,
)
from allocator.simulator.faults import How
from allocator.simulator.tables import RetryAfter

__all__ = [
    "ApplicationSettings",
    "Call",
    "Clock",
    "Deployment",
    "Doubled",
    "Dropped",
    "EdgegapSimulator",
    "Event",
    "Failed",
    "Fault",
    "How",
    "HtmlBody",
    "Late",
    "LateWebhook",
    "Ledger",
    "LocationSettings",
    "LostReply",
    "LostWebhook",
    "MalformedBody",
    "NeverReady",
    "NewFields",
    "Notice",
    "Operation",
    "RateSettings",
    "Redirect",
    "RetryAfter",
    "SimulatorSettings",
    "Slow",
    "SlowStart",
    "State",
    "StatusFault",
    "Unplaced",
]
