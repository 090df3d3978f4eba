"""The tables of the settings: what each may hold, its default and its bounds.

In: values as TOML, the environment or an option gave them. Out: frozen models, one for each table of the public
contract's section 6. Every limit has two ends; no message and no `repr` shows a secret. Where values come from, and
what two tables must agree on, is left to `settings`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    StringConstraints,
    field_validator,
    model_validator,
)

from allocator.engine.readiness import ReadyCheck
from allocator.providers.credential import bare_token
from allocator.providers.outside import installed_names

REDIS_SCHEMES = (
    *("redis://", "rediss://", "unix://", "redis+sentinel://", "rediss+sentinel://", "redis+cluster://"),
    *("rediss+cluster://", "embedded:"),
)
GAMEYE_URLS = {
    "sandbox": "https://api.sandbox-gameye.gameye.net",
    "production": "https://api.production-gameye.gameye.net",
}
_INDEFINITE = frozenset({408, 409})
"""4xx statuses after which a session may exist: to pass over to another region on one could start two servers."""

Text = Annotated[str, StringConstraints(min_length=1, max_length=256)]
BUILT_IN = ("gameye", "edgegap")
"""The providers of this package; their tables bear their names."""


def _provider_name(value: str) -> str:
    if value not in BUILT_IN and value not in (installed := installed_names()):
        others = "".join(f", or {name!r}, which a package brings" for name in sorted(installed))
        raise ValueError(f"must be 'gameye' or 'edgegap'{others}")
    return value


ProviderName = Annotated[str, AfterValidator(_provider_name)]
LocationName = Annotated[str, StringConstraints(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9._-]+$")]
"""Of a location at Edgegap: each deployment bears it as a tag. What no settings name must fit as well."""
Rate = Annotated[float, Field(ge=0.01, le=100_000)]
Burst = Annotated[int, Field(ge=1, le=10_000)]
PortNumber = Annotated[int, Field(ge=0, le=65_535)]


def is_location_name(name: str) -> bool:
    """Whether it fits `LocationName`."""
    return re.fullmatch(r"[A-Za-z0-9._-]{1,64}", name) is not None


def refuse_flag(value: Any) -> Any:
    """Let everything pass but true and false, which would be read as 1 and 0: no setting is a flag."""
    if value is True or value is False:
        raise ValueError("must not be true or false; write the value itself")
    return value


class Table(BaseModel):
    """One table: unknown keys are refused, nothing changes after loading."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True, allow_inf_nan=False)

    _no_flags = field_validator("*", mode="before")(refuse_flag)


def _redis_url(value: SecretStr) -> SecretStr:
    url = value.get_secret_value()
    if not url.startswith(REDIS_SCHEMES) or url in REDIS_SCHEMES:
        raise ValueError(f"must begin with one of {' '.join(REDIS_SCHEMES)} and name a server after it")
    return value


def _token(value: SecretStr) -> SecretStr:
    if not re.fullmatch(r"[\x21-\x7e]{1,8192}", value.get_secret_value()):
        raise ValueError("must be 1 to 8192 visible ASCII characters, without blanks or line breaks")
    return value


def _http_url(value: str) -> str:
    try:
        parts = urlsplit(value)
        named = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        named = False
    if not named or "?" in value or "#" in value or re.search(r"[\s\x00-\x1f]", value):
        raise ValueError("must be like 'https://host' or 'http://127.0.0.1:8080', without a query")
    if "@" in parts.netloc:
        raise ValueError("must not hold a credential; set token or token_file instead")
    return value.rstrip("/")


class Redis(Table):
    """Where the queue and the answers live; the URL may hold a password, so it prints as stars."""

    # Empty only where the command that loads does not require it.
    url: Annotated[SecretStr, AfterValidator(_redis_url)] = SecretStr("")
    """`redis://`, `rediss://`, `unix://`, `redis+sentinel://`, `redis+cluster://` (both also `rediss+`) or
    `embedded:DIR`. Secret."""


class Worker(Table):
    """What one process may hold and how long."""

    concurrency: Annotated[int, Field(ge=1, le=10_000)] = 256
    """Calls to providers in flight, per process."""
    backlog: Annotated[int, Field(ge=1, le=100_000)] = 1024
    """Requests held in memory, per process."""
    backlog_bytes: Annotated[int, Field(ge=65_536, le=2**31)] = 32 * 2**20
    """Of their bodies, per process."""
    lease_seconds: Annotated[float, Field(ge=1, le=300)] = 10
    """What a dead worker held is taken over after this long."""
    max_gate_wait_seconds: Annotated[float, Field(ge=0, le=60)] = 2
    """Who waits longer for a permit tries the next region as well."""
    drain_seconds: Annotated[float, Field(ge=1, le=600)] = 25
    """After SIGTERM, how long what is under way may take. Whoever kills must wait ten more: 35 in Kubernetes."""


