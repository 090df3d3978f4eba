"""The documents that are made from the code: `python -m allocator.service.documents DIRECTORY`.

In: the models of the contract and of the settings. Out: the request's and the announcement's JSON Schema, the AsyncAPI
document of the streams, the OpenAPI document of the HTTP door, the reference of the settings, each as the text of a
file. A test holds the files of `deploy/docs` to it.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from allocator.contract.asyncapi import asyncapi_document
from allocator.contract.openapi import openapi_document
from allocator.contract.schema import event_schema, request_schema
from allocator.service.settings_page import settings_page


def documents() -> Mapping[str, str]:
    """Each file's name within `deploy/docs`, and its text."""
    return {
        "request.schema.json": _json(request_schema()),
        "event.schema.json": _json(event_schema()),
        "asyncapi.json": _json(asyncapi_document()),
        "openapi.json": _json(openapi_document()),
        "settings.md": settings_page(),
    }


def main(directory: Path) -> None:
    """Write them all."""
    for name, text in documents().items():
        (directory / name).write_text(text, encoding="utf-8")


def _json(document: Mapping[str, Any]) -> str:
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "deploy/docs"))
