"""The file that declares what is there.

In: a snapshot. Out: TOML of which a plan shows no change. Secrets are references to variables that are to be set
before they are first written; what the file's own rules would refuse (a value from before the vendor's present limits)
stands in a comment. Links cannot be read and are not in it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from pydantic import ValidationError

from allocator.providers.edgegap.catalog.rows import Application, Port, Profile, Storage, Version
from allocator.service.edgegap.bodies import BLANK_PICTURE
from allocator.service.edgegap.compare import FIXED_FIELDS, PLAIN_FIELDS
from allocator.service.edgegap.declared import (
    DeclaredApplication,
    DeclaredProfile,
    DeclaredStorage,
    DeclaredVersion,
    Part,
)
from allocator.service.edgegap.snapshot import Snapshot
from allocator.service.edgegap.toml_text import assignment, heading

Table = dict[str, Any]
BEYOND = "beyond what can be declared"
_HEAD = """\
# What is in Edgegap's catalogue, as 'allocator edgegap export' found it.
# Secrets cannot be read: set the variables that stand here before they are written.
# Links cannot be read either: name them as pull_profiles = ["storage/profile"] in a version."""


def export(there: Snapshot) -> str:
    """The file's text."""
    return "\n\n".join([_HEAD, *_storages(there), *_applications(there)]) + "\n"


def _storages(there: Snapshot) -> Iterator[str]:
    for name, storage in there.storages.items():
        yield _block(("storages", name), DeclaredStorage, _storage(storage))
        for (above, each), profile in there.profiles.items():
            if above == name:
                yield _block(("storages", name, "pull_profiles", each), DeclaredProfile, _profile(profile))


def _applications(there: Snapshot) -> Iterator[str]:
    for name, application in there.applications.items():
        yield _block(("applications", name), DeclaredApplication, _application(application))
        for (above, each), version in there.versions.items():
            if above == name:
                yield _block(("applications", name, "versions", each), DeclaredVersion, _version(name, version))


def _block(path: tuple[str, ...], part: type[Part], table: Table) -> str:
    """One table as text. What the file may not hold is put into comments: a field, or else the whole table."""
    faulty = _faulty(part, table)
    dropped = {
        name: table[name] for name in sorted(faulty) if name in table and not part.model_fields[name].is_required()
    }
    kept = {name: value for name, value in table.items() if name not in dropped}
    lines = [heading(path), *(assignment(name, value) for name, value in kept.items())]
    lines += [f"# {BEYOND}: {assignment(name, value)}" for name, value in dropped.items()]
    if _faulty(part, kept) or (path[0] == "storages" and "/" in path[1]):
        lines = [f"# {BEYOND}:", *(f"# {line}" for line in lines)]
    return "\n".join(lines)


def _faulty(part: type[Part], table: Table) -> set[str]:
    """The fields that the file's own rules refuse; the empty name for the table as a whole."""
    try:
        part.model_validate(table)
    except ValidationError as error:
        return {str(fault["loc"][0]) if fault["loc"] else "" for fault in error.errors(include_input=False)}
    return set()


def _storage(storage: Storage) -> Table:
    return _told(
        endpoint=storage.endpoint,
        bucket=storage.bucket,
        access_key_id=storage.access_key_id,
        secret_access_key={"env": _variable_name(storage.name, "secret_access_key")},
        output_format=storage.output_format,
    )


def _profile(profile: Profile) -> Table:
    return {"source": profile.source, "source_type": profile.source_type, "destination": profile.destination}


def _application(application: Application) -> Table:
    picture = None if application.image in (None, "", BLANK_PICTURE) else application.image
    return _told(is_active=application.is_active, image=picture)


def _version(application: str, version: Version) -> Table:
    fields = {name: getattr(version, name) for name in (*PLAIN_FIELDS, *FIXED_FIELDS)}
    if version.private_username or version.private_token:
        fields["private_token"] = {"env": _variable_name(application, version.name, "private_token")}
    if version.ports is not None:
        fields["ports"] = [_port(port) for port in version.ports]
    if version.envs is not None:
        fields["envs"] = {
            each.key: {"env": _variable_name(application, version.name, each.key)}
            if each.is_hidden
            else ("" if each.value is None else each.value.get_secret_value())
            for each in version.envs
        }
    return _told(**fields)


def _port(port: Port) -> Table:
    return _told(
        port=port.port,
        protocol=port.protocol,
        name=port.name,
        to_check=False if port.to_check is False else None,
        tls_upgrade=True if port.tls_upgrade else None,
    )


def _told(**fields: Any) -> Table:
    return {name: value for name, value in fields.items() if value not in (None, "")}


def _variable_name(*parts: str) -> str:
    return re.sub(r"[^A-Z0-9]+", "_", "_".join(("EDGEGAP", *parts)).upper())