class WithToken(Table):
    """A table with a credential: given itself, or by the file that holds it."""

    token: Annotated[SecretStr, AfterValidator(_token)] | None = None
    """The credential itself."""
    token_file: Path | None = None
    """The file that holds it; read again when it changes."""

    @model_validator(mode="after")
    def _one_token(self) -> Self:
        if self.token is not None and self.token_file is not None:
            raise ValueError("token and token_file are both set; keep one of the two")
        return self


def _definite(value: tuple[int, ...]) -> tuple[int, ...]:
    if _INDEFINITE & set(value):
        raise ValueError("must not hold 408 or 409: after these a session may exist; take them out")
    return value


ThrottleStatuses = Annotated[
    tuple[Annotated[int, Field(ge=400, le=499)], ...], Field(min_length=1, max_length=100), AfterValidator(_definite)
]


def _gameye_url(given: Mapping[str, Any]) -> str:
    return GAMEYE_URLS[given.get("environment") or "sandbox"]


def _host_of_base_url(given: Mapping[str, Any]) -> str:
    parts = urlsplit(given.get("base_url", ""))
    port = "" if parts.port in (None, {"http": 80, "https": 443}.get(parts.scheme)) else f":{parts.port}"
    return f"{parts.hostname}{port}"


class Gameye(WithToken):
    """One account at Gameye.

    `base_url` is the environment's (`sandbox` where neither is given). `account` is the host, and port, of the base
    URL where it is not given, so that two endpoints never share rates by accident.
    """

    environment: Literal["sandbox", "production"] | None = None
    """Which of Gameye's two addresses; `sandbox` where `base_url` is not given either."""
    base_url: Annotated[Text, AfterValidator(_http_url)] = Field(default_factory=_gameye_url)
    """Another address, in place of `environment`."""
    account: Text = Field(default_factory=_host_of_base_url)
    """Rates are shared by all that use this name on one Redis. Default: the base URL's host and port."""
    timeout_seconds: Annotated[float, Field(ge=0.1, le=120)] = 8
    """Of one call; after it the outcome is unknown and the session is looked up."""
    throttle_statuses: ThrottleStatuses = (420, 429)
    """What a full or too fast region answers: definite refusals, after which nothing was created."""
    rate: Rate | None = None
    """Starts a second over all regions, where the account has such a limit."""

    @model_validator(mode="after")
    def _one_endpoint(self) -> Self:
        if self.environment is not None and "base_url" in self.model_fields_set:
            raise ValueError("environment and base_url are both set; keep one of the two")
        return self


class Coordinates(Table):
    """Where a location is, in degrees."""

    lat: Annotated[float, Field(ge=-90, le=90)]
    """North is positive."""
    lon: Annotated[float, Field(ge=-180, le=180)]
    """East is positive."""


class Edgegap(WithToken):
    """One organisation at Edgegap. `locations` says where each location is: the host itself knows none by name."""

    base_url: Annotated[Text, AfterValidator(_http_url)] = "https://api.edgegap.com"
    """Another address than the host's own."""
    account: Text = Field(default_factory=_host_of_base_url)
    """Rates are shared by all that use this name on one Redis. Default: the base URL's host and port."""
    rate: Rate = 40
    """Starts a second over all locations: the host takes 40."""
    timeout_seconds: Annotated[float, Field(ge=0.1, le=120)] = 8
    """Of a single call; a start then waits for its deployment as well."""
    ready_timeout_seconds: Annotated[float, Field(ge=1, le=300)] = 25
    """How long a deployment is waited for; one that is not ready by then is stopped and another destination tried."""
    throttle_statuses: ThrottleStatuses = (420, 429)
    """What a call that comes too fast is answered: definite refusals, after which nothing was created."""
    locations: Annotated[dict[LocationName, Coordinates], Field(max_length=1000)] = Field(default_factory=dict)
    """Where each location is, for players who do not say where they are."""
    webhook_base_url: Annotated[Text, AfterValidator(_http_url)] | None = None
    """Under which the host reaches the admin address, to tell sooner what is found out by asking in any case."""

    @field_validator("token", mode="before")
    @classmethod
    def _bare(cls, value: Any) -> Any:
        """Take the token of a header that was pasted whole: `token 0a1b...`."""
        if isinstance(value, SecretStr):
            value = value.get_secret_value()
        return bare_token(value) if isinstance(value, str) else value


class RegionDefaults(Table):
    """What a region has where it says nothing itself; `rate` in session starts a second, over the whole fleet."""

    rate: Rate = 20
    """Session starts a second."""
    burst: Burst = 1
    """So many at once, where the host allows it."""


class RegionDestination(Table):
    """One place of a region; rate and burst are the region's where they are not given."""

    provider: ProviderName
    """Whose machines: `gameye`, `edgegap`, or a provider that another package brings."""
    location: Text
    """As the provider calls it."""
    rate: Rate | None = None
    """Session starts a second there."""
    burst: Burst | None = None
    """So many at once."""
    weight: Annotated[float, Field(ge=0, le=1000)] | None = None
    """Where one place of a region has a weight, they are drawn in proportion (1 where not given, 0 last)."""


