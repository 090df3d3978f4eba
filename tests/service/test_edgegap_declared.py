"""The file that declares Edgegap's catalogue: what it may hold, and what it says where it may not."""

from __future__ import annotations

import base64
import re
from pathlib import Path

import pytest

from allocator.service.edgegap.declared import Declared
from allocator.service.edgegap.declared_file import DeclaredError, load_declared
from allocator.service.edgegap.references import MissingSecret, Reference, open_vault

VERSION = """
[applications.my-game.versions.v1]
docker_repository = "registry.edgegap.com"
docker_image = "org/my-game"
docker_tag = "1.0"
req_cpu = 1024
req_memory = 2048
"""


def load(directory: Path, text: str) -> Declared:
    file = directory / "edgegap.toml"
    file.write_text(text, encoding="utf-8")
    return load_declared(file)


def faults(directory: Path, text: str) -> tuple[str, ...]:
    with pytest.raises(DeclaredError) as caught:
        load(directory, text)
    return caught.value.faults


def test_every_field_of_every_part_can_be_declared(tmp_path: Path) -> None:
    declared = load(
        tmp_path,
        """
        [storages.logs]
        endpoint = "https://s3.example.com"
        bucket = "bucket"
        access_key_id = "AK"
        secret_access_key = { file = "secrets/s3" }
        output_format = "NDJSON"
        pull_profiles.config = { source = "/bucket/c", source_type = "File", destination = "/usr/share/c" }

        [applications.my-game]
        is_active = false
        image = "aGk="

        [applications.my-game.versions."2024.01.30-16.23.00-UTC"]
        docker_repository = "registry.edgegap.com"
        docker_image = "org/my-game"
        docker_tag = "1.0"
        private_username = "robot"
        private_token = { env = "REGISTRY_TOKEN" }
        req_cpu = 1024
        req_memory = 2048
        req_video = 0
        is_active = true
        verify_image = true
        force_cache = true
        time_to_deploy = 30
        max_duration = 60
        restart_policy = "never"
        termination_grace_period_seconds = 30
        will_deploy_in_mainland_china = false
        dns_config = "dns"
        endpoint_storage = "logs"
        ports = [{ port = 7777, protocol = "UDP", name = "game", to_check = false, tls_upgrade = false }]
        envs = { MODE = "ranked", KEY = { env = "GAME_KEY" } }
        pull_profiles = ["logs/config"]
        """,
    )
    version = declared.applications["my-game"].versions["2024.01.30-16.23.00-UTC"]
    assert all(value is not None for _, value in version)
    assert version.envs == {"MODE": "ranked", "KEY": Reference(env="GAME_KEY")}
    assert declared.storages["logs"].pull_profiles["config"].source_type == "File"


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ('[storages.s]\nsecret_access_key = "hunter2"\nbucket = "b"\n', "storages.s.secret_access_key"),
        (f'{VERSION}private_token = "hunter2"', "applications.my-game.versions.v1.private_token"),
        (
            f'{VERSION}envs = {{ KEY = {{ value = "hunter2", is_hidden = true }} }}',
            "applications.my-game.versions.v1.envs.KEY",
        ),
    ],
)
def test_a_secret_in_clear_is_refused_by_name_and_not_repeated(tmp_path: Path, text: str, where: str) -> None:
    found = faults(tmp_path, text)
    assert any(f"{where}: " in fault and '{ env = "VARIABLE" }' in fault for fault in found)
    assert "hunter2" not in "".join(found)


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("docker_tagg = 1", "the nearest known one is applications.my-game.versions.v1.docker_tag"),
        ("use_telemetry = true", "Edgegap has taken this out of its API"),
        ("req_video = true", "req_video: must be a whole number"),
        ("max_duration = 2000", "max_duration: must be at most 1440"),
        ('ports = [{ port = 0, protocol = "UDP" }]', "port 0 needs a name"),
        ('ports = [{ port = 1, protocol = "QUIC" }]', "protocol: must be 'TCP', 'UDP'"),
        ('pull_profiles = ["config"]', "pull_profiles.0: must be STORAGE/PROFILE"),
        ('ports = "7777"', "ports: must be a list"),
        ('pull_profiles = ["a/b", "a/b"]', "names a pull profile twice"),
        ('envs = { "not a name" = "x" }', "envs.not a name: must be letters, digits"),
    ],
)
def test_what_cannot_be_is_said_with_its_place(tmp_path: Path, line: str, sentence: str) -> None:
    found = faults(tmp_path, f"{VERSION}{line}\n")
    assert len(found) == 1
    assert sentence in found[0]
    assert "applications.my-game.versions.v1." in found[0]


