"""The names of the settings: which exist, how each source spells them, which is nearest to a wrong one.

In: the settings' model. Out: every key as a path such as `("worker", "concurrency")`, its kind, its spelling. Nothing
here reads a value.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from difflib import SequenceMatcher
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel

Path = tuple[str, ...]
"""Where a setting stands; written `worker.concurrency`."""
Model = type[BaseModel]
Kind = Literal["value", "list", "map"]

ENVIRONMENT_PREFIX = "ALLOCATOR_"


def dotted(path: Iterable[object]) -> str:
    """The key as TOML and `--set` spell it, fit to be printed."""
    return printable(".".join(str(part)[:64] for part in path))


def printable(text: str) -> str:
    """The text on one line and of a bounded length."""
    return "".join(char if char.isprintable() else "?" for char in text[:1024])


def variable(path: Path) -> str:
    """The key as the environment spells it."""
    return ENVIRONMENT_PREFIX + "__".join(path).upper()


def known_paths(model: Model, above: Path = ()) -> Iterator[Path]:
    """Every key that has a fixed name; a map of free names (`regions`) counts as one."""
    for name, field in model.model_fields.items():
        inner = _bare(field.annotation)
        if _is_model(inner):
            yield from known_paths(inner, (*above, name))
        else:
            yield (*above, name)


def kind(model: Model, path: Path) -> Kind:
    """What is to be read from a text at this key: a value, a list, or a map of free names as JSON."""
    annotation: Any = model
    for part in path:
        annotation = _below(annotation, part)
    match get_origin(annotation):
        case origin if origin is tuple:
            return "list"
        case origin if origin is dict:
            return "map"
        case _:
            return "map" if _is_model(annotation) else "value"


def nearest(wrong: str, known: Iterable[str]) -> str:
    """The known key most like the wrong one, by the whole of it or by its last part."""
    return max(known, key=lambda right: max(_likeness(wrong, right), 0.9 * _likeness(_last(wrong), _last(right))))


def nearest_path(model: Model, path: Path) -> str:
    """The known key nearest to an unknown one, among its neighbours and all that have a fixed name."""
    known = {dotted(each) for each in known_paths(model)}
    parent: Any = model
    for part in path[:-1]:
        parent = _below(parent, part)
    if _is_model(parent):
        known |= {dotted((*path[:-1], name)) for name in parent.model_fields}
    return nearest(dotted(path), sorted(known))


def _below(annotation: Any, part: str) -> Any:
    """The annotation one step down, or none where no such key can be."""
    if _is_model(annotation):
        field = annotation.model_fields.get(part)
        return None if field is None else _bare(field.annotation)
    if get_origin(annotation) is dict:
        return _bare(get_args(annotation)[1])
    if get_origin(annotation) is tuple and part.isdecimal():
        return _bare(get_args(annotation)[0])
    return None


def _bare(annotation: Any) -> Any:
    """The annotation without `Annotated` and without `| None`."""
    while True:
        if get_origin(annotation) is Annotated:
            annotation = get_args(annotation)[0]
        elif get_origin(annotation) in (Union, UnionType):
            annotation = next(each for each in get_args(annotation) if each is not type(None))
        else:
            return annotation


def _is_model(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def _likeness(one: str, other: str) -> float:
    return SequenceMatcher(None, one.lower(), other.lower()).ratio()


def _last(key: str) -> str:
    return key.replace("__", ".").rsplit(".", 1)[-1]
