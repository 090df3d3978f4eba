"""What can be sent to the catalogue, in Edgegap's own words.

In: names, values, secrets as `SecretStr`. Out: frozen models that take no key that is not known, and the JSON of them.
What is None is not sent. `body` is the only way to a secret in clear. Bounds are the vendor's to judge.
"""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field, SecretStr

from allocator.providers.edgegap.catalog.rows import OutputFormat, SourceType, VersionFields


class Sent(BaseModel):
    """What is sent: what is None is left out."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class NewApplication(Sent):
    """What an application is made of; the vendor requires a picture."""

    name: str
    is_active: bool = True
    image: str = Field(repr=False)


class ApplicationChange(Sent):
    """What of an application is to be another."""

    name: str | None = None
    is_active: bool | None = None
    image: str | None = Field(default=None, repr=False)


class NewVersion(VersionFields, Sent):
    """What a version is made of."""

    name: str
    docker_repository: str
    docker_image: str
    docker_tag: str
    req_cpu: int
    req_memory: int
    req_video: int | None = None


class VersionChange(VersionFields, Sent):
    """What of a version is to be another; its cpu, memory and GPU cannot be."""

    name: str | None = None
    docker_repository: str | None = None
    docker_image: str | None = None
    docker_tag: str | None = None


class NewStorage(Sent):
    """What an endpoint storage is made of."""

    name: str
    access_key_id: str
    secret_access_key: SecretStr
    endpoint: str
    bucket: str
    output_format: OutputFormat | None = None


class StorageChange(Sent):
    """What of an endpoint storage is to be another."""

    name: str | None = None
    access_key_id: str | None = None
    secret_access_key: SecretStr | None = None
    endpoint: str | None = None
    bucket: str | None = None
    output_format: OutputFormat | None = None


class NewProfile(Sent):
    """What a pull profile is made of."""

    name: str
    source: str
    source_type: SourceType
    destination: str


class ProfileChange(Sent):
    """What of a pull profile is to be another."""

    name: str | None = None
    source: str | None = None
    source_type: SourceType | None = None
    destination: str | None = None


def body(model: Sent) -> dict[str, Any]:
    """The JSON to send, secrets in clear; what is None is left out."""
    return {key: _clear(value) for key, value in model.model_dump(exclude_none=True).items()}


def secrets_of(model: Sent | None) -> list[str]:
    """Every secret that the JSON bears, so that a reply that repeats one can be masked."""
    return [] if model is None else list(_secrets(model.model_dump()))


def _clear(value: Any) -> Any:
    match value:
        case SecretStr():
            return value.get_secret_value()
        case dict():
            return {key: _clear(each) for key, each in value.items() if each is not None}
        case list() | tuple():
            return [_clear(each) for each in value]
        case _:
            return value


def _secrets(value: Any) -> list[str]:
    match value:
        case SecretStr():
            return [value.get_secret_value()]
        case {"is_hidden": False}:
            return []
        case dict():
            return [secret for each in value.values() for secret in _secrets(each)]
        case list() | tuple():
            return [secret for each in value for secret in _secrets(each)]
        case _:
            return []
