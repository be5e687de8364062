"""The workflows, the container and the manifests that are shipped, as far as they can be held without running them."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import zipfile
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.app_settings import settings_in_code
from tests.support.bicep import read
from tests.support.bicep_settings import settings_of_template

ROOT = Path(__file__).parents[2]
KUBERNETES = ROOT / "container/kubernetes"
WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yml"))
HOST = json.loads((ROOT / "host.json").read_text())


def manifests(*, kind: str) -> list[dict[str, Any]]:
    """The manifests of a kind."""
    every = [each for file in KUBERNETES.glob("*.yaml") for each in yaml.safe_load_all(file.read_text())]
    return [each for each in every if each["kind"] == kind]


@pytest.mark.parametrize("file", WORKFLOWS, ids=lambda file: file.name)
def test_workflow_has_no_secret_and_only_the_rights_that_it_needs(file: Path):
    """A workflow reads code, asks for a token of its own only where it deploys, and uses no secret."""
    text = file.read_text()
    flow = yaml.safe_load(text)

    assert not re.search(r"\bsecrets\.\w", text)
    expected = {"contents": "read"} | ({"id-token": "write"} if "azd auth login" in text else {})
    assert expected == flow["permissions"]
    assert [] == [name for name, job in flow["jobs"].items() if "permissions" in job]


def test_workflow_signs_in_with_a_federated_credential():
    """Whoever deploys signs in with the workflow's own token."""
    deploy = (ROOT / ".github/workflows/deploy.yml").read_text()

    assert 2 == deploy.count("azd auth login") == deploy.count("--federated-credential-provider github")
    assert "workflow_run.event == 'push'" in deploy  # not what somebody's fork has asked for


def test_workflow_says_what_would_change_before_it_changes():
    """The preview comes first; the deployment waits for it."""
    jobs = yaml.safe_load((ROOT / ".github/workflows/deploy.yml").read_text())["jobs"]

    assert "azd provision --preview --no-prompt" in [step.get("run") for step in jobs["preview"]["steps"]]
    assert "preview" == jobs["deploy"]["needs"]


def test_deployment_that_waits_holds_nothing_but_deployments():
    """One deployment at a time; a run that waits for its reviewer does not hold back the previews of later ones."""
    flow = yaml.safe_load((ROOT / ".github/workflows/deploy.yml").read_text())

    assert "concurrency" not in flow
    assert ["deploy"] == [name for name, job in flow["jobs"].items() if "concurrency" in job]


def test_page_limits_every_environment_of_the_workflow():
    """Each environment that the workflow signs in by has its credential on the page, and is limited to `main` there."""
    flow = yaml.safe_load((ROOT / ".github/workflows/deploy.yml").read_text())
    page = (ROOT / "docs/deploy.md").read_text()
    named = {job["environment"] for job in flow["jobs"].values()}

    assert named == set(re.findall(r"--subject repo:OWNER/REPOSITORY:environment:(\w+)", page))
    assert "environments `preview` and `production`, **both limited to the branch `main`**" in page
    assert {"preview", "production"} == named


def test_workflow_runs_the_projects_own_checks_and_the_compiler():
    """The check runs the tests on each Python that is supported, the linters, and the Bicep compiler."""
    text = (ROOT / ".github/workflows/check.yml").read_text()
    flow = yaml.safe_load(text)

    assert ["3.11", "3.12", "3.13"] == flow["jobs"]["test"]["strategy"]["matrix"]["python"]
    for command in ("python3 dev.py test", "ruff check .", "ruff format --check .", "mypy", "az bicep build --file"):
        assert command in text


def test_azd_finds_the_app_by_its_tag():
    """The service of azd is the one that the template tags."""
    services = yaml.safe_load((ROOT / "azure.yaml").read_text())["services"]

    assert ["app"] == list(services)
    assert ("function", "py") == (services["app"]["host"], services["app"]["language"])
    assert "'azd-service-name': 'app'" in (ROOT / "infra/app/function.bicep").read_text()
    (tagged,) = re.findall(r"output SERVICE_(\w+)_URI", (ROOT / "infra/main.bicep").read_text())
    assert "APP" == tagged


def test_only_the_app_is_published():
    """What is published is the app; everything else stands in .funcignore."""
    patterns = [line.strip().rstrip("/") for line in (ROOT / ".funcignore").read_text().splitlines()]
    done = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    top = {path.partition("/")[0] for path in done.stdout.splitlines()}
    if not top:
        pytest.skip("This is no git checkout, so what belongs to the project is not known.")

    published = {name for name in top if not any(fnmatch(name, pattern) for pattern in patterns)}

    assert {"function_app.py", "host.json", "requirements.txt", "shared", "LICENSE", ".funcignore"} >= published
    assert {"function_app.py", "host.json", "requirements.txt", "shared"} <= published


