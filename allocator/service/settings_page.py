"""The reference of the settings as a page of Markdown, made from the models that check them.

In: the model `Settings`. Out: a table for each table, a line for each key: type and bounds, default, what it does. What
a key does is the docstring under it in the model; one that has none there fails the test of this page. Writing the
page to its file is left to `documents`.
"""

from __future__ import annotations

import ast
import inspect
import json
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from pydantic import BaseModel

from allocator.service.settings import SECRETS
from allocator.service.settings_keys import variable
from allocator.service.settings_model import Settings

NO_DOCSTRING = "(say what it does in a docstring under it)"
_HEAD = """\
# Settings

Made from the code by `python -m allocator.service.documents deploy/docs`; do not edit.

A TOML file (`--config`, else `ALLOCATOR_CONFIG`, else `allocator.toml` in the working directory), overridden by
variables, overridden by `--set KEY=VALUE`. `allocator config` shows what is in force and where it came from. A variable
is the key in capitals after `ALLOCATOR_`, with two underscores for each dot: `worker.concurrency` is
`ALLOCATOR_WORKER__CONCURRENCY`. The tables whose names are yours (`X` below) are one variable each, as JSON:
{maps}.

A name that is not known is refused. What a worker follows while it runs: [operating.md](operating.md).
"""


@dataclass(frozen=True, slots=True)
class _Row:
    key: str
    kind: str
    default: str
    says: str


def settings_page() -> str:
    """The whole page."""
    schema = Settings.model_json_schema()
    tables = list(_tables(Settings, schema, schema["$defs"], ""))
    maps = [variable((key.removesuffix(".X"),)) for key, _, _ in tables if key.endswith(".X") and key.count(".") == 1]
    parts = [_HEAD.format(maps=", ".join(f"`{name}`" for name in maps))]
    for key, says, rows in tables:
        heading = f"## [{key}]\n\n{says}\n" if key else "## At the top\n"
        lines = ["| key | value | default | does |", "|---|---|---|---|"]
        lines += [f"| `{row.key}` | {row.kind} | {row.default} | {row.says} |" for row in rows]
        parts.append(f"{heading}\n" + "\n".join(lines) + "\n")
    return "\n".join(parts)


def _tables(
    model: type[BaseModel], schema: Mapping[str, Any], definitions: Mapping[str, Any], key: str
) -> Iterator[tuple[str, str, list[_Row]]]:
    """This table, then those within it, each with its key, its docstring and its rows."""
    said = docstrings(model)
    rows: list[_Row] = []
    below: list[tuple[str, type[BaseModel], Mapping[str, Any]]] = []
    for name in model.model_fields:
        described = _plain(schema["properties"][name], definitions)
        inner = _inner(described, definitions)
        path = f"{key}.{name}" if key else name
        if inner is not None:
            suffix, title = inner
            found = next(each for each in _models(model.model_fields[name].annotation) if each.__name__ == title)
            below.append((path + suffix, found, definitions[title]))
        if inner is None or inner[0] != "":
            required = name in schema.get("required", ())
            rows.append(_row(path, name, described, said.get(name, NO_DOCSTRING), required=required))
    if rows:
        yield key, " ".join((inspect.getdoc(model) or "").split()), rows
    for path, inner_model, inner_schema in below:
        yield from _tables(inner_model, inner_schema, definitions, path)


def docstrings(model: type[BaseModel]) -> dict[str, str]:
    """What stands under each field of the model and of those it derives from, on one line."""
    found: dict[str, str] = {}
    for each in reversed(model.__mro__):
        if not issubclass(each, BaseModel) or each.__module__.startswith("pydantic"):
            continue
        body = ast.parse(textwrap.dedent(inspect.getsource(each))).body[0]
        statements = body.body if isinstance(body, ast.ClassDef) else []
        for above, under in pairwise(statements):
            match above, under:
                case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(text))):
                    found[name] = " ".join(text.split())
    return found


def _row(path: str, name: str, described: Mapping[str, Any], says: str, *, required: bool) -> _Row:
    default = described.get("default")
    shown = "required" if required else "none" if default in (None, "", [], {}) else f"`{json.dumps(default)}`"
    if path in ("deployment", "redis.url"):
        shown = "required"
    if tuple(path.split(".")) in SECRETS:
        says += " Secret."
    return _Row(name, _kind(described), shown, says.replace("|", "\\|"))


def _kind(described: Mapping[str, Any]) -> str:
    """The type in words, with its bounds."""
    if "enum" in described:
        return " or ".join(f"`{json.dumps(each)}`" for each in described["enum"])
    match described.get("type"):
        case "integer":
            return _between("whole number", described, "minimum", "maximum")
        case "number":
            return _between("number", described, "minimum", "maximum")
        case "array":
            return _between("list", described, "minItems", "maxItems")
        case "object":
            return "table"
        case _ if "pattern" in described:
            return f"text, `{described['pattern']}`"
        case _:
            return "path" if described.get("format") == "path" else "text"


def _between(what: str, described: Mapping[str, Any], low: str, high: str) -> str:
    lowest, highest = described.get(low), described.get(high)
    if lowest is None and highest is None:
        return what
    if lowest is None:
        return f"{what}, at most {highest:g}"
    return f"{what}, at least {lowest:g}" if highest is None else f"{what}, {_number(lowest)} to {_number(highest)}"


def _number(value: float) -> str:
    return str(int(value)) if float(value).is_integer() else f"{value:g}"


def _plain(described: Mapping[str, Any], definitions: Mapping[str, Any]) -> dict[str, Any]:
    """The schema with its references followed, and without the null of what may be left out."""
    alternatives = [each for each in described.get("anyOf", ()) if each != {"type": "null"}]
    if len(alternatives) == 1:
        described = {**described, **_plain(alternatives[0], definitions)}
    if "$ref" in described:
        title = described["$ref"].rsplit("/", 1)[-1]
        return {**definitions[title], **described, "title": title}
    return dict(described)


def _inner(described: Mapping[str, Any], definitions: Mapping[str, Any]) -> tuple[str, str] | None:
    """How the key of a table within goes on, and its model's name; None where there is no table within."""
    if described.get("title") in definitions:
        return "", described["title"]
    for where, suffix in (("additionalProperties", ".X"), ("items", "[]")):
        within = described.get(where)
        if isinstance(within, dict) and "$ref" in within:
            return suffix, within["$ref"].rsplit("/", 1)[-1]
    return None


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    """Every model that an annotation names."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in getattr(annotation, "__args__", ()):
        yield from _models(part)
