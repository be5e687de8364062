"""The repository's own files agree: the version, the pins and their hashes, the workflows and the guides."""

from __future__ import annotations

import json
import re
import runpy
import tomllib
from datetime import date
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.support.doc_samples import ROOT, section
from tests.support.rows import every_row

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
TOGETHER = ["requirements.txt", "aijobs/requirements.txt", "local/requirements.txt"]
COMPILED = [*TOGETHER, "tests/openapi/generators/requirements.txt", ".github/supply-chain/requirements.txt"]
PINNED = [*COMPILED, "local/requirements-worker.txt", "local/requirements-node.txt"]
PYTHONS = ["3.11", "3.12", "3.13"]
WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yml"))


def pins(file: str) -> dict[Requirement, list[str]]:
    """The requirements of a compiled file, each with its hashes."""
    text = re.sub(r"(?m)^ *#.*\n", "", (ROOT / file).read_text()).replace("\\\n", " ")
    lines = [re.split(r"\s+--hash=", line.strip()) for line in text.splitlines() if line.strip()]
    return {Requirement(pin): hashes for pin, *hashes in lines}


def direct(file: str) -> list[Requirement]:
    """The requirements of a `.in` file."""
    lines = [line.partition("#")[0].strip() for line in (ROOT / file).read_text().splitlines()]
    return [Requirement(line) for line in lines if line]


def versions(file: str, python: str) -> dict[str, str]:
    """The versions that a compiled file installs on a Python on Linux, by normalized name."""
    environment = {
        "python_version": python,
        "python_full_version": f"{python}.1",
        "sys_platform": "linux",
        "platform_python_implementation": "CPython",
        "implementation_name": "cpython",
    }
    return {
        canonicalize_name(pin.name): str(pin.specifier).removeprefix("==")
        for pin in pins(file)
        if not pin.marker or pin.marker.evaluate(environment)
    }


