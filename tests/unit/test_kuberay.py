"""deploy/kuberay against the v1 API, field by field; there is no Kubernetes here to ask."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from penstock.serving.limits import Limits

FOLDER = Path(__file__).resolve().parents[2] / "deploy" / "kuberay"
FILES = sorted(FOLDER.glob("*.yaml"))
QUANTITY = re.compile(r"\d+(\.\d+)?(m|k|Ki|M|Mi|G|Gi|T|Ti)?")
NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")

# Of ray.io/v1 (KubeRay 1.6) and core/v1 only what is used here, and what is beside it that one might mean.
# A type is str, int, bool, float, a pattern, a tuple of what is allowed, [items], {str: values}, or a name
# of this table; `!`: the field has to be there.
TYPES: dict[str, dict[str, Any]] = {
    "RayCluster": {
        "apiVersion!": ("ray.io/v1",),
        "kind!": str,
        "metadata!": "Meta",
        "spec!": "RayClusterSpec",
    },
    "RayJob": {"apiVersion!": ("ray.io/v1",), "kind!": str, "metadata!": "Meta", "spec!": "RayJobSpec"},
    "RayService": {
        "apiVersion!": ("ray.io/v1",),
        "kind!": str,
        "metadata!": "Meta",
        "spec!": "RayServiceSpec",
    },
    "Meta": {"name!": NAME, "namespace": NAME, "labels": {str: str}, "annotations": {str: str}},
    "RayClusterSpec": {
        "rayVersion": str,
        "authOptions": "AuthOptions",
        "enableInTreeAutoscaling": bool,
        "autoscalerOptions": "AutoscalerOptions",
        "headServiceAnnotations": {str: str},
        "headGroupSpec!": "HeadGroupSpec",
        "workerGroupSpecs": ["WorkerGroupSpec"],
        "suspend": bool,
    },
    "AuthOptions": {"mode": ("disabled", "token"), "secretName": NAME, "enableK8sTokenAuth": bool},
    "AutoscalerOptions": {
        "resources": "Resources",
        "image": str,
        "securityContext": "SecurityContext",
        "idleTimeoutSeconds": int,
        "upscalingMode": ("Default", "Aggressive", "Conservative"),
        "env": ["EnvVar"],
        "volumeMounts": ["VolumeMount"],
    },
    "HeadGroupSpec": {"rayStartParams!": {str: str}, "template!": "PodTemplate", "serviceType": str},
    "WorkerGroupSpec": {
        "groupName!": NAME,
        "replicas": int,
        "minReplicas!": int,
        "maxReplicas!": int,
        "numOfHosts": int,
        "idleTimeoutSeconds": int,
        "rayStartParams!": {str: str},
        "template!": "PodTemplate",
    },
    "RayJobSpec": {
        "entrypoint": str,
        "submissionMode": ("K8sJobMode", "HTTPMode", "InteractiveMode"),
        "backoffLimit": int,
        "activeDeadlineSeconds": int,
        "shutdownAfterJobFinishes": bool,
        "ttlSecondsAfterFinished": int,
        "runtimeEnvYAML": str,
        "metadata": {str: str},
        "clusterSelector": {str: str},
        "entrypointNumCpus": float,
        "entrypointNumGpus": float,
        "suspend": bool,
        "rayClusterSpec": "RayClusterSpec",
    },
    "RayServiceSpec": {
        "serveConfigV2": str,
        "rayClusterConfig": "RayClusterSpec",
        "excludeHeadPodFromServeSvc": bool,
    },
    "PodTemplate": {"metadata": {str: {str: str}}, "spec!": "PodSpec"},
    "PodSpec": {
        "containers!": ["Container"],
        "initContainers": ["Container"],
        "serviceAccountName": NAME,
        "securityContext": "PodSecurityContext",
        "volumes": ["Volume"],
        "nodeSelector": {str: str},
        "terminationGracePeriodSeconds": int,
    },
    "PodSecurityContext": {
        "runAsNonRoot": bool,
        "runAsUser": int,
        "runAsGroup": int,
        "fsGroup": int,
        "seccompProfile": {str: str},
    },
    "SecurityContext": {
        "runAsNonRoot": bool,
        "runAsUser": int,
        "allowPrivilegeEscalation": bool,
        "readOnlyRootFilesystem": bool,
        "capabilities": {str: [str]},
    },
    "Container": {
        "name!": NAME,
        "image!": str,
        "command": [str],
        "args": [str],
        "ports": ["Port"],
        "env": ["EnvVar"],
        "resources": "Resources",
        "securityContext": "SecurityContext",
        "livenessProbe": "Probe",
        "readinessProbe": "Probe",
        "startupProbe": "Probe",
        "volumeMounts": ["VolumeMount"],
    },
    "Port": {"containerPort!": int, "name": re.compile(r"[a-z0-9-]{1,15}")},
    "EnvVar": {"name!": str, "value": str, "valueFrom": "EnvVarSource"},
    "EnvVarSource": {"secretKeyRef": "KeyRef", "configMapKeyRef": "KeyRef"},
    "KeyRef": {"name!": NAME, "key!": str, "optional": bool},
    "Resources": {"requests": {str: QUANTITY}, "limits": {str: QUANTITY}},
    "Probe": {
        "exec": "Exec",
        "initialDelaySeconds": int,
        "periodSeconds": int,
        "timeoutSeconds": int,
        "failureThreshold": int,
        "successThreshold": int,
    },
    "Exec": {"command!": [str]},
    "VolumeMount": {"name!": NAME, "mountPath!": str, "readOnly": bool, "subPath": str},
    "Volume": {"name!": NAME, "emptyDir": "EmptyDir", "persistentVolumeClaim": "Claim"},
    "EmptyDir": {"medium": ("Memory",), "sizeLimit": QUANTITY},
    "Claim": {"claimName!": NAME, "readOnly": bool},
}


def wrong(value: Any, kind: Any, where: str) -> Iterator[str]:
    """What is not as `kind` says, by path."""
    if isinstance(kind, str):
        if not isinstance(value, dict):
            yield f"{where}: no object"
            return
        fields = {field.rstrip("!"): inner for field, inner in TYPES[kind].items()}
        yield from (f"{where}.{key}: no field of {kind}" for key in value.keys() - fields.keys())
        required = {field[:-1] for field in TYPES[kind] if field.endswith("!")}
        yield from (f"{where}.{key}: missing" for key in required - value.keys())
        for key in fields.keys() & value.keys():
            yield from wrong(value[key], fields[key], f"{where}.{key}")
    elif isinstance(kind, list):
        if not isinstance(value, list):
            yield f"{where}: no list"
            return
        for number, item in enumerate(value):
            yield from wrong(item, kind[0], f"{where}[{number}]")
    elif isinstance(kind, dict):
        if not isinstance(value, dict):
            yield f"{where}: no map"
            return
        for key, item in value.items():
            yield from wrong(item, kind[str], f"{where}.{key}")
    elif isinstance(kind, tuple):
        if value not in kind:
            yield f"{where}: {value!r} is none of {kind}"
    elif isinstance(kind, re.Pattern):
        if not isinstance(value, str) or not kind.fullmatch(value):
            yield f"{where}: {value!r} does not match {kind.pattern}"
    elif type(value) is not kind:
        yield f"{where}: {value!r} is no {kind.__name__}"


def load(file: Path) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(file.read_text(encoding="utf-8"))
    return found


def cluster_of(values: dict[str, Any]) -> dict[str, Any]:
    """The RayClusterSpec in any of the three."""
    spec: dict[str, Any] = values["spec"]
    found: dict[str, Any] = spec.get("rayClusterSpec") or spec.get("rayClusterConfig") or spec
    return found


def pods(values: dict[str, Any]) -> list[dict[str, Any]]:
    cluster = cluster_of(values)
    groups = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
    return [group["template"]["spec"] for group in groups]


def test_there_is_one_of_each_kind() -> None:
    assert sorted(load(file)["kind"] for file in FILES) == ["RayCluster", "RayJob", "RayService"]


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_every_field_is_one_of_the_api(file: Path) -> None:
    values = load(file)
    assert list(wrong(values, values["kind"], values["kind"])) == []
    assert "Not run where it is tested" in file.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            lambda spec: spec.update(rayVersoin="2"),
            ["RayCluster.spec.rayVersoin: no field of RayClusterSpec"],
        ),
        (lambda spec: spec.pop("headGroupSpec"), ["RayCluster.spec.headGroupSpec: missing"]),
        (
            lambda spec: spec["headGroupSpec"]["rayStartParams"].update({"num-cpus": 0}),
            ["RayCluster.spec.headGroupSpec.rayStartParams.num-cpus: 0 is no str"],
        ),
        (
            lambda spec: spec["workerGroupSpecs"][0].update(maxReplicas="8"),
            ["RayCluster.spec.workerGroupSpecs[0].maxReplicas: '8' is no int"],
        ),
    ],
)
def test_the_check_finds_what_is_wrong(change: Any, said: list[str]) -> None:
    values = load(FOLDER / "raycluster.yaml")
    change(values["spec"])
    assert list(wrong(values, "RayCluster", "RayCluster")) == said


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_every_pod_has_the_token_from_the_secret(file: Path) -> None:
    values = load(file)
    assert cluster_of(values)["authOptions"] == {"mode": "token", "secretName": "penstock-token"}
    for pod in pods(values):
        (container,) = pod["containers"]
        env = {one["name"]: one for one in container["env"]}
        assert env["RAY_AUTH_MODE"]["value"] == "token"
        token = env["RAY_AUTH_TOKEN"]
        assert token["valueFrom"]["secretKeyRef"] == {"name": "penstock-token", "key": "auth_token"}
        assert "value" not in token and env["PENSTOCK_STORE"]["value"].startswith("s3://")


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_every_pod_is_bounded_watched_and_not_root(file: Path) -> None:
    values = load(file)
    for pod in pods(values):
        assert pod["securityContext"]["runAsNonRoot"] is True and pod["securityContext"]["runAsUser"] > 0
        (container,) = pod["containers"]
        assert container["securityContext"]["allowPrivilegeEscalation"] is False
        assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
        assert {"cpu", "memory"} <= container["resources"]["limits"].keys()
        assert container["resources"]["limits"] == container["resources"]["requests"]
        assert container["livenessProbe"] and container["readinessProbe"]
        for probe in (container["livenessProbe"], container["readinessProbe"]):
            compile(probe["exec"]["command"][2], "probe", "exec")
        mounted = {mount["name"] for mount in container["volumeMounts"]}
        assert mounted == {volume["name"] for volume in pod["volumes"]}
    for group in cluster_of(values)["workerGroupSpecs"]:
        assert group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]


def test_the_service_serves_as_serve_yaml_does() -> None:
    from penstock.serving.server import http_waits

    here = yaml.safe_load((FOLDER.parent / "serve.yaml").read_text())
    there = yaml.safe_load(load(FOLDER / "rayservice.yaml")["spec"]["serveConfigV2"])
    for config in (here, there):
        waits = {name: config["http_options"][name] for name in http_waits(Limits())}
        assert waits == http_waits(Limits())
        (application,) = config["applications"]
        assert application["route_prefix"] == "/"
    same = ("name", "route_prefix", "import_path")
    assert [here["applications"][0][key] for key in same] == [there["applications"][0][key] for key in same]
    assert here["logging_config"] == there["logging_config"]
    assert here["http_options"]["host"] == "127.0.0.1"
