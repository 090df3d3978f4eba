"""A simulated Gameye: the ten paths of its session API, with capacity, start rates, latency and faults by settings.

    async with GameyeSimulator(SimulatorSettings(token="secret")) as simulator:
        ...  # call simulator.base_url, then look at simulator.ledger

It promises the shapes and statuses of the vendor's OpenAPI description and a complete ledger; it runs no game server,
so nothing listens on the ports it hands out. For other processes the same is served under `/_simulator/` (`control`).
"""

from allocator.simulator.clock import Clock
from allocator.simulator.faults import How
from allocator.simulator.gameye.faults import (
    Dropped,
    DuplicatedPorts,
    Fault,
    HtmlBody,
    Late,
    LostReply,
    MalformedBody,
    NewFields,
    Operation,
    Redirect,
    Slow,
    StatusFault,
)
from allocator.simulator.gameye.ledger import Ledger, Post, Session, Status
from allocator.simulator.gameye.server import GameyeSimulator
from allocator.simulator.gameye.settings import (
    ImageSettings,
    RegionSettings,
    SimulatorSettings,
    WarmPool,
)
from allocator.simulator.tables import RetryAfter

__all__ = [
    "Clock",
    "Dropped",
    "DuplicatedPorts",
    "Fault",
    "GameyeSimulator",
    "How",
    "HtmlBody",
    "ImageSettings",
    "Late",
    "Ledger",
    "LostReply",
    "MalformedBody",
    "NewFields",
    "Operation",
    "Post",
    "Redirect",
    "RegionSettings",
    "RetryAfter",
    "Session",
    "SimulatorSettings",
    "Slow",
    "Status",
    "StatusFault",
    "WarmPool",
]
