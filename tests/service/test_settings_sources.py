"""Where settings come from: precedence, unknown names, what Kubernetes injects, and the source of each value."""

import json
from pathlib import Path

import pytest
from hypothesis import given, settings, strategies

from allocator.service.settings import SettingsError, load_settings, trace_settings
from allocator.service.settings_keys import dotted, known_paths, variable
from allocator.service.settings_model import Settings
from allocator.service.settings_tables import Gameye

KEY = "worker.concurrency"
VARIABLE = "ALLOCATOR_WORKER__CONCURRENCY"


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def faults_of(
    toml: str = "", options: dict[str, str] | None = None, environ: dict[str, str] | None = None
) -> tuple[str, ...]:
    Path("allocator.toml").write_text(toml, encoding="utf-8")
    with pytest.raises(SettingsError) as caught:
        load_settings(None, options or {}, environ or {}, require=frozenset())
    return caught.value.faults


def source_of(
    key: str, *, toml: str | None = None, options: dict[str, str] | None = None, environ: dict[str, str] | None = None
) -> tuple[object, str]:
    if toml is not None:
        Path("allocator.toml").write_text(toml, encoding="utf-8")
    traced = trace_settings(None, options or {}, environ or {}, require=frozenset())
    return next((leaf.value, leaf.source) for leaf in traced.leaves if leaf.key == key)


@pytest.mark.parametrize(
    ("toml", "environ", "options", "value", "source"),
    [
        (None, {}, {}, 256, "default"),
        ("[worker]\nconcurrency = 1", {}, {}, 1, "allocator.toml"),
        ("[worker]\nconcurrency = 1", {VARIABLE: "2"}, {}, 2, VARIABLE),
        ("[worker]\nconcurrency = 1", {VARIABLE: "2"}, {KEY: "3"}, 3, "--set"),
        (None, {VARIABLE: "2"}, {}, 2, VARIABLE),
        (None, {}, {KEY: "3"}, 3, "--set"),
        ("[worker]\nconcurrency = 1", {}, {KEY: "3"}, 3, "--set"),
        ("[worker]\nbacklog = 1", {}, {}, 256, "default"),
        ("[worker]", {}, {}, 256, "default"),
        ("[worker]", {VARIABLE: "2"}, {}, 2, VARIABLE),
    ],
)
def test_options_go_before_environment_before_file_before_default(
    toml: str | None, environ: dict[str, str], options: dict[str, str], value: int, source: str
) -> None:
    assert source_of(KEY, toml=toml, environ=environ, options=options) == (value, source)


@pytest.mark.parametrize(
    ("name", "text", "key", "value"),
    [
        ("ALLOCATOR_DEPLOYMENT", "d", "deployment", "d"),
        ("ALLOCATOR_NAMESPACE", "a:1", "namespace", "a:1"),
        ("ALLOCATOR_REQUEST_TIMEOUT_SECONDS", "7.5", "request_timeout_seconds", 7.5),
        ("ALLOCATOR_SESSION_TTL", "90m", "session_ttl", "90m"),
        ("ALLOCATOR_DEFAULT_REGIONS", "", "default_regions", []),
        ("ALLOCATOR_GAMEYE__ENVIRONMENT", "production", "gameye.environment", "production"),
        ("ALLOCATOR_GAMEYE__THROTTLE_STATUSES", "420, 429,430", "gameye.throttle_statuses", [420, 429, 430]),
        ("ALLOCATOR_GAMEYE__THROTTLE_STATUSES", "[420]", "gameye.throttle_statuses", [420]),
        ("ALLOCATOR_EDGEGAP__LOCATIONS", '{"x": {"lat": 1, "lon": 2}}', "edgegap.locations.x.lat", 1.0),
        ("ALLOCATOR_REGION_DEFAULTS__RATE", "3", "region_defaults.rate", 3.0),
        ("ALLOCATOR_REGIONS", '{"us-east.1": {"rate": 4}}', "regions.us-east.1.rate", 4.0),
        ("ALLOCATOR_REGIONS", '{"eu": {"first_choice_share": 0.3}}', "regions.eu.first_choice_share", 0.3),
        ("ALLOCATOR_PLACEMENT__POLICY", "my_game:cheapest", "placement.policy", "my_game:cheapest"),
        ("ALLOCATOR_PLACEMENT__LATENCY_BY", "average", "placement.latency_by", "average"),
        ("ALLOCATOR_CATALOG", '{"g": {"ports": {"game": "1/udp"}}}', "catalog.g.ports.game", "1/udp"),
        ("ALLOCATOR_API__PORT", "0", "api.port", 0),
        ("ALLOCATOR_RECONCILER__MODE", "observe", "reconciler.mode", "observe"),
    ],
)
def test_each_kind_of_value_can_come_from_a_variable(name: str, text: str, key: str, value: object) -> None:
    assert source_of(key, environ={name: text}) == (value, name)


