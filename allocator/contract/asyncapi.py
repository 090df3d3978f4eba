"""The streams of the wire as one AsyncAPI 3 document: what a matchmaker adds to, and what it reads.

In: the schemas of `schema`, the keys of `keys`. Out: the document. Braces in an AsyncAPI address name a parameter, and
those of a key are literal: so the namespace is a parameter whose value bears them. Writing the document to a file is
left to `service.documents`.
"""

from __future__ import annotations

from typing import Any

from allocator.contract.keys import CONTRACT_VERSION, REQUEST_FIELD, Keys
from allocator.contract.request import Priority
from allocator.contract.schema import event_schema, request_schema

_DRAFT = "application/schema+json;version=draft-2020-12"
_NAMESPACE = Keys("allocator")
_PARAMETERS = {
    "namespace": {"default": _NAMESPACE.prefix, "description": "The namespace, in literal braces."},
    "reply_to": {"description": "The request's `reply_to`."},
}

_REQUESTS = {
    Priority.HIGH: "Served first.",
    Priority.NORMAL: "The normal one.",
    Priority.LOW: "Served last, never starved.",
}


def asyncapi_document() -> dict[str, Any]:
    """The streams of one namespace."""
    keys = _NAMESPACE
    channels: dict[str, Any] = {}
    operations: dict[str, Any] = {}
    for priority, says in _REQUESTS.items():
        name = f"requests{priority.value.capitalize()}"
        channels[name] = _channel(keys.requests(priority), says, "request")
        operations[f"allocate{priority.value.capitalize()}"] = _operation("send", name, "Ask for a server, by XADD.")
    channels["cancellations"] = _channel(keys.cancellations, "Ids to cancel or release, whatever the stage.", "cancel")
    operations["cancel"] = _operation("send", "cancellations", "When it is done no server is left for the id.")
    channels["results"] = _channel(keys.results, "Every end, at least once, in the order of commit.", "result")
    operations["everyResult"] = _operation("receive", "results", "By XREAD from the last id, or by a group of yours.")
    channels["replies"] = _channel(keys.results_for("{reply_to}"), "The ends of requests that named it.", "result")
    operations["ownResults"] = _operation("receive", "replies", "By XREAD from the last id.")
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "allocator",
            "version": f"{CONTRACT_VERSION}.0.0",
            "description": "Matches go in through Redis streams, addresses come out. An address is a stream's key. The "
            f"answer also stands in the hash `{keys.allocation('<id>')}`: see contract.md.",
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": "application/json",
        "servers": {
            "redis": {"host": "redis.example.com:6379", "protocol": "redis", "description": "Redis 7.0+, Valkey 7.2+."}
        },
        "channels": channels,
        "operations": operations,
        "components": {"messages": _messages()},
    }


def _channel(key: str, says: str, message: str) -> dict[str, Any]:
    address = key.replace(_NAMESPACE.prefix, "{namespace}")
    return {
        "address": address,
        "parameters": {name: says for name, says in _PARAMETERS.items() if f"{{{name}}}" in address},
        "description": says,
        "messages": {message: {"$ref": f"#/components/messages/{message}"}},
    }


def _operation(action: str, channel: str, says: str) -> dict[str, Any]:
    return {"action": action, "channel": {"$ref": f"#/channels/{channel}"}, "description": says}


def _messages() -> dict[str, Any]:
    """An entry's fields, each a string; what JSON they hold is the content's schema."""
    return {
        "request": _message(
            "One field, a JSON object.",
            {REQUEST_FIELD: _json(request_schema())},
        ),
        "cancel": _message("One field.", {"id": {"type": "string", "description": "The request's id."}}),
        "result": _message(
            "An end, or a refusal.",
            {
                "request_id": {"type": "string"},
                "state": {"type": "string"},
                "event": _json(event_schema()),
            },
        ),
    }


def _json(schema: dict[str, Any]) -> dict[str, Any]:
    return {"type": "string", "contentMediaType": "application/json", "contentSchema": schema}


def _message(says: str, fields: dict[str, Any]) -> dict[str, Any]:
    shape = {"type": "object", "properties": fields, "required": list(fields)}
    return {"description": says, "payload": {"schemaFormat": _DRAFT, "schema": shape}}
