"""What can be wrong with a deployment. Each check takes one and returns its faults, a sentence each."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from fnmatch import fnmatch
from typing import Any

from shared import errors, event_names
from shared.settings import batch_queues, binding_queues, callback_queues, find_faults, read_settings
from tests.support import kql
from tests.support.app_settings import settings_in_code
from tests.support.deployment import ROOT, Deployment
from tests.support.deployment_links import LINKS
from tests.support.infra_queries import queries

FUNCTIONS = (ROOT / "function_app.py").read_text()
EVENTS = {text for name, text in vars(event_names).items() if name.isupper()}
NAMED = {each.code for each in vars(errors).values() if isinstance(each, type) and issubclass(each, errors.JobError)}
NAMED |= {*re.findall(r"async def (\w+)", FUNCTIONS), "run_ms"}
"""What queries may name besides events: error codes and functions."""
NOT_SET = {
    "JobStorage": "a connection string: in Azure the app uses its identity",
    "KEY_VAULT_CA_FILE": "for a vault with a private certificate authority: the local stack's",
    "ALLOW_LOCAL_ENDPOINTS": "for the local stack",
    "WEBSITE_AUTH_ENABLED": "Azure sets it",
    "TELEMETRY_CONTENT": "prompts and answers stay out of telemetry",
}
"""Settings that the code reads and no deployment sets, and why."""
HOST_SETTINGS = {
    *(f"AzureWebJobsStorage__{part}" for part in ("credential", "clientId", "blobServiceUri", "tableServiceUri")),
    *("APPLICATIONINSIGHTS_AUTHENTICATION_STRING", "FUNCTIONS_REQUEST_BODY_SIZE_LIMIT", "JobStorage__credential"),
}
"""Settings that only the host reads."""
REFUSED_MEMBERS = {
    *("ftpsState", "alwaysOn", "linuxFxVersion", "use32BitWorkerProcess", "netFrameworkVersion"),
    *("preWarmedInstanceCount", "functionAppScaleLimit", "functionsRuntimeScaleMonitoringEnabled"),
    "vnetRouteAllEnabled",
}
REFUSED_SETTINGS = ("FUNCTIONS_WORKER_RUNTIME", "FUNCTIONS_EXTENSION_VERSION", "WEBSITE_*")
REFUSED_SETTINGS += ("SCM_DO_BUILD_DURING_DEPLOYMENT", "ENABLE_ORYX_BUILD", "TZ")
"""What Flex Consumption has elsewhere, or not at all (learn.microsoft.com, "functions-app-settings")."""

ROLES = {  # learn.microsoft.com/azure/role-based-access-control/built-in-roles
    "Storage Blob Data Owner": "b7e6dc6d-f1e8-4753-8033-0f276bb0955b",
    "Storage Blob Data Contributor": "ba92f5b4-2d11-453d-a403-e96b0029c9fe",
    "Storage Blob Data Reader": "2a2b9908-6ea1-4ae2-8e65-a410df84e7d1",
    "Storage Queue Data Reader": "19e7f393-937e-4f77-808e-96b94797925e",
    "Storage Queue Data Contributor": "974c5e8b-45b9-4653-ba55-5f855dd0fb88",
    "Storage Table Data Contributor": "0a9a7e1f-b9d0-4cc4-a60d-0319b160aaa3",
    "Key Vault Secrets User": "4633458b-17de-408a-b874-0445c86b69e6",
    "Key Vault Secrets Officer": "b86a8fe4-44ce-4948-aee5-eccb2c155cd7",
    "Monitoring Metrics Publisher": "3913510d-42f4-4e42-8a64-420c390055eb",
}
LOCKED = {  # the type of a resource: members of its properties, and what they must be
    "Microsoft.Storage/storageAccounts": {
        "allowSharedKeyAccess": False,
        "allowBlobPublicAccess": False,
        "allowCrossTenantReplication": False,
        "minimumTlsVersion": "TLS1_2",
        "supportsHttpsTrafficOnly": True,
    },
    "Microsoft.Storage/storageAccounts/blobServices/containers": {"publicAccess": "None"},
    "Microsoft.KeyVault/vaults": {
        "enableRbacAuthorization": True,
        "enableSoftDelete": True,
        "softDeleteRetentionInDays": 90,
        "enablePurgeProtection": True,
    },
    "Microsoft.Insights/components": {"DisableLocalAuth": True},
    "Microsoft.OperationalInsights/workspaces": {"features": {"disableLocalAuth": True}},
    "Microsoft.Web/sites": {
        "httpsOnly": True,
        "minTlsVersion": "1.2",
        "scmMinTlsVersion": "1.2",
        "remoteDebuggingEnabled": False,
    },
    "Microsoft.Web/sites/basicPublishingCredentialsPolicies": {"allow": False},
}


def refused_by_flex(deployment: Deployment) -> Iterator[str]:
    """Members and settings that newer stamps of Flex Consumption refuse, and values that they may."""
    refused = REFUSED_MEMBERS & {*deployment.app, *deployment.app["siteConfig"]}
    yield from (f"Flex Consumption refuses {name}." for name in sorted(refused))
    for name in deployment.settings:
        if any(fnmatch(name, pattern) for pattern in REFUSED_SETTINGS):
            yield f"Flex Consumption refuses the setting {name}."
    if deployment.app["functionAppConfig"]["scaleAndConcurrency"]["maximumInstanceCount"] < 40:
        yield "Some regions refuse fewer than 40 instances."


def wrong_roles(deployment: Deployment) -> Iterator[str]:
    """The app has a role for each thing that it does, on nothing wider, and no other; so has KEDA."""
    app = read_settings(deployment.readable_settings)
    read_only = {app.templates_container, app.statements_container, *app.input_containers}
    app_queues = deployment.children("queues")
    needed = {
        ("id", "Storage Blob Data Owner", "sthost"),  # the package, locks, function keys
        ("id", "Storage Table Data Contributor", "sthost"),  # the host's diagnostic events
        *(("id", "Storage Queue Data Contributor", f"stjobs/queues/{name}") for name in app_queues),
        ("id", "Storage Blob Data Contributor", f"stjobs/containers/{app.results_container}"),
        *(("id", "Storage Blob Data Reader", f"stjobs/containers/{name}") for name in read_only),
        ("id", "Storage Table Data Contributor", "stjobs"),  # a transaction is a request to the account
        ("id", "Key Vault Secrets User", "kv"),
        ("id", "Monitoring Metrics Publisher", "appi"),
    }
    if deployment.name == "keda":
        queues_counted = (app.jobs_queue, app.callbacks_queue, app.batches_queue)
        needed |= {("id-keda", "Storage Queue Data Reader", f"stjobs/queues/{name}") for name in queues_counted}
    if deployment.name == "operator":
        person = "00000000-0000-0000-0000-000000000003"
        kinds = ("Blob", "Queue", "Table")
        needed |= {(person, f"Storage {kind} Data Contributor", "stjobs") for kind in kinds}
        needed |= {(who, "Key Vault Secrets Officer", "kv") for who in ("id", person)}
    if deployment.name == "no-roles":
        needed = set()
    titles = {key: title for title, key in ROLES.items()}
    assigned = {(who, titles.get(role, role), scope) for who, role, scope in deployment.roles()}
    yield from (f"{who} lacks {role} on {scope}." for who, role, scope in sorted(needed - assigned))
    yield from (f"{who} has {role} on {scope}." for who, role, scope in sorted(assigned - needed))


def open_doors(deployment: Deployment) -> Iterator[str]:
    """Access by a key, or without encryption."""
    for kind, locked in LOCKED.items():
        resources = deployment.of_type(kind).values()
        if not resources:
            yield f"There is no {kind}."
        for each in resources:
            for name, expected in locked.items():
                if each["properties"].get(name, each["properties"].get("siteConfig", {}).get(name)) != expected:
                    yield f"{each['name']}: {name} must be {expected}."
    if re.search(r"list(?:Keys|Secrets|\w*Sas)\(|AccountKey=|SharedAccess", json.dumps(deployment.resources)):
        yield "A key is read."


def open_networks(deployment: Deployment) -> Iterator[str]:
    """Access from the internet beside private endpoints, or an app that can't reach them."""
    private = bool(deployment.of_type("Microsoft.Network/privateEndpoints"))
    for kind in ("Microsoft.Storage/storageAccounts", "Microsoft.KeyVault/vaults"):
        for each in deployment.of_type(kind).values():
            if (each["properties"]["publicNetworkAccess"] == "Disabled") != private:
                yield f"{each['name']}: publicNetworkAccess does not fit the private endpoints."
    if private != bool(deployment.app["virtualNetworkSubnetId"]):
        yield "The app is not in the network of the private endpoints."


