"""The settings of the public contract's section 6: defaults, bounds, what tables must agree on, regions resolved."""

import json
from pathlib import Path
from typing import Any

import pytest

from allocator.contract.destination import Destination
from allocator.service.settings import Settings, SettingsError, load_settings

GOOD = {"deployment": "d", "redis.url": "redis://127.0.0.1", "gameye.token": "t"}
REGIONS = json.dumps({"europe": {"rate": 40}, "us": {}})

CONTRACT = """
deployment = "mygame-prod"
namespace = "allocator"
default_regions = ["europe"]
unknown_regions = "refuse"
request_timeout_seconds = 60
result_ttl_seconds = 7200
results_max_age_seconds = 3600
session_ttl = "4h"

[redis]
url = "redis://127.0.0.1"

[worker]
concurrency = 256
backlog = 1024
backlog_bytes = 33554432
lease_seconds = 10
max_gate_wait_seconds = 2

[gameye]
environment = "sandbox"
account = "studio"
token = "one"
timeout_seconds = 8
throttle_statuses = [420, 429]
rate = 200

[edgegap]
token = "two"
rate = 40
ready_timeout_seconds = 25
locations.amsterdam = { lat = 52.37, lon = 4.89 }

[region_defaults]
rate = 20
burst = 1

[regions.europe]
rate = 40

[regions.eu-any]
destinations = [
  { provider = "gameye", location = "europe", rate = 40 },
  { provider = "edgegap", location = "amsterdam", rate = 20 },
]

[catalog.my-game]
ports = { game = "7777/udp" }
edgegap = { application = "my-game-eg", version = "v7" }

[admin]
host = "127.0.0.1"
port = 9464

[api]
host = "127.0.0.1"
port = 8080
token_file = "FILE"

[reconciler]
mode = "stop"
stops_per_minute_max = 30
"""


@pytest.fixture(autouse=True)
def _empty_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def load(**changes: str) -> Settings:
    """Good settings with these options on top; `__` stands for the dot."""
    return load_settings(None, {**GOOD, **{key.replace("__", "."): value for key, value in changes.items()}}, {})


def faults_of(options: dict[str, str], environ: dict[str, str] | None = None) -> tuple[str, ...]:
    with pytest.raises(SettingsError) as caught:
        load_settings(None, {**GOOD, **options}, environ or {})
    return caught.value.faults


