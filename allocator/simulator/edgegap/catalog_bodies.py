"""The bodies of the catalogue's API, read as strictly as the vendor's description of them.

In: JSON, and tables of the settings for what is there from the start. Out: frozen models; `given` has the fields that
came with a body, which is what a PATCH changes. Names that only the vendor's older page has are passed over, as they
do nothing any more; all other unknown names are refused, and so are fields that a PATCH cannot change.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, StrictBool, StrictInt, StringConstraints, model_validator

_FORMER = frozenset(
    {
        *("is_telemetry_agent_active", "use_telemetry", "inject_context_env", "whitelisting_active"),
        *("cache_min_hour", "cache_max_hour", "enable_all_locations", "session_config", "kind"),
        *("command", "arguments", "create_time", "last_updated"),
    }
)

Text = Annotated[str, StringConstraints(strict=True)]
Filled = Annotated[str, StringConstraints(strict=True, min_length=1)]
AppName = Annotated[str, StringConstraints(strict=True, min_length=3, max_length=64)]
VersionName = Annotated[str, StringConstraints(strict=True, min_length=1, max_length=64)]
Units = Annotated[StrictInt, Field(ge=100)]
Protocol = Literal["TCP", "UDP", "TCP/UDP", "HTTP", "HTTPS", "WS", "WSS"]


class CatalogBody(BaseModel):
    """A body of the catalogue."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    former: ClassVar[frozenset[str]] = frozenset()

    @model_validator(mode="before")
    @classmethod
    def _known(cls, body: object) -> object:
        if not isinstance(body, dict):
            return body
        known = {key: value for key, value in body.items() if key not in cls.former}
        if None in known.values():
            nulls = ", ".join(str(key) for key, value in known.items() if value is None)
            raise ValueError(f"must not be null: {nulls}")
        return known

    def given(self) -> dict[str, Any]:
        """The fields that came."""
        fields = self.model_dump(exclude_none=True)
        return {key: fields[key] for key in self.model_fields_set}

    def all_fields(self) -> dict[str, Any]:
        """Every field that has a value, given or by default."""
        return self.model_dump(exclude_none=True)


class NewApp(CatalogBody):
    """`POST /v1/app`."""

    former = _FORMER
    name: AppName
    is_active: StrictBool
    image: Text


class ChangedApp(CatalogBody):
    """`PATCH /v1/app/{app_name}`."""

    former = _FORMER
    name: AppName | None = None
    is_active: StrictBool | None = None
    image: Text | None = None


class VersionPort(CatalogBody):
    """`AppVersionPort`."""

    port: Annotated[StrictInt, Field(ge=0, le=59_999)]
    protocol: Protocol
    to_check: StrictBool = True
    tls_upgrade: StrictBool = False
    name: Filled | None = None

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.port == 0 and self.name is None:
            raise ValueError("name is required when port is 0")
        if self.tls_upgrade and self.protocol not in {"WS", "HTTP"}:
            raise ValueError("tls_upgrade is only available with the protocols WS and HTTP")
        return self


class VersionVariable(CatalogBody):
    """`InjectedEnvVariable`."""

    former = frozenset({"is_secret"})
    key: Filled
    value: Annotated[str, StringConstraints(strict=True, max_length=4096), Field(repr=False)]
    is_hidden: StrictBool = False


class _VersionFields(CatalogBody):
    former = _FORMER
    private_username: Text | None = None
    private_token: Annotated[Text | None, Field(repr=False)] = None
    verify_image: StrictBool = False
    force_cache: StrictBool = False
    is_active: StrictBool = True
    time_to_deploy: Annotated[StrictInt, Field(ge=15)] = 15
    max_duration: Annotated[StrictInt, Field(ge=-1, le=1440)] = 1440
    restart_policy: Literal["always", "never", "on_failure"] = "always"
    termination_grace_period_seconds: Annotated[StrictInt, Field(ge=5, le=3600)] | None = None
    will_deploy_in_mainland_china: StrictBool = False
    dns_config: Text | None = None
    ports: list[VersionPort] = Field(default_factory=list)
    envs: list[VersionVariable] = Field(default_factory=list)
    endpoint_storage: Filled | None = None

    @model_validator(mode="after")
    def _ports_differ(self) -> Self:
        names = [port.name or str(port.port) for port in self.ports]
        if len(set(names)) < len(names):
            raise ValueError("ports must have names that differ")
        return self


class NewVersion(_VersionFields):
    """`POST /v1/app/{app_name}/version`."""

    name: VersionName
    docker_repository: Filled
    docker_image: Filled
    docker_tag: Filled
    req_cpu: Units
    req_memory: Units
    req_video: Annotated[StrictInt, Field(ge=0)] = 0

    @model_validator(mode="after")
    def _in_proportion(self) -> Self:
        if self.req_memory > 2 * self.req_cpu:
            raise ValueError("req_memory must be at most twice req_cpu")
        return self


class ChangedVersion(_VersionFields):
    """`PATCH /v1/app/{app_name}/version/{version_name}`, which changes no `req_cpu`, `req_memory` or `req_video`."""

    name: VersionName | None = None
    docker_repository: Filled | None = None
    docker_image: Filled | None = None
    docker_tag: Filled | None = None


class NewStorage(CatalogBody):
    """`POST /v1/storage/endpoint`."""

    name: Filled
    access_key_id: Filled
    secret_access_key: Annotated[Filled, Field(repr=False)]
    endpoint: Annotated[str, StringConstraints(strict=True, pattern=r"^https?://.+")]
    bucket: Filled
    output_format: Literal["TEXT", "NDJSON"] = "TEXT"


class ChangedStorage(CatalogBody):
    """`PATCH /v1/storage/endpoint/{endpoint_name}`."""

    name: Filled | None = None
    access_key_id: Filled | None = None
    secret_access_key: Annotated[Filled | None, Field(repr=False)] = None
    endpoint: Annotated[str, StringConstraints(strict=True, pattern=r"^https?://.+")] | None = None
    bucket: Filled | None = None
    output_format: Literal["TEXT", "NDJSON"] | None = None


class NewProfile(CatalogBody):
    """`POST /v1/storage/endpoint/{endpoint_name}/pull-profile`."""

    name: Filled
    source: Filled
    source_type: Literal["File", "Folder"]
    destination: Filled


class ChangedProfile(CatalogBody):
    """`PATCH /v1/storage/endpoint/{endpoint_name}/pull-profile/{pull_profile_name}`."""

    name: Filled | None = None
    source: Filled | None = None
    source_type: Literal["File", "Folder"] | None = None
    destination: Filled | None = None


class DeletedTags(CatalogBody):
    """`POST /v1/container-registry/images/{image_name}/tags/bulk-delete`."""

    tags: Annotated[list[Filled], Field(min_length=1)]