def test_default_regions_may_be_written_with_commas_or_as_json() -> None:
    for text in ("eu, us", '["eu", "us"]'):
        settings = load_settings(
            None, {"default_regions": text, "regions": '{"eu": {}, "us": {}}'}, {}, require=frozenset()
        )
        assert settings.default_regions == ("eu", "us")


def test_a_regions_table_in_the_environment_replaces_the_files() -> None:
    Path("allocator.toml").write_text("[regions.eu]\nrate = 1\n[regions.us]\nrate = 1")
    settings = load_settings(None, {}, {"ALLOCATOR_REGIONS": '{"eu": {"burst": 3}}'}, require=frozenset())
    assert {name: (region.rate, region.burst) for name, region in settings.regions.items()} == {"eu": (None, 3)}


def test_an_empty_regions_table_in_the_environment_empties_the_files() -> None:
    Path("allocator.toml").write_text("[regions.eu]\nrate = 1")
    assert load_settings(None, {}, {"ALLOCATOR_REGIONS": "{}"}, require=frozenset()).regions == {}


def test_an_option_changes_one_region_and_leaves_the_others() -> None:
    Path("allocator.toml").write_text("[regions.eu]\nrate = 1\nburst = 2\n[regions.us]\nrate = 1")
    regions = load_settings(None, {"regions.eu.rate": "5"}, {}, require=frozenset()).regions
    assert {name: (region.rate, region.burst) for name, region in regions.items()} == {"eu": (5, 2), "us": (1, None)}


@pytest.mark.parametrize(
    ("toml", "environ", "url", "token_file"),
    [
        (
            '[gameye]\nenvironment = "production"\ntoken = "t"',
            {"ALLOCATOR_GAMEYE__BASE_URL": "http://127.0.0.1:1", "ALLOCATOR_GAMEYE__TOKEN_FILE": "f"},
            "http://127.0.0.1:1",
            Path("f"),
        ),
        (
            '[gameye]\nbase_url = "http://127.0.0.1:1"\ntoken_file = "f"',
            {"ALLOCATOR_GAMEYE__ENVIRONMENT": "sandbox", "ALLOCATOR_GAMEYE__TOKEN": "t"},
            "https://api.sandbox-gameye.gameye.net",
            None,
        ),
    ],
)
def test_a_stronger_source_may_say_it_the_other_way(
    toml: str, environ: dict[str, str], url: str, token_file: Path | None
) -> None:
    Path("allocator.toml").write_text(toml)
    gameye = load_settings(None, {}, environ, require=frozenset()).gameye
    assert isinstance(gameye, Gameye)
    assert (gameye.base_url, gameye.token_file, gameye.token is None) == (url, token_file, token_file is not None)


def test_a_variable_with_the_consoles_token_takes_the_place_of_the_files_token_file() -> None:
    Path("allocator.toml").write_text('[admin]\ntoken_file = "f"')
    admin = load_settings(None, {}, {"ALLOCATOR_ADMIN__TOKEN": "t"}, require=frozenset()).admin
    assert admin.token_file is None
    assert admin.token is not None


@pytest.mark.parametrize("table", ["gameye", "edgegap", "api"])
def test_an_empty_table_turns_it_on(table: str) -> None:
    Path("allocator.toml").write_text(f"[{table}]")
    assert getattr(load_settings(None, {}, {}, require=frozenset()), table) is not None


def test_without_its_table_a_provider_is_off() -> None:
    settings = load_settings(None, {}, {}, require=frozenset())
    assert (settings.gameye, settings.edgegap, settings.api) == (None, None, None)


def test_the_file_is_the_options_then_the_variables_then_the_directorys(here: Path) -> None:
    for name in ("option", "variable", "allocator"):
        (here / f"{name}.toml").write_text(f'deployment = "{name}"')
    environ = {"ALLOCATOR_CONFIG": "variable.toml"}
    loaded = [
        trace_settings(config, {}, given, require=frozenset())
        for config, given in ((Path("option.toml"), environ), (None, environ), (None, {}))
    ]
    assert [each.settings.deployment for each in loaded] == ["option", "variable", "allocator"]
    assert [str(each.file) for each in loaded] == ["option.toml", "variable.toml", "allocator.toml"]


