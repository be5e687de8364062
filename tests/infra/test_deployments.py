"""What the deployments of the snapshots would create: nothing is wrong, and each check finds its kind of fault."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

from shared.settings import read_settings
from tests.support.deployment import INFRA, NAMES, TEST, Deployment, read
from tests.support.deployment_checks import CHECKS, NOT_SET, faults
from tests.support.rows import every_row

Break = Callable[[Deployment], Any]


@every_row("name", NAMES)
def test_deployment_is_right(name: str):
    """Test, production and each switch: what the checks look for is as it should be."""
    assert {} == faults(read(name))


def member(kind: str, *path: str) -> Callable[[Deployment], Any]:
    """The object at a path of a deployment's only or first resource of a type."""

    def find(deployment: Deployment) -> Any:
        item = next(iter(deployment.of_type(kind).values()))
        for part in path:
            item = item[part]
        return item

    return find


site = member("Microsoft.Web/sites", "properties")
site_config = member("Microsoft.Web/sites", "properties", "siteConfig")
settings = member("Microsoft.Web/sites", "properties", "siteConfig", "appSettings")
scale = member("Microsoft.Web/sites", "properties", "functionAppConfig", "scaleAndConcurrency")
account = member("Microsoft.Storage/storageAccounts", "properties")
plan = member("Microsoft.Web/serverfarms", "properties")
subnets = member("Microsoft.Network/virtualNetworks", "properties", "subnets")
alert = member("Microsoft.Insights/scheduledQueryRules", "properties")
criterion = member("Microsoft.Insights/scheduledQueryRules", "properties", "criteria", "allOf")


def remove(kind: str, ends_with: str) -> Break:
    """Remove the resource of a type whose name ends so."""

    def act(deployment: Deployment) -> None:
        key = next(key for key, each in deployment.of_type(kind).items() if each["name"].endswith(ends_with))
        del deployment.resources[key]

    return act


FIRST_ACCOUNT = next(iter(TEST.of_type("Microsoft.Storage/storageAccounts").values()))["name"]


def move_role(deployment: Deployment) -> None:
    """Assign the first role on a queue on the whole account instead."""
    kind = "Microsoft.Authorization/roleAssignments"
    key = next(key for key in deployment.of_type(kind) if "/queues/jobs/" in key)
    assignment = deployment.resources.pop(key)
    deployment.resources[key.replace("/queueServices/default/queues/jobs/", "/")] = assignment