class Region(Table):
    """One name for players; without `destinations` it is Gameye's region of that name."""

    rate: Rate | None = None
    """Session starts a second at each of its destinations, over the whole fleet. Default: `region_defaults.rate`."""
    burst: Burst | None = None
    """So many at once. Default: `region_defaults.burst`."""
    first_choice_share: Annotated[float, Field(ge=0, le=0.95)] = 0
    """The share of the rate kept for requests whose first region this is. Under 1, or no other would ever get in."""
    destinations: Annotated[tuple[RegionDestination, ...], Field(min_length=1, max_length=16)] | None = None
    """The places that serve it, in order."""


class Placement(Table):
    """In which order the regions of a request are tried: a policy, and which latency the policy `latency` looks at."""

    policy: Text = "latency"
    """`latency`, `named`, an entry point of the group `allocator.placement`, or `module:attribute`."""
    latency_by: Literal["worst", "average"] = "worst"
    """Which latency counts first: the worst player's, or the average."""


def _container_port(value: str) -> str:
    port, _, protocol = value.partition("/")
    if not re.fullmatch(r"[1-9][0-9]{0,4}", port) or int(port) > 65_535 or protocol not in ("udp", "tcp"):
        raise ValueError("must be like '7777/udp' or '7777/tcp'")
    return value


def _tcp_port(value: str) -> str:
    protocol, colon, port = value.partition(":")
    if protocol == "udp" and colon:
        raise ValueError("must be like 'tcp:8080': nothing need answer on udp; let the game open a tcp port beside it")
    if protocol != "tcp" or not re.fullmatch(r"[1-9][0-9]{0,4}", port) or int(port) > 65_535:
        raise ValueError("must be like 'tcp:8080', with the port inside the container")
    return value


class EdgegapApplication(Table):
    """What Edgegap calls an image; `version` where the request names none."""

    application: Text
    """The application's name there."""
    version: Text | None = None
    """Its version there."""


class CatalogEntry(Table):
    """What is known of an image beforehand: names of its ports, how it shows that it is ready, its name at Edgegap."""

    ports: Annotated[dict[Text, Annotated[str, AfterValidator(_container_port)]], Field(max_length=64)] = Field(
        default_factory=dict
    )
    """Names of its ports, as `game = "7777/udp"`; what is not named here is called `7777/udp`."""
    ready_check: Annotated[str, AfterValidator(_tcp_port)] | None = None
    """A match is allocated only once this port answers; a game of UDP alone opens a TCP port for it."""
    ready_timeout_seconds: Annotated[float, Field(ge=1, le=300)] = 30
    """How long that is waited for before the session is stopped."""
    edgegap: EdgegapApplication | None = None

    @field_validator("ports")
    @classmethod
    def _one_name_a_port(cls, value: dict[str, str]) -> dict[str, str]:
        if len(set(value.values())) != len(value):
            raise ValueError("gives one port two names; keep one of them")
        return value

    @property
    def port_names(self) -> dict[str, str]:
        """The names the other way round, as a start wants them: `7777/udp` to `game`."""
        return {port: name for name, port in self.ports.items()}

    @property
    def ready(self) -> ReadyCheck | None:
        """The check as the engine wants it; None where the provider's word is enough."""
        if self.ready_check is None:
            return None
        port = int(self.ready_check.removeprefix("tcp:"))
        return ReadyCheck("tcp", port, self.ready_timeout_seconds)


class Admin(WithToken):
    """The address of metrics, probes and the console; port 0 takes any free one.

    The token is the console's: on another address than loopback it is off without one. Nothing else asks for it.
    """

    host: Text = "127.0.0.1"
    """An address of this machine; `0.0.0.0` is all of them."""
    port: PortNumber = 9464
    """Shared by the processes of `worker --processes`."""


class Telemetry(Table):
    """What is told of each match, beyond the metrics; both cost something for each."""

    traces: Literal["off", "otlp"] = "off"
    """`otlp`: one trace a match, sent as the standard `OTEL_*` variables say. Needs the extra `otel`."""
    match_lines: Literal["off", "on"] = "off"
    """`on`: one line of log at the end of each match."""


class Api(WithToken):
    """The address of the HTTP door, which is shut unless this table is there; port 0 takes any free one."""

    host: Text = "127.0.0.1"
    """An address of this machine."""
    port: PortNumber = 8080
    """A port of it."""


class Reconciler(Table):
    """Whether condemned sessions are stopped or only counted, and how fast at most."""

    mode: Literal["stop", "observe"] = "stop"
    """`observe` stops nothing but what a matchmaker cancels or releases."""
    stops_per_minute_max: Annotated[int, Field(ge=1, le=10_000)] = 30
    """Over the fleet: how many condemned sessions that were found alive are handed to the stopper."""
