"""The vendor's JSON of the catalogue, for each answer its own shape; no secret is in any.

In: records. Out: objects as the vendor's OpenAPI description has them.
"""

from __future__ import annotations

from typing import Any

from allocator.simulator.edgegap.catalog import Catalog
from allocator.simulator.edgegap.records import Record
from allocator.simulator.edgegap.shapes import moment

_SECRETS = frozenset({"private_token", "secret_access_key"})


def shown(record: Record) -> dict[str, Any]:
    """`Application`, `EndpointStorage`, `PullProfile`: the fields but the secret ones, and the times."""
    fields = {key: value for key, value in record.fields.items() if key not in _SECRETS and value is not None}
    return {**fields, "create_time": moment(record.created_at_ms), "last_updated": moment(record.updated_at_ms)}


def version(record: Record) -> dict[str, Any]:
    """`AppVersion`; of a hidden variable only the name is there to be read."""
    fields = shown(record)
    fields["ports"] = [{key: value for key, value in port.items() if value is not None} for port in fields["ports"]]
    fields["envs"] = [{**each, "value": ""} if each["is_hidden"] else each for each in fields["envs"]]
    fields["caching_percent"] = 1.0 if fields["force_cache"] else 0.0
    return fields


def link(*, app: str, version: str, storage: str, profile: str, at_ms: int) -> dict[str, Any]:
    """What the linking of a pull profile answers."""
    return {
        "app": app,
        "app_version": version,
        "endpoint": storage,
        "pull_profile": profile,
        "create_time": moment(at_ms),
        "last_updated": moment(at_ms),
    }


def overview(catalog: Catalog) -> dict[str, Any]:
    """All of it by name, for the control door: none of these shapes is the vendor's."""
    names = {version: f"{app.name}/{version.name}" for app in catalog.apps for version in app.versions}
    return {
        "applications": {
            app.name: {**shown(app), "versions": {each.name: version(each) for each in app.versions}}
            for app in catalog.apps
        },
        "storages": {
            storage.name: {
                **shown(storage),
                "pull_profiles": {
                    profile.name: {**shown(profile), "linked_to": [names[each] for each in profile.links]}
                    for profile in storage.profiles
                },
            }
            for storage in catalog.storages
        },
    }
