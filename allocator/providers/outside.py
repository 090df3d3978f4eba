"""Providers that other packages bring, found by entry points.

In: an entry point of the group `allocator.providers`, whose name is the provider's and its table's in the settings, and
which leads to a `Factory`; that table. Out: a provider; or OutsideError, one sentence with what to do, whatever the
other package's code raised. No value of the table is in any message: it may be a secret.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from importlib.metadata import entry_points
from typing import Any, Protocol

from allocator.providers.credential import CredentialError
from allocator.providers.provider import Provider

ENTRY_POINTS = "allocator.providers"
"""The group of entry points where a package names the providers that it brings."""
_NAME = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")
_CALLS = ("unsuited", "start", "find", "stop", "list", "offers", "close")


class OutsideError(CredentialError):
    """A table makes no provider: as with a credential that is not there, nothing can be begun."""


class Factory(Protocol):
    """What an entry point leads to: makes the provider from its table, inside a running loop.

    `table` holds what the settings say, and always `account` and `timeout_seconds`; values out of the environment are
    texts. Every secret is to be told to `learn`, so that it is masked wherever it might be printed.
    """

    def __call__(self, table: Mapping[str, Any], *, learn: Callable[[str], None]) -> Provider:
        """The provider; the text of a ValueError says what of the table is wrong, and repeats no value."""
        ...


def installed_names() -> frozenset[str]:
    """The names of the providers that installed packages bring."""
    return frozenset(name for name in entry_points(group=ENTRY_POINTS).names if _NAME.fullmatch(name))


def build_outside(name: str, table: Mapping[str, Any], *, learn: Callable[[str], None]) -> Provider:
    """Make the provider of this name."""
    # Two packages that bring the same are no contradiction.
    found = {each.value: each for each in entry_points(group=ENTRY_POINTS, name=name)}
    if not found:
        raise OutsideError(f"{name}: no installed package brings this provider; install it, or take the table out")
    if len(found) > 1:
        raise OutsideError(f"{name}: packages bring it as each of {', '.join(sorted(found))}; keep one of them")
    (entry,) = found.values()
    try:
        factory = entry.load()
    except Exception as error:
        raise OutsideError(f"{name}: {entry.value} cannot be imported ({type(error).__name__}); mend it") from error
    try:
        provider: Provider = factory(table, learn=learn)
    except Exception as error:  # noqa: BLE001 - whatever another package raises becomes a sentence
        # Of others, a validation error of pydantic as well, the type alone: their texts may quote the table.
        is_told = type(error) is ValueError or isinstance(error, CredentialError)
        said = " ".join(str(error).split()) if is_told else f"{entry.value} failed with {type(error).__name__}; mend it"
        raise OutsideError(f"{name}: {said}") from None
    _check(name, entry.value, provider, table)
    return provider


def _check(name: str, value: str, provider: Provider, table: Mapping[str, Any]) -> None:
    lacking = [call for call in _CALLS if not callable(getattr(provider, call, None))]
    if lacking:
        raise OutsideError(f"{name}: what {value} makes is no provider, it has no {', '.join(lacking)}; mend it")
    if provider.name != name or provider.account != table["account"]:
        raise OutsideError(
            f"{name}: what {value} makes calls itself {provider.name!r} with the account {provider.account!r}; "
            f"its name must be {name!r} and its account that of the table"
        )
