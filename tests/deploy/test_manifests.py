"""Manifests are what their tools accept, agree with the service, and hold what they promise."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from model_service.repository import Repository
from model_service.settings import Settings, read_settings
from scripts import alert_rules
from tests.debian import program
from tests.rendering import TOOLS

CHECKOV = ["tool", "run", "--quiet", "--from", "checkov==3.3.30", "checkov"]
OVERLAYS = ("staging", "production", "hot-model")
CUSTOM = {
    "ScaledObject": "@kubernetes-models/keda/keda.sh/v1alpha1",
    "Rollout": "@kubernetes-models/argo-rollouts/argoproj.io/v1alpha1",
    "PrometheusRule": "@kubernetes-models/prometheus-operator/monitoring.coreos.com/v1",
    "ServiceMonitor": "@kubernetes-models/prometheus-operator/monitoring.coreos.com/v1",
}
NPM_PACKAGES = ("keda@2.0.0", "argo-rollouts@2.0.0", "prometheus-operator@6.0.0")
ACCEPT = "import fs from 'fs';\n{imports}\nfor (const o of JSON.parse(fs.readFileSync(0)))\n"
ACCEPT += "  new ({{{names}}})[o.kind](o).validate();\n"
Document = dict[str, Any]


def run(*command: str | Path, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, **options
    )


def assert_accepted(*command: str | Path, **options: Any) -> None:
    ran = run(*command, **options)
    assert ran.returncode == 0, ran.stdout


def load(path: Path) -> list[Document]:
    return list(yaml.safe_load_all(path.read_text(encoding="utf-8")))


def built(kubernetes: Path, overlay: str) -> list[Document]:
    """The documents of an overlay, as `kubectl apply --kustomize` would send them."""
    folder = kubernetes / "overlays" / overlay
    ran = subprocess.run(
        [program("kubectl"), "kustomize", folder], capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr
    return list(yaml.safe_load_all(ran.stdout))


def with_production(service: Path, folder: Path, **lines: str) -> list[Document]:
    """Build production after exchanging components of it."""
    kubernetes = Path(shutil.copytree(service / "deploy/kubernetes", folder / "kubernetes"))
    path = kubernetes / "overlays/production/kustomization.yaml"
    text = path.read_text(encoding="utf-8")
    for component, instead in lines.items():
        line = re.search(rf"^ +(?:# )?- \.\./\.\./components/{component}\b.*$", text, re.MULTILINE)
        assert line, component
        text = text.replace(line[0], f"  - ../../components/{instead}")
    path.write_text(text, encoding="utf-8")
    return built(kubernetes, "production")


def of_kind(documents: list[Document], kind: str) -> dict[str, Document]:
    return {d["metadata"]["name"]: d for d in documents if d["kind"] == kind}


def container_of(workload: Document) -> Document:
    (container,) = workload["spec"]["template"]["spec"]["containers"]
    assert isinstance(container, dict)
    return container


def settings_of(documents: list[Document], workload: Document, service: Path) -> Settings:
    """The settings that a pod has: those of the repository, and those of its variables."""
    maps = of_kind(documents, "ConfigMap")
    container = container_of(workload)
    variables = {v["name"]: v["value"] for v in container.get("env", [])}
    for source in container.get("envFrom", []):
        if "configMapRef" in source:
            variables |= maps[source["configMapRef"]["name"]]["data"]
    stated = {name: text for name, text in variables.items() if name.startswith("MODEL_SERVICE_")}
    assert "MODEL_SERVICE_SERVER__DRAIN_SECONDS" in stated
    return read_settings(Repository(service), stated)


def seconds_to_stop(settings: Settings) -> float:
    """From SIGTERM to the end: it drains, and then finishes what is under way."""
    return settings.server.drain_seconds + settings.limits.seconds_per_request + 5


def test_hadolint_finds_nothing_in_the_dockerfile(service: Path, tmp_path: Path) -> None:
    assert_accepted(TOOLS / "hadolint", service / "deploy/Dockerfile")
    careless = tmp_path / "Dockerfile"
    text = (service / "deploy/Dockerfile").read_text(encoding="utf-8")
    careless.write_text(re.sub(r"python:\S+", "python:latest", text) + "USER root\n")
    assert "DL3002" in run(TOOLS / "hadolint", careless).stdout


def test_checkov_finds_nothing_that_is_not_explained(service: Path, tmp_path: Path) -> None:
    for overlay in OVERLAYS:
        documents = built(service / "deploy/kubernetes", overlay)
        (tmp_path / f"{overlay}.yaml").write_text(yaml.safe_dump_all(documents), encoding="utf-8")
    shutil.copytree(service / "deploy/kserve", tmp_path / "kserve")
    shutil.copy(service / "deploy/Dockerfile", tmp_path)
    options: list[str | Path] = ["--quiet", "--compact", "--skip-download", "--directory", tmp_path]
    options += ["--framework", "kubernetes", "dockerfile", "--output", "json"]
    found = run(TOOLS / "uv", *CHECKOV, *options)
    reports = json.loads(found.stdout[found.stdout.index("[") :])
    assert {report["check_type"] for report in reports} == {"kubernetes", "dockerfile"}
    for report in reports:
        assert not report["results"]["failed_checks"], found.stdout[-3000:]
        assert report["summary"]["passed"] > 50
    assert found.returncode == 0


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_kubernetes_accepts_every_overlay(service: Path, tmp_path: Path, overlay: str) -> None:
    documents = built(service / "deploy/kubernetes", overlay)
    core = [document for document in documents if document["kind"] not in CUSTOM]
    assert len(core) >= 6
    path = tmp_path / "manifests.yaml"
    path.write_text(yaml.safe_dump_all(core), encoding="utf-8")
    assert_accepted(TOOLS / "kubernetes-validate", "--strict", path)
    path.write_text(yaml.safe_dump_all(core).replace("readOnlyRoot", "readonlyRoot"))
    assert run(TOOLS / "kubernetes-validate", "--strict", path).returncode != 0


def test_operators_accept_what_is_made_for_them(service: Path, tmp_path: Path) -> None:
    names = [f"@kubernetes-models/{package}" for package in NPM_PACKAGES]
    npm: list[str | Path] = [
        program("npm"),
        "install",
        "--silent",
        "--no-fund",
        "--no-audit",
        "--ignore-scripts",
    ]
    assert_accepted(*npm, "--prefix", tmp_path, *names)
    imports = "\n".join(f"import {{{kind}}} from '{where}';" for kind, where in CUSTOM.items())
    script = tmp_path / "accept.mjs"
    script.write_text(ACCEPT.format(imports=imports, names=", ".join(CUSTOM)))
    found = [
        document
        for path in (service / "deploy/kubernetes/components").glob("*/*.yaml")
        for document in load(path)
        if document["kind"] in CUSTOM
    ]
    assert {document["kind"] for document in found} == set(CUSTOM)
    node: list[str | Path] = [program("node"), script]
    assert_accepted(*node, cwd=tmp_path, input=json.dumps(found))
    for document in found:
        refused = json.dumps([document | {"spec": {"selector": 3, "groups": 3}}])
        assert run(*node, cwd=tmp_path, input=refused).returncode != 0


def test_the_operator_gets_the_rules_that_a_prometheus_of_your_own_reads(service: Path) -> None:
    """`make format` writes them again."""
    assert alert_rules.RESOURCE.read_text(encoding="utf-8") == alert_rules.resource()
    (resource,) = of_kind(
        built(service / "deploy/kubernetes", "production"), "PrometheusRule"
    ).values()
    groups = [
        group
        for path in sorted((service / "monitoring/rules").glob("*.yaml"))
        for group in load(path)[0]["groups"]
    ]
    assert len(groups) > 3
    assert resource["spec"]["groups"] == groups


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_probes_and_grace_periods_fit_the_way_the_service_stops(
    service: Path, overlay: str
) -> None:
    documents = built(service / "deploy/kubernetes", overlay)
    for name, workload in of_kind(documents, "Deployment").items():
        pod, container = workload["spec"]["template"]["spec"], container_of(workload)
        if name == "models-monitor":
            continue
        settings = settings_of(documents, workload, service)
        assert pod["terminationGracePeriodSeconds"] > seconds_to_stop(settings)
        ready = container["readinessProbe"]
        noticed = ready["periodSeconds"] * ready["failureThreshold"] + ready.get(
            "timeoutSeconds", 1
        )
        assert settings.server.drain_seconds > noticed
        assert (ready["httpGet"]["path"], container["livenessProbe"]["httpGet"]["path"]) == (
            "/readyz",
            "/livez",
        )
        assert container["ports"] == [{"name": "http", "containerPort": settings.server.port}]


def test_kserve_and_compose_leave_time_to_stop(service: Path) -> None:
    for name in ("inference-service", "inference-service-standard"):
        (inference,) = load(service / f"deploy/kserve/{name}.yaml")
        predictor = inference["spec"]["predictor"]
        workload = {"spec": {"template": {"spec": predictor}}}
        assert predictor["timeout"] > seconds_to_stop(settings_of([], workload, service))
    (compose,) = load(service / "deploy/compose/compose.yaml")
    grace = compose["services"]["service"]["stop_grace_period"]
    settings = read_settings(Repository(service), {})
    assert int(grace.removesuffix("s")) > seconds_to_stop(settings)


def test_both_kinds_of_kserve_run_the_same_and_try_a_new_image_on_a_few(service: Path) -> None:
    (knative,) = load(service / "deploy/kserve/inference-service.yaml")
    (standard,) = load(service / "deploy/kserve/inference-service-standard.yaml")
    predictor, stable = knative["spec"]["predictor"], standard["spec"]["predictor"]
    (canary,) = standard["spec"]["canary"]
    assert predictor["canaryTrafficPercent"] == canary["trafficPercent"] == 10
    assert "canaryTrafficPercent" not in stable  # it would be ignored there, without a word
    assert stable["containers"] == predictor["containers"]
    assert stable["volumes"] == predictor["volumes"]
    assert stable["terminationGracePeriodSeconds"] > stable["timeout"]
    (tried,), (running,) = canary["predictor"]["containers"], stable["containers"]
    assert tried["image"] != running["image"]
    assert {**tried, "image": ""} == {**running, "image": ""}


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_whatever_selects_pods_finds_them(service: Path, overlay: str) -> None:
    documents = built(service / "deploy/kubernetes", overlay)
    deployments = of_kind(documents, "Deployment")
    by_name = {n: d["spec"]["template"]["metadata"]["labels"] for n, d in deployments.items()}
    labels = by_name.values()
    for found in of_kind(documents, "Service").values():
        assert found["spec"]["selector"].items() <= by_name[found["metadata"]["name"]].items()
    for found in of_kind(documents, "PodDisruptionBudget").values():
        wanted = found["spec"]["selector"]["matchLabels"].items()
        assert wanted <= by_name[found["metadata"]["name"]].items()
    for found in of_kind(documents, "HorizontalPodAutoscaler").values():
        assert found["spec"]["scaleTargetRef"]["name"] in deployments
        assert "replicas" not in deployments[found["spec"]["scaleTargetRef"]["name"]]["spec"]
    (policy,) = of_kind(documents, "NetworkPolicy").values()
    assert all(
        policy["spec"]["podSelector"]["matchLabels"].items() <= pod.items() for pod in labels
    )
    for monitor in of_kind(documents, "ServiceMonitor").values():
        for found in of_kind(documents, "Service").values():
            wanted = monitor["spec"]["selector"]["matchLabels"].items()
            assert wanted <= found["metadata"]["labels"].items()


def test_a_hot_model_has_pods_that_nobody_else_is_sent_to(service: Path) -> None:
    kubernetes = service / "deploy/kubernetes"
    main, hot = built(kubernetes, "production"), built(kubernetes, "hot-model")
    assert not {(d["kind"], d["metadata"]["name"]) for d in main} & {
        (d["kind"], d["metadata"]["name"]) for d in hot
    }
    (deployment,) = of_kind(hot, "Deployment").values()
    labels = deployment["spec"]["template"]["metadata"]["labels"].items()
    for found in of_kind(main, "Service").values():
        assert not found["spec"]["selector"].items() <= labels
    (settings,) = of_kind(hot, "ConfigMap").values()
    (route,) = of_kind(hot, "Ingress").values()
    (model,) = settings["data"]["MODELS"].split(",")
    paths = route["spec"]["rules"][0]["http"]["paths"]
    assert {path["path"] for path in paths} == {f"/v1/models/{model}", f"/v2/models/{model}"}
    assert {path["backend"]["service"]["name"] for path in paths} == set(of_kind(hot, "Service"))
    assert model in Repository(service).model_names()


def test_components_can_be_exchanged(service: Path, tmp_path: Path) -> None:
    by_requests = with_production(service, tmp_path / "keda", autoscaling="keda")
    (scaled,) = of_kind(by_requests, "ScaledObject").values()
    assert scaled["spec"]["scaleTargetRef"]["name"] in of_kind(by_requests, "Deployment")
    assert not of_kind(by_requests, "HorizontalPodAutoscaler")
    in_steps = with_production(service, tmp_path / "rollouts", rollouts="rollouts")
    (rollout,) = of_kind(in_steps, "Rollout").values()
    deployment = of_kind(in_steps, "Deployment")[rollout["spec"]["workloadRef"]["name"]]
    assert rollout["spec"]["selector"] == deployment["spec"]["selector"]
    (scaler,) = of_kind(in_steps, "HorizontalPodAutoscaler").values()
    assert scaler["spec"]["scaleTargetRef"]["kind"] == "Rollout"


def test_versions_can_come_from_an_object_store(service: Path, tmp_path: Path) -> None:
    documents = with_production(service, tmp_path, registry="registry")
    for workload in of_kind(documents, "Deployment").values():
        pod, container = workload["spec"]["template"]["spec"], container_of(workload)
        (pull,) = pod["initContainers"]
        assert pull["args"] == ["pull"]
        folders = [
            {m["name"]: m["mountPath"] for m in c["volumeMounts"]} for c in (pull, container)
        ]
        assert [mounted["registry"] for mounted in folders] == ["/srv/registry"] * 2
        assert {"name": "registry", "emptyDir": {}} in pod["volumes"]
    path = tmp_path / "manifests.yaml"
    core = [document for document in documents if document["kind"] not in CUSTOM]
    path.write_text(yaml.safe_dump_all(core), encoding="utf-8")
    assert_accepted(TOOLS / "kubernetes-validate", "--strict", path)


def test_compose_is_valid_and_mounts_what_exists(service: Path) -> None:
    path = service / "deploy/compose/compose.yaml"
    schema = ["--builtin-schema", "vendor.compose-spec"]
    assert_accepted(TOOLS / "check-jsonschema", *schema, path)
    (compose,) = load(path)
    services = compose["services"]
    for name, found in services.items():
        image = found["image"]
        assert re.search(r":(v?\d+\.\d+\S*|local)$", image), name
        for volume in found.get("volumes", []):
            source = volume.split(":")[0]
            known = source in compose["volumes"] or (path.parent / source).exists()
            assert known, f"{name} mounts {volume}"
        for config in found.get("configs", []):
            yaml.safe_load(compose["configs"][config["source"]]["content"])
        for port in found.get("ports", []):
            assert port.startswith("127.0.0.1:"), "only this machine is let in"
    assert {"service", "monitor", "postgres", "prometheus", "alertmanager", "grafana"} == set(
        services
    )


def test_ray_always_limits_what_a_replica_takes(service: Path) -> None:
    (config,) = load(service / "deploy/ray/serve.yaml")
    assert config["applications"]
    settings = read_settings(Repository(service), {})
    assert config["http_options"]["request_timeout_s"] > settings.limits.seconds_per_request
    for application in config["applications"]:
        for deployment in application["deployments"]:
            assert deployment["max_ongoing_requests"] > 5, "Ray's default"
            assert deployment["max_queued_requests"] > 0
            grace = deployment["graceful_shutdown_timeout_s"]
            assert grace > settings.limits.seconds_per_request
