"""Names of regions and locations: what may become part of a key in Redis, and what would stand for something else."""

from __future__ import annotations

import json

import pytest

from allocator.service.settings import SettingsError, load_settings
from allocator.service.settings_model import Settings

GOOD = {"deployment": "d", "redis.url": "redis://127.0.0.1", "gameye.token": "t"}
MADE_UP = ["*", "*look-ups", "europe\nx", "europe\n", "eu rope", "europe~guests", "a:b", "e" * 65, "", "Zürich"]


def load(**options: str) -> Settings:
    return load_settings(None, {**GOOD, **options}, {})


@pytest.mark.parametrize("name", MADE_UP)
def test_an_unknown_region_is_served_only_where_its_name_is_a_plain_one(name: str) -> None:
    settings = load(unknown_regions="default")
    assert settings.resolve(name) == ()
    for plain in ("mars", "eu-west_1.b", "0", "e" * 64):
        (place,) = settings.resolve(plain)
        assert place.destination.location == plain


@pytest.mark.parametrize("name", ["eu rope", "a:b", "Zürich", "e" * 65, "eu/west"])
def test_a_region_that_is_configured_may_have_any_name_that_stands_for_nothing_else(name: str) -> None:
    (place,) = load(regions=json.dumps({name: {}}), default_regions=json.dumps([name])).resolve(name)
    assert place.destination.location == name


@pytest.mark.parametrize("location", ["*", "*look-ups", "europe\nx", "europe\n", "europe~guests"])
@pytest.mark.parametrize("where", ["name", "destination"])
def test_a_location_that_would_stand_for_something_else_is_refused(location: str, where: str) -> None:
    led = {"destinations": [{"provider": "gameye", "location": location}]}
    regions = {location: {}} if where == "name" else {"eu": led}
    with pytest.raises(SettingsError) as refused:
        load(regions=json.dumps(regions))
    (fault,) = refused.value.faults
    assert "a location must not begin with '*', end with '~guests' or hold a line break" in fault
    assert "\n" not in fault


def test_a_region_whose_own_name_is_odd_may_lead_to_a_plain_location() -> None:
    led = {"destinations": [{"provider": "gameye", "location": "europe"}]}
    (place,) = load(regions=json.dumps({"*": led})).resolve("*")
    assert place.destination.location == "europe"


def test_a_default_region_that_is_served_nowhere_is_refused() -> None:
    assert load(default_regions="mars", unknown_regions="default").default_regions == ("mars",)
    with pytest.raises(SettingsError, match="no region 'eu rope' is known"):
        load(default_regions=json.dumps(["eu rope"]), unknown_regions="default")
