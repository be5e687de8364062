"""The workflows, as far as they can be tested without running them."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from pathlib import Path

import pytest
import yaml

from aijobs.parser import make_parser
from tests.support.doc_samples import ROOT
from tests.support.rows import every_row

WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yml"))
DEPLOY = (ROOT / ".github/workflows/deploy.yml").read_text()


@pytest.mark.parametrize("file", WORKFLOWS, ids=lambda file: file.name)
def test_workflow_has_no_secret_and_only_the_permissions_that_it_needs(file: Path):
    """A workflow reads code, requests a token of its own only if it deploys, and uses no secret."""
    text = file.read_text()
    flow = yaml.safe_load(text)

    assert not re.search(r"\bsecrets\.\w", text)
    expected = {"contents": "read"} | ({"id-token": "write"} if "azd auth login" in text else {})
    assert expected == flow["permissions"]
    assert [] == [name for name, job in flow["jobs"].items() if "permissions" in job]


def test_workflow_signs_in_with_a_federated_credential():
    """The deployment signs in with the workflow's own token, and runs only for pushes to this repository."""
    assert 2 == DEPLOY.count("azd auth login") == DEPLOY.count("--federated-credential-provider github")
    assert "workflow_run.event == 'push'" in DEPLOY  # a fork's pull request doesn't deploy


def test_workflow_sets_only_parameters_that_it_deploys():
    """
    What the workflow sets is read by azd's file, or signs in; nothing that only roles are made of, since it makes none.
    The page names each variable of GitHub's.
    """
    flow, page = yaml.safe_load(DEPLOY), (ROOT / "docs/deploy.md").read_text()
    read = set(re.findall(r"\$\{(\w+)", (ROOT / "infra/main.parameters.json").read_text()))
    sign_in = {"AZURE_CLIENT_ID", "AZURE_TENANT_ID", "AZURE_SUBSCRIPTION_ID"}
    variables = {name for name, text in flow["env"].items() if text == f"${{{{ vars.{name} }}}}"}

    assert "false" == flow["env"]["ASSIGN_ROLES"]
    assert flow["env"].keys() <= sign_in | read - {"OPERATOR_OBJECT_ID", "OPERATOR_TYPE"}
    assert flow["env"].keys() - {"ASSIGN_ROLES"} == variables
    listed = page.partition("Set the variables (not secrets)")[2].partition("\n")[0]
    assert variables == set(re.findall(r"`([A-Z_]+)`", listed)) | {"ALERT_EMAILS"}


def test_workflow_shows_changes_before_it_makes_them():
    """
    The preview comes first, and the deployment waits for it. One deployment runs at a time; a run that waits for its
    reviewer doesn't delay the previews of later ones.
    """
    flow = yaml.safe_load(DEPLOY)
    jobs = flow["jobs"]

    assert "azd provision --preview --no-prompt" in [step.get("run") for step in jobs["preview"]["steps"]]
    assert "preview" == jobs["deploy"]["needs"]
    assert "concurrency" not in flow
    assert ["deploy"] == [name for name, job in jobs.items() if "concurrency" in job]


def test_settings_are_deployed_before_code_and_then_verified():
    """
    The templates, with a wait of their own, then the code, which is tried again, then `aijobs verify`, whose exit code
    is the workflow's: nothing follows it, and it tries every part. The function key is in no argument.
    """
    steps = yaml.safe_load(DEPLOY)["jobs"]["deploy"]["steps"]
    templates, code, verify = (step["run"] for step in steps if step.get("name") in {"Templates", "Code", "Verify"})
    hook = yaml.safe_load((ROOT / "azure.yaml").read_text())["hooks"]["postprovision"]

    assert "azd provision --no-prompt" == templates
    assert ["posix", "windows"] == sorted(hook)
    assert all("leep 180" in system["run"] for system in hook.values())
    assert "azd deploy --no-prompt && exit 0" in code
    assert code.endswith("azd deploy --no-prompt\n")
    *_, last = verify.rstrip().splitlines()
    assert last.strip().startswith("python -m aijobs verify --settings")
    args = make_parser().parse_args(shlex.split(last)[3:])
    assert ([], None) == (args.parts, args.key_file)
    assert "Verify" == steps[-1]["name"]


@pytest.mark.parametrize(("refusals", "code", "tries"), [(0, 0, 1), (2, 0, 3), (9, 1, 4)])
def test_refused_package_is_deployed_again(tmp_path: Path, refusals: int, code: int, tries: int):
    """A deployment that fails is tried again, four times in all; the step fails if the last one does."""
    (step,) = [each for each in yaml.safe_load(DEPLOY)["jobs"]["deploy"]["steps"] if each.get("name") == "Code"]
    log = tmp_path / "tries"
    commands = {"azd": f'echo "$@" >> {log}; [ $(wc -l < {log}) -gt {refusals} ]', "sleep": ""}
    for name, body in commands.items():  # fakes of both commands
        (tmp_path / name).write_text(f"#!/bin/sh\n{body}\n")
        (tmp_path / name).chmod(0o755)

    done = subprocess.run(
        ["bash", "-e", "-c", step["run"]], env={"PATH": f"{tmp_path}:{os.defpath}"}, capture_output=True, check=False
    )

    assert (code, tries * ["deploy --no-prompt"]) == (done.returncode, log.read_text().splitlines())


