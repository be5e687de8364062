"""
The templates, as far as they can be held without Azure: syntax, names, and that they give the app what its
code asks for. Types are the compiler's to check; where it is installed, a test runs it.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from shared.settings import binding_queues, callback_queues, read_settings
from tests.support.app_settings import settings_in_code
from tests.support.bicep import Bicep, read, value
from tests.support.bicep import members as members_of
from tests.support.bicep_settings import INFRA, MAIN, ROOT, settings_of_template

FILES = sorted(INFRA.rglob("*.bicep*"))

NOT_SET = {
    "JobStorage": "a connection string: here the app's identity is used",
    "KEY_VAULT_CA_FILE": "for a vault behind an authority of one's own: the local stack's",
    "ALLOW_LOCAL_ENDPOINTS": "for the local stack",
    "WEBSITE_AUTH_ENABLED": "Azure sets it",
    "TELEMETRY_CONTENT": "what prompts and answers say stays out of telemetry",
}
"""Settings that the code reads and the template leaves out, and why."""

ROLES = {  # learn.microsoft.com/azure/role-based-access-control/built-in-roles
    "StorageBlobDataOwner": "b7e6dc6d-f1e8-4753-8033-0f276bb0955b",
    "StorageBlobDataContributor": "ba92f5b4-2d11-453d-a403-e96b0029c9fe",
    "StorageBlobDataReader": "2a2b9908-6ea1-4ae2-8e65-a410df84e7d1",
    "StorageQueueDataContributor": "974c5e8b-45b9-4653-ba55-5f855dd0fb88",
    "StorageTableDataContributor": "0a9a7e1f-b9d0-4cc4-a60d-0319b160aaa3",
    "KeyVaultSecretsUser": "4633458b-17de-408a-b874-0445c86b69e6",
    "KeyVaultSecretsOfficer": "b86a8fe4-44ce-4948-aee5-eccb2c155cd7",
    "MonitoringMetricsPublisher": "3913510d-42f4-4e42-8a64-420c390055eb",
}
NEEDS = {
    "the host keeps locks and function keys, and fetches the code's package": ("hostAccount", "StorageBlobDataOwner"),
    "the host writes its diagnostic events": ("hostAccount", "StorageTableDataContributor"),
    "triggers take messages; results, put-back jobs and callbacks are sent": ("taken", "StorageQueueDataContributor"),
    "results, steps and inputs over HTTP are written; the sweep deletes": ("written", "StorageBlobDataContributor"),
    "inputs and templates are read": ("read", "StorageBlobDataReader"),
    "rows are read, written and deleted, in transactions": ("jobAccount", "StorageTableDataContributor"),
    "connections and signing secrets are read": ("vault", "KeyVaultSecretsUser"),
    "telemetry is sent": ("insights", "MonitoringMetricsPublisher"),
}
"""What the app does, and the role that it needs for it, and where."""
ON_REQUEST = {"connections are written over HTTP": ("vault", "KeyVaultSecretsOfficer")}


def as_set(found: dict[str, Any]) -> dict[str, str]:
    """The settings as the app would read them."""
    return {name: "https://known.when.deployed" if text is None else str(text) for name, text in found.items()}


def assigned(condition: str | None, principal: str) -> list[tuple[str, str]]:
    """The roles of a principal: where, and which; those that stand under a condition, or those that don't."""
    rbac, found = read(INFRA / "app/rbac.bicep"), []
    for node in rbac.declared("resource").values():
        text = (node.text or b"").decode()
        if "roleAssignments@" not in text or f"principalId: {principal}" not in text:
            continue
        under = re.search(r"= if \((.*?)\) \{", text)
        if (under[1] if under else None) == condition:
            (scope,) = re.findall(r"scope: (\w+)", text)
            found.append((scope, re.findall(r"roleDefinitions', (?:roles\.)?(\w+)\)", text)[0]))
    return sorted(found)


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(INFRA)))
def test_every_file_is_bicep(file: Path):
    """Every file of the templates parses, without an error or anything missing."""
    assert [] == read(file).faults()


