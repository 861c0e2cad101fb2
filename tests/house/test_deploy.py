"""The manifests fit Kubernetes' schemas and each other, grant no more than is meant; the server starts as they say."""

import inspect
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from components.command_line.stages import read_cfg
from components.detect import Detect
from components.serve import serve
from components.service.settings import Serve

DEPLOY = Path(__file__).parents[2] / "deploy"
BY_HAND = {"shell.yaml", "secrets.example.yaml", "serve.yaml"}  # not part of `kubectl apply -k deploy`
FILES = sorted(p for p in DEPLOY.rglob("*.yaml") if p.name != "kustomization.yaml")
MANIFESTS = [(p.name, doc) for p in FILES for doc in yaml.safe_load_all(p.read_text())]
SECRETS = {
    "emd-mlflow": {"MLFLOW_TRACKING_URI", "MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"},
    "emd-dvc": {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_ENDPOINT_URL", "GIT_TOKEN"},
    "emd-webhook": {"EMD_WEBHOOK"},
    "emd-serve": {"EMD_SERVE_TOKEN"},
}


def of_kind(kind: str) -> list[dict[str, Any]]:
    return [doc for _, doc in MANIFESTS if doc["kind"] == kind]


def named(kind: str, name: str) -> dict[str, Any]:
    (found,) = (doc for doc in of_kind(kind) if doc["metadata"]["name"] == name)
    return found


def pods() -> list[dict[str, Any]]:
    """The specs of all pods."""
    return [d["spec"]["template"]["spec"] for d in of_kind("Deployment")] + [d["spec"] for d in of_kind("Pod")]


@pytest.mark.parametrize(("file", "manifest"), MANIFESTS, ids=[f"{f}-{d['kind']}" for f, d in MANIFESTS])
def test_manifest_fits_the_schema(file: str, manifest: dict[str, Any]) -> None:
    kubernetes_validate.validate(manifest, kubernetes_validate.latest_version(), strict=True)
    assert "namespace" not in manifest["metadata"], "kubectl's -n must decide"


def test_schema_is_strict() -> None:
    deployment = named("Deployment", "mlflow")
    wrong = {**deployment, "spec": {**deployment["spec"], "replica": 1}}
    with pytest.raises(kubernetes_validate.ValidationError, match="replica"):
        kubernetes_validate.validate(wrong, kubernetes_validate.latest_version(), strict=True)


def test_kustomizations_list_every_manifest() -> None:
    listed = set()
    for path in DEPLOY.rglob("kustomization.yaml"):
        resources = [path.parent / name for name in yaml.safe_load(path.read_text())["resources"]]
        assert all(r.is_file() for r in resources)
        listed |= {r.name for r in resources}
    assert listed == {p.name for p in FILES} - BY_HAND


def test_role_grants_nothing_beyond_its_list() -> None:
    (role,) = of_kind("Role")
    granted = {
        (group, resource, verb, *rule.get("resourceNames", []))
        for rule in role["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }
    assert granted == {
        ("argoproj.io", "workflowtaskresults", "create"),
        ("argoproj.io", "workflowtaskresults", "patch"),
        ("", "configmaps", "get", "kfp-launcher"),
        ("", "secrets", "get", "mlpipeline-minio-artifact"),
        ("", "pods", "get"),
        ("", "pods", "list"),
        ("", "pods/log", "get"),
        *(("trainer.kubeflow.org", "trainjobs", verb) for verb in ("create", "get", "list", "watch", "delete")),
    }
    assert not of_kind("ClusterRole") and not of_kind("ClusterRoleBinding")


def test_binding_joins_the_account_and_the_role() -> None:
    (account,), (role,), (binding,) = of_kind("ServiceAccount"), of_kind("Role"), of_kind("RoleBinding")
    assert binding["roleRef"]["name"] == role["metadata"]["name"]
    assert binding["subjects"] == [{"kind": "ServiceAccount", "name": account["metadata"]["name"]}]


@pytest.mark.parametrize("name", ["mlflow", "emd-serve"])
def test_selectors_ports_and_claims_meet(name: str) -> None:
    deployment, service = named("Deployment", name), named("Service", name)
    template = deployment["spec"]["template"]
    labels = template["metadata"]["labels"]
    selectors = [d["spec"]["selector"]["matchLabels"] for d in [deployment, *of_kind("PodDisruptionBudget")]]
    selectors = [s for s in selectors if s["app.kubernetes.io/name"] == name]
    for wanted in [service["spec"]["selector"], *selectors]:
        assert wanted and wanted.items() <= labels.items()
    ports = {p["name"]: p["containerPort"] for c in template["spec"]["containers"] for p in c["ports"]}
    (served,) = service["spec"]["ports"]
    assert ports == {served["targetPort"]: served["port"]}


def test_the_network_policy_lets_clients_reach_mlflow() -> None:
    (policy,), template = of_kind("NetworkPolicy"), named("Deployment", "mlflow")["spec"]["template"]
    assert policy["spec"]["podSelector"]["matchLabels"].items() <= template["metadata"]["labels"].items()
    (rule,) = policy["spec"]["ingress"]
    assert [p["port"] for p in rule["ports"]] == [p["name"] for p in template["spec"]["containers"][0]["ports"]]
    clients = [source["podSelector"].get("matchLabels", {}) for source in rule["from"]]
    labels = named("Deployment", "emd-serve")["spec"]["template"]["metadata"]["labels"]
    assert any(wanted and wanted.items() <= labels.items() for wanted in clients)


def test_volumes_are_mounted_and_claimed() -> None:
    claims = {d["metadata"]["name"] for d in of_kind("PersistentVolumeClaim")}
    maps = {d["metadata"]["name"] for d in of_kind("ConfigMap")}
    for pod in pods():
        volumes = {v["name"]: v for v in pod["volumes"]}
        assert {m["name"] for c in pod["containers"] for m in c["volumeMounts"]} == set(volumes)
        assert {
            v["persistentVolumeClaim"]["claimName"] for v in pod["volumes"] if "persistentVolumeClaim" in v
        } <= claims
        assert {v["configMap"]["name"] for v in pod["volumes"] if "configMap" in v} <= maps
    assert named("Deployment", "mlflow")["spec"]["strategy"]["type"] == "Recreate", "SQLite has one writer"


def test_the_service_starts_with_what_it_is_given(tmp_path: Path) -> None:
    """Its command line parses, its params file is whole, its probes are routes, and it has time to end."""
    pod = named("Deployment", "emd-serve")["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    params = tmp_path / "params.yaml"
    params.write_text(named("ConfigMap", "emd-serve")["data"]["params.yaml"])
    cfg = read_cfg("serve", Serve, params, "", [])
    read_cfg("detect", Detect, params, "", [])
    assert container["command"] == ["python", "-m", "components", "serve"]
    asked = {arg.split("=")[0].removeprefix("--") for arg in container["args"]}
    assert asked <= set(inspect.signature(serve).parameters)
    mounts = {m["mountPath"] for m in container["volumeMounts"]}
    assert {"/etc/emd", "/work", "/tmp"} == mounts and cfg.port == container["ports"][0]["containerPort"]
    assert pod["terminationGracePeriodSeconds"] > cfg.grace_s
    (work,) = (v["emptyDir"]["sizeLimit"] for v in pod["volumes"] if v["name"] == "work")
    assert (cfg.max_waiting + cfg.workers) * cfg.max_mb * 1e6 < int(work.removesuffix("Gi")) * 2**30
    assert {container[p]["httpGet"]["path"] for p in ("readinessProbe", "livenessProbe")} == {"/readyz", "/healthz"}
    assert [s["secretRef"] for s in container["envFrom"]] == [{"name": "emd-mlflow"}, {"name": "emd-serve"}]
    scaler = named("HorizontalPodAutoscaler", "emd-serve")["spec"]
    assert (
        scaler["scaleTargetRef"]["name"] == "emd-serve" and "replicas" not in named("Deployment", "emd-serve")["spec"]
    )


@pytest.mark.parametrize("pod", pods(), ids=lambda pod: pod["containers"][0]["name"])
def test_pods_are_confined(pod: dict[str, Any]) -> None:
    assert pod["automountServiceAccountToken"] is False
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    for container in pod["containers"]:
        context = container["securityContext"]
        assert context["readOnlyRootFilesystem"] is True and context["allowPrivilegeEscalation"] is False
        assert context["capabilities"] == {"drop": ["ALL"]}
        assert "memory" in container["resources"]["limits"] and "cpu" in container["resources"]["requests"]


def test_secrets_are_place_holders_and_never_inlined() -> None:
    assert {d["metadata"]["name"]: set(d["stringData"]) for d in of_kind("Secret")} == SECRETS
    assert all(value.startswith("<fill in") for d in of_kind("Secret") for value in d["stringData"].values())
    assert {file for file, d in MANIFESTS if d["kind"] == "Secret"} == {"secrets.example.yaml"}
    assert "secrets.yaml" in (DEPLOY / ".gitignore").read_text().split()
    env = {e["name"] for pod in pods() for c in pod["containers"] for e in c.get("env", []) if "value" in e}
    assert not env & set().union(*SECRETS.values())


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """`host:port` of an MLflow server with the Deployment's own arguments, its volume being a temporary folder."""
    folder = tmp_path_factory.mktemp("mlflow")
    deployment = named("Deployment", "mlflow")
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    changes = {"/mlflow/": f"{folder}/", "=5000": f"={port}", "0.0.0.0": "127.0.0.1", "$(NAMESPACE)": "kubeflow"}
    arguments = [*container["command"], *container["args"]]
    for old, new in changes.items():
        assert any(old in a for a in arguments), f"{old} is no longer among the arguments"
        arguments = [a.replace(old, new) for a in arguments]
    env = os.environ | {e["name"]: e["value"] for e in container["env"] if "value" in e} | {"HOME": str(folder)}
    with (folder / "log").open("w") as log:
        command = [sys.executable, "-m", *arguments]
        process = subprocess.Popen(command, cwd=folder, env=env, stdout=log, stderr=log, start_new_session=True)
    try:
        for _ in range(180):
            if process.poll() is not None or status(f"127.0.0.1:{port}", "/health", "pod") == 200:
                break
            time.sleep(0.5)
        assert process.poll() is None, (folder / "log").read_text()
        yield f"127.0.0.1:{port}"
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(timeout=30)


def status(address: str, path: str, host: str) -> int:
    """HTTP status of a GET with that Host header; 0 when nobody answers."""
    request = urllib.request.Request(f"http://{address}{path}", headers={"Host": host})
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return 0


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("mlflow.kubeflow.svc.cluster.local", 200),
        ("mlflow.kubeflow.svc.cluster.local:5000", 200),
        ("localhost:5000", 200),
        ("mlflow:5000", 403),
        ("example.com", 403),
    ],
)
def test_server_answers_its_own_name_only(server: str, host: str, expected: int) -> None:
    assert status(server, "/api/2.0/mlflow/experiments/search?max_results=1", host) == expected


def test_probes_reach_the_server_by_the_address_of_the_pod(server: str) -> None:
    deployment = named("Deployment", "mlflow")
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    paths = {container[probe]["httpGet"]["path"] for probe in ("startupProbe", "readinessProbe", "livenessProbe")}
    assert {status(server, path, "10.0.0.7:5000") for path in paths} == {200}
