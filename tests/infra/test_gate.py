"""The gate of the templates, which `dev.py check` runs: with the compiler, and without one."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections import Counter
from pathlib import Path

import pytest

from infra import gate
from tests.support.deployment import INFRA, ROOT

COMPILER = shutil.which(os.environ.get("BICEP") or "bicep")


@pytest.mark.parametrize(("in_ci", "code", "verdict"), [("", 0, "skipped"), ("true", 1, "FAILED")])
def test_without_a_compiler_the_gate_says_so(
    in_ci: str,
    code: int,
    verdict: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
):
    """Without a compiler the gate is skipped, with the reason; in CI it fails."""
    monkeypatch.delenv("BICEP", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("CI", in_ci)

    assert code == gate.main([])
    assert capsys.readouterr().out == (
        f"gate   {verdict}: there is no Bicep compiler, neither in the variable BICEP nor on PATH.\n"
    )


def test_switch_is_stored_by_what_it_changes():
    """The snapshot of a switch has the resources that it changes or adds, and no content for those that it removes."""
    base = {"a": {"size": 1}, "b": {"size": 2}, "c": {"size": 3}}

    assert {"b": {"size": 4}, "d": {"size": 5}, "c": None} == gate.changes(
        base, {"a": {"size": 1}, "b": {"size": 4}, "d": {"size": 5}}
    )


def test_ci_has_the_compiler_of_the_gate():
    """GitHub's workflow installs the version that the snapshots are made with, before it runs `dev.py check`."""
    workflow = (ROOT / ".github/workflows/check.yml").read_text()

    (version,) = re.findall(r"az bicep install --version v([\d.]+) ", workflow)
    assert gate.VERSION == version
    assert workflow.index("az bicep install") < workflow.index("dev.py check")


STRICT = {
    *("explicit-values-for-loc-params", "no-explicit-any", "no-hardcoded-location", "no-hardcoded-outputs"),
    *("no-loc-expr-outside-params", "no-unused-types", "use-recent-api-versions", "use-recent-az-powershell-version"),
    *("use-recent-module-versions", "use-user-defined-types", "what-if-short-circuiting"),
}
"""The rules that the compiler has off by default and that we hold to."""


def test_strict_rules_are_on_and_none_is_off():
    """Every rule of the list is an error, none of the others is turned down, and no folder has rules of its own."""
    text = (INFRA / "bicepconfig.json").read_text()
    config = json.loads(re.sub(r"^\s*//.*$", "", text, flags=re.MULTILINE))
    rules = config["analyzers"]["core"].pop("rules")
    age = rules["use-recent-api-versions"]

    assert {"analyzers": {"core": {}}} == config  # nothing turns the analyzer off
    assert dict.fromkeys(STRICT, "error") == {name: rule["level"] for name, rule in rules.items()}
    assert (730, {"level", "maxAgeInDays", "test-today"}) == (age["maxAgeInDays"], age.keys())
    assert [INFRA / "bicepconfig.json"] == [*ROOT.glob("bicepconfig.json"), *INFRA.rglob("bicepconfig.json")]


def test_a_rule_is_disabled_for_one_line_with_its_reason():
    """What the compiler is told not to report is a property that its types lack, and releases that do not exist."""
    sources = [path.read_text() for path in INFRA.rglob("*.bicep*") if path.is_file()]
    disabled = re.findall(r"#(?:disable|restore|pragma)[^\n]*", "\n".join(sources))

    lines = [re.fullmatch(r"#disable-next-line (\S+) // \S.*", line) for line in disabled]
    assert {"BCP037": 1, "use-recent-api-versions": 4} == Counter(line and line[1] for line in lines)


@pytest.mark.long
@pytest.mark.skipif(
    not (COMPILER or os.environ.get("CI")), reason="There is no Bicep compiler, so types are not checked."
)
def test_gate_finds_faults_that_only_the_compiler_knows(tmp_path: Path):
    """
    The templates pass. A wrong property, an unused parameter, a line out of format, an API version of years ago, a
    changed resource, another order, a switch that does not exist and Bicep in the docs that does not compile: each is a
    fault. That all snapshots are as they should be is checked by `dev.py check`, with the same function.
    """
    infra = tmp_path / "infra"
    reported_at_once = {
        "a wrong property": ("app/vault.bicep", "softDeleteRetentionInDays: 90", "retention: 90", "BCP037"),
        "an unused parameter": ("app/rbac.bicep", "param ", "param unused string = ''\nparam ", "no-unused"),
        "a line out of format": ("app/identity.bicep", "  name: name", "  name:   name", "identity.bicep is out of"),
        "an old version": ("app/alerts.bicep", "metricAlerts@2026-01-01", "metricAlerts@2018-03-01", "use-recent-api"),
    }
    reported_alone = {
        "a changed resource": ("app/vault.bicep", "InDays: 90", "InDays: 30", "test.json is"),
        "another order": ("main.bicep", "  dependsOn: [rbac] //", "  //", "test.json is"),
        "no such switch": ("snapshots/zones.bicepparam", "zoneRedundant", "zonesRedundant", "zones.bicepparam"),
    }
    assert COMPILER
    with gate.compiler(COMPILER) as call:
        shutil.copytree(INFRA, infra, ignore=shutil.ignore_patterns("__pycache__"))
        for path in infra.glob("snapshots/*.bicepparam"):  # one is enough to find a fault, and quicker
            if path.stem != "zones":
                path.unlink()
                path.with_suffix(".json").unlink()
        assert [] == gate.find_faults(call, infra)
        for changes in (reported_at_once, *({fault: change} for fault, change in reported_alone.items())):
            texts = {infra / name: (infra / name).read_text() for name, *_ in changes.values()}
            for fault, (name, old, new, _) in changes.items():
                assert old in texts[infra / name], fault
                (infra / name).write_text(texts[infra / name].replace(old, new, 1))
            try:
                reported = "\n".join(gate.find_faults(call, infra))
            except gate.CompilerError as exc:
                reported = str(exc)
            for fault, (*_, words) in changes.items():
                assert words in reported, fault
            for path, text in texts.items():
                path.write_text(text)
        for page in sorted((ROOT / "docs").rglob("*.md")):
            for block in re.findall(r"^```bicep\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL):
                path = tmp_path / "docs.bicep"
                path.write_text(block)
                answer = call("compile", path=str(path))
                assert [] == [each for each in answer["diagnostics"] if each["level"] == "Error"], page.name
