"""The announcements on the results streams: CloudEvents 1.0 in JSON."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

from allocator.contract.allocation import Allocation, compact
from allocator.contract.codes import Code
from allocator.contract.request import Priority


def allocation_event(allocation: Allocation, *, deployment: str, entry_id: str) -> str:
    """The end of one request."""
    return end_event(allocation.to_data(), deployment=deployment, entry_id=entry_id)


def end_event(data: Mapping[str, Any], *, deployment: str, entry_id: str) -> str:
    """The same from what `Allocation.to_data` says.

    A repeat bears the same `id`, which names the entry, the request and the state. The request is part of it because
    two streams may give two entries of one millisecond the same entry id.
    """
    state, request_id = data["state"], data["request_id"]
    return _event(
        kind=f"allocator.allocation.{state}.v1",
        deployment=deployment,
        event_id=f"{entry_id}/{request_id}/{state}",
        subject=request_id,
        at_ms=data.get("updated_at", 0),
        data=data,
    )


def refusal_event(
    *,
    deployment: str,
    entry_id: str,
    priority: Priority,
    request_id: str,
    code: Code,
    message: str,
    at_ms: int,
    **data: Any,
) -> str:
    """A request that was not taken up while its id, if known, goes on untouched.

    `priority` names the stream: two of them may give two entries of one id and millisecond the same entry id.
    """
    stream = "" if priority is Priority.NORMAL else f"/{priority}"
    return _event(
        kind="allocator.request.refused.v1",
        deployment=deployment,
        event_id=f"{entry_id}/{request_id}/refused{stream}",
        subject=request_id,
        at_ms=at_ms,
        data={
            "state": "refused",
            "request_id": request_id,
            "entry_id": entry_id,
            "priority": str(priority),
            "error_code": code.value,
            "error_message": message,
            **data,
        },
    )


def _event(*, kind: str, deployment: str, event_id: str, subject: str, at_ms: int, data: Mapping[str, Any]) -> str:
    return compact(
        {
            "specversion": "1.0",
            "type": kind,
            "source": f"/allocator/{deployment}",
            "id": event_id,
            "time": timestamp(at_ms),
            "subject": subject,
            "datacontenttype": "application/json",
            "data": data,
        }
    )


def timestamp(at_ms: int) -> str:
    """Unix milliseconds in RFC 3339, UTC."""
    return f"{_to_the_second(at_ms // 1000)}.{at_ms % 1000:03d}Z"


@lru_cache(maxsize=8)
def _to_the_second(at_seconds: int) -> str:
    return datetime.fromtimestamp(at_seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")