@pytest.mark.parametrize("broken", [b"param a string =\n", b"resource x 'A@1' = {\n  name: 'a'\n", b"var a = [1, 2\n"])
def test_the_syntax_gate_sees_what_is_broken(broken: bytes):
    """A file that is no Bicep is found out."""
    assert [] != Bicep(Path("broken.bicep"), broken).faults()


def test_what_the_docs_show_is_bicep(tmp_path: Path):
    """A block of Bicep in the docs passes the same gate."""
    blocks = [
        block
        for page in sorted((ROOT / "docs").rglob("*.md"))
        for block in re.findall(r"^```bicep\n(.*?)^```", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    ]
    assert blocks
    for number, block in enumerate(blocks):
        file = tmp_path / f"{number}.bicep"
        file.write_text(block, encoding="utf-8")
        assert [] == read(file).faults()


def test_the_syntax_gate_sees_a_lost_brace_anywhere():
    """A brace lost from any module is found out."""
    for file in FILES:
        source = file.read_bytes()
        for at in [found.start() for found in re.finditer(rb"^\s*[}\]]$", source, re.MULTILINE)][:5]:
            lost = source[:at] + source[at + len(re.match(rb"\s*[}\]]", source[at:])[0]) :]  # type: ignore[index]
            assert [] != Bicep(file, lost).faults()


@pytest.mark.parametrize("file", [file for file in FILES if file.suffix == ".bicep"], ids=lambda file: file.name)
def test_modules_are_there_and_given_what_they_ask_for(file: Path):
    """A module that is used exists, is given every parameter without a default, and none that it does not have."""
    for module in read(file).modules():
        used = read(module.file)

        assert used.required() <= set(module.given)
        assert set(module.given) <= set(used.declared("parameter"))


@pytest.mark.parametrize("file", [file for file in FILES if file.suffix == ".bicep"], ids=lambda file: file.name)
def test_resources_have_the_members_that_resources_have(file: Path):
    """A resource has no member that none has, and a name; so a misspelt one is found without the compiler."""
    known = {"parent", "scope", "name", "location", "tags", "kind", "sku", "identity", "properties", "dependsOn"}

    for kind, body in read(file).resources():
        assert {"name"} <= set(members_of(body)) <= known, kind


def test_outputs_that_are_used_exist():
    """Every output of a module that main.bicep uses is one of that module's."""
    outputs = {module.symbol: set(read(module.file).declared("output")) for module in MAIN.modules()}
    used = re.findall(r"\b(\w+)!?\.outputs\.(\w+)", MAIN.source.decode())

    assert len(used) > 20
    assert [] == [(symbol, name) for symbol, name in used if name not in outputs.get(symbol, set())]


@pytest.mark.parametrize("file", [file for file in FILES if file.suffix == ".bicep"], ids=lambda file: file.name)
def test_nothing_is_declared_in_vain(file: Path):
    """Every parameter and variable is used: what is set has an effect."""
    bicep = read(file)
    text = re.sub(r"//.*", "", bicep.source.decode())

    assert [] == [
        name
        for kind in ("parameter", "variable")
        for name in bicep.declared(kind)
        if len(re.findall(rf"\b{name}\b", text)) < 2
    ]


def test_parameters_are_described():
    """Every parameter of main.bicep says what it is."""
    assert set(MAIN.declared("parameter")) == set(MAIN.descriptions())


def test_parameters_of_azd_have_the_templates_defaults():
    """main.parameters.json names every parameter, takes each from the environment, and has the same defaults."""
    given = json.loads((INFRA / "main.parameters.json").read_text())["parameters"]
    expected = {
        name: str(text).lower() if isinstance(text, bool) else str(text) for name, text in MAIN.defaults().items()
    }
    found = {name: re.fullmatch(r"\$\{([A-Z_]+)(?:=(.*))?\}", each["value"]) for name, each in given.items()}

    assert set(MAIN.declared("parameter")) == set(given)
    assert expected == {name: match[2] for name, match in found.items() if match and match[2] is not None}
    assert MAIN.required() == {name for name, match in found.items() if match and match[2] is None}


def test_parameters_are_in_the_docs():
    """The table of docs/deploy.md has every parameter with its variable and its default, as azd's file has it."""
    page = (ROOT / "docs/deploy.md").read_text()
    given = json.loads((INFRA / "main.parameters.json").read_text())["parameters"]
    expected = [
        (variable, default, name)
        for name, each in given.items()
        for variable, default in re.findall(r"^\$\{(\w+)=?(.*)\}$", each["value"])
    ]

    rows = re.findall(r"^\| `([A-Z_]+)` \| `(\w+)` \| ?(.*?) ?\| .*\|$", page, re.MULTILINE)
    assert expected == [(variable, default, name) for variable, name, default in rows]


@pytest.mark.parametrize("file", sorted(INFRA.glob("environments/*")), ids=lambda file: file.name)
def test_parameters_of_an_environment_exist(file: Path):
    """A parameters file belongs to main.bicep, sets what it must, and nothing that is not there."""
    bicep = read(file)
    names = set(bicep.declared("variable"))

    assert "using '../main.bicep'" in bicep.source.decode()
    assert MAIN.required() <= names <= set(MAIN.declared("parameter"))


def test_every_setting_that_the_code_reads_is_set():
    """The template sets all that the code reads, but for what has a reason here, and nothing that nobody reads."""
    template, code = set(settings_of_template()), settings_in_code()
    hosts = {
        "JobStorage__credential",
        "APPLICATIONINSIGHTS_AUTHENTICATION_STRING",
    }

    assert code - set(NOT_SET) == template & code
    assert set(NOT_SET) <= code
    assert template - code == hosts | {
        f"AzureWebJobsStorage__{part}" for part in ("credential", "clientId", "blobServiceUri", "tableServiceUri")
    }


def test_settings_of_the_template_can_be_read_and_are_the_defaults():
    """The app starts on the template's settings; without parameters they mean what leaving them out would."""
    addresses = {name: text for name, text in as_set(settings_of_template()).items() if name.startswith("JobStorage__")}
    plain, ours = read_settings(addresses), read_settings(as_set(settings_of_template()))

    differing = {
        name for name in plain.__slots__ if name != "static_connection" and getattr(plain, name) != getattr(ours, name)
    }
    assert {"key_vault_url", "azure_client_id", "applicationinsights_connection_string"} == differing


def test_connections_of_the_triggers_are_set_for_an_identity():
    """The connection that the triggers name is given to the host with the app's own identity, not with a key."""
    template = set(settings_of_template())
    connections = set(re.findall(r'connection="(\w+)"', (ROOT / "function_app.py").read_text()))

    assert {"JobStorage"} == connections
    for name in [*connections, "AzureWebJobsStorage"]:
        assert {f"{name}__credential", f"{name}__clientId"} <= template
        assert name not in template


def test_flex_consumption_is_told_nothing_that_it_refuses():
    """Flex Consumption has these elsewhere than in app settings (learn.microsoft.com, "functions-app-settings")."""
    refused = {
        "FUNCTIONS_WORKER_RUNTIME",
        "FUNCTIONS_EXTENSION_VERSION",
        "SCM_DO_BUILD_DURING_DEPLOYMENT",
        "ENABLE_ORYX_BUILD",
    }

    assert not [
        name for name in settings_of_template() if name in refused or name.startswith(("WEBSITE_", "WEBSITES_"))
    ]


def test_queues_containers_and_the_table_are_made():
    """
    Every queue, container and table that the app finds by its settings is made, with the poison queues that the host
    fills (a poison queue has none of its own), and nothing else in its account.
    """
    functions = (ROOT / "function_app.py").read_text()
    names = MAIN.variables(**MAIN.defaults())
    settings = as_set(settings_of_template())
    app = read_settings(settings)
    made = next(module for module in MAIN.modules() if module.symbol == "jobStorage").given

    taken = set(re.findall(r"queue_name=(\w+), connection", "\n".join(re.findall(r"queue_trigger\(.*", functions))))
    jobs, poison, results = binding_queues(settings)
    callbacks, dead = callback_queues(settings)
    assert {"JOBS", "POISON", "CALLBACKS", "DEAD_CALLBACKS"} == taken
    queues = {jobs, poison, callbacks, dead, results, *app.allowed_result_queues}
    assert {f"{jobs}-poison", f"{callbacks}-poison"} == {poison, dead}
    containers = {app.results_container, app.templates_container, *app.input_containers}
    assert queues == set(value(made["queues"], names))
    assert containers == set(value(made["containers"], names))
    assert [app.jobs_table] == value(made["tables"], names)
    assert list(app.input_containers) == value(made["expiringContainers"], names)


def test_roles_reach_every_queue_and_container():
    """The lists that roles are given on are those that are made; only results are written to."""
    names = MAIN.variables(**MAIN.defaults())
    given = next(module for module in MAIN.modules() if module.symbol == "rbac").given
    app = read_settings(as_set(settings_of_template()))

    assert names["queues"] == value(given["queues"], names)
    assert [app.results_container] == value(given["writtenContainers"], names)
    assert {app.templates_container, *app.input_containers} == set(value(given["readContainers"], names))


def test_the_app_has_the_roles_that_it_needs_and_no_other():
    """Each thing that the app does has its role; what it does only on request, under that condition alone."""
    assert sorted(NEEDS.values()) == assigned(None, "appPrincipalId")
    assert sorted(ON_REQUEST.values()) == assigned("onboardOverHttp", "appPrincipalId")


def test_the_operator_has_nothing_unless_named_and_nothing_of_the_host():
    """Roles of a person depend on a name being given; none of them is on the account that holds the code."""
    text = (INFRA / "app/rbac.bicep").read_text()

    assert [("vault", "KeyVaultSecretsOfficer")] == assigned("!empty(operatorObjectId)", "operatorObjectId")
    assert [("jobAccount", "role")] == assigned(None, "operatorObjectId")
    assert "var operatorRoles = empty(operatorObjectId)\n  ? []" in text


def test_role_ids_are_azures():
    """The ids behind the names are Azure's built-in roles."""
    assert ROLES == read(INFRA / "app/rbac.bicep").variables()["roles"]


def test_roles_are_all_in_one_module():
    """No other file gives a role."""
    assert [] == [file.name for file in FILES if file.name != "rbac.bicep" and b"roleAssignments" in file.read_bytes()]


def test_security_page_has_the_roles():
    """The table of docs/security.md has every role with its holder, and no other."""
    page = (ROOT / "docs/security.md").read_text()
    rows = re.findall(r"^\| (the app|the operator)[^|]*\| ([A-Z][\w ]+) \| ([^|]+) \|", page, re.MULTILINE)
    named = {name: re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name) for name in ROLES}

    shown = sorted((who, role) for who, role, _ in rows)
    given = [("the app", named[role]) for _, role in [*NEEDS.values(), *ON_REQUEST.values()]]
    operator = [
        "StorageBlobDataContributor",
        "StorageQueueDataContributor",
        "StorageTableDataContributor",
        "KeyVaultSecretsOfficer",
    ]
    assert sorted(given + [("the operator", named[role]) for role in operator]) == shown


