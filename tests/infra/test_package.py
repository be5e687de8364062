"""What is published to Azure: azd's service, the files that .funcignore leaves, and the package of the docs."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import zipfile
from fnmatch import fnmatch
from pathlib import Path

import pytest
import yaml

from tests.support.deployment import TEST
from tests.support.doc_samples import ROOT

STATIC = ("openapi.json", "docs.html", "mcp_tools.json", "console.html", "uplot-license.txt")


def test_azd_finds_the_app_by_its_tag():
    """The service of azure.yaml is the one that the template tags."""
    services = yaml.safe_load((ROOT / "azure.yaml").read_text())["services"]

    assert ["app"] == list(services)
    assert ("function", "py") == (services["app"]["host"], services["app"]["language"])
    assert ["app"] == [each["tags"]["azd-service-name"] for each in TEST.of_type("Microsoft.Web/sites").values()]
    assert ["SERVICE_APP_URI"] == [name for name in TEST.resources["outputs"] if name.startswith("SERVICE_")]


def test_the_package_has_bytecode_of_the_app_s_python(tmp_path: Path):
    """It is compiled by its content before it is packed, by the workflow with the version that runs it on Azure."""
    hooks = yaml.safe_load((ROOT / "azure.yaml").read_text())["services"]["app"]["hooks"]["prepackage"]
    arguments = hooks["posix"]["run"].split()[1:]
    assert hooks["windows"]["run"].split()[1:] == arguments
    assert f"python3 {' '.join(arguments)}\n" in (ROOT / "docs/deploy.md").read_text()
    version = TEST.app["functionAppConfig"]["runtime"]["version"]
    assert f'python-version: "{version}"' in (ROOT / ".github/workflows/deploy.yml").read_text()
    shutil.copy(ROOT / "function_app.py", tmp_path)
    for part in ("network", "storage"):  # it is as good as the whole, and quicker
        shutil.copytree(
            ROOT / "shared" / part, tmp_path / "shared" / part, ignore=shutil.ignore_patterns("__pycache__")
        )

    subprocess.run([sys.executable, *arguments], cwd=tmp_path, check=True)

    modules = {path.stem for path in tmp_path.rglob("*.py")}
    compiled = list(tmp_path.rglob("*.pyc"))
    assert modules == {path.name.partition(".")[0] for path in compiled}
    assert {0b11} == {path.read_bytes()[4] for path in compiled}  # checked by a hash of the source (PEP 552)


def test_only_the_app_is_published():
    """The app is published; .funcignore names everything else."""
    patterns = [line.strip().rstrip("/") for line in (ROOT / ".funcignore").read_text().splitlines()]
    done = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    top = {path.partition("/")[0] for path in done.stdout.splitlines()}
    if not top:
        pytest.skip("This isn't a git checkout, so which files belong to the project is unknown.")

    published = {name for name in top if not any(fnmatch(name, pattern) for pattern in patterns)}

    assert {"function_app.py", "host.json", "requirements.txt", "shared", "LICENSE", ".funcignore"} >= published
    assert {"function_app.py", "host.json", "requirements.txt", "shared"} <= published


@pytest.mark.long
@pytest.mark.skipif(not shutil.which("zip"), reason="zip is not installed.")
def test_zip_command_of_the_docs_packs_the_app(tmp_path: Path):
    """The command packs the whole app, and nothing else."""
    (command,) = re.findall(r"^zip .*$", (ROOT / "docs/deploy.md").read_text(), re.MULTILINE)
    package = tmp_path / "app.zip"

    subprocess.run(command.replace("app.zip", str(package)), shell=True, cwd=ROOT, check=True)

    with zipfile.ZipFile(package) as archive:
        names = {name for name in archive.namelist() if not name.endswith("/") and "__pycache__/" not in name}
    modules = {str(path.relative_to(ROOT)) for path in (ROOT / "shared").rglob("*.py")}
    static = {f"shared/http/static/{name}" for name in STATIC}
    assert {"function_app.py", "host.json", "requirements.txt"} | modules | static == names
