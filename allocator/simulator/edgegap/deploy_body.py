"""The body of `POST /v2/deployments`, read as strictly as the vendor's description of it.

In: JSON. Out: an `Asked`, or what a 400 says of it. Names of the deprecated v1 (`app_name`, `ip_list`) are no more
known here than any other.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    IPvAnyAddress,
    StrictBool,
    StrictInt,
    ValidationError,
    model_validator,
)
from pydantic.types import StringConstraints

from allocator.simulator.bodies import Violation
from allocator.simulator.edgegap.deployment import Event
from allocator.simulator.edgegap.placement import Player

TAG_CHARACTERS_MAX = 40

Text = Annotated[str, StringConstraints(strict=True, min_length=1)]
Tag = Annotated[str, StringConstraints(strict=True, min_length=1, max_length=TAG_CHARACTERS_MAX)]


class Body(BaseModel):
    """An object of the vendor's: unknown names are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class _Address(Body):
    ip_address: IPvAnyAddress


class _Coordinates(Body):
    latitude: Annotated[float, Field(ge=-90, le=90, strict=True)]
    longitude: Annotated[float, Field(ge=-180, le=180, strict=True)]


class _ByAddress(Body):
    user_type: Literal["ip_address"]
    user_data: _Address


class _ByCoordinates(Body):
    user_type: Literal["geo_coordinates"]
    user_data: _Coordinates


class Resources(Body):
    """What a deployment gets, in place of what its version says."""

    cpu_units: Annotated[StrictInt, Field(ge=100)]
    memory_mib: Annotated[StrictInt, Field(ge=100)]

    @model_validator(mode="after")
    def _in_proportion(self) -> Resources:
        if self.memory_mib > 2 * self.cpu_units:
            raise ValueError("memory_mib must be at most twice cpu_units")
        return self


class _Variable(Body):
    key: Text
    value: Annotated[str, StringConstraints(strict=True, max_length=4096)]
    is_hidden: StrictBool


class _Webhook(Body):
    url: Annotated[str, StringConstraints(strict=True, pattern=r"^https?://.+")]


class _Deploy(Body):
    application: Text
    version: Text
    users: Annotated[
        list[Annotated[_ByAddress | _ByCoordinates, Field(discriminator="user_type")]], Field(min_length=1)
    ]
    resources: Resources | None = None
    require_cached_locations: StrictBool | None = False
    environment_variables: list[_Variable] = Field(default_factory=list)
    tags: list[Tag] = Field(default_factory=list)
    webhook_on_ready: _Webhook | None = None
    webhook_on_error: _Webhook | None = None
    webhook_on_terminated: _Webhook | None = None


@dataclass(frozen=True, slots=True)
class Asked:
    """A deployment as it was asked for."""

    application: str
    version: str
    players: tuple[Player, ...]
    tags: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict, repr=False)
    webhooks: Mapping[Event, str] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True)
class Wrong:
    """What is wrong with a body, by field."""

    details: Mapping[str, str]


def wrong(error: ValidationError) -> Wrong:
    """Every fault that pydantic found, by the path of its field."""
    return Wrong(
        {
            ".".join(str(part) for part in fault["loc"]) or "body": (
                "Unknown field." if fault["type"] == "extra_forbidden" else fault["msg"]
            )
            for fault in error.errors(include_input=False, include_url=False)
        }
    )


def read_deploy(body: Any) -> Asked | Wrong:
    """Read what `read_json` gave; every fault is named, not only the first."""
    if isinstance(body, Violation):
        return Wrong({body.field: body.description})
    try:
        read = _Deploy.model_validate(body)
    except ValidationError as error:
        return wrong(error)
    told = {Event.READY: read.webhook_on_ready, Event.ERROR: read.webhook_on_error}
    told[Event.TERMINATED] = read.webhook_on_terminated
    return Asked(
        application=read.application,
        version=read.version,
        players=tuple(_player(user) for user in read.users),
        tags=tuple(read.tags),
        env={variable.key: variable.value for variable in read.environment_variables},
        webhooks={event: webhook.url for event, webhook in told.items() if webhook is not None},
    )


def _player(user: _ByAddress | _ByCoordinates) -> Player:
    match user:
        case _ByAddress(user_data=data):
            return Player(ip=str(data.ip_address))
        case _ByCoordinates(user_data=data):
            return Player(lat=data.latitude, lon=data.longitude)
