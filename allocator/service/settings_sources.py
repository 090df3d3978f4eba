"""The sources of the settings: options over environment over one TOML file, and where each value came from.

In: a file's path, a mapping of variables, a mapping of dotted keys. Out: one flat `Given` for each key that was given,
the strongest source's, and a line for each thing that cannot be read. No line repeats a value. What a key may hold is
left to the models.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path as FilePath
from typing import Any

from allocator.service.settings_keys import (
    ENVIRONMENT_PREFIX,
    Model,
    Path,
    dotted,
    kind,
    known_paths,
    nearest,
    printable,
    variable,
)
from allocator.service.settings_outside import housed, path_of_variable

FILE_NAME = "allocator.toml"
FILE_BYTES_MAX = 4 * 2**20
FILE_VARIABLE = ENVIRONMENT_PREFIX + "CONFIG"
OPTION = "--set"

_FROM_KUBERNETES = re.compile(r"ALLOCATOR_(PORT|PORT_.*|SERVICE_.*)")
"""What Kubernetes puts into every container beside a Service named `allocator`."""
_OF_A_SERVICE = re.compile(r"ALLOCATOR_\w+_(SERVICE_HOST|SERVICE_PORT.*|PORT_\d+_.*)")
"""And beside one whose name begins like that."""

_RIVALS: tuple[tuple[Path, Path], ...] = (
    (("gameye", "token"), ("gameye", "token_file")),
    (("gameye", "environment"), ("gameye", "base_url")),
    (("edgegap", "token"), ("edgegap", "token_file")),
    (("admin", "token"), ("admin", "token_file")),
    (("api", "token"), ("api", "token_file")),
)
"""Two ways to say one thing: the stronger source's way takes the place of the other."""


@dataclass(frozen=True, slots=True)
class Given:
    """A value as it was given, and by what; never printed, since it may be a secret."""

    value: Any = field(repr=False)
    source: str


Layer = dict[Path, Given]


@dataclass(frozen=True, slots=True)
class Sources:
    """Every key that was given, and a line for what could not be read; `file` is the TOML file, where there is one."""

    given: Mapping[Path, Given]
    faults: tuple[str, ...]
    file: FilePath | None
    file_is_read: bool

    def source_of(self, path: Path) -> str | None:
        """What gave the value at this key, or the table around it, or a key within it."""
        for length in range(len(path), 0, -1):
            if path[:length] in self.given:
                return self.given[path[:length]].source
        return next((each.source for key, each in self.given.items() if key[: len(path)] == path), None)

    def tree(self) -> dict[str, Any]:
        """The given values nested as tables."""
        tree: dict[str, Any] = {}
        for path, given in sorted(self.given.items(), key=lambda item: len(item[0])):
            table = tree
            for part in path[:-1]:
                table = table.setdefault(part, {})
                if not isinstance(table, dict):
                    break
            else:
                table[path[-1]] = dict(given.value) if isinstance(given.value, dict) else given.value
        return tree


def read_sources(
    model: Model, config: FilePath | None, options: Mapping[str, str], environ: Mapping[str, str]
) -> Sources:
    """Read all three; the file is `config`, else what ALLOCATOR_CONFIG names, else `allocator.toml` if there is one."""
    faults: list[str] = []
    file, named_by = config, "--config"
    if file is None and FILE_VARIABLE in environ:
        file, named_by = FilePath(environ[FILE_VARIABLE]), FILE_VARIABLE
    if file is None and FilePath(FILE_NAME).exists():
        file, named_by = FilePath(FILE_NAME), "the working directory"
    given = _read_file(model, file, named_by, faults) if file is not None else {}
    file_is_read = not faults
    _lay_over(given, _read_environment(model, environ, faults))
    _lay_over(given, _read_options(model, options, faults))
    return Sources(given, tuple(faults), file, file_is_read)


