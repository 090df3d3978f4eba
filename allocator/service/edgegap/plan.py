"""What to do so that the catalogue is as declared.

In: what is declared, what is there, what is allowed. Out: a `Plan`: steps in the order storages, pull profiles,
applications, versions, links, then deletions the other way round; and refusals, each a sentence with what to do. Pure.
Promised: a plan with a refusal is not to be begun; a deletion is in it only with `prune`; the image of an active
version is another only with `replace_active`; the plan of what was just applied has no change in it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from allocator.providers.edgegap.catalog.rows import Version
from allocator.service.edgegap.compare import (
    IMAGE_FIELDS,
    application_differences,
    declared_fields,
    fixed_differences,
    profile_differences,
    secret_fields,
    storage_differences,
    version_differences,
)
from allocator.service.edgegap.declared import Declared, DeclaredVersion
from allocator.service.edgegap.snapshot import Snapshot
from allocator.service.edgegap.steps import Act, DeclaredPart, Difference, Item, Plan, Step

ACTIVE_IMAGE = "ACTIVE: what starts from now on runs the other image, what runs keeps its own"
ACTIVE_GONE = "ACTIVE: nothing can start from it any more"
_REGISTRY = frozenset({"docker_repository", "private_username"})


@dataclass(frozen=True, slots=True)
class Allowed:
    """What is done only where it is asked for by name."""

    prune: bool = False
    """Delete what is there and not declared."""
    replace_active: bool = False
    """Change the image of a version that deployments start from."""
    write_secrets: bool = False
    """Write every secret again: whether it is another cannot be seen."""


NOTHING_MORE = Allowed()


def make_plan(declared: Declared, there: Snapshot, allowed: Allowed = NOTHING_MORE) -> Plan:
    """Compare all of it."""
    planner = _Planner(declared, there, allowed)
    steps = [*planner.storages(), *planner.applications(), *planner.versions(), *planner.links()]
    removals = list(planner.removals())
    if allowed.prune:
        return Plan((*steps, *removals), tuple(planner.refusals))
    return Plan(tuple(steps), tuple(planner.refusals), tuple(step.item for step in removals))


class _Planner:
    def __init__(self, declared: Declared, there: Snapshot, allowed: Allowed) -> None:
        self._declared = declared
        self._there = there
        self._allowed = allowed
        self._storages = set(declared.storages)
        self._profiles = {(name, each) for name, storage in declared.storages.items() for each in storage.pull_profiles}
        if not allowed.prune:
            self._storages |= set(there.storages)
            self._profiles |= set(there.profiles)
        self.refusals: list[str] = []

    def storages(self) -> Iterator[Step]:
        """Storages, then pull profiles."""
        for name, storage in self._declared.storages.items():
            there = self._there.storages.get(name)
            differences = None if there is None else storage_differences(storage, there)
            yield from self._step(Item("storage", (name,)), storage, differences)
        for name, storage in self._declared.storages.items():
            for each, profile in storage.pull_profiles.items():
                now = self._there.profiles.get((name, each))
                differences = None if now is None else profile_differences(profile, now)
                yield from self._step(Item("profile", (name, each)), profile, differences)

    def applications(self) -> Iterator[Step]:
        """Applications, without their versions."""
        for name, application in self._declared.applications.items():
            there = self._there.applications.get(name)
            differences = None if there is None else application_differences(application, there)
            yield from self._step(Item("application", (name,)), application, differences)

    def versions(self) -> Iterator[Step]:
        """Versions; what cannot be changed of one, or only by name, is refused."""
        for item, version in self._declared_versions():
            if version.endpoint_storage is not None and version.endpoint_storage not in self._storages:
                self._lacks(item, "endpoint_storage", version.endpoint_storage)
            there = self._there.versions.get((item.path[0], item.path[1]))
            if there is None:
                yield from self._step(item, version, None)
                continue
            for fixed in fixed_differences(version, there):
                self.refusals.append(
                    f"{item}: {fixed.name} cannot be changed ({fixed.before} -> {fixed.after}): Edgegap changes no "
                    f"{fixed.name} of a version; declare a version with another name"
                )
            differences = [self._marked(each, item, there) for each in version_differences(version, there)]
            yield from self._step(item, version, differences)

    def links(self) -> Iterator[Step]:
        """Links of versions to pull profiles. They cannot be read: those that may be there are put again."""
        for item, version in self._declared_versions():
            if version.pull_profiles is None:
                continue
            wanted = [_profile(path) for path in version.pull_profiles]
            for profile in wanted:
                if profile not in self._profiles:
                    self._lacks(item, "pull_profiles", "/".join(profile))
                is_new = profile not in self._there.profiles or item.path not in self._there.versions
                yield Step(Act.CREATE if is_new else Act.ASSURE, Item("link", (*profile, *item.path)))
            if self._allowed.prune and item.path in self._there.versions:
                for profile in self._there.profiles:
                    if profile not in wanted and profile in self._profiles:
                        yield Step(Act.UNLINK, Item("link", (*profile, *item.path)))

    def removals(self) -> Iterator[Step]:
        """What is there and not declared, in the order in which it can go."""
        versions = self._there.versions
        for name in self._there.applications:
            declared = self._declared.applications.get(name)
            below = [version for application, version in versions if application == name]
            if declared is None:
                remark = f"with its versions {', '.join(below)}" if below else ""
                active = self._there.applications[name].is_active and any(
                    versions[name, each].is_active is not False for each in below
                )
                yield Step(
                    Act.DELETE,
                    Item("application", (name,)),
                    remark="; ".join(part for part in (remark, ACTIVE_GONE if active else "") if part),
                )
                continue
            for version in below:
                if version not in declared.versions:
                    active = versions[name, version].is_active is not False
                    yield Step(Act.DELETE, Item("version", (name, version)), remark=ACTIVE_GONE if active else "")
        for storage, profile in self._there.profiles:
            kept = self._declared.storages.get(storage)
            if kept is None or profile not in kept.pull_profiles:
                yield Step(Act.DELETE, Item("profile", (storage, profile)))
        for storage in self._there.storages:
            if storage not in self._declared.storages:
                yield Step(Act.DELETE, Item("storage", (storage,)), remark=self._users(storage))

    def _step(self, item: Item, declared: DeclaredPart, differences: list[Difference] | None) -> Iterator[Step]:
        """The step that makes it as declared, if it is not; `differences` None: it is not there."""
        if differences is None:
            yield Step(Act.CREATE, item, tuple(declared_fields(declared)), declared=declared)
            return
        known = {each.name for each in differences}
        writes = {name.partition(".")[0] for name in known}
        secrets = secret_fields(declared)
        if not self._allowed.write_secrets:
            # A registry's token goes with its name and user; the hidden variables go with the others.
            with_registry = writes & _REGISTRY
            secrets = [
                each
                for each in secrets
                if (each.name == "private_token" and with_registry)
                or (each.name != "private_token" and "envs" in writes)
            ]
        differences += [each for each in secrets if each.name not in known]
        writes |= {each.name.partition(".")[0] for each in secrets}
        if differences:
            if (
                isinstance(declared, DeclaredVersion)
                and declared.verify_image
                and writes & {*IMAGE_FIELDS, "private_token"}
            ):
                writes.add("verify_image")
            yield Step(Act.CHANGE, item, tuple(differences), frozenset(writes), declared)

    def _marked(self, difference: Difference, item: Item, there: Version) -> Difference:
        """The difference, with a remark and perhaps a refusal where it gives an active version another image."""
        if difference.name not in IMAGE_FIELDS or there.is_active is False:
            return difference
        if not self._allowed.replace_active:
            self.refusals.append(
                f"{item}: is active, and its {difference.name} would be another ({difference.before} -> "
                f"{difference.after}); declare a version with another name, or allow it with --replace-active"
            )
        return Difference(difference.name, difference.before, difference.after, ACTIVE_IMAGE)

    def _declared_versions(self) -> Iterator[tuple[Item, DeclaredVersion]]:
        for name, application in self._declared.applications.items():
            for each, version in application.versions.items():
                yield Item("version", (name, each)), version

    def _lacks(self, item: Item, field: str, name: str) -> None:
        what = (
            f"storages.{name}" if field == "endpoint_storage" else f"storages.{name.replace('/', '.pull_profiles.', 1)}"
        )
        there = name in self._there.storages or tuple(name.split("/", 1)) in self._there.profiles
        why = "would be pruned" if there else "is not there"
        self.refusals.append(f"{item}: {field} names '{name}', which {why}; declare [{what}]")

    def _users(self, storage: str) -> str:
        """Which versions that stay keep their logs there."""
        users = [
            "/".join(path)
            for path, version in self._there.versions.items()
            if version.endpoint_storage == storage and _stays(self._declared, path)
        ]
        return f"{', '.join(users)} keep their logs there" if users else ""


def _stays(declared: Declared, path: tuple[str, str]) -> bool:
    application = declared.applications.get(path[0])
    version = None if application is None else application.versions.get(path[1])
    return version is not None and version.endpoint_storage is None


def _profile(path: str) -> tuple[str, str]:
    storage, _, profile = path.partition("/")
    return storage, profile
