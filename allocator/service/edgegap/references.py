"""Secrets by where they are: a variable of the environment, or a file.

In: `{ env = "NAME" }` or `{ file = "PATH" }`, as the declared file writes it. Out: the secret, read only when it is to
be written to the vendor. Promised: no secret in clear is taken from the declared file, and no message repeats one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, SecretStr, model_validator

SECRET_BYTES_MAX = 16 * 1024
HOW = 'write { env = "VARIABLE" } or { file = "PATH" } in its place'


class Reference(BaseModel):
    """Where a secret is."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    env: Annotated[str, Field(min_length=1, max_length=256, pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")] | None = None
    file: Path | None = None

    @model_validator(mode="after")
    def _one(self) -> Self:
        if (self.env is None) == (self.file is None):
            raise ValueError(f"names no place or two; {HOW}")
        return self

    def __str__(self) -> str:
        return f'{{ env = "{self.env}" }}' if self.env is not None else f'{{ file = "{self.file}" }}'


def _no_secret(value: Any) -> Any:
    if isinstance(value, Reference | Mapping):
        return value
    raise ValueError(f"must not stand here in clear; {HOW}")


SecretReference = Annotated[Reference, BeforeValidator(_no_secret)]

Vault = Mapping[Reference, SecretStr]
"""Each secret that is to be written, by where it was found."""


class MissingSecret(Exception):  # noqa: N818 - what is the matter, not what went wrong
    """A secret is not where the file says; one sentence for each in `faults`."""

    def __init__(self, faults: tuple[str, ...]) -> None:
        self.faults = faults
        super().__init__("\n".join(faults))


def open_vault(wanted: Iterable[Reference], environ: Mapping[str, str], base: Path) -> Vault:
    """Read each secret; paths are below `base` unless they are absolute. Raises MissingSecret with all that lack."""
    found: dict[Reference, SecretStr] = {}
    faults: list[str] = []
    for reference in dict.fromkeys(wanted):
        try:
            found[reference] = SecretStr(_read(reference, environ, base))
        except ValueError as error:
            faults.append(str(error))
    if faults:
        raise MissingSecret(tuple(faults))
    return found


def _read(reference: Reference, environ: Mapping[str, str], base: Path) -> str:
    if reference.file is None:
        text = environ.get(reference.env or "", "")
        if not text:
            raise ValueError(f"{reference.env} (environment): is not set or empty; put the secret there")
        return text
    try:
        with (base / reference.file).open("rb") as file:
            raw = file.read(SECRET_BYTES_MAX + 1)
    except OSError as error:
        raise ValueError(f"{reference.file}: cannot be read ({error.strerror}); put the secret there") from None
    try:
        text = raw.decode().rstrip("\r\n")
    except UnicodeDecodeError:
        raise ValueError(f"{reference.file}: is not text; put the secret there as UTF-8") from None
    if not text or len(raw) > SECRET_BYTES_MAX:
        raise ValueError(f"{reference.file}: is empty or over {SECRET_BYTES_MAX} bytes; put the secret there")
    return text
