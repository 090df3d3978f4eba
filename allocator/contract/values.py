"""Values that are made for every match: frozen to the type checker, cheap to make at run time."""

from __future__ import annotations

import dataclasses
from typing import TypeVar

T = TypeVar("T")


def quick(cls: type[T]) -> type[T]:
    """Let a frozen dataclass be made five times as fast; stands above its decorator.

    A frozen one writes each field through `object.__setattr__`: 2.8 us for six fields, 0.5 without (Python 3.11), and
    a match makes some twenty such values. What the type checker refuses is then no longer refused at run time.
    """
    fields = dataclasses.fields(cls)  # type: ignore[arg-type]  # a dataclass, which no type can say
    thawed = dataclasses.make_dataclass(
        cls.__name__,
        [
            (
                each.name,
                each.type,
                dataclasses.field(default=each.default, default_factory=each.default_factory, kw_only=each.kw_only),
            )
            for each in fields
        ],
    )
    type.__setattr__(cls, "__init__", vars(thawed)["__init__"])
    del cls.__setattr__, cls.__delattr__
    return cls
