"""How the simulated Gameye behaves: one frozen tree, the same as keyword arguments, TOML script and JSON.

In: tables and values from a script, from options, from the control door or from Python. Out: `SimulatorSettings`, or
pydantic's `ValidationError`. Every setting has a default: three quick, boundless regions that take any image and any
bearer token.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, StringConstraints

from allocator.simulator.gameye.faults import DuplicatedPorts, Fault
from allocator.simulator.tables import Count, ErrorStatus, Frozen, Name, Names, Rate, RetryAfter, Seconds, SpanMs

PortName = Annotated[str, StringConstraints(pattern=r"^[1-9][0-9]{0,4}/(tcp|udp)$")]


class Scope(StrEnum):
    """What a token may be allowed to do, as the vendor names it."""

    SESSION_START = "session:start"
    SESSION_READ = "session:read"
    SESSION_STOP = "session:stop"
    ARTIFACT_READ = "artifact:read"
    REGIONS_READ = "regions:read"
    LOGS_READ = "logs:read"


def _closed(value: object) -> object:
    """Let `closed = true` stand for the status of a busy region, and `false` for an open one."""
    if isinstance(value, bool):
        return 420 if value else None
    return value


class ImageSettings(Frozen):
    """One application: its tags, the first of them preferred (none given: any), and its container's ports."""

    tags: Names = ()
    ports: Annotated[tuple[PortName, ...], Field(min_length=1, max_length=100)] = ("7777/udp",)


class WarmPool(Frozen):
    """Sessions already running: a start takes one, and with it the pool's `env`, `args`, `labels` and `tag`."""

    size: Count
    image: str | None = None
    """Only starts of this image take from the pool; without it, starts of any."""
    env: dict[str, str] = Field(default_factory=dict)
    args: tuple[str, ...] = ()
    labels: dict[str, str] = Field(default_factory=dict)
    tag: str | None = None
    own_ids: bool = False
    """The answer bears an id of the pool's own instead of the caller's, which then names nothing."""
    refill_seconds: Seconds = 5.0


class RegionSettings(Frozen):
    """One region: how much it holds, how fast it starts, how long that takes."""

    capacity: Count | None = None
    """Sessions that may be alive at once."""
    starts_per_second: Rate | None = None
    burst: Count = 0
    """Starts a window takes over its rate."""
    window: Literal["sliding", "fixed"] = "sliding"
    """Whether the limit holds in any second, or in each second of the clock."""
    latency_ms: SpanMs = (0.0, 0.0)
    """How long each answer to a start takes, drawn evenly from this range."""
    closed: Annotated[ErrorStatus | None, BeforeValidator(_closed)] = None
    """The status of every answer to a start or a tag check here; sessions that run are still found and stopped."""
    throttle_status: ErrorStatus | None = None
    retry_after: RetryAfter | None = None
    warm_pool: WarmPool | None = None
    host: str | None = None
    """The address of every session here; without it, made-up ones (10.x.y.z) of which each has its own ports."""


def _default_regions() -> dict[str, RegionSettings]:
    return {name: RegionSettings() for name in ("europe", "us-east", "asia")}


class SimulatorSettings(Frozen):
    """All that can be said about the simulated Gameye."""

    token: Name | None = Field(default=None, repr=False)
    """The only bearer token taken; without it, any that is not empty."""
    scopes: frozenset[Scope] = frozenset(Scope)
    quota: Count | None = None
    """Sessions that may ever be started."""
    quota_status: Literal[402, 403] = 402
    """The vendor's description says 402, its troubleshooting page 403."""
    images: dict[Name, ImageSettings] = Field(default_factory=dict)
    """The images there are; none given: any, with the port 7777/udp."""
    regions: dict[Name, RegionSettings] = Field(default_factory=_default_regions)
    throttle_status: ErrorStatus = 420
    """What a region that is full or too fast answers; 429 is its older form."""
    retry_after: RetryAfter | None = None
    id_reuse: Literal["never", "after_end"] = "never"
    """Whether the id of a session that has ended may be used again."""
    id_scope: Literal["account", "region"] = "account"
    stop_seconds: Seconds = 0.0
    """How long a stopped session stays `shuttingdown`."""
    seed: int = 0
    faults: tuple[Fault, ...] = (DuplicatedPorts(probability=0.2),)