FAULTS: dict[str, tuple[str, Break, str]] = {
    "a member that Flex refuses": (
        *("refused_by_flex", lambda each: site_config(each).update(ftpsState="Disabled")),
        "Flex Consumption refuses ftpsState.",
    ),
    "a setting that Flex refuses": (
        *("refused_by_flex", lambda each: settings(each).update(WEBSITE_RUN_FROM_PACKAGE="1")),
        "Flex Consumption refuses the setting WEBSITE_RUN_FROM_PACKAGE.",
    ),
    "few instances": (
        *("refused_by_flex", lambda each: scale(each).update(maximumInstanceCount=10)),
        "Some regions refuse fewer than 40 instances.",
    ),
    "a missing role": (
        *("wrong_roles", remove("Microsoft.Authorization/roleAssignments", "")),
        "id lacks Storage Blob Data Owner on sthost.",
    ),
    "a role on too much": ("wrong_roles", move_role, "id has Storage Queue Data Contributor on stjobs."),
    "shared keys": (
        *("open_doors", lambda each: account(each).update(allowSharedKeyAccess=True)),
        f"{FIRST_ACCOUNT}: allowSharedKeyAccess must be False.",
    ),
    "an account that only absent private endpoints reach": (
        *("open_networks", lambda each: account(each).update(publicNetworkAccess="Disabled")),
        f"{FIRST_ACCOUNT}: publicNetworkAccess does not fit the private endpoints.",
    ),
    "a key in a setting": (
        *("open_doors", lambda each: settings(each).update(JOBS_QUEUE="[listKeys('id', '2025-06-01').keys[0].value]")),
        "A key is read.",
    ),
    "a missing setting": (
        *("wrong_settings", lambda each: settings(each).pop("KEY_VAULT_URL")),
        "KEY_VAULT_URL is not set.",
    ),
    "a misspelled setting": (
        *("wrong_settings", lambda each: settings(each).update(KEY_VAULT_URI="https://vault")),
        "Nothing reads KEY_VAULT_URI.",
    ),
    "a setting for the local stack": (
        *("wrong_settings", lambda each: settings(each).update(ALLOW_LOCAL_ENDPOINTS="true")),
        "ALLOW_LOCAL_ENDPOINTS must not be set.",
    ),
    "a missing queue": (
        *("wrong_names", remove("Microsoft.Storage/storageAccounts/queueServices/queues", "/callbacks-poison")),
        "callbacks-poison is not created (queues).",
    ),
    "a renamed container": (
        *("wrong_names", lambda each: settings(each).update(TEMPLATES_CONTAINER="shapes")),
        "shapes is not created (containers).",
    ),
    "a warm function that does not exist": (
        *("wrong_names", lambda each: scale(each).update(alwaysReady=[{"name": "function:do", "instanceCount": 1}])),
        "There is no function do.",
    ),
    "a subnet that is not Flex Consumption's": (
        *("wrong_subnets", lambda each: subnets(each)[0]["properties"].pop("delegations")),
        "vnet: the app's subnet is not delegated to Microsoft.App/environments.",
    ),
    "an alert that is off": (
        *("silent_alerts", lambda each: alert(each).update(enabled=False)),
        "jobs-failing-test is off.",
    ),
    "an alert that nobody gets": (
        *("silent_alerts", lambda each: alert(each).pop("actions")),
        "jobs-failing-test has no action group.",
    ),
    "a renamed event": (
        *("unknown_events", lambda each: criterion(each)[0].update(query='T | where Message startswith "job_ended "')),
        "jobs-failing looks for job_ended, which is no event.",
    ),
    **{
        f"a renamed event by {operator}": (
            *("unknown_events", lambda each, query=query: criterion(each)[0].update(query=f"AppTraces | {query}")),
            "jobs-failing looks for job_ended, which is no event.",
        )
        for operator, query in {
            "equality": "where Message == 'job_ended'",
            "equality, turned round": 'where "job_ended" =~ tostring(Message)',
            "has": 'where tolower(Message) has "job_ended"',
            "a list": 'where Message has_any ("job_finished", "job_ended")',
            "a pattern": "where Message matches regex @'job_ended'",
            "exclusion": 'where not(Message !startswith_cs "job_ended ")',
            "parse": 'where Message startswith "job_finished " | parse Message with "job_ended " rest',
            "its parsed name": 'parse Message with event " " rest | where event in ("job_ended")',
        }.items()
    },
    "an event that is only named": (
        *("unknown_events", lambda each: criterion(each)[0].update(query='print indexof(Message, "job_ended")')),
        "jobs-failing names job_ended, which the code does not have.",
    ),
    "zones for the app only": (
        *("wrong_zones", lambda each: plan(each).update(zoneRedundant=True)),
        "The zones of the app and of Storage differ (Standard_LRS).",
    ),
    "a warm group in one zone": (
        *("wrong_zones", lambda each: scale(each)["alwaysReady"].append({"name": "function:x", "instanceCount": 1})),
        "An app in zones needs two always-ready instances in each group.",
    ),
    "a setting that leads to the other account": (
        "wrong_addresses",
        lambda each: settings(each).update(
            AzureWebJobsStorage__blobServiceUri=settings(each)["JobStorage__blobServiceUri"]
        ),
        "AzureWebJobsStorage__blobServiceUri does not lead to blob of sthost.",
    ),
    "a setting that leads to another service": (
        "wrong_addresses",
        lambda each: settings(each).update(JobStorage__queueServiceUri=settings(each)["JobStorage__blobServiceUri"]),
        "JobStorage__queueServiceUri does not lead to queue of stjobs.",
    ),
    "a connection without the identity": (
        *("wrong_addresses", lambda each: settings(each).update(JobStorage__credential="none")),
        "JobStorage__credential must be managedidentity.",
    ),
    "a body limit below the app's": (
        *("wrong_addresses", lambda each: settings(each).update(FUNCTIONS_REQUEST_BODY_SIZE_LIMIT="1")),
        "The host refuses bodies that the app takes.",
    ),
    "a package by a connection string": (
        "wrong_identities",
        lambda each: site(each)["functionAppConfig"]["deployment"]["storage"].update(
            authentication={"type": "StorageAccountConnectionString"}
        ),
        "The identity of the package is not the app's.",
    ),
    "a vault that settings can't be read from": (
        *("wrong_identities", lambda each: site(each).pop("keyVaultReferenceIdentity")),
        "The identity of the vault's settings is not the app's.",
    ),
    "a lock beside roles of somebody else": (
        *("wrong_identities", lambda each: each.resources.update(lock={"type": "Microsoft.Authorization/locks"})),
        "Deploying without roles writes to Microsoft.Authorization.",
    ),
    "Entra without authentication": (
        *("wrong_sign_in", remove("Microsoft.Web/sites/config", "authsettingsV2")),
        "HTTP_AUTH does not fit App Service authentication.",
    ),
    "publishing by a password": (
        *("wrong_sign_in", remove("Microsoft.Web/sites/basicPublishingCredentialsPolicies", "scm")),
        "Publishing by name and password is open (scm).",
    ),
    "a missing private endpoint": (
        *("wrong_endpoints", remove("Microsoft.Network/privateEndpoints", "")),
        "sthost (blob) has no private endpoint.",
    ),
    "a private address without a name": (
        *("wrong_endpoints", remove("Microsoft.Network/privateDnsZones/virtualNetworkLinks", "")),
        "The address of sthost (blob) is in no DNS zone of the network.",
    ),
    "an app before its roles": (
        *("wrong_order", lambda each: each.resources["order"].update(function="identity, network, vault")),
        "function does not wait for rbac.",
    ),
    "two versions of an API": (
        *(
            "old_versions",
            lambda each: next(iter(each.of_type("Microsoft.Insights/metricAlerts").values())).update(
                apiVersion="2018-03-01"
            ),
        ),
        "Microsoft.Insights/metricAlerts is created by several API versions.",
    ),
}