def _lay_over(below: Layer, layer: Layer) -> None:
    """Put a stronger layer on: a key replaces the key, a whole map the whole map, one rival the other."""
    for one, other in _RIVALS:
        if one in layer or other in layer:
            below.pop(one, None)
            below.pop(other, None)
    for path, given in sorted(layer.items(), key=lambda item: len(item[0])):
        for key in [key for key in below if key[: len(path)] == path]:
            del below[key]
        for key, value in flatten(given.value, path):
            below[key] = Given(value, given.source)


def flatten(value: Any, above: Path = ()) -> Iterator[tuple[Path, Any]]:
    """Each leaf of nested tables; a list is a leaf, and so is an empty table."""
    if isinstance(value, dict) and value:
        for key, each in value.items():
            yield from flatten(each, (*above, str(key)))
    else:
        yield above, value


def _read_file(model: Model, file: FilePath, named_by: str, faults: list[str]) -> Layer:
    where = printable(str(file))
    try:
        with file.open("rb") as stream:
            raw = stream.read(FILE_BYTES_MAX + 1)
        if len(raw) > FILE_BYTES_MAX:
            faults.append(f"{where} ({named_by}): over {FILE_BYTES_MAX} bytes; name the settings file")
            return {}
        tables = tomllib.loads(raw.decode("utf-8-sig"))
    except OSError as error:
        faults.append(f"{where} ({named_by}): cannot be read ({error.strerror}); correct the path or its permissions")
        return {}
    except UnicodeDecodeError:
        faults.append(f"{where} ({named_by}): not UTF-8; save it as UTF-8")
        return {}
    except (ValueError, RecursionError) as error:
        faults.append(f"{where} ({named_by}): not TOML: {_position(str(error))}; correct it there")
        return {}
    return {housed(model, path): Given(value, where) for path, value in flatten(tables) if path}


def _position(message: str) -> str:
    """Where the fault is; the rest of a parser's sentence may repeat what stands there."""
    found = re.search(r"\(at (line \d+, column \d+|end of document)\)", message)
    return found.group(1) if found else "a number or its nesting is beyond any use"


def _read_environment(model: Model, environ: Mapping[str, str], faults: list[str]) -> Layer:
    known = {variable(path): path for path in known_paths(model)}
    texts: dict[Path, tuple[str, str]] = {}
    for name, text in environ.items():
        if not name.startswith(ENVIRONMENT_PREFIX) or name == FILE_VARIABLE or _FROM_KUBERNETES.fullmatch(name):
            continue
        if name in known:
            texts[known[name]] = (text, name)
        elif (path := path_of_variable(name)) is not None:
            texts[path] = (text, name)
        elif _OF_A_SERVICE.fullmatch(name):
            remedy = "one that Kubernetes sets for a Service; set enableServiceLinks: false in the pod"
            faults.append(f"{printable(name)} (environment): unknown setting, and {remedy}")
        else:
            best = nearest(name, sorted({*known, FILE_VARIABLE}))
            faults.append(f"{printable(name)} (environment): unknown setting; the nearest known one is {best}")
    return _read_texts(model, texts, faults)


def _read_options(model: Model, options: Mapping[str, str], faults: list[str]) -> Layer:
    texts = {housed(model, tuple(key.split("."))): (text, OPTION) for key, text in options.items()}
    return _read_texts(model, texts, faults)


def _read_texts(model: Model, texts: Mapping[Path, tuple[str, str]], faults: list[str]) -> Layer:
    layer: Layer = {}
    for path, (text, source) in texts.items():
        try:
            layer[path] = Given(_read_text(model, path, text), source)
        except ValueError as error:
            faults.append(f"{dotted(path)} ({source}): {error}")
    return layer


def _read_text(model: Model, path: Path, text: str) -> Any:
    """Read a text as what its key holds; ValueError says what it must be."""
    match kind(model, path):
        case "map":
            return _read_json(text, dict, "must be one JSON object")
        case "list" if text.lstrip().startswith("["):
            return _read_json(text, list, "must be a JSON list, or values with commas between")
        case "list":
            return [part.strip() for part in text.split(",") if part.strip()]
        case "value":
            return text


def _read_json(text: str, shape: type, otherwise: str) -> Any:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        value = None
    if isinstance(value, shape):
        return value
    raise ValueError(otherwise)
