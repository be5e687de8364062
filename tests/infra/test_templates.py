"""The templates as a whole: syntax, modules, resources, parameters and outputs. Types are for the compiler to check."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support.bicep import Bicep, read, value
from tests.support.bicep import members as members_of
from tests.support.bicep_settings import INFRA, MAIN, ROOT

FILES = sorted(INFRA.rglob("*.bicep*"))
TEMPLATES = [file for file in FILES if file.suffix == ".bicep"]


def test_every_file_is_bicep():
    """Every file of the templates, and each block of Bicep in the docs, parses without an error or a missing token."""
    pages = [page.read_text(encoding="utf-8") for page in sorted((ROOT / "docs").rglob("*.md"))]
    blocks = [block for page in pages for block in re.findall(r"^```bicep\n(.*?)^```", page, re.MULTILINE | re.DOTALL)]
    assert blocks

    assert [] == [error for file in FILES for error in read(file).syntax_errors()]
    assert [] == [error for block in blocks for error in Bicep(Path("docs.bicep"), block.encode()).syntax_errors()]


def test_parser_finds_syntax_errors():
    """A file that isn't Bicep, and a module without one of its closing braces, has syntax errors."""
    sources = [b"param a string =\n", b"resource x 'A@1' = {\n  name: 'a'\n", b"var a = [1, 2\n"]
    for file in FILES:
        source = file.read_bytes()
        braces = [brace.span() for brace in re.finditer(rb"^\s*[}\]]$", source, re.MULTILINE)][:5]
        sources += [source[:start] + source[end:] for start, end in braces]

    assert [] == [source for source in sources if not Bicep(Path("broken.bicep"), source).syntax_errors()]


@pytest.mark.parametrize("file", TEMPLATES, ids=lambda file: file.name)
def test_names_in_a_template_are_right(file: Path):
    """
    A module that is used exists and gets every parameter without a default, and none that it doesn't have. A resource
    has a name, and no member that resources don't have. Parameters and variables occur outside their own declarations.
    """
    bicep = read(file)
    text = re.sub(r"//.*", "", bicep.source.decode())
    allowed = {"parent", "scope", "name", "location", "tags", "kind", "sku", "identity", "properties", "dependsOn"}
    names = [*bicep.declarations("parameter"), *bicep.declarations("variable")]

    for module in bicep.modules():
        template = read(module.file)
        assert template.required() <= set(module.params) <= set(template.declarations("parameter"))
    for kind, body in bicep.resources():
        assert {"name"} <= set(members_of(body)) <= allowed, kind
    assert [] == [name for name in names if len(re.findall(rf"\b{name}\b", text)) < 2]


def test_outputs_that_are_used_exist():
    """Every output of a module that main.bicep uses is one of that module's."""
    outputs = {module.symbol: set(read(module.file).declarations("output")) for module in MAIN.modules()}
    used = re.findall(r"\b(\w+)!?\.outputs\.(\w+)", MAIN.source.decode())

    assert len(used) > 20
    assert [] == [(symbol, name) for symbol, name in used if name not in outputs.get(symbol, set())]


def test_azd_parameters_have_the_templates_defaults():
    """Every parameter of main.bicep has a description; main.parameters.json takes each from the environment or has the
    same default.
    """
    parameters = json.loads((INFRA / "main.parameters.json").read_text())["parameters"]
    expected = {
        name: str(text).lower() if isinstance(text, bool) else str(text) for name, text in MAIN.defaults().items()
    }
    matches = {name: re.fullmatch(r"\$\{([A-Z_]+)(?:=(.*))?\}", each["value"]) for name, each in parameters.items()}

    assert set(MAIN.declarations("parameter")) == set(MAIN.descriptions()) == set(parameters)
    assert expected == {name: match[2] for name, match in matches.items() if match and match[2] is not None}
    assert MAIN.required() == {name for name, match in matches.items() if match and match[2] is None}


def test_parameters_are_in_the_docs():
    """The table of docs/deploy.md has every parameter with its variable and its default, as azd's file has it."""
    page = (ROOT / "docs/deploy.md").read_text()
    parameters = json.loads((INFRA / "main.parameters.json").read_text())["parameters"]
    expected = [
        (variable, default, name)
        for name, each in parameters.items()
        for variable, default in re.findall(r"^\$\{(\w+)=?(.*)\}$", each["value"])
    ]

    rows = re.findall(r"^\| `([A-Z_]+)` \| `(\w+)` \| ?(.*?) ?\| .*\|$", page, re.MULTILINE)
    assert expected == [(variable, default, name) for variable, name, default in rows]


@pytest.mark.parametrize("file", sorted(INFRA.glob("environments/*")), ids=lambda file: file.name)
def test_parameters_of_an_environment_exist(file: Path):
    """A parameters file uses main.bicep, sets what is required, and nothing that doesn't exist."""
    bicep = read(file)
    names = set(bicep.declarations("variable"))

    assert "using '../main.bicep'" in bicep.source.decode()
    assert MAIN.required() <= names <= set(MAIN.declarations("parameter"))


def test_api_versions_are_current():
    """One version per type, no preview if there is a release, and a vault's from after the retirement of old ones."""
    versions: dict[str, set[str]] = {}
    for file in FILES:
        for kind, version in re.findall(r"'(Microsoft\.[\w./]+)@([\w-]+)'", file.read_text()):
            versions.setdefault(kind, set()).add(version)

    assert [] == [kind for kind, each in versions.items() if len(each) > 1]
    previews = {kind for kind, each in versions.items() if any("preview" in version for version in each)}
    assert previews == {"Microsoft.Insights/diagnosticSettings"}  # it has had no other for years
    # learn.microsoft.com/azure/key-vault/general/migrate-api-version: older versions retire on 27 February 2027.
    assert versions["Microsoft.KeyVault/vaults"] >= {"2026-02-01"}


@pytest.mark.parametrize("kind", ["Microsoft.EventGrid/systemTopics@", "Microsoft.Insights/webtests@"])
def test_names_have_only_allowed_characters(kind: str):
    """A name of letters, digits and hyphens only isn't made from the environment's, which may have `_` and `.`."""
    (body,) = [body for type_, body in read(INFRA / "app/alerts.bicep").resources() if type_.startswith(kind)]
    token = "abcdefghijklm"  # as uniqueString makes it: 13 letters and digits

    assert re.fullmatch(
        r"[A-Za-z0-9-]{3,50}", value(members_of(body)["name"], {"token": token, "environmentName": "a_b.c"})
    )


@pytest.mark.skipif(not shutil.which("bicep"), reason="The Bicep compiler is not installed, so types are not checked.")
@pytest.mark.parametrize("file", [INFRA / "main.bicep", *INFRA.glob("environments/*")], ids=lambda file: file.name)
def test_compiler_builds_it(file: Path):
    """The compiler builds the templates and the parameters files without a warning."""
    command = "build-params" if file.suffix == ".bicepparam" else "build"

    done = subprocess.run(["bicep", command, str(file), "--stdout"], capture_output=True, text=True, check=False)

    assert (0, "") == (done.returncode, done.stderr)
