"""`aijobs --version`, from a checkout and from an installed package."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from aijobs import version
from aijobs.__main__ import main

ROOT = Path(__file__).parents[2]


def test_version_of_a_checkout_is_in_pyproject(capsys: pytest.CaptureFixture[str]):
    """From a checkout, the version is the one in pyproject.toml."""
    with pytest.raises(SystemExit) as exit_info:
        main(["--version"])

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert (0, f"aijobs {project['version']}\n") == (exit_info.value.code, capsys.readouterr().out)
    assert "aijobs.__main__:main" == project["scripts"]["aijobs"]


@pytest.mark.parametrize("pyproject", [None, '[project]\nname = "another"\nversion = "1.0"\n'])
def test_version_of_an_installed_package_is_in_its_metadata(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, pyproject: str | None
):
    """Without a checkout the package's metadata has the version, and another project's file is ignored."""
    metadata = tmp_path / "customer_ai_jobs-9.8.7.dist-info" / "METADATA"
    metadata.parent.mkdir()
    metadata.write_text("Metadata-Version: 2.1\nName: customer-ai-jobs\nVersion: 9.8.7\n")
    if pyproject is not None:
        (tmp_path / "pyproject.toml").write_text(pyproject)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(version, "_PYPROJECT", tmp_path / "pyproject.toml")

    assert "9.8.7" == version.project_version()