def test_more_memory_than_the_cpu_allows_is_refused_before_any_call(tmp_path: Path) -> None:
    (fault,) = faults(tmp_path, VERSION.replace("2048", "2049"))
    assert "at most twice req_cpu (2048)" in fault


@pytest.mark.parametrize("destination", ["/etc", "/etc/", "/etc/game", "/", "//etc/x"])
def test_a_destination_that_would_make_deployments_fail_is_refused(tmp_path: Path, destination: str) -> None:
    (fault,) = faults(
        tmp_path,
        f"""
        [storages.logs]
        endpoint = "https://s3.example.com"
        bucket = "bucket"
        access_key_id = "AK"
        secret_access_key = {{ env = "S" }}
        pull_profiles.config = {{ source = "/b", source_type = "File", destination = "{destination}" }}
        """,
    )
    assert "protected" in fault


def test_every_fault_is_said_at_once(tmp_path: Path) -> None:
    found = faults(tmp_path, '[applications.a.versions.v]\ndocker_tag = 1\nreq_cpu = 1\n[wrong]\nx = "y"\n')
    assert len(found) >= 5


def test_a_picture_is_read_from_beside_the_file(tmp_path: Path) -> None:
    (tmp_path / "logo.png").write_bytes(b"picture")
    declared = load(tmp_path, '[applications.my-game]\nimage = { path = "logo.png" }\n')
    assert declared.applications["my-game"].image == base64.b64encode(b"picture").decode()
    assert "cannot be read" in faults(tmp_path, '[applications.my-game]\nimage = { path = "none.png" }\n')[0]


@pytest.mark.parametrize("text", ["= 1", 'a = "hunter2', "[a]\n[a]"])
def test_a_file_that_is_no_toml_is_said_without_what_stands_in_it(tmp_path: Path, text: str) -> None:
    (fault,) = faults(tmp_path, text)
    assert "not TOML" in fault
    assert "hunter2" not in fault


def test_secrets_are_found_in_the_environment_and_in_files_beside_the_declared_one(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("from-a-file\n", encoding="utf-8")
    references = [Reference(env="TOKEN"), Reference(file=Path("token"))]
    vault = open_vault(references, {"TOKEN": "from-the-environment"}, tmp_path)
    assert [vault[each].get_secret_value() for each in references] == ["from-the-environment", "from-a-file"]
    assert "from-" not in repr(vault)


def test_every_secret_that_is_not_there_is_said_at_once(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    wanted = [Reference(env="NONE"), Reference(file=Path("empty")), Reference(file=Path("nowhere"))]
    with pytest.raises(MissingSecret) as caught:
        open_vault(wanted, {}, tmp_path)
    assert [fault.partition(":")[0] for fault in caught.value.faults] == ["NONE (environment)", "empty", "nowhere"]


def test_the_file_of_the_documents_can_be_declared(tmp_path: Path) -> None:
    page = Path(__file__).parents[2] / "deploy" / "docs" / "edgegap-catalog.md"
    (text,) = re.findall(r"```toml\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    (tmp_path / "logo.png").write_bytes(b"picture")
    declared = load(tmp_path, text)
    assert declared.applications["my-game"].versions["2026.11.22"].pull_profiles == ("logs/config",)
