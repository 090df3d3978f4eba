"""How the simulated Edgegap behaves: one frozen tree, the same as keyword arguments, TOML script and JSON.

In: tables and values from a script, from options, from the control door or from Python. Out: `SimulatorSettings`, or
pydantic's `ValidationError`. Every setting has a default: three boundless locations, the vendor's published rates,
starts of 0.5 to 3 s, and any application deploys.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Field, ValidationError, model_validator

from allocator.simulator.edgegap.catalog_bodies import NewVersion
from allocator.simulator.edgegap.faults import Fault
from allocator.simulator.tables import (
    Count,
    Frozen,
    Name,
    Names,
    Rate,
    RetryAfter,
    Seconds,
    SpanMs,
    SpanSeconds,
    sentence,
)

REGISTRY_HOST = "registry.edgegap.com"
_VERSION: dict[str, Any] = {
    "docker_repository": REGISTRY_HOST,
    "req_cpu": 256,
    "req_memory": 256,
    "ports": [{"port": 7777, "protocol": "UDP", "name": "gameport"}],
}


class LocationSettings(Frozen):
    """One location: where it is and how much it holds."""

    lat: Annotated[float, Field(ge=-90, le=90)]
    lon: Annotated[float, Field(ge=-180, le=180)]
    country: str = "Simulated"
    continent: str = "Simulated"
    timezone: str = "UTC"
    capacity: Count | None = None
    """Deployments that may be there at once; beyond it the next location within `spill_km`, else 422."""
    start_seconds: SpanSeconds | None = None
    """From the POST to READY; without it, as everywhere."""
    host: str | None = None
    """The address of every deployment here; without it, made-up ones (10.x.y.z) of which each has its own ports."""


class RateSettings(Frozen):
    """Calls a second over the whole account, as the vendor publishes them; no other call has a published rate."""

    deploy: Rate | None = 40.0
    status: Rate | None = 20.0
    list: Rate | None = 10.0


class ApplicationSettings(Frozen):
    """An application that is there from the start; its versions are bodies of `POST /v1/app/{name}/version`."""

    is_active: bool = True
    versions: dict[Name, dict[str, Any]] = Field(default_factory=dict)

    def bodies(self, application: str) -> list[NewVersion]:
        """The bodies that make the versions, with what they leave out filled in."""
        return [
            NewVersion.model_validate(
                {**_VERSION, "docker_image": application, "docker_tag": name, **fields, "name": name}
            )
            for name, fields in self.versions.items()
        ]

    @model_validator(mode="after")
    def _can_be_made(self) -> Self:
        try:
            self.bodies("application")
        except ValidationError as error:
            raise ValueError(f"versions: {sentence(error)}") from error
        return self


def _default_locations() -> dict[str, LocationSettings]:
    return {
        "amsterdam": LocationSettings(lat=52.37, lon=4.89, country="Netherlands", continent="Europe"),
        "new-york": LocationSettings(lat=40.71, lon=-74.01, country="United States", continent="North America"),
        "singapore": LocationSettings(lat=1.35, lon=103.82, country="Singapore", continent="Asia"),
    }


class SimulatorSettings(Frozen):
    """All that can be said about the simulated Edgegap."""

    token: Name | None = Field(default=None, repr=False)
    """The only API token taken, without the word `token` before it; without it, any that is not empty."""
    locations: dict[Name, LocationSettings] = Field(default_factory=_default_locations, min_length=1)
    spill_km: Annotated[float, Field(ge=0)] = 0.0
    """How far from the nearest location a deployment may go where that one is full."""
    applications: dict[Name, ApplicationSettings] = Field(default_factory=dict)
    any_application: bool = True
    """Whether one that the catalogue does not know deploys, with the port `gameport` (7777/UDP)."""
    images: dict[Name, Names] = Field(default_factory=dict)
    """The registry: the tags of each image."""
    unpullable: Names = ()
    """Images (with or without a tag) that `verify_image` finds it cannot pull: 424."""
    start_seconds: SpanSeconds = (0.5, 3.0)
    """From the POST to READY, drawn evenly; `slow_start` faults make some longer."""
    stop_seconds: Seconds = 0.5
    """How long a stopped deployment stays TERMINATING."""
    error_kept_seconds: Seconds = 600.0
    """After which a deployment in ERROR is removed, if nobody stopped it before."""
    refused_is_kept: bool = True
    """Whether a 422 leaves a deployment in ERROR, as the vendor's text says."""
    listed_after_seconds: Seconds = 0.0
    """How long a new deployment is missing from the list."""
    rates: RateSettings = RateSettings()
    throttle_status: Literal[420, 429] = 429
    retry_after: RetryAfter | None = None
    latency_ms: SpanMs = (0.0, 0.0)
    """How long each answer takes, drawn evenly from this range."""
    unknown_status: Literal[400, 404] = 400
    """What an unknown deployment's status answers: the live API 400, its description 404."""
    deferred_stop_status: Literal[200, 202] = 202
    """What the stop of a deployment answers that is neither READY nor ERROR yet."""
    webhook_timeout_seconds: Seconds = 10.0
    page_limit: Annotated[int, Field(ge=1)] = 10
    """Rows of a page where the call asks for no number."""
    page_limit_max: Annotated[int, Field(ge=1)] = 100
    """Rows of a page at most, whatever the call asks for."""
    seed: int = 0
    faults: tuple[Fault, ...] = ()
