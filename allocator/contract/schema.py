"""The shapes of the wire as JSON Schema, for those who write a matchmaker in any language.

In: the models that the program itself reads and writes with. Out: the schema of a request, and of the announcement of
an end. What a validator checks beyond a model's types is added by hand here; what only a program can check (bytes,
depth, a trace id of zeros) is said in the descriptions. Writing them to files is left to `service.documents`.
"""

from __future__ import annotations

from typing import Any

from pydantic import TypeAdapter

from allocator.contract.allocation import ATTEMPTS_MAX, FINAL, Allocation
from allocator.contract.codes import Code
from allocator.contract.request import (
    CONTEXT_BYTES_MAX,
    MARK,
    NAMESPACE_MARK,
    REQUEST_BYTES_MAX,
    REQUEST_MARK,
    AllocationRequest,
)

DIALECT = "https://json-schema.org/draft/2020-12/schema"
_TTL = r"^(?=.)([0-9]{1,6}h)?([0-9]{1,6}m)?$"

_OF_REQUEST = {
    "id": "Names the allocation: the idempotency key. Another try, or a second server, takes a new id.",
    "image": "What to start: Gameye's application name; mapped by the setting `catalog` where a provider differs.",
    "version": "The image's tag; at Edgegap the version's name.",
    "regions": "Where to try, best first. Default: the setting `default_regions`.",
    "players": "Lets regions be ordered by measured latency; Edgegap places by `ip`, or by `lat` and `lon`.",
    "latency_caps": "A region over the cap is not tried before a later, looser cap applies.",
    "env": "The container's environment.",
    "args": "The container's arguments.",
    "labels": "Metadata, passed to the provider.",
    "restart": "Whether the container is started again when it fails.",
    "ttl": "The provider ends the session after this long: `2h`, `90m`, `2h30m`. Default: `session_ttl`.",
    "timeout_seconds": "Counted from the moment Redis took the entry. Default: `request_timeout_seconds`.",
    "context": f"Handed back with the answer, never sent to a provider. At most {CONTEXT_BYTES_MAX} bytes of JSON.",
    "reply_to": "The answer is also added to the stream `{N}:results:<reply_to>`.",
    "traceparent": "The W3C trace that this allocation joins.",
}
_OF_EVENT = {
    "state": "How the request stands. States may be added: trust `final`.",
    "request_id": "The request's `id`.",
    "priority": "Which stream it came in on: `high`, `normal`, `low`.",
    "context": "As asked.",
    "enqueued_at": "Unix milliseconds: Redis took the entry.",
    "updated_at": "Unix milliseconds: the last change.",
    "allocated_at": "Unix milliseconds: handed over.",
    "expires_at": "Unix milliseconds: the provider ends the session.",
    "host": "What players dial: an address, or a name where the provider gives one.",
    "ports": "Where the session's ports are reached.",
    "endpoint": "`host:port` of the port named `game`, else of the first; IPv6 in brackets.",
    "region": "The region asked for.",
    "provider": "Whose machine it runs on.",
    "location": "Where it runs, in the provider's words.",
    "session_id": "The provider's id of the session.",
    "session_key": "Our own id of the session, where the provider's is another.",
    "attempts": f"Every try, oldest first; the first and the latest where there were over {ATTEMPTS_MAX}.",
    "error_code": "Why it ended badly. Codes may be added.",
    "error_message": "A sentence for a person.",
    "retry_after_ms": "When another try may do better.",
    "final": "True at the end: no server is coming, or one is handed over.",
    "entry_id": "The stream entry that was refused; `priority` names the stream.",
}


def request_schema() -> dict[str, Any]:
    """The JSON object in the field `request` of an entry."""
    schema = _without_titles(AllocationRequest.model_json_schema())
    properties = schema["properties"]
    for name, described in properties.items():
        described["description"] = _OF_REQUEST[name]
    properties["regions"]["anyOf"][0]["uniqueItems"] = True
    properties["labels"]["propertyNames"]["not"] = {"enum": [MARK, REQUEST_MARK, NAMESPACE_MARK]}
    properties["ttl"]["anyOf"][0]["pattern"] = _TTL
    return {
        "$schema": DIALECT,
        **schema,
        "title": "AllocationRequest",
        "description": f"One match that wants a server, at most {REQUEST_BYTES_MAX} bytes of JSON.",
    }


