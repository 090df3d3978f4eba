"""The settings as one frozen model, and what a region's name resolves to.

In: the given values, nested as tables. Out: `Settings`, and for each region the destinations with rate and burst.
How the values are read and what two tables must agree on is left to `settings`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, StringConstraints, field_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from allocator.contract.destination import Destination
from allocator.contract.partitions import PARTITIONS_MAX
from allocator.contract.request import ttl_seconds
from allocator.service.settings_outside import OutsideTable
from allocator.service.settings_tables import (
    BUILT_IN,
    Admin,
    Api,
    CatalogEntry,
    Edgegap,
    Gameye,
    Placement,
    Reconciler,
    Redis,
    Region,
    RegionDefaults,
    RegionDestination,
    Telemetry,
    Text,
    Worker,
    is_location_name,
    refuse_flag,
)


def _duration(value: str) -> str:
    ttl_seconds(value)
    return value


@dataclass(frozen=True, slots=True)
class ResolvedDestination:
    """A place to start a session, `rate` starts a second over the whole fleet, up to `burst` at once.

    `weight`: its share among the region's weighted places, None where none is given. `first_choice_share`: what of the
    rate its region keeps for requests whose first region it is.
    """

    destination: Destination
    rate: float
    burst: int
    weight: float | None = None
    first_choice_share: float = 0


class Settings(BaseSettings):
    """Everything that can be set, by the tables of the public contract's section 6."""

    model_config = SettingsConfigDict(
        extra="forbid", frozen=True, validate_default=False, hide_input_in_errors=True, allow_inf_nan=False
    )

    # Empty only where the command that loads does not require it.
    deployment: Annotated[str, StringConstraints(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9._-]+$")] = ""
    """Part of every session id and mark: two deployments never touch each other's sessions. Never change it."""
    namespace: Annotated[str, StringConstraints(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9._:-]+$")] = (
        "allocator"
    )
    """What every key begins with, in braces."""
    partitions: Annotated[int, Field(ge=1, le=PARTITIONS_MAX)] = 1
    """Into how many slots of a Redis Cluster the namespace is split; fixed once it is made."""
    default_regions: Annotated[tuple[Text, ...], Field(max_length=16)] = ()
    """For requests that name none."""
    unknown_regions: Literal["refuse", "default"] = "refuse"
    """A region that is not named here is refused, or served with `region_defaults` where its name is of 1 to 64
    letters, digits, `.`, `_` or `-`."""
    request_timeout_seconds: Annotated[float, Field(ge=0.1, le=3600)] = 60
    """For requests that name no `timeout_seconds`; after it they end `expired`."""
    result_ttl_seconds: Annotated[int, Field(ge=60, le=2_592_000)] = 7200
    """How long the hash of a request without a session is kept."""
    results_max_age_seconds: Annotated[int, Field(ge=60, le=2_592_000)] = 3600
    """How long announcements are kept on the results streams."""
    session_ttl: Annotated[str, AfterValidator(_duration)] = "4h"
    """For requests that name no `ttl`: the provider ends the session after this long."""
    redis: Redis = Field(default_factory=Redis)
    worker: Worker = Field(default_factory=Worker)
    gameye: Gameye | None = None
    edgegap: Edgegap | None = None
    region_defaults: RegionDefaults = Field(default_factory=RegionDefaults)
    placement: Placement = Field(default_factory=Placement)
    regions: Annotated[dict[Text, Region], Field(max_length=1000)] = Field(default_factory=dict)
    """Each region by the name that requests use."""
    catalog: Annotated[dict[Text, CatalogEntry], Field(max_length=10_000)] = Field(default_factory=dict)
    """What is known of each image beforehand."""
    admin: Admin = Field(default_factory=Admin)
    telemetry: Telemetry = Field(default_factory=Telemetry)
    api: Api | None = None
    reconciler: Reconciler = Field(default_factory=Reconciler)
    outside: Annotated[dict[Text, OutsideTable], Field(max_length=16)] = Field(default_factory=dict)
    """The providers that other packages bring, each by its name."""

    _no_flags = field_validator("*", mode="before")(refuse_flag)

    @field_validator("default_regions")
    @classmethod
    def _distinct(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(value)) != len(value):
            raise ValueError("names a region twice; name each once")
        return value

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Take what `load_settings` read and nothing else: it knows each value's source and finds unknown variables."""
        del settings_cls, env_settings, dotenv_settings, file_secret_settings
        return (init_settings,)

    def provider_table(self, name: str) -> Gameye | Edgegap | OutsideTable | None:
        """The table of a provider; None where it is off."""
        return {"gameye": self.gameye, "edgegap": self.edgegap, **self.outside}.get(name)

    def account_of(self, provider: str) -> str | None:
        """Whose rates a provider's are; None where it is off."""
        table = self.provider_table(provider)
        return None if table is None else table.account or provider

    @property
    def providers(self) -> tuple[str, ...]:
        """The names of those that are on."""
        return tuple(name for name in (*BUILT_IN, *self.outside) if self.provider_table(name) is not None)

    def resolve(self, region: str) -> tuple[ResolvedDestination, ...]:
        """Where a region's sessions may start, in order; empty where this name is not served."""
        if region in self.resolved:
            return self.resolved[region]
        if self.unknown_regions == "refuse" or self.gameye is None or not is_location_name(region):
            return ()  # whatever a matchmaker makes up becomes part of keys: `*` would share the account's limit
        destination = Destination("gameye", region)
        configured = (each for places in self.resolved.values() for each in places if each.destination == destination)
        return (next(configured, self._place(Region(), RegionDestination(provider="gameye", location=region))),)

    @cached_property
    def resolved(self) -> Mapping[str, tuple[ResolvedDestination, ...]]:
        """Every configured region with its destinations in order; without any it is Gameye's region of that name."""
        return {
            name: tuple(
                self._place(region, each)
                for each in region.destinations or (RegionDestination(provider="gameye", location=name),)
            )
            for name, region in self.regions.items()
        }

    def _place(self, region: Region, each: RegionDestination) -> ResolvedDestination:
        return ResolvedDestination(
            Destination(each.provider, each.location),
            rate=next(rate for rate in (each.rate, region.rate, self.region_defaults.rate) if rate is not None),
            burst=next(burst for burst in (each.burst, region.burst, self.region_defaults.burst) if burst is not None),
            weight=each.weight,
            first_choice_share=region.first_choice_share,
        )
