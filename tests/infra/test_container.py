"""The container image and the Kubernetes manifests, as far as they can be tested without running them."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
import yaml

from local.host.instance import STOP_S
from shared.jobs.admission import WORKER_CONCURRENCY
from shared.jobs.drain import GRACE_S
from shared.settings import read_settings
from tests.support.app_settings import settings_in_code
from tests.support.deployment import TEST, read
from tests.support.doc_samples import ROOT
from tests.support.rows import every_row

KUBERNETES = ROOT / "container/kubernetes"
STAND_IN = """
import subprocess, sys, threading

def run():
    worker = subprocess.Popen([sys.executable, "-c", "print('ready', flush=True); import time; time.sleep(60)"])
    print("the worker ended with", worker.wait(), flush=True)

threading.Thread(target=run).start()
"""


def manifests(*, kind: str) -> list[dict[str, Any]]:
    """The manifests of a kind."""
    every = [each for file in KUBERNETES.glob("*.yaml") for each in yaml.safe_load_all(file.read_text())]
    return [each for each in every if each["kind"] == kind]


def test_container_has_the_whole_app_on_the_same_python():
    """The image has what is published, on the Python of the template; its build context has nothing else."""
    docker = (ROOT / "container/Dockerfile").read_text()
    context = (ROOT / "container/Dockerfile.dockerignore").read_text().splitlines()
    version = TEST.app["functionAppConfig"]["runtime"]["version"]

    assert f"FROM mcr.microsoft.com/azure-functions/python:4-python{version}@${{BASE_DIGEST}}\n" in docker
    copied = {source for line in re.findall(r"^COPY (.+) \S+$", docker, re.MULTILINE) for source in line.split()}
    assert {"requirements.txt", "host.json", "function_app.py", "shared/"} == copied
    assert {f"!{source.rstrip('/')}" for source in copied} == {line for line in context if line.startswith("!")}
    assert "*" == context[0]


def test_manifests_set_only_settings_that_exist():
    """The settings of the manifests are those that the app or its host reads, without a credential."""
    lines = dict(line.split("=", 1) for line in (KUBERNETES / "settings.env").read_text().splitlines())
    host_id = "AzureFunctionsWebHost__hostid"
    readable = settings_in_code() | set(TEST.settings) | {"FUNCTIONS_WORKER_RUNTIME", host_id}

    assert set() == set(lines) - readable
    # Otherwise each pod has one of its own, and so its own timers and function keys. Azure takes 32 characters at most.
    assert re.fullmatch(r"[a-z](?:-?[a-z0-9]){0,31}", lines[host_id])
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
    assert "KEDA_CLIENT_ID" == auth["spec"]["podIdentity"]["identityId"]  # which may do less than the app's


def test_image_is_built_only_on_a_digest_and_with_the_packages_pinned():
    """Without a digest there is no image. Its packages are checked against their hashes."""
    docker = (ROOT / "container/Dockerfile").read_text()

    assert "\nARG BASE_DIGEST\n" in docker
    assert re.findall(r"pip install (.+)", docker) == ["--no-cache-dir --require-hashes -r /requirements.txt"]


def test_pods_run_without_root_writable_files_or_a_token():
    """
    The image's user is the pods', and neither root nor an owner of files. The container may write in /tmp only, which
    the host uses, and gains no rights. No token of the cluster's API is in the pod, and its namespace enforces that.
    """
    (namespace,) = manifests(kind="Namespace")
    (account,) = manifests(kind="ServiceAccount")
    (deployment,) = manifests(kind="Deployment")
    spec = deployment["spec"]["template"]["spec"]
    (container,) = spec["containers"]
    docker = (ROOT / "container/Dockerfile").read_text()
    (user,) = re.findall(r"^USER (\d+):\1$", docker, re.MULTILINE)

    assert "restricted" == namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"]
    assert account["automountServiceAccountToken"] is spec["automountServiceAccountToken"] is False
    assert {int(user)} == {spec["securityContext"][name] for name in ("runAsUser", "runAsGroup", "fsGroup")}
    assert spec["securityContext"]["runAsNonRoot"]
    assert {"type": "RuntimeDefault"} == spec["securityContext"]["seccompProfile"]
    assert {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    } == container["securityContext"]
    assert [{"name": "tmp", "mountPath": "/tmp"}] == container["volumeMounts"]
    assert [("tmp", "emptyDir")] == [(each["name"], [*each][-1]) for each in spec["volumes"]]
    assert "FUNCTIONS_SECRETS_PATH=/tmp/" in docker
    assert "HOME=/tmp\n" in docker  # .NET would take a folder of root's


def test_pods_reach_names_and_https_but_no_private_network():
    """Pods look names up and use HTTPS. The metadata service, the cluster and the network around it are closed."""
    (policy,) = manifests(kind="NetworkPolicy")
    dns, https = policy["spec"]["egress"]
    (port,) = https["ports"]
    (target,) = https["to"]
    closed = [ip_network(block) for block in target["ipBlock"]["except"]]

    assert {} == policy["spec"]["podSelector"]
    assert ["Ingress", "Egress"] == policy["spec"]["policyTypes"]
    assert {53} == {each["port"] for each in dns["ports"]}
    assert {"protocol": "TCP", "port": 443} == port
    for address in ("169.254.169.254", "168.63.129.16", "10.0.0.1", "172.16.0.1", "192.168.0.1", "100.64.0.1"):
        assert any(ip_address(address) in block for block in closed)
    (ingress,) = policy["spec"]["ingress"]
    (deployment,) = manifests(kind="Deployment")
    ports = deployment["spec"]["template"]["spec"]["containers"][0]["ports"]
    assert [each["containerPort"] for each in ports] == [each["port"] for each in ingress["ports"]]
    assert all("namespaceSelector" in each for each in ingress["from"])


def test_a_stop_has_time_for_the_drain():
    """The grace is enough for the command before the stop, and for what the host waits; SIGTERM reaches the host."""
    (deployment,) = manifests(kind="Deployment")
    spec = deployment["spec"]["template"]["spec"]
    command = spec["containers"][0]["lifecycle"]["preStop"]["exec"]["command"][-1]
    before_s = int(re.findall(r"^sleep (\d+); ", command)[0])

    assert spec["terminationGracePeriodSeconds"] >= before_s + STOP_S + 5
    assert GRACE_S < STOP_S
    assert '\nCMD ["/azure-functions-host/' in (ROOT / "container/Dockerfile").read_text()  # no shell in between


def test_command_before_a_stop_ends_the_worker_and_not_the_host(tmp_path: Path):
    """The worker gets SIGTERM, whichever thread of the host has started it; the host gets none of this command."""
    (deployment,) = manifests(kind="Deployment")
    command = deployment["spec"]["template"]["spec"]["containers"][0]["lifecycle"]["preStop"]["exec"]["command"]
    host = tmp_path / "host.py"  # a stand-in: a process whose second thread starts another one
    host.write_text(STAND_IN)
    with subprocess.Popen([sys.executable, host], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        assert "ready\n" == process.stdout.readline()
        own = [re.sub(r"^sleep \d+; ", "", part).replace("/proc/1/", f"/proc/{process.pid}/") for part in command]
        assert own != command

        subprocess.run(own, check=True)

        assert "the worker ended with -15\n" == process.stdout.readline()
    assert 0 == process.returncode


def schemas() -> dict[str, dict[str, Any]]:
    """The schemas by version and kind. Their file says where they are from."""
    return json.loads((ROOT / "tests/data/kubernetes/schemas.json").read_text())["schemas"]


def problems(manifest: dict[str, Any]) -> list[str]:
    """What is wrong in a manifest, by the schema of its kind."""
    schema = schemas()[f"{manifest['apiVersion']} {manifest['kind']}"]
    return [error.message for error in jsonschema_rs.validator_for(schema).iter_errors(manifest)]


@every_row("file", sorted(KUBERNETES.glob("[!k]*.yaml")), ids=lambda file: file.name)
def test_manifests_fit_the_schemas_of_kubernetes_and_keda(file: Path):
    """Every manifest has the members that Kubernetes' and KEDA's schemas want, each of its type, and no others."""
    for manifest in yaml.safe_load_all(file.read_text()):
        assert [] == problems(manifest)


@every_row(
    ("kind", "path", "wrong"),
    [
        ("Deployment", "spec.template.spec.containers.0.securityContext.readOnlyRootFileSystem", True),
        ("Deployment", "spec.template.spec.terminationGracePeriodSeconds", "30s"),
        ("NetworkPolicy", "spec.egress.0.port", 53),
        ("ScaledObject", "spec.triggers.0.metadata.queueLength", 512),
        ("ScaledObject", "spec.minReplicas", 1),
        ("TriggerAuthentication", "spec.podIdentity.identityOwner", "pod"),
        ("TriggerAuthentication", "spec.podIdentity.identityID", "KEDA_CLIENT_ID"),
        ("ServiceAccount", "automountServiceAccountTokens", False),
    ],
)
def test_schemas_refuse_a_wrong_manifest(kind: str, path: str, wrong: object):
    """A misspelled member, and a value of another type, are found in each kind."""
    (manifest,) = manifests(kind=kind)
    node: Any = manifest
    *parents, last = path.split(".")
    for name in parents:
        node = node[int(name) if name.isdecimal() else name]
    node[last] = wrong

    assert problems(manifest)


def test_keda_adds_a_pod_for_as_many_jobs_as_one_runs():
    """KEDA plans a worker for as many messages as it runs at once, in queues that exist."""
    (scaled,) = manifests(kind="ScaledObject")
    (deployment,) = manifests(kind="Deployment")
    triggers = [trigger["metadata"] for trigger in scaled["spec"]["triggers"]]

    assert deployment["metadata"]["name"] == scaled["spec"]["scaleTargetRef"]["name"]
    assert "replicas" not in deployment["spec"]
    app = read_settings(TEST.readable_settings)
    queues = [app.jobs_queue, app.callbacks_queue, app.batches_queue]
    counted = {scope.rpartition("/")[2] for who, _, scope in read("keda").roles() if who == "id-keda"}
    assert queues == [trigger["queueName"] for trigger in triggers]
    assert set(queues) == counted  # KEDA's identity may look into these, and no others
    assert {"JOB_ACCOUNT"} == {trigger["accountName"] for trigger in triggers}
    (auth,) = manifests(kind="TriggerAuthentication")
    names = {trigger["authenticationRef"]["name"] for trigger in scaled["spec"]["triggers"]}
    assert {auth["metadata"]["name"]} == names
    assert {str(WORKER_CONCURRENCY)} == {trigger["queueLength"] for trigger in triggers}
    assert scaled["spec"]["minReplicaCount"] >= 1  # the timer, and HTTP


def test_probes_use_the_anonymous_health_check():
    """The probes request the health check, on the port that the image listens on."""
    (deployment,) = manifests(kind="Deployment")
    (container,) = deployment["spec"]["template"]["spec"]["containers"]

    assert {"/api/health"} == {container[probe]["httpGet"]["path"] for probe in ("startupProbe", "readinessProbe")}
    (port,) = container["ports"]
    assert f"http://+:{port['containerPort']}" in (ROOT / "container/Dockerfile").read_text()


@pytest.mark.long
@pytest.mark.skipif(not shutil.which("kubectl"), reason="kubectl is not installed, so the manifests are not built.")
def test_kubectl_builds_the_manifests():
    """The folder can be applied with kubectl: it names its own files, and every resource gets the namespace."""
    done = subprocess.run(["kubectl", "kustomize", str(KUBERNETES)], capture_output=True, text=True, check=True)

    built = list(yaml.safe_load_all(done.stdout))
    assert [] == [problem for each in built for problem in problems(each)]
    assert {"customer-ai-jobs"} == {each["metadata"].get("namespace", "customer-ai-jobs") for each in built}
    (deployment,) = [each for each in built if each["kind"] == "Deployment"]
    (settings,) = [each for each in built if each["kind"] == "ConfigMap"]
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    assert settings["metadata"]["name"] == container["envFrom"][0]["configMapRef"]["name"]
    assert "REGISTRY/customer-ai-jobs:TAG" == container["image"]
