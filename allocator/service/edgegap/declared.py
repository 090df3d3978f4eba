"""What can be declared: the tables of the file, their fields and bounds.

In: tables as TOML has them. Out: frozen models. What a table does not name is left as it is at the vendor, but for
`ports`, `envs` and `pull_profiles`, which are whole once they are named. A value of `envs` in clear is open to whoever
may read the catalogue; one by reference is hidden. How the file is read is left to `declared_file`.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StrictBool,
    StringConstraints,
    ValidationError,
    ValidationInfo,
    model_validator,
)

from allocator.providers.edgegap.catalog.rows import OutputFormat, RestartPolicy, SourceType
from allocator.service.edgegap.references import HOW, Reference, SecretReference

IMAGE_BYTES_MAX = 300 * 1024
_PROTECTED = re.compile(r"/*(etc(/.*)?)?")


def _segment(value: str) -> str:
    if value in (".", "..") or not value.isprintable():
        raise ValueError("must be printable, and neither '.' nor '..'")
    return value


def _no_slash(value: str) -> str:
    if "/" in value:
        raise ValueError("must hold no '/', which parts a storage from its pull profile")
    return value


Name = Annotated[str, StringConstraints(min_length=1, max_length=64), AfterValidator(_segment)]
StorageName = Annotated[
    str, StringConstraints(min_length=1, max_length=256), AfterValidator(_segment), AfterValidator(_no_slash)
]
Text = Annotated[str, StringConstraints(min_length=1, max_length=1024)]


def _formed(pattern: str, says: str) -> AfterValidator:
    """A text of this form; `says` is the sentence where it is not."""
    form = re.compile(pattern)

    def check(value: str) -> str:
        if not form.fullmatch(value):
            raise ValueError(says)
        return value

    return AfterValidator(check)


ProfilePath = Annotated[str, StringConstraints(max_length=512), _formed(r"[^/]+/.+", "must be STORAGE/PROFILE")]


def _env_value(value: Any) -> Any:
    """A text in clear, or a reference; as a value of one of both, so that no message speaks of the other."""
    if isinstance(value, Mapping):
        try:
            return Reference.model_validate(value)
        except ValidationError:
            raise ValueError(f"must be a text, which anyone with the token may read; or, to hide it, {HOW}") from None
    if not isinstance(value, str) or len(value.encode()) > 4096:
        raise ValueError("must be a text, in quotes, of at most 4096 bytes")
    return value


def _distinct(value: tuple[str, ...]) -> tuple[str, ...]:
    if len(set(value)) != len(value):
        raise ValueError("names a pull profile twice; name each once")
    return value


def _writable(value: str) -> str:
    if _PROTECTED.fullmatch(value):
        raise ValueError("is protected, and a deployment that is to be written there fails; name another folder")
    return value


def _base64(value: Any, info: ValidationInfo) -> Any:
    match value:
        case {"path": str(path), **rest} if not rest:
            base = info.context["base"] if info.context else Path()
            return _picture(base / path)
        case str() if _is_base64(value):
            return value
    raise ValueError('must be base64, or { path = "logo.png" } with a path from this file on')


VariableName = Annotated[
    str,
    StringConstraints(max_length=256),
    _formed(r"[A-Za-z_][A-Za-z0-9_]*", "must be letters, digits and '_', and begin with no digit"),
]
VariableValue = Annotated[str | Reference, BeforeValidator(_env_value)]


def _whole(low: int, high: int) -> Any:
    return Field(strict=True, ge=low, le=high)


class Part(BaseModel):
    """A table of the file: unknown keys are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class DeclaredPort(Part):
    """A port inside the container."""

    port: Annotated[int, _whole(0, 59_999)]
    protocol: Literal["TCP", "UDP", "TCP/UDP", "HTTP", "HTTPS", "WS", "WSS"]
    to_check: StrictBool = True
    tls_upgrade: StrictBool = False
    name: Text | None = None

    @model_validator(mode="after")
    def _named(self) -> Self:
        if self.port == 0 and self.name is None:
            raise ValueError("port 0 needs a name")
        return self


class DeclaredVersion(Part):
    """A version of an application."""

    docker_repository: Text
    docker_image: Text
    docker_tag: Text
    req_cpu: Annotated[int, _whole(100, 1_048_576)]
    req_memory: Annotated[int, _whole(100, 1_048_576)]
    req_video: Annotated[int, _whole(0, 1_048_576)] | None = None
    private_username: Text | None = None
    private_token: SecretReference | None = None
    is_active: StrictBool | None = None
    verify_image: StrictBool | None = None
    force_cache: StrictBool | None = None
    time_to_deploy: Annotated[int, _whole(10, 86_400)] | None = None
    max_duration: Annotated[int, _whole(-1, 1440)] | None = None
    restart_policy: RestartPolicy | None = None
    termination_grace_period_seconds: Annotated[int, _whole(5, 3600)] | None = None
    will_deploy_in_mainland_china: StrictBool | None = None
    dns_config: Text | None = None
    endpoint_storage: StorageName | None = None
    ports: Annotated[tuple[DeclaredPort, ...], Field(max_length=100)] | None = None
    envs: Annotated[dict[VariableName, VariableValue], Field(max_length=500)] | None = None
    pull_profiles: Annotated[tuple[ProfilePath, ...], Field(max_length=100), AfterValidator(_distinct)] | None = None

    @model_validator(mode="after")
    def _memory_for_cpu(self) -> Self:
        if self.req_memory > 2 * self.req_cpu:
            raise ValueError(
                f"req_memory must be at most twice req_cpu ({2 * self.req_cpu}); raise req_cpu or lower it"
            )
        return self


class DeclaredApplication(Part):
    """An application and its versions; `image` is its picture: base64, or `{ path = "logo.png" }` beside the file."""

    is_active: StrictBool | None = None
    image: Annotated[str, BeforeValidator(_base64)] | None = Field(default=None, repr=False)
    versions: Annotated[dict[Name, DeclaredVersion], Field(max_length=1000)] = Field(default_factory=dict)


class DeclaredProfile(Part):
    """A pull profile of a storage."""

    source: Text
    source_type: SourceType
    destination: Annotated[Text, AfterValidator(_writable)]


class DeclaredStorage(Part):
    """An endpoint storage and its pull profiles."""

    endpoint: Annotated[
        str,
        StringConstraints(max_length=1024),
        _formed(r"https?://[^\s@]+", "must be like 'https://host', without blanks, user or password"),
    ]
    bucket: Text
    access_key_id: Text
    secret_access_key: SecretReference
    output_format: OutputFormat | None = None
    pull_profiles: Annotated[dict[Name, DeclaredProfile], Field(max_length=1000)] = Field(default_factory=dict)


class Declared(Part):
    """All that the file declares."""

    storages: Annotated[dict[StorageName, DeclaredStorage], Field(max_length=1000)] = Field(default_factory=dict)
    applications: Annotated[dict[Name, DeclaredApplication], Field(max_length=1000)] = Field(default_factory=dict)


def _is_base64(value: str) -> bool:
    try:
        base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError):
        return False
    return True


def _picture(file: Path) -> str:
    try:
        with file.open("rb") as stream:
            raw = stream.read(IMAGE_BYTES_MAX + 1)
    except OSError as error:
        raise ValueError(f"{file} cannot be read ({error.strerror}); correct the path") from None
    if not raw or len(raw) > IMAGE_BYTES_MAX:
        raise ValueError(f"{file} is empty or over {IMAGE_BYTES_MAX} bytes; take another picture")
    return base64.b64encode(raw).decode()
