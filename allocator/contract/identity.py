"""The session id: what makes a repeat harmless and a stray recognisable."""

from __future__ import annotations

import hashlib
import uuid

_NAMESPACE = uuid.UUID("8c7c4f0e-6d0b-5f1a-9a55-0d6d6f6a1c3e").bytes
"""Fixed for ever: with another one, every id would change and a resent request would start a second server."""


def session_id(deployment: str, request_id: str, generation: int) -> str:
    """UUIDv5 of deployment, request and generation: the same after a restart, a take-over, even a loss of Redis.

    Neither name can hold a line feed, so no two of them can make one id.
    """
    name = f"{deployment}\n{request_id}\n{generation}"
    digest = hashlib.sha1(_NAMESPACE + name.encode(), usedforsecurity=False).digest()
    return _written(digest)


def _written(digest: bytes) -> str:
    """Version 5 and the variant of RFC 9562 set in the first 16 bytes; `uuid.uuid5` takes eight times as long."""
    text = digest.hex()
    variant = "89ab"[digest[8] >> 4 & 3]
    return f"{text[:8]}-{text[8:12]}-5{text[13:16]}-{variant}{text[17:20]}-{text[20:32]}"
