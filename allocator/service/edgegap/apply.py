"""The steps of a plan, done.

In: a plan without refusals, the secrets that it needs. Out: each step as it is done, then how it ended: `Applied`, or
`Halted` at the step that did not go through. Promised: a step is one call; nothing is undone and nothing goes on after
a fault, and since every apply begins with what is there, the next one goes on where this one was left, whatever the
last call did; a deletion of what has gone is done.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from allocator.providers.edgegap.catalog.client import Catalog
from allocator.providers.edgegap.catalog.faults import Fault, Refused, Unclear
from allocator.service.edgegap import bodies
from allocator.service.edgegap.declared import DeclaredApplication, DeclaredProfile, DeclaredStorage, DeclaredVersion
from allocator.service.edgegap.references import Vault
from allocator.service.edgegap.steps import Act, Plan, Step


@dataclass(frozen=True, slots=True)
class Applied:
    """Everything is as declared."""


@dataclass(frozen=True, slots=True)
class Halted:
    """The step that was not done, why, and what to do."""

    step: Step
    fault: Fault

    def __str__(self) -> str:
        match self.fault:
            case Refused(409):
                advice = "it has come to be since the plan; apply again"
            case Refused(424):
                advice = "the registry gives no such image with these credentials; correct them in the file"
            case Refused(401 | 403):
                advice = "check edgegap.token and apply again"
            case Refused(404):
                advice = "it has gone since the plan; apply again"
            case Refused(429):
                advice = "wait a moment and apply again"
            case Refused():
                advice = "correct the file, or what it says is in the way, and apply again"
            case Unclear():
                advice = "whether it was done is not known; apply again, which looks first"
            case _:
                advice = "it was not sent; apply again"
        return f"{self.step.item}: {self.fault}; {advice}"


async def apply_plan(
    catalog: Catalog, plan: Plan, vault: Vault, tell: Callable[[Step], None] = lambda _step: None
) -> Applied | Halted:
    """Do every step in order; `tell` hears of each that changed something, or may have."""
    if plan.refusals:
        raise ValueError("a plan with refusals is not to be begun")
    for step in plan.steps:
        fault = await _do(catalog, step, vault)
        if isinstance(fault, Refused) and fault.status == 404 and step.act in (Act.DELETE, Act.UNLINK):
            continue
        if fault is not None:
            return Halted(step, fault)
        tell(step)
    return Applied()


async def _do(catalog: Catalog, step: Step, vault: Vault) -> Fault | None:
    match step.act:
        case _ if step.item.kind == "link":
            result = await _link(catalog, step)
        case Act.CREATE:
            result = await _create(catalog, step, vault)
        case Act.CHANGE:
            result = await _change(catalog, step, vault)
        case _:
            result = await _delete(catalog, step)
    return result if isinstance(result, Fault) else None


async def _link(catalog: Catalog, step: Step) -> object:
    storage, profile, application, version = step.item.path
    if step.act is Act.UNLINK:
        return await catalog.profiles.unlink(storage, profile, application, version)
    return await catalog.profiles.link(storage, profile, application, version)


async def _create(catalog: Catalog, step: Step, vault: Vault) -> object:
    *above, name = step.item.path
    match step.declared:
        case DeclaredStorage() as storage:
            return await catalog.storages.create(bodies.new_storage(name, storage, vault))
        case DeclaredProfile() as profile:
            return await catalog.profiles.create(above[0], bodies.new_profile(name, profile))
        case DeclaredApplication() as application:
            return await catalog.applications.create(bodies.new_application(name, application))
        case DeclaredVersion() as version:
            return await catalog.versions.create(above[0], bodies.new_version(name, version, vault))
    raise TypeError(f"{step.item} is not declared")


async def _change(catalog: Catalog, step: Step, vault: Vault) -> object:
    *above, name = step.item.path
    match step.declared:
        case DeclaredStorage() as storage:
            return await catalog.storages.update(name, bodies.storage_change(storage, step.writes, vault))
        case DeclaredProfile() as profile:
            return await catalog.profiles.update(above[0], name, bodies.profile_change(profile, step.writes))
        case DeclaredApplication() as application:
            return await catalog.applications.update(name, bodies.application_change(application, step.writes))
        case DeclaredVersion() as version:
            return await catalog.versions.update(above[0], name, bodies.version_change(version, step.writes, vault))
    raise TypeError(f"{step.item} is not declared")


async def _delete(catalog: Catalog, step: Step) -> object:
    *above, name = step.item.path
    match step.item.kind:
        case "storage":
            return await catalog.storages.delete(name)
        case "profile":
            return await catalog.profiles.delete(above[0], name)
        case "application":
            return await catalog.applications.delete(name)
        case _:
            return await catalog.versions.delete(above[0], name)