def test_a_file_may_begin_with_a_byte_order_mark(here: Path) -> None:
    (here / "allocator.toml").write_bytes(b'\xef\xbb\xbfdeployment = "d"')
    assert load_settings(None, {}, {}, require=frozenset()).deployment == "d"


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (None, "f.toml (--config): cannot be read (No such file or directory)"),
        (b"deployment = ", "f.toml (--config): not TOML: end of document"),
        (b'a = 1\ntoken = "s3cret', "f.toml (--config): not TOML: end of document"),
        (b"a = 1\ns3cret\n", "f.toml (--config): not TOML: line 2, column 7"),
        (b"a = " + b"9" * 5000, "f.toml (--config): not TOML: a number or its nesting"),
        (b"a = " + b"[" * 5000, "f.toml (--config): not TOML: a number or its nesting"),
        (b"\xff", "f.toml (--config): not UTF-8"),
        (b"#" * (4 * 2**20 + 1), "f.toml (--config): over 4194304 bytes"),
    ],
)
def test_a_file_that_cannot_be_read_is_one_line_that_names_it(content: bytes | None, sentence: str) -> None:
    if content is not None:
        Path("f.toml").write_bytes(content)
    with pytest.raises(SettingsError) as caught:
        load_settings(Path("f.toml"), {}, {})
    (fault,) = caught.value.faults
    assert sentence in fault
    assert "s3cret" not in fault


def test_a_missing_file_says_which_variable_named_it() -> None:
    with pytest.raises(SettingsError, match=r"gone\.toml \(ALLOCATOR_CONFIG\): cannot be read"):
        load_settings(None, {}, {"ALLOCATOR_CONFIG": "gone.toml"})


@pytest.mark.parametrize(
    ("toml", "options", "environ", "fault"),
    [
        ("[worker]\nconcurency = 1", {}, {}, ("worker.concurency", "allocator.toml", KEY)),
        ('deploymnt = "d"', {}, {}, ("deploymnt", "allocator.toml", "deployment")),
        ("concurrency = 1", {}, {}, ("concurrency", "allocator.toml", KEY)),
        ('[gamey]\ntoken = "t"', {}, {}, ("gamey", "allocator.toml", "gameye")),
        ('[gameye]\ntokn = "t"', {}, {}, ("gameye.tokn", "allocator.toml", "gameye.token")),
        ("[regions.eu]\nrat = 1", {}, {}, ("regions.eu.rat", "allocator.toml", "regions.eu.rate")),
        (
            '[[regions.eu.destinations]]\nprovider = "gameye"\nlocation = "x"\nburts = 1',
            {},
            {},
            ("regions.eu.destinations.0.burts", "allocator.toml", "regions.eu.destinations.0.burst"),
        ),
        ('_env_file = "x"', {}, {}, ("_env_file", "allocator.toml", None)),
        ("", {"worker.concurency": "1"}, {}, ("worker.concurency", "--set", KEY)),
        ("", {"concurrency": "1"}, {}, ("concurrency", "--set", KEY)),
        ("", {"_case_sensitive": "1"}, {}, ("_case_sensitive", "--set", None)),
        ("", {}, {"ALLOCATOR_WORKER__CONCURENCY": "1"}, ("ALLOCATOR_WORKER__CONCURENCY", "environment", VARIABLE)),
        ("", {}, {"ALLOCATOR_WORKER_CONCURRENCY": "1"}, ("ALLOCATOR_WORKER_CONCURRENCY", "environment", VARIABLE)),
        ("", {}, {"ALLOCATOR_REDIS_URL": "u"}, ("ALLOCATOR_REDIS_URL", "environment", "ALLOCATOR_REDIS__URL")),
        ("", {}, {"ALLOCATOR_CONFG": "f"}, ("ALLOCATOR_CONFG", "environment", "ALLOCATOR_CONFIG")),
        ("", {}, {"ALLOCATOR_REGION": "{}"}, ("ALLOCATOR_REGION", "environment", "ALLOCATOR_REGIONS")),
        ("", {}, {"ALLOCATOR_PORTS": "1"}, ("ALLOCATOR_PORTS", "environment", None)),
    ],
)
def test_an_unknown_name_is_told_with_its_source_and_the_nearest_known_one(
    toml: str, options: dict[str, str], environ: dict[str, str], fault: tuple[str, str, str | None]
) -> None:
    (told,) = faults_of(toml, options, environ)
    name, source, nearest = fault
    assert told.startswith(f"{name} ({source}): unknown setting; the nearest known one is ")
    assert nearest is None or told.endswith(f" {nearest}")