def wrong_settings(deployment: Deployment) -> Iterator[str]:
    """Every setting is one that the app or the host reads, every one without a default is set, and the app starts."""
    code, names = settings_in_code(), set(deployment.settings)
    yield from (f"{name} must not be set." for name in sorted(names & set(NOT_SET)))
    yield from (f"Nothing reads {name}." for name in sorted(names - code - HOST_SETTINGS))
    yield from (f"{name} is not set." for name in sorted((code - set(NOT_SET) | HOST_SETTINGS) - names))
    yield from find_faults(deployment.readable_settings)


def wrong_names(deployment: Deployment) -> Iterator[str]:
    """What the settings and triggers name is created, and nothing else; what always-ready instances run exists."""
    settings = deployment.readable_settings
    app = read_settings(settings)
    jobs, poison, results = binding_queues(settings)
    own = {*callback_queues(settings), *batch_queues(settings)}
    exported = {export.queue for export in app.usage_exports if export.queue}
    named = {
        "queues": {jobs, poison, *own, results, *app.result_queues(), *exported},
        "containers": {
            *(app.results_container, app.templates_container, app.statements_container),
            *app.input_containers,
        },
        "tables": {app.jobs_table},
    }
    for kind, names in named.items():
        created = deployment.children(kind)
        yield from (f"{name} is not created ({kind})." for name in sorted(names - created))
        yield from (f"Nothing names {name} ({kind})." for name in sorted(created - names))
    for group in deployment.app["functionAppConfig"]["scaleAndConcurrency"]["alwaysReady"]:
        name = group["name"].removeprefix("function:")
        if name != "http" and f"async def {name}(" not in FUNCTIONS:
            yield f"There is no function {name}."
    (package,) = re.findall(r"'([\w-]+)'\)\]$", deployment.app["functionAppConfig"]["deployment"]["storage"]["value"])
    if {package} != deployment.children("containers", "sthost"):
        yield f"The package's container {package} is not created."