def event_schema() -> dict[str, Any]:
    """The CloudEvent in the field `event` of an entry of the results; readers pass over what they do not know."""
    data = without_nulls(_without_titles(TypeAdapter(Allocation).json_schema(mode="serialization")))
    definitions = data.pop("$defs")
    properties = data["properties"]
    ends = sorted(str(state) for state in FINAL)
    properties["state"] = {"type": "string", "examples": ends}
    properties["error_code"] = {"type": "string", "examples": sorted(Code)}
    properties["final"] = {"const": True}
    definitions["Attempt"]["properties"]["status"] = {"type": ["integer", "null"]}
    definitions["Attempt"]["properties"]["outcome"] = {"type": "string", "examples": definitions.pop("Outcome")["enum"]}
    definitions.pop("State", None)
    for name, described in properties.items():
        described["description"] = _OF_EVENT[name]
    data.pop("description", None)
    data["required"] = ["state", "request_id", "priority", "final"]
    return {
        "$schema": DIALECT,
        "title": "Announcement",
        "description": "CloudEvents 1.0: the end of a request, or a request that was refused.",
        "type": "object",
        "properties": {
            "specversion": {"const": "1.0"},
            "type": {"type": "string"},
            "source": {"type": "string", "pattern": "^/allocator/", "description": "`/allocator/<deployment>`."},
            "id": {"type": "string", "description": "Repeated deliveries of one end bear the same."},
            "time": {"type": "string", "format": "date-time"},
            "subject": {"type": "string", "description": "The request's id."},
            "datacontenttype": {"const": "application/json"},
            "data": {"type": "object"},
        },
        "required": ["specversion", "type", "source", "id", "time", "subject", "datacontenttype", "data"],
        "oneOf": [
            {
                "properties": {
                    "type": {"pattern": r"^allocator\.allocation\.[a-z_]+\.v1$"},
                    "data": {"$ref": "#/$defs/Allocation"},
                }
            },
            {
                "properties": {
                    "type": {"const": "allocator.request.refused.v1"},
                    "data": {"$ref": "#/$defs/Refusal"},
                }
            },
        ],
        "$defs": {**definitions, "Allocation": data, "Refusal": _refusal()},
    }


def _refusal() -> dict[str, Any]:
    names = ("request_id", "entry_id", "priority", "error_code", "error_message", "retry_after_ms")
    properties = {name: {"type": "string", "description": _OF_EVENT[name]} for name in names}
    properties["retry_after_ms"]["type"] = "integer"
    properties["context"] = {"description": "As asked, where it can be handed back."}
    return {
        "type": "object",
        "description": "A request that was not taken up; what its id stands for goes on untouched.",
        "properties": {"state": {"const": "refused"}, **properties},
        "required": ["state", "request_id", "entry_id", "error_code", "error_message"],
    }


def _without_titles(schema: Any) -> Any:
    """The schema without the titles that pydantic makes of names, and the docstrings it takes for descriptions."""
    if isinstance(schema, list):
        return [_without_titles(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    # Under `properties` stand names of fields, one of which may be `title` as well.
    return {
        key: {name: _without_titles(item) for name, item in value.items()}
        if key in ("properties", "$defs")
        else _without_titles(value)
        for key, value in schema.items()
        if not (key == "title" and isinstance(value, str))
    }


def without_nulls(schema: Any) -> Any:
    """The schema of fields that are left out where they say nothing: no nulls, no defaults."""
    if isinstance(schema, list):
        return [without_nulls(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    alternatives = [item for item in schema.get("anyOf", ()) if item != {"type": "null"}]
    if len(alternatives) == 1:
        rest = {key: value for key, value in schema.items() if key not in ("anyOf", "default")}
        return without_nulls({**rest, **alternatives[0]})
    return {key: without_nulls(value) for key, value in schema.items() if key != "default"}
