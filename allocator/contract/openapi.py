"""The HTTP door as one OpenAPI 3.1 document: what a matchmaker without a Redis client asks.

In: the schemas of `schema`. Out: the document. Serving it is left to `service.api`, writing it to `service.documents`.
"""

from __future__ import annotations

from typing import Any

from allocator.contract.allocation import State
from allocator.contract.keys import CONTRACT_VERSION
from allocator.contract.request import Priority
from allocator.contract.schema import event_schema, request_schema, without_nulls

ALLOCATIONS = "/v1/allocations"
WAIT_SECONDS_MAX = 60.0
"""What stands before a door gives a quiet connection up after about so long."""

_FAULTS = {
    "400": "The request is not what the contract asks for; nothing was sent. The message names the key.",
    "401": "No token, or another one.",
    "404": "Not known: not submitted, not taken up yet, refused as `overloaded`, or aged out.",
    "409": "Refused: the id names another request. What the id stands for goes on untouched.",
    "413": "Too large.",
    "429": "Refused as `overloaded`: the wait would pass the deadline. The same may be sent again later.",
    "503": "Redis is away; whether an order was sent is not known: send the same again, which does no harm.",
}
_RETRIES = {"Retry-After": {"description": "Seconds.", "schema": {"type": "integer"}}}
_WHERE = {"Location": {"description": "The path to GET.", "schema": {"type": "string"}}}


def openapi_document() -> dict[str, Any]:
    """The door of every worker that has the table `[api]`."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "allocator",
            "version": f"{CONTRACT_VERSION}.0.0",
            "description": "A match goes in, an address to play on comes out. In doubt, send the same again: the same "
            "id with the same body never makes a second server. See contract.md.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "http://127.0.0.1:8080", "description": "As `api.host` and `api.port` say."}],
        "security": [{"token": []}],
        "paths": {
            ALLOCATIONS: {"post": _allocate()},
            f"{ALLOCATIONS}/{{id}}": {"parameters": [_ID], "get": _get(), "delete": _cancel()},
        },
        "components": {
            "schemas": _schemas(),
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer", "description": "`api.token`."}},
        },
    }


_ID = {"name": "id", "in": "path", "required": True, "description": "The request's id.", "schema": {"type": "string"}}


def _allocate() -> dict[str, Any]:
    priorities = {"type": "string", "enum": [str(each) for each in Priority], "default": str(Priority.NORMAL)}
    return {
        "operationId": "allocate",
        "summary": "Ask for a server. Answered once a worker has taken the match up, or it is safe in Redis.",
        "parameters": [{"name": "priority", "in": "query", "schema": priorities}],
        "requestBody": {"required": True, "content": _json("AllocationRequest")},
        "responses": {
            "200": {"description": "The same again: how it stands.", "headers": _WHERE, "content": _json("Allocation")},
            "202": {"description": "Asked for.", "headers": _WHERE, "content": _json("Allocation")},
            **_faults("400", "401", "409", "413", "429", "503"),
        },
    }


def _get() -> dict[str, Any]:
    return {
        "operationId": "getAllocation",
        "summary": "How an allocation stands.",
        "parameters": [_wait("Wait so many seconds for its end; how it stands then is the answer.")],
        "responses": {
            "200": {"description": "At its end `final` is true.", "content": _json("Allocation")},
            **_faults("400", "401", "404", "503"),
        },
    }


def _cancel() -> dict[str, Any]:
    ordered = {"type": "object", "properties": {"request_id": {"type": "string"}}, "required": ["request_id"]}
    return {
        "operationId": "cancelAllocation",
        "summary": "Cancel or release, whatever the stage: when it is done no server is left for the id.",
        "parameters": [_wait("Wait so many seconds until no server is left.")],
        "responses": {
            "200": {"description": "No server is left; only with `wait`.", "content": _json("Allocation")},
            "202": {
                "description": "Ordered, and kept to; it ends `cancelled` or `released`.",
                "headers": _WHERE,
                "content": {"application/json": {"schema": ordered}},
            },
            **_faults("400", "401", "503"),
        },
    }


def _wait(says: str) -> dict[str, Any]:
    seconds = {"type": "number", "minimum": 0, "maximum": WAIT_SECONDS_MAX, "default": 0}
    return {"name": "wait", "in": "query", "description": says, "schema": seconds}


def _faults(*statuses: str) -> dict[str, Any]:
    return {
        status: {
            "description": _FAULTS[status],
            **({"headers": _RETRIES} if status in {"429", "503"} else {}),
            "content": _json("Fault"),
        }
        for status in statuses
    }


def _json(name: str) -> dict[str, Any]:
    return {"application/json": {"schema": {"$ref": f"#/components/schemas/{name}"}}}


def _schemas() -> dict[str, Any]:
    """Every schema under its own name, as makers of clients like them: no nulls, no defaults, no constants."""
    request, event = request_schema(), event_schema()
    lifted = {**request.pop("$defs"), **event["$defs"], "AllocationRequest": request}
    del request["$schema"], lifted["Refusal"]
    # An event tells an end; here an allocation may be under way.
    allocation = lifted["Allocation"]
    allocation["required"] = ["request_id", "state"]
    allocation["properties"]["state"]["examples"] = [str(each) for each in State]
    allocation["properties"]["final"] = {"type": "boolean", "description": "True at the end, else not there."}
    lifted["Fault"] = {
        "type": "object",
        "properties": {
            "error_code": {"type": "string", "description": "A code of the contract, where one fits."},
            "error_message": {"type": "string", "description": "What is wrong, and what to do."},
            "retry_after_ms": {"type": "integer"},
        },
        "required": ["error_message"],
    }
    named: dict[str, Any] = _renamed(without_nulls(dict(sorted(lifted.items()))))
    return named


def _renamed(schema: Any) -> Any:
    """The schema with references to where its parts stand in this document."""
    if isinstance(schema, list):
        return [_renamed(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    return {
        key: value.replace("#/$defs/", "#/components/schemas/") if key == "$ref" else _renamed(value)
        for key, value in schema.items()
    }
