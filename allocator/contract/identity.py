"""The session id: what makes a repeat harmless and a stray recognisable."""

from __future__ import annotations

import uuid

_NAMESPACE = uuid.UUID("8c7c4f0e-6d0b-5f1a-9a55-0d6d6f6a1c3e")
"""Fixed for ever: with another one, every id would change and a resent request would start a second server."""


def session_id(deployment: str, request_id: str, generation: int) -> str:
    """UUIDv5 of deployment, request and generation: the same after a restart, a take-over, even a loss of Redis.

    Neither name can hold a line feed, so no two of them can make one id.
    """
    return str(uuid.uuid5(_NAMESPACE, f"{deployment}\n{request_id}\n{generation}"))