def properties(file: str, kind: str) -> dict[str, Any]:
    """The constant properties of the first resource of a type in a module."""
    body = next(body for made, body in read(INFRA / "app" / file).resources() if made.startswith(kind))
    return value(members_of(body)["properties"], {})


def test_storage_takes_no_key_and_no_stranger():
    """Storage accounts: no shared keys, no public blobs, TLS 1.2, https."""
    found = properties("storage.bicep", "Microsoft.Storage/storageAccounts@")

    assert {
        "allowSharedKeyAccess": False,
        "allowBlobPublicAccess": False,
        "allowCrossTenantReplication": False,
        "minimumTlsVersion": "TLS1_2",
        "supportsHttpsTrafficOnly": True,
    }.items() <= found.items()


def test_the_vault_asks_for_roles_and_forgets_nothing():
    """The vault: roles, soft delete for 90 days, protected from purging, readers logged into their own table."""
    found = properties("vault.bicep", "Microsoft.KeyVault/vaults@")

    assert {
        "enableRbacAuthorization": True,
        "enableSoftDelete": True,
        "softDeleteRetentionInDays": 90,
        "enablePurgeProtection": True,
    }.items() <= found.items()
    told = properties("vault.bicep", "Microsoft.Insights/diag")
    assert [{"categoryGroup": "audit", "enabled": True}] == told["logs"]
    assert "Dedicated" == told["logAnalyticsDestinationType"]  # AZKVAuditLogs


