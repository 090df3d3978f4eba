"""The parts that every simulator's settings are made of: values as TOML, JSON and options write them.

In: tables of a script, JSON of the control door, texts of options. Out: frozen values, or pydantic's
`ValidationError`, which `sentence` turns into one line that names each key. What the settings of a vendor are is that
vendor's room's to say.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints, ValidationError


def split(value: object) -> object:
    """Let a list be written `a+b`, as an option has to."""
    return tuple(value.split("+")) if isinstance(value, str) else value


def _span(value: object) -> object:
    """Let a range be written `50`, `50-150` or `[50, 150]`."""
    if isinstance(value, int | float):
        return (value, value)
    if isinstance(value, str):
        low, _, high = value.partition("-")
        return (low, high or low)
    return value


def _ordered(value: tuple[float, float]) -> tuple[float, float]:
    if value[0] > value[1]:
        raise ValueError("the first number must not be above the second; write it as 50-150")
    return value


_Milliseconds = Annotated[float, Field(ge=0, le=600_000, allow_inf_nan=False)]

Name = Annotated[str, StringConstraints(min_length=1)]
Names = Annotated[tuple[str, ...], BeforeValidator(split)]
Count = Annotated[int, Field(ge=0)]
Seconds = Annotated[float, Field(ge=0, le=86_400, allow_inf_nan=False)]
SpanMs = Annotated[tuple[_Milliseconds, _Milliseconds], BeforeValidator(_span), AfterValidator(_ordered)]
SpanSeconds = Annotated[tuple[Seconds, Seconds], BeforeValidator(_span), AfterValidator(_ordered)]
Rate = Annotated[float, Field(gt=0, le=1_000_000)]
ErrorStatus = Annotated[int, Field(ge=400, le=599)]


class Frozen(BaseModel):
    """A table of the settings: unknown keys are refused, and nothing changes after it is read."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class RetryAfter(Frozen):
    """The Retry-After header of 420, 429 and 503, in either of the forms HTTP allows."""

    seconds: Seconds = 1.0
    form: Literal["seconds", "date"] = "seconds"


def sentence(error: ValidationError) -> str:
    """Say each fault of the settings as `key: what is wrong`, the first four, in one line."""
    faults = []
    for fault in error.errors(include_input=False, include_url=False)[:4]:
        key = ".".join(str(part) for part in fault["loc"]) or "settings"
        message = "unknown setting" if fault["type"] == "extra_forbidden" else fault["msg"]
        faults.append(f"{key}: {message.removeprefix('Value error, ')}")
    more = error.error_count() - len(faults)
    return "; ".join(faults) + (f"; and {more} more" if more > 0 else "")
