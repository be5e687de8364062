"""The container image and the Kubernetes manifests, as far as they can be tested without running them."""

from __future__ import annotations

import re
import shutil
import subprocess
from typing import Any

import pytest
import yaml

from shared.jobs.admission import WORKER_CONCURRENCY
from tests.support.app_settings import settings_in_code
from tests.support.deployment import TEST
from tests.support.doc_samples import ROOT

KUBERNETES = ROOT / "container/kubernetes"


def manifests(*, kind: str) -> list[dict[str, Any]]:
    """The manifests of a kind."""
    every = [each for file in KUBERNETES.glob("*.yaml") for each in yaml.safe_load_all(file.read_text())]
    return [each for each in every if each["kind"] == kind]


def test_container_has_the_whole_app_on_the_same_python():
    """The image has what is published, on the Python of the template; its build context has nothing else."""
    docker = (ROOT / "container/Dockerfile").read_text()
    context = (ROOT / "container/Dockerfile.dockerignore").read_text().splitlines()
    version = TEST.app["functionAppConfig"]["runtime"]["version"]

    assert f"FROM mcr.microsoft.com/azure-functions/python:4-python{version}\n" in docker
    copied = {source for line in re.findall(r"^COPY (.+) \S+$", docker, re.MULTILINE) for source in line.split()}
    assert {"requirements.txt", "host.json", "function_app.py", "shared/"} == copied
    assert {f"!{source.rstrip('/')}" for source in copied} == {line for line in context if line.startswith("!")}
    assert "*" == context[0]


def test_manifests_set_only_settings_that_exist():
    """The settings of the manifests are those that the app or its host reads, without a credential."""
    lines = dict(line.split("=", 1) for line in (KUBERNETES / "settings.env").read_text().splitlines())
    readable = settings_in_code() | set(TEST.settings) | {"FUNCTIONS_WORKER_RUNTIME"}

    assert set() == set(lines) - readable
    assert {f"JobStorage__{part}ServiceUri" for part in ("queue", "blob", "table")} | {"KEY_VAULT_URL"} <= set(lines)


def test_pods_run_as_the_workload_identity():
    """The pods' service account has the identity, the pods request its token, and KEDA uses one as well."""
    (account,) = manifests(kind="ServiceAccount")
    (deployment,) = manifests(kind="Deployment")
    (auth,) = manifests(kind="TriggerAuthentication")
    template = deployment["spec"]["template"]

    assert "azure.workload.identity/client-id" in account["metadata"]["annotations"]
    assert "true" == template["metadata"]["labels"]["azure.workload.identity/use"]
    assert account["metadata"]["name"] == template["spec"]["serviceAccountName"]
    assert "azure-workload" == auth["spec"]["podIdentity"]["provider"]


def test_keda_adds_a_pod_for_as_many_jobs_as_one_runs():
    """KEDA plans a worker for as many messages as it runs at once, in queues that exist."""
    (scaled,) = manifests(kind="ScaledObject")
    (deployment,) = manifests(kind="Deployment")
    triggers = [trigger["metadata"] for trigger in scaled["spec"]["triggers"]]

    assert deployment["metadata"]["name"] == scaled["spec"]["scaleTargetRef"]["name"]
    assert "replicas" not in deployment["spec"]
    assert ["jobs", "callbacks"] == [trigger["queueName"] for trigger in triggers]
    assert {str(WORKER_CONCURRENCY)} == {trigger["queueLength"] for trigger in triggers}
    assert scaled["spec"]["minReplicaCount"] >= 1  # the timer, and HTTP


def test_probes_use_the_anonymous_health_check():
    """The probes request the health check, on the port that the image listens on."""
    (deployment,) = manifests(kind="Deployment")
    (container,) = deployment["spec"]["template"]["spec"]["containers"]

    assert {"/api/health"} == {container[probe]["httpGet"]["path"] for probe in ("startupProbe", "readinessProbe")}
    (port,) = container["ports"]
    assert f"http://+:{port['containerPort']}" in (ROOT / "container/Dockerfile").read_text()


@pytest.mark.skipif(not shutil.which("kubectl"), reason="kubectl is not installed, so the manifests are not built.")
def test_kubectl_builds_the_manifests():
    """The folder can be applied with kubectl: it names its own files, and every resource gets the namespace."""
    done = subprocess.run(["kubectl", "kustomize", str(KUBERNETES)], capture_output=True, text=True, check=True)

    built = list(yaml.safe_load_all(done.stdout))
    assert {"customer-ai-jobs"} == {each["metadata"].get("namespace", "customer-ai-jobs") for each in built}
    (deployment,) = [each for each in built if each["kind"] == "Deployment"]
    (settings,) = [each for each in built if each["kind"] == "ConfigMap"]
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    assert settings["metadata"]["name"] == container["envFrom"][0]["configMapRef"]["name"]
    assert "REGISTRY/customer-ai-jobs:TAG" == container["image"]
