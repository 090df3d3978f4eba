"""Where a deployment goes: the location nearest to its players.

In: players as coordinates or addresses, the locations of the settings. Out: names of locations, best first. An address
stands for one of the locations, always the same: nobody here knows where it really is.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from allocator.simulator.edgegap.settings import LocationSettings

_EARTH_RADIUS_KM = 6371.0


@dataclass(frozen=True, slots=True)
class Player:
    """Where one player is: an address, or coordinates."""

    ip: str | None = None
    lat: float = 0.0
    lon: float = 0.0


def nearest(players: Sequence[Player], locations: Mapping[str, LocationSettings], spill_km: float) -> list[str]:
    """The location with the least distance to all players, then those within `spill_km` of it."""
    spots = [_spot(player, locations) for player in players]
    total_km = {
        name: sum(_distance_km(spot, (place.lat, place.lon)) for spot in spots) for name, place in locations.items()
    }
    ordered = sorted(total_km, key=total_km.__getitem__)
    best = locations[ordered[0]]
    near = [name for name in ordered[1:] if _distance_km(_of(locations[name]), _of(best)) <= spill_km]
    return [ordered[0], *near]


def _of(location: LocationSettings) -> tuple[float, float]:
    return location.lat, location.lon


def _spot(player: Player, locations: Mapping[str, LocationSettings]) -> tuple[float, float]:
    if player.ip is None:
        return player.lat, player.lon
    names = sorted(locations)
    return _of(locations[names[zlib.crc32(player.ip.encode()) % len(names)]])


def _distance_km(one: tuple[float, float], other: tuple[float, float]) -> float:
    lat_one, lon_one, lat_other, lon_other = (math.radians(degrees) for degrees in (*one, *other))
    half = (
        math.sin((lat_other - lat_one) / 2) ** 2
        + math.cos(lat_one) * math.cos(lat_other) * math.sin((lon_other - lon_one) / 2) ** 2
    )
    return 2 * _EARTH_RADIUS_KM * math.asin(math.sqrt(min(1.0, half)))
