"""Edgegap's API as the vendor's two OpenAPI descriptions have it, to hold requests and answers against.

In: methods, paths and bodies as they went over the wire. Out: nothing, or jsonschema's `ValidationError`. Answers are
held more strictly than the description itself: what it does not describe must not be there. Where the files are absent,
`PRESENT` is False, and `SAVE_AS` says what to do.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import jsonschema
import yaml

_SPECS = Path(__file__).resolve().parents[3] / "shared" / "specs"
_FILES = {"": _SPECS / "edgegap-v1-openapi.yaml", "/v2": _SPECS / "edgegap-v2-openapi.yaml"}
PRESENT = all(file.exists() for file in _FILES.values())
SAVE_AS = f"the vendor's descriptions are not here: save them as {' and '.join(map(str, _FILES.values()))}"


class Description:
    """Both versions of the vendor's API, under the paths that are called."""

    def __init__(self) -> None:
        self.operations: dict[tuple[str, str], tuple[dict[str, Any], dict[str, Any]]] = {}
        for prefix, file in _FILES.items():
            document = yaml.safe_load(file.read_text(encoding="utf-8"))
            for path, each in document["paths"].items():
                for method in each.keys() & {"get", "post", "put", "patch", "delete"}:
                    self.operations[method, prefix + path] = (document, each[method])

    def operation(self, method: str, url: str) -> str:
        """The described path that a URL is called by; the one with the fewest parameters."""
        path = urlsplit(url).path
        fitting = [each for verb, each in self.operations if verb == method and _pattern(each).fullmatch(path)]
        return min(fitting, key=lambda each: each.count("{"))

    def statuses(self, method: str, path: str) -> set[int]:
        """The statuses that are described for an operation."""
        return {int(status) for status in self.operations[method, path][1]["responses"]}

    def check_request(self, method: str, path: str, body: Any) -> None:
        """Hold a request's body against the description."""
        document, operation = self.operations[method, path]
        described = operation.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema")
        if described is None:
            assert body is None, f"{method} {path} has no body"
        else:
            _validate(document, described, body, strict=True)

    def check_answer(self, method: str, path: str, status: int, body: Any) -> None:
        """Hold an answer against the description of its status; `body` is None where there is none."""
        document, operation = self.operations[method, path]
        described = operation["responses"][str(status)].get("content", {}).get("application/json", {}).get("schema")
        if described is None:
            assert body is None, f"{method} {path} answers no body with {status}"
        else:
            _validate(document, described, body, strict=status < 300)


def _pattern(path: str) -> re.Pattern[str]:
    # An image's name has a slash in it, which stays a slash on the wire.
    return re.compile(re.sub(r"\\{(\w+)\\}", lambda m: ".+" if m[1] == "image_name" else "[^/]+", re.escape(path)))


def _validate(document: dict[str, Any], schema: dict[str, Any], body: Any, *, strict: bool) -> None:
    root = {"components": _translated(document["components"], strict=strict)}
    jsonschema.Draft7Validator({**root, "allOf": [_translated(schema, strict=strict)]}).validate(body)


def _translated(schema: Any, *, strict: bool) -> Any:
    """OpenAPI 3.0 as JSON Schema: `nullable`, and in strict reading no field that is not described."""
    if isinstance(schema, list):
        return [_translated(each, strict=strict) for each in schema]
    if not isinstance(schema, dict):
        return schema
    translated = {key: _translated(value, strict=strict) for key, value in schema.items()}
    if translated.get("nullable") is True and isinstance(translated.get("type"), str):
        translated["type"] = [translated["type"], "null"]
    properties = translated.get("properties")
    if strict and translated.get("type") == "object" and properties:
        # `ports` is described by the example of one port; any name may be there.
        only_example = list(properties) == ["gameport"]
        translated["additionalProperties"] = properties["gameport"] if only_example else False
    return translated