def test_telemetry_takes_no_key():
    """Neither Application Insights nor the workspace takes a key."""
    assert properties("monitoring.bicep", "Microsoft.Insights/components@")["DisableLocalAuth"] is True
    assert properties("monitoring.bicep", "Microsoft.Oper")["features"] == {"disableLocalAuth": True}


def test_always_ready_is_off_and_names_a_function_that_there_is():
    """No instance is paid for at rest unless asked for; the group named is the function that runs jobs."""
    source = (INFRA / "app/function.bicep").read_text()

    assert (0, 0) == (MAIN.defaults()["alwaysReadyJobs"], MAIN.defaults()["alwaysReadyHttp"])
    (name,) = re.findall(r"'function:(\w+)'", source)
    assert f"async def {name}(" in (ROOT / "function_app.py").read_text()


def test_api_versions_are_not_about_to_retire():
    """One version a type, no preview where there is a release, and a vault's from after the great retirement."""
    found: dict[str, set[str]] = {}
    for file in FILES:
        for kind, version in re.findall(r"'(Microsoft\.[\w./]+)@([\w-]+)'", file.read_text()):
            found.setdefault(kind, set()).add(version)

    assert [] == [kind for kind, versions in found.items() if len(versions) > 1]
    previews = {kind for kind, versions in found.items() if any("preview" in version for version in versions)}
    assert previews == {"Microsoft.Insights/diagnosticSettings"}  # which has had no other for years
    # learn.microsoft.com/azure/key-vault/general/migrate-api-version: those before retire on 27 February 2027.
    assert found["Microsoft.KeyVault/vaults"] >= {"2026-02-01"}


