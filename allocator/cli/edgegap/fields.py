"""`--with FIELD=VALUE`: fields on the command line, by the names and rules of the declared file.

In: texts. Out: what TOML makes of them: `req_cpu=1024`, `docker_tag=1.0`, `ports=[{port=7777, protocol="UDP"}]`. What
holds text takes its value as it stands, quotes or none. A secret is `private_token={env="REGISTRY_TOKEN"}`; one in
clear is refused.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar, get_args

import typer

if TYPE_CHECKING:
    from allocator.service.edgegap.declared import Part
    from allocator.service.edgegap.references import Vault

    PartT = TypeVar("PartT", bound=Part)

WithOption = Annotated[
    list[str] | None,
    typer.Option(
        "--with",
        metavar="FIELD=VALUE",
        help='A field as the declared file has it, such as req_cpu=1024 or private_token={env="NAME"}; repeatable.',
        show_default=False,
    ),
]
SOURCE = "--with"
_OF_THEIR_OWN = {
    "versions": "have verbs of their own; use 'edgegap versions'",
    "pull_profiles": "have verbs of their own; use 'edgegap profiles', and its link and unlink",
}


def whole(part: type[PartT], given: Sequence[str] | None) -> PartT:
    """The part that these fields make; DeclaredError where they make none."""
    from allocator.service.edgegap.declared_file import checked

    return checked(part, _read(part, given), Path(), SOURCE)


def some(part: type[Part], given: Sequence[str] | None) -> dict[str, Any]:
    """These fields alone, checked; DeclaredError where there is none."""
    from allocator.service.edgegap.declared_file import DeclaredError, checked_fields

    if not given:
        raise DeclaredError((f"{SOURCE}: nothing is to be changed; name a field as {SOURCE} FIELD=VALUE",))
    return checked_fields(part, _read(part, given), Path(), SOURCE)


def vault_of(values: Iterable[Any]) -> Vault:
    """The secrets that these values refer to; MissingSecret where one is not there."""
    from allocator.service.edgegap.references import Reference, open_vault

    flat = [each for value in values for each in (value.values() if isinstance(value, Mapping) else [value])]
    return open_vault([each for each in flat if isinstance(each, Reference)], os.environ, Path())


def _read(part: type[Part], given: Sequence[str] | None) -> dict[str, Any]:
    from allocator.service.edgegap.declared_file import DeclaredError

    read: dict[str, Any] = {}
    for number, each in enumerate(given or (), 1):
        name, equals, text = each.partition("=")
        name = name.strip()
        if not equals or not name:
            # A text without `=` may be a secret and is not repeated.
            raise DeclaredError((f"{SOURCE} (number {number}): must be FIELD=VALUE, such as req_cpu=1024",))
        if name in _OF_THEIR_OWN:
            raise DeclaredError((f"{SOURCE}: {name}: {_OF_THEIR_OWN[name]}",))
        read[name] = _value(part, name, text)
    return read


def _value(part: type[Part], name: str, text: str) -> Any:
    try:
        value: Any = tomllib.loads(f"value = {text}")["value"]
    except (ValueError, KeyError):
        return text
    field = part.model_fields.get(name)
    if isinstance(value, str | list | dict) or field is None or not _holds_text(field.annotation):
        return value
    return text


def _holds_text(annotation: Any) -> bool:
    inner = get_args(annotation)
    return annotation is str or isinstance(annotation, str) or any(_holds_text(each) for each in inner)