@pytest.mark.skipif(not shutil.which("zip"), reason="zip is not installed.")
def test_package_of_the_page_is_the_app(tmp_path: Path):
    """The command of the page packs the whole app, and nothing that was left lying about."""
    (command,) = re.findall(r"^zip .*$", (ROOT / "docs/deploy.md").read_text(), re.MULTILINE)
    package = tmp_path / "app.zip"

    subprocess.run(command.replace("app.zip", str(package)), shell=True, cwd=ROOT, check=True)

    with zipfile.ZipFile(package) as packed:
        names = {name for name in packed.namelist() if not name.endswith("/")}
    modules = {str(path.relative_to(ROOT)) for path in (ROOT / "shared").rglob("*.py")}
    assert {"function_app.py", "host.json", "requirements.txt"} | modules == names


def test_container_has_the_whole_app_on_the_same_python():
    """The image gets what is published, on the Python of the template; its build sees nothing else."""
    docker = (ROOT / "container/Dockerfile").read_text()
    seen = (ROOT / "container/Dockerfile.dockerignore").read_text().splitlines()
    (version,) = re.findall(r"version: '(3\.\d+)'", (ROOT / "infra/app/function.bicep").read_text())

    assert f"FROM mcr.microsoft.com/azure-functions/python:4-python{version}\n" in docker
    copied = {source for line in re.findall(r"^COPY (.+) \S+$", docker, re.MULTILINE) for source in line.split()}
    assert {"requirements.txt", "host.json", "function_app.py", "shared/"} == copied
    assert {f"!{source.rstrip('/')}" for source in copied} == {line for line in seen if line.startswith("!")}
    assert "*" == seen[0]


def test_manifests_set_what_the_app_needs():
    """The settings of the manifests are names that the app or its host reads, without a credential."""
    lines = dict(line.split("=", 1) for line in (KUBERNETES / "settings.env").read_text().splitlines())
    known = settings_in_code() | set(settings_of_template()) | {"FUNCTIONS_WORKER_RUNTIME"}

    assert set() == set(lines) - known
    assert {f"JobStorage__{part}ServiceUri" for part in ("queue", "blob", "table")} | {"KEY_VAULT_URL"} <= set(lines)


def test_pods_run_as_the_workload_identity():
    """The pods' account is tied to the identity, the pods ask for its token, and KEDA uses one as well."""
    (account,) = manifests(kind="ServiceAccount")
    (deployment,) = manifests(kind="Deployment")
    (auth,) = manifests(kind="TriggerAuthentication")
    template = deployment["spec"]["template"]

    assert "azure.workload.identity/client-id" in account["metadata"]["annotations"]
    assert "true" == template["metadata"]["labels"]["azure.workload.identity/use"]
    assert account["metadata"]["name"] == template["spec"]["serviceAccountName"]
    assert "azure-workload" == auth["spec"]["podIdentity"]["provider"]


def test_a_pod_is_scaled_for_as_many_jobs_as_it_runs():
    """KEDA counts on a worker for as many messages as host.json lets it run at once, in queues that there are."""
    (scaled,) = manifests(kind="ScaledObject")
    (deployment,) = manifests(kind="Deployment")
    queues = HOST["extensions"]["queues"]
    triggers = [trigger["metadata"] for trigger in scaled["spec"]["triggers"]]

    assert deployment["metadata"]["name"] == scaled["spec"]["scaleTargetRef"]["name"]
    assert "replicas" not in deployment["spec"]
    assert ["jobs", "callbacks"] == [trigger["queueName"] for trigger in triggers]
    assert {str(queues["batchSize"] + queues["newBatchThreshold"])} == {trigger["queueLength"] for trigger in triggers}
    assert scaled["spec"]["minReplicaCount"] >= 1  # the timer, and HTTP


def test_probes_ask_what_is_open_to_everybody():
    """The probes ask the health check, on the port that the image listens on."""
    (deployment,) = manifests(kind="Deployment")
    (container,) = deployment["spec"]["template"]["spec"]["containers"]

    assert {"/api/health"} == {container[probe]["httpGet"]["path"] for probe in ("startupProbe", "readinessProbe")}
    (port,) = container["ports"]
    assert f"http://+:{port['containerPort']}" in (ROOT / "container/Dockerfile").read_text()


@pytest.mark.skipif(not shutil.which("kubectl"), reason="kubectl is not installed: the manifests are not put together.")
def test_kubectl_puts_the_manifests_together():
    """The folder is one that kubectl can apply: it names its own files, and every resource gets the namespace."""
    done = subprocess.run(["kubectl", "kustomize", str(KUBERNETES)], capture_output=True, text=True, check=True)

    made = list(yaml.safe_load_all(done.stdout))
    assert {"customer-ai-jobs"} == {each["metadata"].get("namespace", "customer-ai-jobs") for each in made}
    (deployment,) = [each for each in made if each["kind"] == "Deployment"]
    (settings,) = [each for each in made if each["kind"] == "ConfigMap"]
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    assert settings["metadata"]["name"] == container["envFrom"][0]["configMapRef"]["name"]
    assert "REGISTRY/customer-ai-jobs:TAG" == container["image"]


def test_compiler_of_the_page_is_the_workflows():
    """The page says that the compiler did not run where this was built, and where it does."""
    page = (ROOT / "docs/deploy.md").read_text()

    assert "## What was not run" in page
    assert read(ROOT / "infra/main.bicep").faults() == []
