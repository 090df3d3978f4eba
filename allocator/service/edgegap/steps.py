"""The words of a plan: a step, the thing it is about, the fields that it writes.

In: nothing. Out: frozen values without a secret in them: a declared part holds references, never what they lead to.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Literal

from allocator.service.edgegap.declared import DeclaredApplication, DeclaredProfile, DeclaredStorage, DeclaredVersion
from allocator.service.edgegap.references import Reference

Kind = Literal["storage", "profile", "application", "version", "link"]


class Act(Enum):
    """What a step does. `ASSURE` and `UNLINK` are of links, which nobody can read: they change nothing that is well."""

    CREATE = "create"
    CHANGE = "change"
    DELETE = "delete"
    ASSURE = "assure"
    UNLINK = "unlink"

    @property
    def sign(self) -> str:
        """As a diff has it."""
        return {Act.CREATE: "+", Act.CHANGE: "~", Act.DELETE: "-"}.get(self, "=")

    @property
    def is_change(self) -> bool:
        """Whether the plan knows that something will be another."""
        return self in (Act.CREATE, Act.CHANGE, Act.DELETE)


@dataclass(frozen=True, slots=True)
class Item:
    """One thing of the catalogue; a link's path is storage, profile, application, version."""

    kind: Kind
    path: tuple[str, ...]

    def __str__(self) -> str:
        if self.kind == "link":
            storage, profile, application, version = self.path
            return f"link {application}/{version} <- {storage}/{profile}"
        return f"{self.kind} {'/'.join(self.path)}"


@dataclass(frozen=True, slots=True)
class Difference:
    """One field, in texts fit to be shown; None: not there."""

    name: str
    before: str | None
    after: str | None
    remark: str = ""


DeclaredPart = DeclaredStorage | DeclaredProfile | DeclaredApplication | DeclaredVersion


@dataclass(frozen=True, slots=True)
class Step:
    """One call to make. `writes`: the fields that a change sends; all that are declared where it creates."""

    act: Act
    item: Item
    differences: tuple[Difference, ...] = ()
    writes: frozenset[str] = frozenset()
    declared: DeclaredPart | None = field(default=None, repr=False)
    remark: str = ""

    @property
    def references(self) -> tuple[Reference, ...]:
        """Where the secrets are that it writes."""
        wants = [name for name in ("secret_access_key", "private_token", "envs") if self._sends(name)]
        values = [getattr(self.declared, name, None) for name in wants]
        flat = [each for value in values for each in (value.values() if isinstance(value, Mapping) else [value])]
        return tuple(each for each in flat if isinstance(each, Reference))

    def _sends(self, name: str) -> bool:
        return self.act is Act.CREATE or name in self.writes


@dataclass(frozen=True, slots=True)
class Plan:
    """What apply would do, in this order; it does none of it where there is a refusal."""

    steps: tuple[Step, ...]
    refusals: tuple[str, ...] = ()
    undeclared: tuple[Item, ...] = ()
    """There and not in the file; left alone, since nothing is pruned."""

    @property
    def changes(self) -> tuple[Step, ...]:
        """The steps that are known to change something."""
        return tuple(step for step in self.steps if step.act.is_change)

    @property
    def references(self) -> tuple[Reference, ...]:
        """Where the secrets are that apply needs."""
        return tuple(dict.fromkeys(each for step in self.steps for each in step.references))


def facts(plan: Plan) -> dict[str, Any]:
    """The plan as JSON has it."""
    return {
        "changes": len(plan.changes),
        "steps": [
            {
                "act": step.act.value,
                "kind": step.item.kind,
                "name": "/".join(step.item.path),
                "fields": [
                    {"field": each.name, "before": each.before, "after": each.after, "remark": each.remark or None}
                    for each in step.differences
                ],
                "remark": step.remark or None,
            }
            for step in plan.steps
        ],
        "refusals": list(plan.refusals),
        "undeclared": [str(item) for item in plan.undeclared],
    }
