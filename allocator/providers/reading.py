"""A reply that is good news, alike for every provider: read into a shape, or the field of it that is at fault.

In: shapes, and pydantic's word on what did not fit one. Out: `Unreadable`, which names fields of ours and no value: a
session's description echoes its `env`. Pure. What the fields mean is each provider's to say.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from allocator.providers.provider import LookupFailed

PortNumber = Annotated[int, Field(ge=1, le=65535)]
Text = Annotated[str, StringConstraints(min_length=1)]


class Shape(BaseModel):
    """A part of a reply; fields that are new are passed over."""

    model_config = ConfigDict(extra="ignore", hide_input_in_errors=True, cache_strings="keys")


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A 2xx reply that does not say what we need; `fault` names the field."""

    fault: str

    def failed(self) -> LookupFailed:
        """What has become of a look-up that was answered so."""
        return LookupFailed(f"the reply cannot be read ({self.fault})", 200)


def fields_of(*shapes: type[BaseModel]) -> frozenset[str]:
    """The names of all their fields."""
    return frozenset(name for shape in shapes for name in shape.model_fields)


def unreadable(error: ValidationError, fields: frozenset[str]) -> Unreadable:
    """The first fault, with those of these fields that lead to it."""
    fault = error.errors(include_input=False, include_url=False, include_context=False)[0]
    if fault["type"] == "json_invalid":
        return Unreadable("not JSON")
    # Names of ours and indexes only: a key of the reply's own could be anything.
    known = [str(part) for part in fault["loc"] if isinstance(part, int) or part in fields]
    return Unreadable(f"{'.'.join(known) or 'reply'}: {fault['type'].replace('_', ' ')}")