def test_newest_release_is_the_packages_version():
    """
    The first dated heading of the changelog has the version of pyproject.toml, below Unreleased. The README's
    introduction has it as well, and the security policy supports it.
    """
    version = PROJECT["project"]["version"]
    headings = re.findall(r"^## \[(.+?)\](?: - (\S+))?$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    (unreleased, undated), *releases = headings

    assert ("Unreleased", "") == (unreleased, undated)
    assert version == releases[0][0]
    dates = [date.fromisoformat(day) for _, day in releases]
    assert sorted(dates, reverse=True) == dates
    assert f"This is version {version}." in (ROOT / "README.md").read_text().partition("\n## ")[0]
    assert f"| {version.rpartition('.')[0]}.x | yes |" in (ROOT / "SECURITY.md").read_text()


def test_package_is_described():
    """The package's readme and license exist, and its entry point is a function."""
    project = PROJECT["project"]

    assert (ROOT / project["readme"]).is_file()
    assert all((ROOT / file).is_file() for file in project["license-files"])
    assert "MIT License" in (ROOT / "LICENSE").read_text()
    module, _, function = project["scripts"]["aijobs"].partition(":")
    assert f"def {function}(" in (ROOT / f"{module.replace('.', '/')}.py").read_text()


def test_supported_pythons_are_the_same_everywhere():
    """
    The classifiers, the workflow's matrix, the lowest version and the dev container name the same Pythons. The
    container is set up by dev.py, and its editor uses the environment that dev.py makes.
    """
    prefix = "Programming Language :: Python :: "
    classified = [each.removeprefix(prefix) for each in PROJECT["project"]["classifiers"] if each.startswith(prefix)]
    flow = yaml.safe_load((ROOT / ".github/workflows/check.yml").read_text())
    container = json.loads((ROOT / ".devcontainer/devcontainer.json").read_text())

    assert PYTHONS == classified == flow["jobs"]["test"]["strategy"]["matrix"]["python"]
    assert f">={PYTHONS[0]}" == PROJECT["project"]["requires-python"]
    assert container["image"].endswith(f"/python:{PYTHONS[0]}")
    assert container["postCreateCommand"].startswith("python3 dev.py ")
    settings = container["customizations"]["vscode"]["settings"]
    assert settings["python.defaultInterpreterPath"].endswith("/.venv/bin/python")
    for file in COMPILED:
        assert f"--python-version {PYTHONS[0]} " in (ROOT / file).read_text().partition("==")[0]


@every_row("file", PINNED)
def test_every_pin_is_exact_and_has_hashes(file: str):
    """A pin is one version, with the SHA-256 of the files that may be installed for it."""
    assert pins(file)
    for pin, hashes in pins(file).items():
        assert re.fullmatch(r"==[^*,]+", str(pin.specifier)), pin
        assert hashes, pin
        assert [] == [each for each in hashes if not re.fullmatch(r"sha256:[0-9a-f]{64}", each)]


@every_row("file", COMPILED)
@every_row("python", PYTHONS)
def test_pins_satisfy_what_they_are_compiled_from(file: str, python: str):
    """Each direct requirement has a pin that satisfies it, on each supported Python."""
    pinned = versions(file, python)

    for wanted in direct(file.replace(".txt", ".in")):
        if wanted.marker and not wanted.marker.evaluate({"python_version": python}):
            continue
        assert wanted.specifier.contains(pinned[canonicalize_name(wanted.name)], prereleases=True), wanted


def test_direct_requirements_have_reasons():
    """Each direct requirement says what it is for."""
    lines = [line for file in COMPILED for line in (ROOT / file.replace(".txt", ".in")).read_text().splitlines()]

    assert [] == [line for line in lines if line and "#" not in line]


@pytest.mark.parametrize("python", PYTHONS)
def test_files_that_are_installed_together_pin_the_same_versions(python: str):
    """A package in more than one file has one version, or pip would refuse to install them together."""
    app, command_line, tools = (versions(file, python) for file in TOGETHER)

    for first, other in [(app, command_line), (app, tools), (command_line, tools)]:
        assert {} == {
            name: (first[name], other[name]) for name in first.keys() & other.keys() if first[name] != other[name]
        }


@every_row("file", COMPILED)
def test_contributing_has_the_command_that_makes_the_pins(file: str):
    """The command in the head of a compiled file is the one that CONTRIBUTING.md shows."""
    (command,) = re.findall(r"^#    (uv .*)$", (ROOT / file).read_text(), re.MULTILINE)

    assert f"\n{command}\n" in (ROOT / "CONTRIBUTING.md").read_text()


@pytest.mark.parametrize("file", ["CONTRIBUTING.md", ".devcontainer/devcontainer.json"])
def test_commands_and_tiers_exist(file: str):
    """Every command of dev.py that the guide or the dev container names exists, and so does a tier of `test`."""
    dev = runpy.run_path(str(ROOT / "dev.py"))
    named = re.findall(r"python3 dev\.py (\w+)(?: ([a-z]+))?", (ROOT / file).read_text())

    assert named
    assert {command for command, _ in named} <= set(dev["COMMANDS"])
    assert {tier for command, tier in named if command == "test" and tier} <= set(dev["TIERS"])


def test_every_package_of_the_app_is_a_place_for_a_change():
    """The table of CONTRIBUTING.md sends somebody to every package of `shared/`, and to the other top packages."""
    table = section("CONTRIBUTING.md", "Where does my change go?")
    packages = [path.parent.name for path in (ROOT / "shared").glob("*/__init__.py")]

    assert len(packages) > 8
    assert [] == [name for name in packages if f"`shared/{name}/" not in table]
    assert all(f"`{name}/" in table for name in ("aijobs", "local", "benchmarks", "infra/app"))


def test_actions_are_pinned_to_commits():
    """An action is named by a full commit id, with its release as a comment; all workflows use the same one."""
    texts = [file.read_text() for file in WORKFLOWS]
    uses = {use for text in texts for use in re.findall(r"^ *(?:- )?uses: (.*)$", text, re.MULTILINE)}

    assert uses
    assert [] == [each for each in uses if not re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", each)]
    assert len(uses) == len({each.partition("@")[0] for each in uses})


def test_dependabot_watches_what_is_pinned():
    """Every folder with pins, the workflows and the container's image have an entry, and the folders exist."""
    updates = yaml.safe_load((ROOT / ".github/dependabot.yml").read_text())["updates"]
    watched = {
        (each["package-ecosystem"], folder)
        for each in updates
        for folder in each.get("directories", [each.get("directory")])
    }

    assert {
        *(("uv", f"/{Path(file).parent.as_posix().removesuffix('.')}") for file in COMPILED),
        ("npm", "/local"),
        ("npm", "/tests/openapi/generators"),
        ("github-actions", "/"),
    } == watched
    assert all((ROOT / folder.strip("/")).is_dir() for _, folder in watched)


def test_pre_commit_runs_what_ci_checks():
    """The hooks are the commands of `dev.py check`, from .venv, and are installed from nowhere."""
    (repository,) = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    checks = runpy.run_path(str(ROOT / "dev.py"))["CHECKS"]

    assert "local" == repository["repo"]
    assert {"system"} == {hook["language"] for hook in repository["hooks"]}
    assert [f".venv/bin/{check}" for check in checks] == [hook["entry"] for hook in repository["hooks"]]
