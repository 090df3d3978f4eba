"""Where what is declared and what is there are not the same, field by field.

In: a declared part and the vendor's row. Out: differences in texts, without a secret. Pure. A field that the file does
not name is not compared. A field that the vendor does not tell has its documented default. What cannot be read at the
vendor cannot be compared: `private_token`, `secret_access_key`, values of hidden variables, `verify_image`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from allocator.providers.edgegap.catalog.rows import Application, Port, Profile, Storage, Variable, Version
from allocator.service.edgegap.declared import (
    DeclaredApplication,
    DeclaredPort,
    DeclaredProfile,
    DeclaredStorage,
    DeclaredVersion,
)
from allocator.service.edgegap.references import Reference
from allocator.service.edgegap.steps import DeclaredPart, Difference

IMAGE_FIELDS = ("docker_repository", "docker_image", "docker_tag")
FIXED_FIELDS = ("req_cpu", "req_memory", "req_video")
"""What the vendor lets nobody change once a version is made."""
PLAIN_FIELDS = (
    *IMAGE_FIELDS,
    "is_active",
    "private_username",
    "force_cache",
    "time_to_deploy",
    "max_duration",
    "restart_policy",
    "termination_grace_period_seconds",
    "will_deploy_in_mainland_china",
    "dns_config",
    "endpoint_storage",
)
_STORAGE_FIELDS = ("endpoint", "bucket", "access_key_id", "output_format")
_PROFILE_FIELDS = ("source", "source_type", "destination")
_DEFAULTS: Mapping[str, Any] = {
    "is_active": True,
    "output_format": "TEXT",
    "req_video": 0,
    "force_cache": False,
    "max_duration": 1440,
    "restart_policy": "always",
    "will_deploy_in_mainland_china": False,
}
UNREAD = "(not told)"
HIDDEN = "(hidden)"


def storage_differences(declared: DeclaredStorage, there: Storage) -> list[Difference]:
    """What of a storage is another."""
    return _plain(_STORAGE_FIELDS, declared, there)


def profile_differences(declared: DeclaredProfile, there: Profile) -> list[Difference]:
    """What of a pull profile is another."""
    return _plain(_PROFILE_FIELDS, declared, there)


def application_differences(declared: DeclaredApplication, there: Application) -> list[Difference]:
    """What of an application is another."""
    found = _plain(("is_active",), declared, there)
    if declared.image is not None and declared.image != there.image:
        found.append(Difference("image", _picture(there.image), _picture(declared.image)))
    return found


def version_differences(declared: DeclaredVersion, there: Version) -> list[Difference]:
    """What of a version is another, of that which can be changed."""
    return [
        *_plain(PLAIN_FIELDS, declared, there),
        *_ports(declared.ports, there.ports or ()),
        *_variables(declared.envs, there.envs or ()),
    ]


def fixed_differences(declared: DeclaredVersion, there: Version) -> list[Difference]:
    """What of a version is another and cannot be changed."""
    return _plain(FIXED_FIELDS, declared, there)


def declared_fields(declared: DeclaredPart) -> list[Difference]:
    """Everything that a part declares, for one that is to be made."""
    found = [Difference(name, None, _told(name, value)) for name, value in declared if _is_told(name, value)]
    if isinstance(declared, DeclaredVersion):
        if declared.ports is not None:
            found.append(Difference("ports", None, _port_list(declared.ports)))
        found += _variables(declared.envs, ())
    return found


def secret_fields(declared: DeclaredPart) -> list[Difference]:
    """Each secret that a part declares, as it is when it is written over one that may be the same."""
    found = [
        Difference(name, UNREAD, str(value))
        for name in ("secret_access_key", "private_token")
        if (value := getattr(declared, name, None)) is not None
    ]
    if isinstance(declared, DeclaredVersion):
        hidden = ((key, value) for key, value in (declared.envs or {}).items() if isinstance(value, Reference))
        found += [Difference(f"envs.{key}", HIDDEN, str(value)) for key, value in hidden]
    return found


def _plain(names: Iterable[str], declared: object, there: object) -> list[Difference]:
    found = []
    for name in names:
        wanted, now = getattr(declared, name), getattr(there, name)
        now = _DEFAULTS.get(name) if now is None else now
        if wanted is not None and wanted != now:
            found.append(Difference(name, _text(now), _text(wanted)))
    return found


def _ports(declared: Sequence[DeclaredPort] | None, there: Sequence[Port]) -> list[Difference]:
    if declared is None or _same_ports(declared, there):
        return []
    return [Difference("ports", _port_list(there), _port_list(declared))]


def _same_ports(declared: Sequence[DeclaredPort], there: Sequence[Port]) -> bool:
    """Whether they are the same in any order; a port without a declared name may have been given one."""
    left = list(there)
    for wanted in sorted(declared, key=lambda port: port.name is None):
        same = next((port for port in left if _is_port(wanted, port)), None)
        if same is None:
            return False
        left.remove(same)
    return not left


def _is_port(wanted: DeclaredPort, port: Port) -> bool:
    return (
        (wanted.port, wanted.protocol) == (port.port, port.protocol)
        and wanted.to_check == (port.to_check is not False)
        and wanted.tls_upgrade == (port.tls_upgrade is True)
        and wanted.name in (None, port.name)
    )


def _port_list(ports: Iterable[DeclaredPort | Port]) -> str:
    return ", ".join(_port(port) for port in ports) or "none"


def _port(port: DeclaredPort | Port) -> str:
    words = [f"{port.port}/{port.protocol}", port.name, "unchecked" if port.to_check is False else None]
    return " ".join([*(word for word in words if word), *(["tls"] if port.tls_upgrade else [])])


def _variables(declared: Mapping[str, str | Reference] | None, there: Sequence[Variable]) -> list[Difference]:
    if declared is None:
        return []
    now = {each.key: each for each in there}
    found = []
    for key in dict.fromkeys((*now, *declared)):
        before = None if key not in now else _variable(now[key])
        wanted = declared.get(key)
        if isinstance(wanted, Reference):
            if before != HIDDEN:
                found.append(Difference(f"envs.{key}", before, f"{wanted}, hidden"))
        elif before != (after := None if wanted is None else _text(wanted)):
            found.append(Difference(f"envs.{key}", before, after))
    return found


def _variable(variable: Variable) -> str:
    if variable.is_hidden:
        return HIDDEN
    return _text("" if variable.value is None else variable.value.get_secret_value())


def _is_told(name: str, value: Any) -> bool:
    return value is not None and name not in ("ports", "envs", "pull_profiles", "versions")


def _told(name: str, value: Any) -> str:
    if isinstance(value, Reference):
        return str(value)
    return _picture(value) if name == "image" else _text(value)


def _picture(image: str | None) -> str:
    if not image:
        return "none"
    # A picture's text is long and says nothing; its beginning of a hash tells two apart.
    return f"picture {hashlib.sha256(image.encode()).hexdigest()[:8]}"


def _text(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