@every_row("failing", ["", "pip", "azd", "curl", "jq", "python"])
def test_verify_gets_the_key_and_fails_with_whatever_fails(tmp_path: Path, failing: str):
    """
    The command reads the key from a pipe, and settings from azd's file. If anything fails, so does the step, as GitHub
    runs it. Neither the token nor the key is in an argument, and the token is masked in the log.
    """
    (step,) = [each for each in yaml.safe_load(DEPLOY)["jobs"]["deploy"]["steps"] if each.get("name") == "Verify"]
    assert "bash" == step["shell"]  # GitHub then adds the options below
    log = tmp_path / "arguments"
    commands = {
        "pip": "true",
        "azd": 'case "$*" in *values) echo SERVICE_APP_URI=https://app.invalid;; *) echo a-name;; esac',
        "jq": 'cat >/dev/null; case "$*" in *.token) echo a-token-of-azd;; *) echo a-function-key;; esac',
        "curl": f"cat > {tmp_path}/config; echo {{}}",
        "python": f"cat > {tmp_path}/key",
    }
    for name, body in commands.items():  # fakes
        end = "exit 1" if name == failing else "exit 0"
        (tmp_path / name).write_text(f'#!/bin/sh\necho {name} "$@" >> {log}\n{body}\n{end}\n')
        (tmp_path / name).chmod(0o755)

    environment = {"PATH": f"{tmp_path}:{os.defpath}", "RUNNER_TEMP": str(tmp_path), "AZURE_SUBSCRIPTION_ID": "id"}
    command = ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", step["run"]]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)

    assert int(bool(failing)) == done.returncode
    assert not re.search(
        "a-token-of|a-function", log.read_text() + done.stdout.replace("::add-mask::a-token-of-azd", "")
    )
    if not failing:
        assert "a-function-key\n" == (tmp_path / "key").read_text()
        assert 'header = "Authorization: Bearer a-token-of-azd"\n' == (tmp_path / "config").read_text()
        assert "SERVICE_APP_URI=https://app.invalid\n" in (tmp_path / "app.settings").read_text()


def test_no_package_is_installed_without_its_hash():
    """Each installation by `pip` in a workflow and in the image wants hashes, and each job of a deployment ends."""
    files = [*WORKFLOWS, ROOT / "container/Dockerfile"]
    installed = [line for file in files for line in re.findall(r"pip install .*", file.read_text())]

    assert 3 == len(installed)
    assert [] == [line for line in installed if "--require-hashes" not in line]
    assert all(job["timeout-minutes"] <= 120 for job in yaml.safe_load(DEPLOY)["jobs"].values())


def test_page_limits_every_environment_of_the_workflow():
    """The page makes a credential for each environment of the workflow, and limits each of them to `main`."""
    flow = yaml.safe_load(DEPLOY)
    page = (ROOT / "docs/deploy.md").read_text()
    environments = {job["environment"] for job in flow["jobs"].values()}

    assert environments == set(re.findall(r"--subject repo:OWNER/REPOSITORY:environment:(\w+)", page))
    assert "environments `preview` and `production`, **both limited to the branch `main`**" in page
    assert {"preview", "production"} == environments


def test_workflow_runs_the_projects_own_checks():
    """The project's own checks and all tests run."""
    text = (ROOT / ".github/workflows/check.yml").read_text()
    flow = yaml.safe_load(text)

    commands = ["python3 dev.py check", "python3 dev.py test --cov", "python3 dev.py test long"]
    steps = [step["run"] for step in flow["jobs"]["test"]["steps"] if "run" in step]
    assert commands == [step for step in steps if "dev.py" in step]


def test_what_is_deployed_is_listed_and_audited():
    """The workflow runs what the guide says that anyone can run, with tools whose hashes are pinned."""
    flow = yaml.safe_load((ROOT / ".github/workflows/check.yml").read_text())
    install, *commands = (step["run"] for step in flow["jobs"]["supply-chain"]["steps"] if "run" in step)
    guide = (ROOT / "CONTRIBUTING.md").read_text()

    assert "pip install --quiet --require-hashes -r .github/supply-chain/requirements.txt" == install
    assert "\n```\n{}\n{}\n```\n".format(*commands) in guide
    assert {"cyclonedx-py", "pip-audit"} == {command.split()[0] for command in commands}


def test_page_says_what_was_not_run():
    """The page lists what was not run."""
    assert "## What was not run" in (ROOT / "docs/deploy.md").read_text()
