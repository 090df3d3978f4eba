"""The stable codes of a bad end or a refusal: the public contract's section 4."""

from __future__ import annotations

from enum import StrEnum


class Code(StrEnum):
    """Why a request ended badly or was refused."""

    INVALID_REQUEST = "invalid_request"
    ID_CONFLICT = "id_conflict"
    REJECTED = "rejected"
    NOT_FOUND = "not_found"
    NO_REGION = "no_region"
    NO_CAPACITY = "no_capacity"
    OVERLOADED = "overloaded"
    UNAVAILABLE = "unavailable"
    UNAUTHORIZED = "unauthorized"
    DEADLINE = "deadline"
    POISONED = "poisoned"