@pytest.mark.parametrize("kind", ["Microsoft.EventGrid/systemTopics@", "Microsoft.Insights/webtests@"])
def test_names_hold_only_what_azure_takes(kind: str):
    """What takes letters, digits and hyphens alone is not named by the environment, which may hold `_` and `.`."""
    (body,) = [body for made, body in read(INFRA / "app/alerts.bicep").resources() if made.startswith(kind)]
    token = "abcdefghijklm"  # what uniqueString gives: 13 letters and digits

    assert re.fullmatch(
        r"[A-Za-z0-9-]{3,50}", value(members_of(body)["name"], {"token": token, "environmentName": "a_b.c"})
    )


SHIPPED = [
    *FILES,
    *INFRA.rglob("*.json"),
    *INFRA.rglob("*.kql"),
    ROOT / "azure.yaml",
    *(ROOT / ".github").rglob("*.yml"),
    *(path for path in (ROOT / "container").rglob("*") if path.is_file()),
]


@pytest.mark.parametrize("file", SHIPPED, ids=lambda file: file.name)
def test_no_secret_is_in_any_file(file: Path):
    """No key, no connection string, nothing that fetches one, in any file of the deployment."""
    text = file.read_text()
    fetching = r"listKeys|listSecrets|list\w*Sas|AccountKey|SharedAccess|password|client[-_]?secret"
    words = re.findall(r"[A-Za-z0-9+/=_]{24,}", text)

    assert not re.search(fetching, text, re.IGNORECASE)
    assert [] == [word for word in words if len(re.findall(r"\d", word)) > 3 and word.lower() != word]


def test_outputs_are_in_upper_case_and_tell_no_secret():
    """Outputs that azd keeps are named as environment variables, and none of them is a credential."""
    outputs = MAIN.declared("output")

    assert [] == [name for name in outputs if not re.fullmatch(r"[A-Z][A-Z_]+", name)]
    assert [] == [
        name
        for name, node in outputs.items()
        if re.search(r"connectionString|\.list|[sS]ecret", (node.text or b"").decode())
    ]


@pytest.mark.skipif(not shutil.which("bicep"), reason="The Bicep compiler is not installed: types are not checked.")
@pytest.mark.parametrize("file", [INFRA / "main.bicep", *INFRA.glob("environments/*")], ids=lambda file: file.name)
def test_the_compiler_takes_it(file: Path):
    """The compiler builds the templates and the parameters files, without a warning."""
    command = "build-params" if file.suffix == ".bicepparam" else "build"

    done = subprocess.run(["bicep", command, str(file), "--stdout"], capture_output=True, text=True, check=False)

    assert (0, "") == (done.returncode, done.stderr)