DEPLOYMENTS = {
    "a warm group in one zone": "zones",
    "a lock beside roles of somebody else": "no-roles",
    "Entra without authentication": "entra",
    "a missing private endpoint": "private-network",
    "a subnet that is not Flex Consumption's": "private-network",
    "a private address without a name": "private-network",
}
"""The deployment that a fault is made in, if it is not `test`."""


@every_row("fault", FAULTS)
def test_fault_is_found(fault: str):
    """A deliberate fault in a copy of the snapshot is named by the check for its kind."""
    check, break_it, sentence = FAULTS[fault]
    broken = copy.deepcopy(read(DEPLOYMENTS.get(fault, "test")))
    break_it(broken)

    assert sentence in next(each for each in CHECKS if each.__name__ == check)(broken)


def test_production_is_spread_over_zones_in_a_network_of_its_own():
    """Production has what the switches are for; both environments may grow to 40 instances at least."""
    production = read("production")
    scales = [each.app["functionAppConfig"]["scaleAndConcurrency"] for each in (TEST, production)]

    assert all(each["maximumInstanceCount"] >= 40 and each["instanceMemoryMB"] >= 2048 for each in scales)
    assert [[], [2, 2]] == [[group["instanceCount"] for group in each["alwaysReady"]] for each in scales]
    assert production.of_type("Microsoft.Network/privateEndpoints")
    skus = {
        name: {each["sku"]["name"] for each in read(name).of_type("Microsoft.Storage/storageAccounts").values()}
        for name in ("test", "production", "geo")
    }
    assert {"test": {"Standard_LRS"}, "production": {"Standard_ZRS"}, "geo": {"Standard_GRS"}} == skus


def test_an_update_lets_jobs_end_unless_told_otherwise():
    """The app is updated in a rolling way; `Recreate` leaves the property out. Code and settings are one resource."""
    strategies = {
        name: read(name).app["functionAppConfig"].get("siteUpdateStrategy")
        for name in ("test", "production", "recreate")
    }

    assert {"test": {"type": "RollingUpdate"}, "production": {"type": "RollingUpdate"}, "recreate": None} == strategies
    assert {} == TEST.of_type("Microsoft.Web/sites/config")


def test_settings_are_the_codes_defaults():
    """By default the settings mean the same as leaving them out."""
    addresses = {name: text for name, text in TEST.readable_settings.items() if name.startswith("JobStorage__")}
    default, template = read_settings(addresses), read_settings(TEST.readable_settings)

    differing = {
        name
        for name in default.__slots__
        if name != "static_connection" and getattr(default, name) != getattr(template, name)
    }
    # test keeps jobs for a week
    assert {
        "key_vault_url",
        "azure_client_id",
        "applicationinsights_connection_string",
        "retain_jobs_days",
    } == differing
    assert set(NOT_SET).isdisjoint(TEST.settings)


def test_vault_logs_who_reads_secrets():
    """Each read of a secret is logged into a table of its own, AZKVAuditLogs."""
    (logs,) = TEST.of_type("Microsoft.Insights/diagnosticSettings").values()

    assert {"categoryGroup": "audit", "enabled": True} in logs["properties"]["logs"]
    assert "Dedicated" == logs["properties"]["logAnalyticsDestinationType"]


def test_switch_changes_only_what_it_is_for():
    """A switch changes, adds and removes these types of resources, and none else."""
    changed = {}
    for name in {path.stem for path in INFRA.glob("snapshots/*.bicepparam")}:
        resources = read(name).resources
        keys = {
            key for key in {*resources, *TEST.resources} - {"outputs"} if resources.get(key) != TEST.resources.get(key)
        }
        kinds = {(resources.get(key) or TEST.resources[key])["type"] for key in keys}
        changed[name] = {kind.removeprefix("Microsoft.") for kind in kinds}

    accounts, sites, roles = "Storage/storageAccounts", "Web/sites", "Authorization/roleAssignments"
    queues = "Storage/storageAccounts/queueServices/queues"
    assert {
        "always-ready": {sites},
        "audit": {"Insights/diagnosticSettings", "Insights/webtests", "Insights/metricAlerts"},
        "entra": {sites, "Web/sites/config"},
        "geo": {accounts},
        "keda": {"ManagedIdentity/userAssignedIdentities", roles},
        "more-queues": {sites, queues, roles},
        "no-roles": {roles},
        "operator": {roles},
        "private-network": {
            *(accounts, sites, "KeyVault/vaults", "Network/virtualNetworks", "Network/privateDnsZones"),
            *("Network/privateDnsZones/virtualNetworkLinks", "Network/privateEndpoints"),
            "Network/privateEndpoints/privateDnsZoneGroups",
        },
        "recreate": {sites},
        "static-connection": {sites},
        "values": {sites, "KeyVault/vaults"},
        "zones": {accounts, sites, "Web/serverfarms"},
    } == changed
