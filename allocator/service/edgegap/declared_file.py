"""The declared file, read and checked as a whole before any call.

In: a path; or some fields by name, as a command line gives them. Out: what is declared, or `DeclaredError` with a line
for each fault: where it stands and what to do. No line repeats a value: any may be a secret in the wrong place.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from allocator.service.edgegap.declared import Declared, Part
from allocator.service.settings_faults import sentence_of
from allocator.service.settings_keys import dotted, nearest_path

FILE_BYTES_MAX = 16 * 2**20
GONE = frozenset(
    {
        *("use_telemetry", "inject_context_env", "whitelisting_active", "cache_min_hour", "cache_max_hour"),
        *("enable_all_locations", "session_config", "kind", "command", "arguments", "is_telemetry_agent_active"),
    }
)
"""What the vendor's older pages name and its API has no more."""


class DeclaredError(Exception):
    """The file cannot be used: one line for each fault."""

    def __init__(self, faults: tuple[str, ...]) -> None:
        self.faults = faults
        super().__init__("\n".join(faults))


def load_declared(file: Path) -> Declared:
    """Read and check the file; raise DeclaredError with every fault that can be found at once."""
    try:
        with file.open("rb") as stream:
            raw = stream.read(FILE_BYTES_MAX + 1)
        if len(raw) > FILE_BYTES_MAX:
            raise DeclaredError((f"{file}: over {FILE_BYTES_MAX} bytes; name the file that declares the catalogue",))
        tables = tomllib.loads(raw.decode("utf-8-sig"))
    except OSError as error:
        raise DeclaredError((f"{file}: cannot be read ({error.strerror}); correct the path",)) from None
    except UnicodeDecodeError:
        raise DeclaredError((f"{file}: not UTF-8; save it as UTF-8",)) from None
    except (ValueError, RecursionError) as error:
        # Not the whole sentence: a parser may repeat what stands there.
        where = re.search(r"\(at (line \d+, column \d+|end of document)\)", str(error))
        raise DeclaredError(
            (f"{file}: not TOML: {where.group(1) if where else 'a value'}; correct it there",)
        ) from None
    return checked(Declared, tables, file.parent, str(file))


PartT = TypeVar("PartT", bound=Part)


def checked(part: type[PartT], given: Mapping[str, Any], base: Path, source: str) -> PartT:
    """The part as it was given, or DeclaredError; pictures are found below `base`."""
    try:
        return part.model_validate(given, context={"base": base})
    except ValidationError as error:
        raise DeclaredError(tuple(f"{source}: {line}" for line in _sentences(part, error))) from None


def checked_fields(part: type[Part], given: Mapping[str, Any], base: Path, source: str) -> dict[str, Any]:
    """Some fields of a part, each as it was given, or DeclaredError; what they must be together is not looked at."""
    found: dict[str, Any] = {}
    faults: list[str] = []
    for name, value in given.items():
        field = part.model_fields.get(name)
        if field is None:
            faults.append(
                f"{source}: {dotted([name])}: unknown; the nearest known one is {nearest_path(part, (name,))}"
            )
            continue
        try:
            form: Any = Annotated[field.annotation, field]
            found[name] = TypeAdapter(form).validate_python(value, context={"base": base})
        except ValidationError as error:
            faults += [f"{source}: {name}.{line}".replace(".:", ":") for line in _sentences(part, error)]
    if faults:
        raise DeclaredError(tuple(faults))
    return found


def _sentences(part: type[Part], error: ValidationError) -> Iterator[str]:
    """One line a fault; none repeats a value, since any may be a secret in the wrong place."""
    for fault in error.errors(include_input=False, include_url=False):
        path = tuple(str(step) for step in fault["loc"] if step != "[key]")
        match fault["type"]:
            case "extra_forbidden" if path[-1] in GONE:
                yield f"{dotted(path)}: Edgegap has taken this out of its API; take it out here"
            case "extra_forbidden":
                yield f"{dotted(path)}: unknown; the nearest known one is {nearest_path(part, path)}"
            case "missing":
                yield f"{dotted(path)}: is required; write it"
            case _:
                yield f"{dotted(path)}: {sentence_of(fault)}"