def test_what_kubernetes_injects_for_another_service_is_refused_with_the_remedy() -> None:
    for name in ("ALLOCATOR_REDIS_SERVICE_HOST", "ALLOCATOR_REDIS_SERVICE_PORT", "ALLOCATOR_REDIS_PORT_6379_TCP"):
        (told,) = faults_of("", {}, {name: "tcp://10.0.0.1:6379"})
        assert told.startswith(f"{name} (environment): unknown setting, and one that Kubernetes sets")
        assert "enableServiceLinks: false" in told


@pytest.mark.parametrize(
    "name",
    [
        "ALLOCATOR_PORT",
        "ALLOCATOR_PORT_9464_TCP",
        "ALLOCATOR_PORT_9464_TCP_ADDR",
        "ALLOCATOR_SERVICE_HOST",
        "ALLOCATOR_SERVICE_PORT",
        "ALLOCATOR_SERVICE_PORT_METRICS",
        "ALLOCATORS_THING",
        "PATH",
    ],
)
def test_what_kubernetes_injects_and_what_is_not_ours_is_passed_over(name: str) -> None:
    assert load_settings(None, {}, {name: "tcp://10.0.0.1:9464"}, require=frozenset()).admin.port == 9464


@pytest.mark.parametrize(
    ("toml", "environ", "told"),
    [
        ("worker = 5", {}, "worker (allocator.toml): must be a table"),
        ("worker = 5", {VARIABLE: "7"}, "worker (allocator.toml): must be a table"),
        ("deployment = 5", {}, "deployment (allocator.toml): must be text, in quotes"),
        ("default_regions = 'eu'", {}, "default_regions (allocator.toml): must be a list"),
        ("regions = []", {}, "regions (allocator.toml): must be a table"),
        ("[worker]\nconcurrency = true", {}, f"{KEY} (allocator.toml): must not be true or false"),
        ("request_timeout_seconds = true", {}, "request_timeout_seconds (allocator.toml): must not be true or false"),
        ("[worker]\nconcurrency = 1.5", {}, f"{KEY} (allocator.toml): must be a whole number"),
        ("[worker]\nlease_seconds = inf", {}, "worker.lease_seconds (allocator.toml): must be"),
        ("", {"ALLOCATOR_REGIONS": "europe"}, "regions (ALLOCATOR_REGIONS): must be one JSON object"),
        ("", {"ALLOCATOR_DEFAULT_REGIONS": "[eu"}, "default_regions (ALLOCATOR_DEFAULT_REGIONS): must be a JSON list"),
        ("", {VARIABLE: ""}, f"{KEY} ({VARIABLE}): must be a whole number"),
        ("", {VARIABLE: "20000"}, f"{KEY} ({VARIABLE}): must be at most 10000"),
    ],
)
def test_a_value_of_the_wrong_shape_is_told_with_its_source(toml: str, environ: dict[str, str], told: str) -> None:
    (fault,) = faults_of(toml, environ=environ)
    assert fault.startswith(told)


DOTTED = {variable(path): dotted(path) for path in known_paths(Settings)}
TEXTS = strategies.one_of(
    strategies.text(max_size=20),
    strategies.sampled_from(["", "0", "-1", "1e400", "9" * 400, "nan", "true", "[]", "{}", "[[]]", '{"a": 1}', "\x00"]),
    strategies.dictionaries(
        strategies.text(max_size=5), strategies.one_of(strategies.none(), strategies.integers(), strategies.text())
    ).map(json.dumps),
)


def outcome(options: dict[str, str], environ: dict[str, str]) -> Settings | tuple[str, ...]:
    try:
        return load_settings(None, options, environ)
    except SettingsError as error:
        return error.faults


@settings(deadline=None, max_examples=60)
@given(
    environ=strategies.dictionaries(strategies.sampled_from(sorted(DOTTED)), TEXTS, max_size=4),
    options=strategies.dictionaries(
        strategies.one_of(strategies.sampled_from(sorted(DOTTED.values())), strategies.text(max_size=12)),
        TEXTS,
        max_size=4,
    ),
)
def test_whatever_is_given_the_answer_is_settings_or_faults_of_one_line(
    environ: dict[str, str], options: dict[str, str]
) -> None:
    match outcome(options, environ):
        case Settings():
            assert {"deployment", "redis.url"} <= options.keys() | {DOTTED[name] for name in environ}
        case faults:
            assert faults
            assert all(fault.isprintable() for fault in faults)
            assert len(set(faults)) == len(faults)