def test_every_key_of_the_contract_is_taken(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("three")
    file = tmp_path / "any.toml"
    file.write_text(CONTRACT.replace("FILE", str(tmp_path / "secret")))
    settings = load_settings(file, {}, {})
    assert settings.gameye is not None
    assert settings.edgegap is not None
    assert settings.api is not None
    assert settings.gameye.base_url == "https://api.sandbox-gameye.gameye.net"
    assert settings.gameye.account == "studio"
    assert settings.gameye.rate == 200
    assert settings.edgegap.locations["amsterdam"].lon == 4.89
    assert settings.api.token_file == tmp_path / "secret"
    assert settings.catalog["my-game"].port_names == {"7777/udp": "game"}
    assert settings.default_regions == ("europe",)


def test_the_defaults_are_the_contracts(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("three")
    file = tmp_path / "any.toml"
    file.write_text(CONTRACT.replace("FILE", str(tmp_path / "secret")))
    written = load_settings(file, {}, {}).model_dump()
    bare = load(edgegap__token="t", api__token="t").model_dump()
    chosen = {"deployment", "default_regions", "redis", "regions", "catalog"}
    assert {key: bare[key] for key in bare.keys() - chosen - {"gameye", "edgegap", "api"}} == {
        key: written[key] for key in written.keys() - chosen - {"gameye", "edgegap", "api"}
    }
    for table, keys in {
        "gameye": ("base_url", "timeout_seconds", "throttle_statuses"),
        "edgegap": ("rate", "ready_timeout_seconds"),
        "api": ("host", "port"),
    }.items():
        assert [bare[table][key] for key in keys] == [written[table][key] for key in keys]


BOUNDS: list[tuple[str, str, str, str, str]] = [
    # key, least, most, one below, one above
    ("request_timeout_seconds", "0.1", "3600", "0.09", "3601"),
    ("result_ttl_seconds", "60", "2592000", "59", "2592001"),
    ("results_max_age_seconds", "60", "2592000", "59", "2592001"),
    ("worker.concurrency", "1", "10000", "0", "10001"),
    ("worker.backlog", "1", "100000", "0", "100001"),
    ("worker.backlog_bytes", "65536", "2147483648", "65535", "2147483649"),
    ("worker.lease_seconds", "1", "300", "0.9", "301"),
    ("worker.max_gate_wait_seconds", "0", "60", "-1", "61"),
    ("worker.drain_seconds", "1", "600", "0", "601"),
    ("gameye.timeout_seconds", "0.1", "120", "0", "121"),
    ("gameye.rate", "0.01", "100000", "0", "100001"),
    ("edgegap.rate", "0.01", "100000", "0", "100001"),
    ("edgegap.ready_timeout_seconds", "1", "300", "0", "301"),
    ("region_defaults.rate", "0.01", "100000", "0", "100001"),
    ("region_defaults.burst", "1", "10000", "0", "10001"),
    ("regions.eu.rate", "0.01", "100000", "0", "100001"),
    ("regions.eu.burst", "1", "10000", "0", "10001"),
    ("regions.eu.first_choice_share", "0", "0.95", "-0.1", "0.96"),
    ("admin.port", "0", "65535", "-1", "65536"),
    ("api.port", "0", "65535", "-1", "65536"),
    ("reconciler.stops_per_minute_max", "1", "10000", "0", "10001"),
]


@pytest.mark.parametrize(("key", "least", "most", "below", "above"), BOUNDS)
def test_each_limit_has_two_ends_and_takes_both(key: str, least: str, most: str, below: str, above: str) -> None:
    good = {**GOOD, "edgegap.token": "t", "api.token": "t"}
    for text in (least, most):
        value: Any = load_settings(None, {**good, key: text}, {})
        for part in key.split("."):
            value = value[part] if isinstance(value, dict) else getattr(value, part)
        assert value == float(text)
    assert faults_of({**good, key: below}) == (f"{key} (--set): must be at least {float(least):g}",)
    assert faults_of({**good, key: above}) == (f"{key} (--set): must be at most {float(most):g}",)


REFUSED: list[tuple[str, str, str]] = [
    ("deployment", "", "must have at least 1 characters"),
    ("deployment", "a:b", "must match"),
    ("deployment", "a" * 65, "must have at most 64 characters"),
    ("deployment", "name\n", "must match"),
    ("namespace", "{allocator}", "must match"),
    ("namespace", "", "must have at least 1 characters"),
    ("session_ttl", "4 hours", "must be like '2h'"),
    ("session_ttl", "999h", "must be like '2h'"),
    ("unknown_regions", "any", "must be 'refuse' or 'default'"),
    ("default_regions", "us,us", "names a region twice"),
    ("redis.url", "http://127.0.0.1", "must begin with one of redis://"),
    ("redis.url", "redis://", "must begin with one of redis://"),
    ("worker.concurrency", "many", "must be a whole number"),
    ("worker.concurrency", "1.5", "must be a whole number"),
    ("worker.lease_seconds", "long", "must be a number"),
    ("worker.lease_seconds", "nan", "must be a finite number"),
    ("gameye.environment", "staging", "must be 'sandbox' or 'production'"),
    ("gameye.base_url", "ftp://127.0.0.1", "must be like 'https://host'"),
    ("gameye.base_url", "https://", "must be like 'https://host'"),
    ("gameye.base_url", "https://host:port", "must be like 'https://host'"),
    ("gameye.base_url", "https://host/?a=b", "must be like 'https://host'"),
    ("gameye.base_url", "https://u:p@host", "must not hold a credential"),
    ("gameye.throttle_statuses", "420,503", "must be at most 499"),
    ("gameye.throttle_statuses", "399", "must be at least 400"),
    ("gameye.throttle_statuses", "420,409", "must not hold 408 or 409"),
    ("gameye.throttle_statuses", "", "must have at least 1 entries"),
    ("gameye.token", "two words", "visible ASCII"),
    ("gameye.token", "line\n", "visible ASCII"),
    ("gameye.token", "", "visible ASCII"),
    ("regions", '{"eu": {"destinations": [{"provider": "other", "location": "x"}]}}', "must be 'gameye' or 'edgegap'"),
    ("regions", '{"eu": {"destinations": [{"provider": "gameye"}]}}', "is required; set it"),
    ("regions", '{"eu": {"destinations": []}}', "must have at least 1 entries"),
    ("regions", '{"eu": {"rate": true}}', "must not be true or false"),
    ("regions", '{"": {}}', "must have at least 1 characters"),
    ("regions", '{"eu": {"destinations": [{"provider": "gameye", "location": "x", "weight": -1}]}}', "at least 0"),
    ("regions", '{"eu": {"destinations": [{"provider": "gameye", "location": "x", "weight": 1001}]}}', "at most 1000"),
    ("placement.policy", "", "must have at least 1 characters"),
    ("placement.latency_by", "best", "must be 'worst' or 'average'"),
    ("regions", "[]", "must be one JSON object"),
    ("regions", "{", "must be one JSON object"),
    ("edgegap.locations", '{"x": {"lat": 91, "lon": 0}}', "must be at most 90"),
    ("edgegap.locations", '{"x": {"lat": 0}}', "is required; set it"),
    ("catalog", '{"my-game": {"ports": {"game": "7777"}}}', "must be like '7777/udp'"),
    ("catalog", '{"my-game": {"ports": {"game": "0/udp"}}}', "must be like '7777/udp'"),
    ("catalog", '{"my-game": {"ports": {"game": "70000/tcp"}}}', "must be like '7777/udp'"),
    ("catalog", '{"my-game": {"ports": {"a": "1/udp", "b": "1/udp"}}}', "gives one port two names"),
    ("catalog", '{"my-game": {"edgegap": {}}}', "is required; set it"),
    ("reconciler.mode", "off", "must be 'stop' or 'observe'"),
]


@pytest.mark.parametrize(("key", "text", "sentence"), REFUSED)
def test_a_bad_value_is_one_line_with_its_key_source_and_cure(key: str, text: str, sentence: str) -> None:
    (fault,) = faults_of({**({"edgegap.token": "t"} if key.startswith("edgegap") else {}), key: text})
    assert fault.startswith(key)
    assert "(--set): " in fault
    assert sentence in fault
    assert "\n" not in fault


@pytest.mark.parametrize(
    "url",
    [
        "redis://u:p@h:1/0",
        "rediss://h",
        "unix:///run/redis.sock",
        "redis+sentinel://h1,h2/main",
        "redis+cluster://h",
        "embedded:./data",
    ],
)
def test_each_form_of_a_redis_url_is_taken(url: str) -> None:
    assert load(redis__url=url).redis.url.get_secret_value() == url


@pytest.mark.parametrize("namespace", ["allocator", "allocator:3", "a.b_c-d"])
def test_a_namespace_may_name_a_partition(namespace: str) -> None:
    assert load(namespace=namespace).namespace == namespace


@pytest.mark.parametrize(
    ("options", "account"),
    [
        ({}, "api.sandbox-gameye.gameye.net"),
        ({"gameye.environment": "production"}, "api.production-gameye.gameye.net"),
        ({"gameye.base_url": "http://127.0.0.1:8080/"}, "127.0.0.1:8080"),
        ({"gameye.base_url": "https://Host.example:443"}, "host.example"),
        ({"gameye.base_url": "http://127.0.0.1:8080", "gameye.account": "studio"}, "studio"),
    ],
)
def test_two_endpoints_share_rates_only_when_the_account_says_so(options: dict[str, str], account: str) -> None:
    gameye = load_settings(None, {**GOOD, **options}, {}).gameye
    assert gameye is not None
    assert gameye.account == account
    assert not gameye.base_url.endswith("/")


@pytest.mark.parametrize(
    ("options", "key", "sentence"),
    [
        ({"gameye.token_file": "f"}, "gameye", "token and token_file are both set"),
        ({"gameye.environment": "sandbox", "gameye.base_url": "http://h"}, "gameye", "environment and base_url"),
        ({"default_regions": "eu"}, "default_regions", "add [regions.eu]"),
        (
            {"regions": '{"a": {"destinations": [{"provider": "edgegap", "location": "x"}]}}'},
            "regions.a",
            "add the table [edgegap]",
        ),
        (
            {
                "regions": '{"europe": {"rate": 5},'
                ' "b": {"destinations": [{"provider": "gameye", "location": "europe"}]}}',
            },
            "regions.b",
            "gives gameye/europe rate 20 and burst 1, but regions.europe gives it 5 and 1",
        ),
        (
            {"regions": '{"b": {"destinations": [' + ",".join(['{"provider": "gameye", "location": "x"}'] * 2) + "]}}"},
            "regions.b",
            "names gameye/x twice",
        ),
        ({"edgegap.rate": "3"}, "edgegap", "set edgegap.token or edgegap.token_file"),
        ({"admin.token": "t", "admin.token_file": "f"}, "admin", "token and token_file are both set"),
        ({"admin.token_file": "absent"}, "admin.token_file", "is not there or no file"),
        ({"api.port": "0"}, "api", "set api.token or api.token_file"),
        ({"api.token_file": "absent"}, "api.token_file", "is not there or no file"),
    ],
)
def test_what_contradicts_is_refused_and_says_what_to_change(options: dict[str, str], key: str, sentence: str) -> None:
    (fault,) = faults_of(options)
    assert fault.startswith(f"{key} (--set): ")
    assert sentence in fault


def test_every_fault_is_told_at_once() -> None:
    faults = faults_of(
        {"worker.concurrency": "0", "worker.back": "1", "admin.port": "x", "regions": "no"},
        {"ALLOCATOR_NAMESPAC": "n"},
    )
    assert len(faults) == 5


@pytest.mark.parametrize(
    ("missing", "line"),
    [
        ("deployment", "set it in allocator.toml, as ALLOCATOR_DEPLOYMENT, or with --set deployment=..."),
        ("redis.url", "set it in allocator.toml, as ALLOCATOR_REDIS__URL, or with --set redis.url=..."),
        ("gameye", "add the table [gameye] or [edgegap] with its token"),
    ],
)
def test_a_worker_without_a_required_setting_is_told_which(missing: str, line: str) -> None:
    with pytest.raises(SettingsError) as caught:
        load_settings(None, {key: text for key, text in GOOD.items() if not key.startswith(missing)}, {})
    (fault,) = caught.value.faults
    assert fault.startswith(f"{missing} (not set): ")
    assert fault.endswith(line)


def test_a_reader_of_answers_needs_no_provider_and_no_credential() -> None:
    settings = load_settings(
        None,
        {"redis.url": "redis://h", "gameye.environment": "production", "regions": REGIONS},
        {},
        require=frozenset({"redis.url"}),
    )
    assert (settings.namespace, settings.deployment) == ("allocator", "")


def test_settings_never_change_once_loaded() -> None:
    settings = load()
    with pytest.raises(ValueError, match="frozen"):
        settings.worker.concurrency = 1  # type: ignore[misc]  # the very thing that is to fail


def test_a_region_without_destinations_is_gameyes_of_that_name() -> None:
    (place,) = load(regions=REGIONS).resolve("europe")
    assert (place.destination, place.rate, place.burst) == (Destination("gameye", "europe"), 40, 1)


def test_a_region_takes_from_the_defaults_what_it_does_not_say() -> None:
    settings = load(regions=REGIONS, region_defaults__rate="7", region_defaults__burst="3")
    assert [(each.rate, each.burst) for name in ("europe", "us") for each in settings.resolve(name)] == [
        (40, 3),
        (7, 3),
    ]


def test_destinations_keep_their_order_and_their_own_rates() -> None:
    regions = {
        "any": {
            "rate": 9,
            "burst": 2,
            "first_choice_share": 0.4,
            "destinations": [
                {"provider": "gameye", "location": "z", "rate": 5, "weight": 3},
                {"provider": "edgegap", "location": "a", "burst": 4},
            ],
        }
    }
    locations = {"a": {"lat": 52, "lon": 5}}
    loaded = load(regions=json.dumps(regions), edgegap__token="t", edgegap__locations=json.dumps(locations))
    places = loaded.resolve("any")
    assert [(str(each.destination), each.rate, each.burst, each.weight) for each in places] == [
        ("gameye/z", 5, 2, 3),
        ("edgegap/a", 9, 4, None),
    ]
    assert [each.first_choice_share for each in places] == [0.4, 0.4]


def test_an_unknown_region_is_not_served_unless_the_settings_say_so() -> None:
    assert load(regions=REGIONS).resolve("mars") == ()
    (place,) = load(regions=REGIONS, unknown_regions="default").resolve("mars")
    assert (str(place.destination), place.rate, place.burst) == ("gameye/mars", 20, 1)


def test_an_unknown_region_never_raises_the_rate_of_a_known_destination() -> None:
    regions = {"eu": {"destinations": [{"provider": "gameye", "location": "europe", "rate": 2}]}}
    settings = load(regions=json.dumps(regions), unknown_regions="default")
    assert settings.resolve("europe") == settings.resolve("eu")


def test_an_unknown_region_is_not_served_without_gameye() -> None:
    options = {"deployment": "d", "redis.url": "redis://h", "edgegap.token": "t", "unknown_regions": "default"}
    assert load_settings(None, options, {}).resolve("mars") == ()
