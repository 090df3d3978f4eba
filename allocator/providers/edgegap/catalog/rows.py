"""What the catalogue answers, in Edgegap's own words.

In: JSON of the vendor's description, version 2026.04.24 and later. Out: frozen rows. Keys that are not known are passed
over, since the vendor adds some. A registry's token and every value of a variable are secrets here: no repr and no
message shows them; `shown` is the way to what a person may see.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, SecretStr

RestartPolicy = Literal["always", "never", "on_failure"]
OutputFormat = Literal["TEXT", "NDJSON"]
SourceType = Literal["File", "Folder"]
MASK = "***"


class Row(BaseModel):
    """What the vendor answers."""

    model_config = ConfigDict(extra="ignore", frozen=True, hide_input_in_errors=True, populate_by_name=True)


class Application(Row):
    """An application: a name under which versions stand; `image` is its picture, base64."""

    name: str
    is_active: bool = True
    image: str | None = Field(default=None, repr=False)
    create_time: str | None = None
    last_updated: str | None = None


class Port(BaseModel):
    """A port inside the container; port 0 is a one-to-one mapping and needs a name."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    port: int
    protocol: str
    to_check: bool | None = None
    tls_upgrade: bool | None = None
    name: str | None = None


class Variable(BaseModel):
    """A variable of the container's environment; the value of a hidden one is not told again."""

    model_config = ConfigDict(extra="ignore", frozen=True, hide_input_in_errors=True, populate_by_name=True)

    key: str
    value: SecretStr | None = None
    is_hidden: bool = Field(default=False, validation_alias=AliasChoices("is_hidden", "is_secret"))


class VersionFields(BaseModel):
    """What a version has, whether it is read, made or changed."""

    is_active: bool | None = None
    private_username: str | None = None
    private_token: SecretStr | None = None
    verify_image: bool | None = None
    force_cache: bool | None = None
    time_to_deploy: int | None = None
    max_duration: int | None = None
    restart_policy: RestartPolicy | None = None
    termination_grace_period_seconds: int | None = None
    will_deploy_in_mainland_china: bool | None = None
    dns_config: str | None = None
    endpoint_storage: str | None = None
    ports: tuple[Port, ...] | None = None
    envs: tuple[Variable, ...] | None = None


class Version(VersionFields, Row):
    """A version of an application: which image a deployment runs, with what."""

    name: str
    docker_repository: str
    docker_image: str
    docker_tag: str
    req_cpu: int
    req_memory: int
    req_video: int | None = None
    restart_policy: str | None = None  # type: ignore[assignment]  # a policy that is new here must not hide the version
    caching_percent: float | None = None
    create_time: str | None = None
    last_updated: str | None = None


class Artifact(Row):
    """What a tag of an image leads to, and which tags lead to it as well."""

    artifact_deleted: bool = False
    remaining_tags: tuple[str, ...] = ()
    image_hash: str | None = None
    size_mb: float | None = None


class ImageTag(Row):
    """A tag of an image in the vendor's registry."""

    tag: str
    last_push_at: str | None = None
    artifact: Artifact | None = None


class DeletedTag(Row):
    """What went with a tag."""

    deleted_tag: str | None = None
    artifact: Artifact | None = None


class TagResult(Row):
    """What became of one tag of many: 204 deleted, 404 not there, 500 failed."""

    tag: str
    status: int
    message: str | None = None


class TagsDeleted(Row):
    """What became of each tag that was to be deleted."""

    results: tuple[TagResult, ...]

    @property
    def failed(self) -> tuple[TagResult, ...]:
        """Those that may still be there; one that was not there has not failed."""
        return tuple(each for each in self.results if each.status not in (200, 204, 404))


class Storage(Row):
    """An endpoint storage: a bucket for logs and for what containers pull; its secret is never told."""

    name: str
    access_key_id: str
    endpoint: str
    bucket: str
    output_format: str | None = None
    create_time: str | None = None
    last_updated: str | None = None


class Profile(Row):
    """A pull profile: what of a storage is laid where in the container as it starts."""

    name: str
    source: str
    source_type: str
    destination: str
    create_time: str | None = None
    last_updated: str | None = None


class Link(Row):
    """A pull profile that a version uses."""

    app: str
    app_version: str
    endpoint: str
    pull_profile: str


def shown(model: Row) -> dict[str, Any]:
    """What a person may see: secrets and values of hidden variables as stars, values of open variables in clear."""
    told = model.model_dump(mode="json")
    fields = {"name": told["name"], **told} if "name" in told else told
    if isinstance(model, Version):
        fields["private_token"] = None if model.private_token is None else MASK
        fields["envs"] = None if model.envs is None else [_shown_variable(each) for each in model.envs]
    return fields


def _shown_variable(variable: Variable) -> dict[str, Any]:
    clear = None if variable.value is None else variable.value.get_secret_value()
    return {"key": variable.key, "value": MASK if variable.is_hidden else clear, "is_hidden": variable.is_hidden}
