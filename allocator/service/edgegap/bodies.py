"""What is sent to the vendor, made of what is declared and of the secrets it refers to.

In: a declared part, the names of the fields to write, the vault. Out: a body of the catalogue, secrets as such.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from pydantic import SecretStr

from allocator.providers.edgegap.catalog.rows import Port, Variable
from allocator.providers.edgegap.catalog.sent import (
    ApplicationChange,
    NewApplication,
    NewProfile,
    NewStorage,
    NewVersion,
    ProfileChange,
    StorageChange,
    VersionChange,
)
from allocator.service.edgegap.declared import (
    DeclaredApplication,
    DeclaredProfile,
    DeclaredStorage,
    DeclaredVersion,
    Part,
)
from allocator.service.edgegap.references import Reference, Vault

BLANK_PICTURE = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
"""One clear dot: the vendor makes no application without a picture."""


def new_storage(name: str, declared: DeclaredStorage, vault: Vault) -> NewStorage:
    """One to be made."""
    return NewStorage(
        name=name,
        access_key_id=declared.access_key_id,
        secret_access_key=vault[declared.secret_access_key],
        endpoint=declared.endpoint,
        bucket=declared.bucket,
        output_format=declared.output_format,
    )


def storage_change(declared: DeclaredStorage, fields: Collection[str], vault: Vault) -> StorageChange:
    """These fields of one."""
    return StorageChange(**values_to_send(_fields(declared, fields), vault))


def new_profile(name: str, declared: DeclaredProfile) -> NewProfile:
    """One to be made."""
    return NewProfile(
        name=name, source=declared.source, source_type=declared.source_type, destination=declared.destination
    )


def profile_change(declared: DeclaredProfile, fields: Collection[str]) -> ProfileChange:
    """These fields of one."""
    return ProfileChange(**_fields(declared, fields))


def new_application(name: str, declared: DeclaredApplication) -> NewApplication:
    """One to be made; active unless the file says otherwise."""
    return NewApplication(name=name, is_active=declared.is_active is not False, image=declared.image or BLANK_PICTURE)


def application_change(declared: DeclaredApplication, fields: Collection[str]) -> ApplicationChange:
    """These fields of one."""
    return ApplicationChange(**_fields(declared, fields))


def new_version(name: str, declared: DeclaredVersion, vault: Vault) -> NewVersion:
    """One to be made, with everything that is declared."""
    fields = [each for each in DeclaredVersion.model_fields if each != "pull_profiles"]
    return NewVersion(name=name, **values_to_send(_fields(declared, fields), vault))


def version_change(declared: DeclaredVersion, fields: Collection[str], vault: Vault) -> VersionChange:
    """These fields of one."""
    return VersionChange(**values_to_send(_fields(declared, fields), vault))


def values_to_send(values: Mapping[str, Any], vault: Vault) -> dict[str, Any]:
    """Declared values as bodies have them."""
    return {name: _value(name, value, vault) for name, value in values.items()}


def _fields(declared: Part, names: Collection[str]) -> dict[str, Any]:
    return {name: getattr(declared, name) for name in names}


def _value(name: str, value: Any, vault: Vault) -> Any:
    match name, value:
        case _, Reference() as reference:
            return vault[reference]
        case "ports", tuple() as ports:
            return tuple(Port(**port.model_dump()) for port in ports)
        case "envs", Mapping() as variables:
            return tuple(_variable(key, each, vault) for key, each in variables.items())
    return value


def _variable(key: str, value: str | Reference, vault: Vault) -> Variable:
    if isinstance(value, Reference):
        return Variable(key=key, value=vault[value], is_hidden=True)
    return Variable(key=key, value=SecretStr(value), is_hidden=False)