def unknown_events(deployment: Deployment) -> Iterator[str]:
    """A query of an alert or a chart looks for an event that the code does not write."""
    for name, query in queries(deployment):
        yield from unknown_words(name, query)


def unknown_words(name: str, query: str) -> Iterator[str]:
    """What a query compares messages with, by whichever operator, or names elsewhere, that the code does not have."""
    for text in kql.compared(query):
        # A later part of the line begins with a space; the host has words of its own.
        if not text.startswith((" ", "Trigger Details: MessageId: ")) and text.split(" ")[0] not in EVENTS:
            yield f"{name} looks for {text.strip()}, which is no event."
    for text in kql.literals(query):
        if (word := re.match(r"[a-z]+(?:_[a-z]+)+", text)) and word[0] not in EVENTS | NAMED:
            yield f"{name} names {word[0]}, which the code does not have."


def wrong_zones(deployment: Deployment) -> Iterator[str]:
    """Zones without what makes them work: copies in each, and an instance in more than one."""
    (plan,) = deployment.of_type("Microsoft.Web/serverfarms").values()
    skus = {each["sku"]["name"] for each in deployment.of_type("Microsoft.Storage/storageAccounts").values()}
    zoned = plan["properties"]["zoneRedundant"]
    groups = deployment.app["functionAppConfig"]["scaleAndConcurrency"]["alwaysReady"]
    ready = {group["name"]: group["instanceCount"] for group in groups}
    if {zoned} != {sku.endswith("ZRS") for sku in skus}:
        yield f"The zones of the app and of Storage differ ({', '.join(sorted(skus))})."
    if zoned and not (ready.keys() >= {"function:run_job", "http"} and min(ready.values()) >= 2):
        yield "An app in zones needs two always-ready instances in each group."


def old_versions(deployment: Deployment) -> Iterator[str]:
    """More than one API version of a type, or a preview."""
    versions: dict[str, set[str]] = {}
    for each in deployment.resources.values():
        if "type" in each:
            versions.setdefault(each["type"], set()).add(each["apiVersion"])
    for kind, each in versions.items():
        if len(each) > 1:
            yield f"{kind} is created by several API versions."
        if any("preview" in version for version in each) and kind != "Microsoft.Insights/diagnosticSettings":
            yield f"{kind} is created by a preview."
    # learn.microsoft.com/azure/key-vault/general/migrate-api-version: older versions retire on 27 February 2027.
    if max(versions["Microsoft.KeyVault/vaults"]) < "2026-02-01":
        yield "The vault is created by a version that retires."


CHECKS: tuple[Callable[[Deployment], Iterator[str]], ...] = (
    *(refused_by_flex, wrong_roles, open_doors, open_networks, wrong_settings),
    *(wrong_names, unknown_events, wrong_zones, old_versions, *LINKS),
)


def faults(deployment: Deployment) -> dict[str, list[Any]]:
    """The faults of a deployment, by the check that finds them."""
    by_check = {check.__name__: list(check(deployment)) for check in CHECKS}
    return {name: each for name, each in by_check.items() if each}
