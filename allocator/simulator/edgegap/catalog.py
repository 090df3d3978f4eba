"""The catalogue's state: applications and versions, storages and pull profiles, what is linked to what.

In: bodies already read, settings, a clock. Out: records, or refusals in which nothing was changed. It promises that no
answer made of a record (`catalog_shapes`) needs a secret, and that what refers to something deleted is mended: the
profiles of a storage go with it, links go with either end, a version forgets a storage that is gone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from allocator.simulator.clock import Clock
from allocator.simulator.edgegap import catalog_bodies as bodies
from allocator.simulator.edgegap.records import Record, Records
from allocator.simulator.edgegap.refused import Refused
from allocator.simulator.edgegap.registry import Registry
from allocator.simulator.edgegap.settings import REGISTRY_HOST, SimulatorSettings


@dataclass(slots=True, eq=False)
class App(Record):
    """An application with its versions."""

    versions: Records[Record] = field(default_factory=lambda: Records("Version", 409))


@dataclass(slots=True, eq=False)
class Storage(Record):
    """An endpoint storage with its pull profiles."""

    profiles: Records[Profile] = field(default_factory=lambda: Records("Pull profile", 400))


@dataclass(slots=True, eq=False)
class Profile(Record):
    """A pull profile with the versions it is linked to (each a record), and when."""

    links: dict[Record, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Port:
    """A port that a version declares; 0 is the same inside and outside."""

    name: str
    port: int
    protocol: str = "UDP"
    tls_upgrade: bool = False


@dataclass(frozen=True, slots=True)
class Deployable:
    """What a deployment takes over from its version."""

    ports: tuple[Port, ...] = (Port("gameport", 7777),)
    max_duration_minutes: int = 1440


class Catalog:
    """One account's catalogue."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._settings = SimulatorSettings()
        self.apps: Records[App] = Records("Application", 409)
        self.storages: Records[Storage] = Records("Endpoint storage", 400)
        self.registry = Registry()

    def apply(self, settings: SimulatorSettings) -> None:
        """Go by other settings from now on; what they name and the catalogue lacks is added."""
        self._settings = settings
        self.registry.push(settings.images, self.now_ms())
        for name, declared in settings.applications.items():
            if name not in self.apps:
                self.create_app(bodies.NewApp(name=name, is_active=declared.is_active, image=""))
            for version in declared.bodies(name):
                self.create_version(name, version, seeded=True)

    def deployable(self, application: str, version: str) -> Deployable | Refused:
        """What the version says of its deployments, if it may be deployed."""
        app = self.apps.find(application)
        if isinstance(app, Refused):
            return Deployable() if self._settings.any_application else Refused(400, app.message)
        found = app.versions.find(version)
        if isinstance(found, Refused):
            return Refused(400, found.message)
        for record, noun in ((app, "Application"), (found, "Version")):
            if not record.fields["is_active"]:
                return Refused(400, f"{noun} {record.name} is not active")
        ports = tuple(
            Port(port.get("name") or str(port["port"]), port["port"], port["protocol"], port["tls_upgrade"])
            for port in found.fields["ports"]
        )
        return Deployable(ports, found.fields["max_duration"])

    def create_app(self, body: bodies.NewApp) -> App | Refused:
        """Make an application."""
        now_ms = self.now_ms()
        return self.apps.add(App(body.name, body.all_fields(), now_ms, now_ms))

    def create_version(self, app_name: str, body: bodies.NewVersion, *, seeded: bool = False) -> Record | Refused:
        """Make a version; one of the settings is not verified."""
        app = self.apps.find(app_name)
        if isinstance(app, Refused):
            return app
        fields = body.all_fields()
        refused = None if seeded else self._cannot_use(fields)
        now_ms = self.now_ms()
        return refused or app.versions.add(Record(body.name, fields, now_ms, now_ms))

    def change_version(self, app_name: str, name: str, body: bodies.ChangedVersion) -> Record | Refused:
        """Give a version other fields."""
        app = self.apps.find(app_name)
        found = app if isinstance(app, Refused) else app.versions.find(name)
        if isinstance(app, Refused) or isinstance(found, Refused):
            return found
        given = body.given()
        refused = self._cannot_use({**found.fields, **given})
        return refused or app.versions.change(name, given, self.now_ms())

    def delete_version(self, app_name: str, name: str) -> Record | Refused:
        """Delete a version and its links."""
        app = self.apps.find(app_name)
        removed = app if isinstance(app, Refused) else app.versions.remove(name)
        if not isinstance(removed, Refused):
            self._unlink(removed)
        return removed

    def delete_app(self, name: str) -> Record | Refused:
        """Delete an application, its versions and their links."""
        removed = self.apps.remove(name)
        if not isinstance(removed, Refused):
            for version in removed.versions:
                self._unlink(version)
        return removed

    def create_storage(self, body: bodies.NewStorage) -> Storage | Refused:
        """Make an endpoint storage."""
        now_ms = self.now_ms()
        return self.storages.add(Storage(body.name, body.all_fields(), now_ms, now_ms))

    def change_storage(self, name: str, body: bodies.ChangedStorage) -> Storage | Refused:
        """Give a storage other fields; versions follow it to another name."""
        changed = self.storages.change(name, body.given(), self.now_ms())
        if not isinstance(changed, Refused):
            self._point_versions(name, changed.name)
        return changed

    def delete_storage(self, name: str) -> Storage | Refused:
        """Delete a storage with its profiles; versions that stored their logs there do so no more."""
        removed = self.storages.remove(name)
        if not isinstance(removed, Refused):
            self._point_versions(name, None)
        return removed

    def create_profile(self, storage_name: str, body: bodies.NewProfile) -> Profile | Refused:
        """Make a pull profile of a storage."""
        storage = self.storages.find(storage_name)
        if isinstance(storage, Refused):
            return storage
        now_ms = self.now_ms()
        return storage.profiles.add(Profile(body.name, body.all_fields(), now_ms, now_ms))

    def profile(self, storage_name: str, name: str) -> Profile | Refused:
        """A pull profile of a storage."""
        storage = self.storages.find(storage_name)
        return storage if isinstance(storage, Refused) else storage.profiles.find(name)

    def version(self, app_name: str, name: str) -> Record | Refused:
        """A version of an application."""
        app = self.apps.find(app_name)
        return app if isinstance(app, Refused) else app.versions.find(name)

    def link(self, profile: Profile, version: Record) -> int:
        """Link a profile to a version, if it is not yet; when that was, in Unix milliseconds."""
        return profile.links.setdefault(version, self.now_ms())

    def now_ms(self) -> int:
        """Now, in Unix milliseconds."""
        return int(self._clock.wall() * 1000)

    def _cannot_use(self, fields: Mapping[str, Any]) -> Refused | None:
        """Why a version with these fields cannot be: a storage that is not there, an image that cannot be pulled."""
        storage = fields.get("endpoint_storage")
        if storage is not None and storage not in self.storages:
            return Refused(400, f"Endpoint storage {storage} does not exist")
        repository, image, tag = fields["docker_repository"], fields["docker_image"], fields["docker_tag"]
        if fields["verify_image"] and not self._pulls(repository, image, tag):
            return Refused(424, f"Unable to pull image {repository}/{image}:{tag}")
        return None

    def _pulls(self, repository: str, image: str, tag: str) -> bool:
        if {image, f"{image}:{tag}"} & set(self._settings.unpullable):
            return False
        return repository != REGISTRY_HOST or self.registry.pulls(image, tag)

    def _unlink(self, version: Record) -> None:
        for storage in self.storages:
            for profile in storage.profiles:
                profile.links.pop(version, None)

    def _point_versions(self, storage: str, to: str | None) -> None:
        for app in self.apps:
            for version in app.versions:
                if version.fields.get("endpoint_storage") == storage:
                    version.fields["endpoint_storage"] = to
