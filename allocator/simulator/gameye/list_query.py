"""The filters of `GET /session`, read from its query.

In: the query's pairs. Out: a predicate on sessions, or the key that is not as the vendor describes it. Unknown keys are
passed over, as web servers do.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

from allocator.simulator.bodies import Violation, read_boolean
from allocator.simulator.gameye.ledger import Session, Status

Wanted = Callable[[Session], bool]

_LABEL = re.compile(r"filter\[(.+)\]", re.DOTALL)
_INTEGER = re.compile(r"-?[0-9]{1,9}", re.ASCII)


def read_query(pairs: Iterable[tuple[str, str]]) -> Wanted | Violation:
    """The predicate of all filters together; without `all`, only running sessions pass."""
    wanted: list[Wanted] = []
    show_all = False
    for key, text in pairs:
        if key == "all":
            flag = read_boolean(key, text)
            if isinstance(flag, Violation):
                return flag
            show_all = flag
        elif key in {"location", "image", "tag", "host"}:
            wanted.append(_field_is(key, text))
        elif key in {"playerCount[lt]", "playerCount[gt]"}:
            if _INTEGER.fullmatch(text) is None:
                return Violation(key, "must be an integer")
            wanted.append(_players_below(int(text)) if key == "playerCount[lt]" else _players_above(int(text)))
        elif (match := _LABEL.fullmatch(key)) is not None:
            wanted.append(_label_is(match[1], text))
    if not show_all:
        wanted.append(lambda session: session.status is Status.RUNNING)
    return lambda session: all(passes(session) for passes in wanted)


def _field_is(name: str, text: str) -> Wanted:
    return lambda session: getattr(session, name) == text


def _label_is(name: str, text: str) -> Wanted:
    return lambda session: session.labels.get(name) == text


def _players_below(count: int) -> Wanted:
    return lambda session: len(session.players) < count


def _players_above(count: int) -> Wanted:
    return lambda session: len(session.players) > count
