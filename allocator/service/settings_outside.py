"""The tables of providers that other packages bring: `[acme]`, where a package brings the provider `acme`.

In: where a value was given. Out: where it stands in the model: `outside.acme.token` for `acme.token`, or for
ALLOCATOR_ACME__TOKEN. What such a table may hold is its provider's to say, but for the fields of `OutsideTable`; since
nobody here knows which of the others is a secret, all of them are.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any

from pydantic import ConfigDict, Field

from allocator.providers.outside import installed_names
from allocator.service.settings_keys import ENVIRONMENT_PREFIX, Model, Path
from allocator.service.settings_tables import Rate, Table, Text

OUTSIDE = "outside"


class OutsideTable(Table):
    """A provider of another package, X being the name that it brings; `[X]` alone does as well.

    Whatever else the table holds is the provider's own.
    """

    model_config = ConfigDict(extra="allow")

    account: Text | None = None
    """Rates are shared by all that use this name on one Redis. Default: the provider's name."""
    rate: Rate | None = None
    """Starts a second over all locations, where the account has such a limit."""
    timeout_seconds: Annotated[float, Field(ge=0.1, le=600)] = 8
    """Of a start; after it the outcome is unknown and the session is looked up."""

    def __repr_args__(self) -> Iterator[tuple[str | None, Any]]:
        """Only what is known to be no secret."""
        for name in OutsideTable.model_fields:
            yield name, getattr(self, name)


def table_of(name: str, outside: OutsideTable) -> Mapping[str, Any]:
    """The table as its provider gets it."""
    return {**outside.model_dump(), "account": outside.account or name}


def housed(model: Model, path: Path) -> Path:
    """Where in the model this key stands."""
    if not path or path[0] in model.model_fields or path[0] not in installed_names():
        return path
    return (OUTSIDE, *path)


def path_of_variable(name: str) -> Path | None:
    """The key that a variable of the environment names in such a table; None where it names none."""
    table, *rest = name.removeprefix(ENVIRONMENT_PREFIX).lower().split("__")
    return (OUTSIDE, table, *rest) if rest and all(rest) and table in installed_names() else None


def as_written(path: Path) -> Path:
    """The key as a person writes it."""
    return path[1:] if path[:1] == (OUTSIDE,) and path[1:] else path


def is_own(path: Path) -> bool:
    """Whether this key of such a table is its provider's own, and so may be a secret."""
    return path[:1] == (OUTSIDE,) and len(path) > 2 and path[2] not in OutsideTable.model_fields
