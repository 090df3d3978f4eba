"""The vendor's JSON of deployments and locations, for each answer its own shape.

In: deployments, settings. Out: objects as the vendor's OpenAPI description has them. Ports are keyed by their name, or
by the port in the container where they have none; host and ports are empty until the deployment has a place.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from allocator.simulator.edgegap.deployment import Deployment, State
from allocator.simulator.edgegap.refused import Refused
from allocator.simulator.edgegap.settings import LocationSettings


def moment(at_ms: int) -> str:
    """A moment as the vendor writes it: UTC, without saying so."""
    return datetime.fromtimestamp(at_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S.%f")


def error(refused: Refused) -> dict[str, Any]:
    """`Error`."""
    if refused.details is None:
        return {"message": refused.message}
    return {"message": refused.message, "details": dict(refused.details)}


def described(deployment: Deployment, locations: Mapping[str, LocationSettings], now_ms: int) -> dict[str, Any]:
    """`V1DeploymentStatus`, which is also what a webhook brings."""
    shown: dict[str, Any] = {
        "request_id": deployment.request_id,
        "fqdn": deployment.fqdn,
        "app_name": deployment.application,
        "app_version": deployment.version,
        "current_status": f"Status.{deployment.state}",
        "running": deployment.state is State.READY,
        "start_time": _start_time(deployment),
        "elapsed_time": 0 if deployment.ready_at_ms is None else max(0, now_ms - deployment.ready_at_ms) // 1000,
        "error": deployment.state is State.ERROR,
        "public_ip": deployment.host if deployment.placed else "",
        "ports": _ports(deployment),
        "tags": list(deployment.tags),
        "max_duration": deployment.max_duration_minutes,
    }
    if deployment.last_state is not None:
        shown["last_status"] = f"Status.{deployment.last_state}"
    if deployment.error_detail is not None:
        shown["error_detail"] = deployment.error_detail
    if deployment.terminated_at_ms is not None:
        shown["removal_time"] = moment(deployment.terminated_at_ms)
    place = None if deployment.location is None else locations.get(deployment.location)
    if deployment.placed and deployment.location is not None and place is not None:
        shown["location"] = location(deployment.location, place)
    return shown


def listed(deployment: Deployment) -> dict[str, Any]:
    """A row of the list."""
    return {
        "request_id": deployment.request_id,
        "fqdn": deployment.fqdn,
        "start_time": _start_time(deployment),
        "ready": deployment.state is State.READY,
        "public_ip": deployment.host if deployment.placed else "",
        "ports": _ports(deployment),
        "tags": list(deployment.tags),
    }


def location(name: str, settings: LocationSettings) -> dict[str, Any]:
    """`LocationData`."""
    return {
        "city": name,
        "country": settings.country,
        "continent": settings.continent,
        "administrative_division": name,
        "timezone": settings.timezone,
        "latitude": settings.lat,
        "longitude": settings.lon,
    }


def _start_time(deployment: Deployment) -> str:
    return moment(deployment.created_at_ms if deployment.ready_at_ms is None else deployment.ready_at_ms)


def _ports(deployment: Deployment) -> dict[str, Any]:
    if not deployment.placed:
        return {}
    return {
        port.name: {
            "name": port.name,
            "internal": port.internal,
            "external": port.external,
            "protocol": port.protocol,
            "tls_upgrade": port.tls_upgrade,
            "link": f"{deployment.fqdn}:{port.external}",
        }
        for port in deployment.ports
    }
