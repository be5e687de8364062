"""The parameters of the templates in azd's file and the docs, and what no file or deployment may hold."""

from __future__ import annotations

import itertools
import json
import re
from pathlib import Path

import pytest

from shared.settings import read_settings
from tests.support.app_settings import settings_in_code
from tests.support.deployment import INFRA, NAMES, ROOT, TEST, read
from tests.support.rows import every_row

SOURCE = (INFRA / "main.bicep").read_text()
DECLARED = {
    name: default.strip("'") for name, default in re.findall(r"^param (\w+) \w+(?: = (.*))?$", SOURCE, re.MULTILINE)
}
"""The parameters of main.bicep and their defaults, or an empty text for those that are required or empty."""
AZD = json.loads((INFRA / "main.parameters.json").read_text())["parameters"]
SHIPPED = [
    *sorted(INFRA.rglob("*.bicep*")),
    *INFRA.glob("*.json"),
    *INFRA.rglob("*.kql"),
    ROOT / "azure.yaml",
    *(ROOT / ".github").rglob("*.yml"),
    *(path for path in (ROOT / "container").rglob("*") if path.is_file()),
]


def test_azd_parameters_have_the_templates_defaults():
    """main.parameters.json takes each parameter of main.bicep from the environment, or has the same default."""
    matches = {name: re.fullmatch(r"\$\{([A-Z_]+)(?:=(.*))?\}", each["value"]) for name, each in AZD.items()}

    assert len(DECLARED) > 30
    assert DECLARED == {name: match[2] or "" for name, match in matches.items() if match}
    assert ["environmentName", "location"] == [name for name, match in matches.items() if match and match[2] is None]


def test_parameters_are_in_the_docs():
    """The table of docs/deploy.md has every parameter with its variable and its default, as azd's file has it."""
    page = (ROOT / "docs/deploy.md").read_text()
    expected = [
        (variable, default, name)
        for name, each in AZD.items()
        for variable, default in re.findall(r"^\$\{(\w+)=?(.*)\}$", each["value"])
    ]

    rows = re.findall(r"^\| `([A-Z_]+)` \| `(\w+)` \| ?(.*?) ?\| .*\|$", page, re.MULTILINE)
    assert expected == [(variable, default, name) for variable, name, default in rows]


OTHERS = {
    *("AZURE_SUBSCRIPTION_ID", "AZURE_TOKEN_CREDENTIALS", "NO_COLOR", "OPENAI_ADMIN_KEY"),
    *("OTEL_METRIC_EXPORT_INTERVAL", "OTEL_TRACES_SAMPLER"),
    *("CLIENT_ID", "HOST_ACCOUNT", "JOB_ACCOUNT", "JOB_QUEUE", "MAX_FAILED_ATTEMPTS", "NEEDS_MODEL"),
    *("BASE_DIGEST", "FUNCTIONS_SECRETS_PATH", "INGRESS_NAMESPACE"),
}
"""Variables of azd, of SDKs and of the command line, constants, and words that the reader replaces."""


def test_variables_that_pages_name_exist():
    """A word in capitals on a page is a variable of azd's file, an app setting or an output, or one of `OTHERS`."""
    variables = {name for each in AZD.values() for name in re.findall(r"^\$\{(\w+)", each["value"])}
    pages = "\n".join(page.read_text() for page in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))])
    named = set(re.findall(r"`([A-Z]+(?:_[A-Z0-9]+)+)(?:=\w+)?`", pages))

    assert (
        set() == named - variables - settings_in_code() - set(TEST.settings) - set(TEST.resources["outputs"]) - OTHERS
    )
    assert set() == OTHERS - named


def test_each_parameter_has_a_snapshot():
    """
    Every parameter is set by a deployment of the snapshots to something else than its default, so that what it is for
    can be seen there; a switch that is added without one fails here.
    """
    files = [*INFRA.glob("snapshots/*.bicepparam"), *INFRA.glob("environments/*.bicepparam")]
    lines = [re.findall(r"^param (\w+) = (.*)$", file.read_text(), re.MULTILINE) for file in files]
    used = {name for name, value in itertools.chain(*lines) if value.strip("'") != DECLARED[name]}

    assert set(DECLARED) - used == {"resourceGroupName"}  # with another, each id of a snapshot would differ
    assert sorted(file.stem for file in files) == NAMES


def test_each_value_reaches_the_resources():
    """What a parameter is set to is in the resources that change by it, and the switches of the app are read as on."""
    text = (INFRA / "snapshots/values.bicepparam").read_text()
    values = set(re.findall(r"^param \w+ = '?(.*?)'?$", text, re.MULTILINE)) - {"true"}
    changed = (INFRA / "snapshots/values.json").read_text()

    assert len(values) > 10
    assert [] == [value for value in values if not re.search(rf'[ "]{re.escape(value)}"?,?$', changed, re.MULTILINE)]
    assert read_settings(read("values").readable_settings).allow_private_endpoints
    (vault,) = read("values").of_type("Microsoft.KeyVault/vaults").values()
    assert "recover" == vault["properties"]["createMode"]


@every_row("file", SHIPPED, ids=lambda file: file.name)
def test_no_file_has_a_secret(file: Path):
    """No key, no connection string, and nothing that reads one, in any file of the deployment."""
    text = file.read_text().replace("host/default/listkeys", "")  # the function key that `aijobs verify` needs
    reading = r"listKeys|listSecrets|list\w*Sas|AccountKey|SharedAccess|password|client[-_]?secret"
    words = re.findall(r"[A-Za-z0-9+/_]{24,}={0,2}", text)

    assert not re.search(reading, text, re.IGNORECASE)
    assert [] == [word for word in words if len(re.findall(r"\d", word)) > 3 and word.lower() != word]


def test_outputs_are_in_upper_case_and_hold_no_secret():
    """Outputs, which azd stores, are named like environment variables, and none of them is a credential."""
    for name in NAMES:
        outputs = read(name).resources["outputs"]
        assert [] == [key for key in outputs if not re.fullmatch(r"[A-Z][A-Z_]+", key)]
        assert not re.search(r"connectionString|list\w+\(|secret", json.dumps(outputs), re.IGNORECASE)


@pytest.mark.parametrize("kind", ["Microsoft.EventGrid/systemTopics", "Microsoft.Insights/webtests"])
def test_names_have_only_allowed_characters(kind: str):
    """A name of letters, digits and hyphens only isn't made from the environment's, which may have `_` and `.`."""
    (resource,) = TEST.of_type(kind).values()

    assert re.fullmatch(r"[A-Za-z0-9-]{3,50}", resource["name"])
    assert resource["tags"]["azd-env-name"] not in resource["name"]


@every_row("file", sorted(INFRA.rglob("*.bicep")), ids=lambda file: file.name)
def test_each_resource_says_what_it_is_for(file: Path):
    """Above each resource and module that a template creates is a comment."""
    lines = [line for line in file.read_text().splitlines() if not line.lstrip().startswith("#disable")]
    created = [
        (above, line)
        for above, line in itertools.pairwise(lines)
        if re.match(r" *(resource|module) \w+ ", line) and " existing = " not in line
    ]

    assert created
    assert [] == [line for above, line in created if not above.lstrip().startswith("//")]
