"""What has to fit together within a deployment: addresses, identities, networks. Faults as in deployment_checks."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

from tests.support.deployment import CLIENT_ID, Deployment

NEEDED_ENDPOINTS = {
    *(("sthost", part) for part in ("blob", "table")),
    *(("stjobs", part) for part in ("blob", "queue", "table")),
    ("kv", "vault"),
}
"""What the app and its host reach, which in a private network takes a private endpoint each."""
VALUES = {"credential": "managedidentity", "clientId": CLIENT_ID}
BODY_LIMIT = 16 * 1024 * 1024


def wrong_addresses(deployment: Deployment) -> Iterator[str]:
    """A connection of the host or the app that leads to another account or service, or by another identity."""
    accounts = {"AzureWebJobsStorage": "sthost", "JobStorage": "stjobs"}
    for name, text in deployment.settings.items():
        connection, _, part = name.partition("__")
        if connection not in accounts:
            continue
        if service := part.removesuffix("ServiceUri") if part.endswith("ServiceUri") else "":
            leads = re.search(r"storageAccounts/([a-z]+?)[a-z0-9]{13}'.*primaryEndpoints\.(\w+)\]$", text)
            if not leads or leads.groups() != (accounts[connection], service):
                yield f"{name} does not lead to {service} of {accounts[connection]}."
        elif part in VALUES and deployment.readable_settings[name] != VALUES[part]:
            yield f"{name} must be {VALUES[part]}."
    if int(deployment.settings["FUNCTIONS_REQUEST_BODY_SIZE_LIMIT"]) < BODY_LIMIT:
        yield "The host refuses bodies that the app takes."


def wrong_identities(deployment: Deployment) -> Iterator[str]:
    """The app runs, gets its code and reads the vault as one identity, which roles and tokens are made for."""
    (site,) = deployment.of_type("Microsoft.Web/sites").values()
    used = {"the app": ";".join(site["identity"].get("userAssignedIdentities", {}))}
    used["the vault's settings"] = deployment.app.get("keyVaultReferenceIdentity", "")
    package = deployment.app["functionAppConfig"]["deployment"]["storage"]["authentication"]
    used["the package"] = package.get("userAssignedIdentityResourceId", "")
    for what, identity in used.items():
        if not re.search(r"/userAssignedIdentities/id-[a-z0-9]{13}$", identity):
            yield f"The identity of {what} is not the app's."
    for each in deployment.of_type("Microsoft.Authorization/roleAssignments").values():
        if "principalType" not in each["properties"]:  # Azure would look up an identity that is too new to be known
            yield f"{each['name']} has no principalType."
    kinds = {each.get("type", "").partition("/")[0] for each in deployment.resources.values()}
    if deployment.name == "no-roles" and "Microsoft.Authorization" in kinds:
        yield "Deploying without roles writes to Microsoft.Authorization."


def wrong_sign_in(deployment: Deployment) -> Iterator[str]:
    """HTTP requires Entra without App Service authentication, or the other way round; or settings of their own."""
    configs = {each["name"].rpartition("/")[2] for each in deployment.of_type("Microsoft.Web/sites/config").values()}
    if ("authsettingsV2" in configs) != (deployment.settings["HTTP_AUTH"] == "entra"):
        yield "HTTP_AUTH does not fit App Service authentication."
    # Each would be an update of the app that overlaps the one before.
    yield from (f"{name} is a resource of its own." for name in sorted(configs - {"authsettingsV2"}))
    policies = deployment.of_type("Microsoft.Web/sites/basicPublishingCredentialsPolicies").values()
    closed = {each["name"].rpartition("/")[2] for each in policies}
    yield from (f"Publishing by name and password is open ({name})." for name in sorted({"ftp", "scm"} - closed))


def wrong_endpoints(deployment: Deployment) -> Iterator[str]:
    """A private endpoint too few or too many, or one whose address nothing in the network can look up."""
    endpoints = deployment.of_type("Microsoft.Network/privateEndpoints")
    if not endpoints:
        return
    reached = set()
    zones = json.dumps(list(deployment.of_type("Microsoft.Network/privateDnsZones").values()))
    links = json.dumps(list(deployment.of_type("Microsoft.Network/privateDnsZones/virtualNetworkLinks").values()))
    groups = deployment.of_type("Microsoft.Network/privateEndpoints/privateDnsZoneGroups")
    for key, each in endpoints.items():
        (connection,) = (link["properties"] for link in each["properties"]["privateLinkServiceConnections"])
        (part,) = connection["groupIds"]
        target = re.sub(r"-?[a-z0-9]{13}$", "", connection["privateLinkServiceId"].rpartition("/")[2])
        reached.add((target, part))
        zone = "privatelink.vaultcore" if part == "vault" else f"privatelink.{part}."
        group = json.dumps(groups.get(f"{key}/privateDnsZoneGroups/default", {}))
        if not (zone in group and zone in zones and zone in links):
            yield f"The address of {target} ({part}) is in no DNS zone of the network."
    yield from (f"{target} ({part}) has no private endpoint." for target, part in sorted(NEEDED_ENDPOINTS - reached))
    yield from (f"Nothing needs {part} of {target}." for target, part in sorted(reached - NEEDED_ENDPOINTS))


NEEDED_ORDER = {
    # Its roles work before it starts, and the private addresses of what it reaches are known by their names.
    "function": {"rbac", "network"},
    # Roles are assigned on what exists by then, to an identity that does.
    "rbac": {"identity", "keda", "host-storage", "job-storage", "vault", "monitoring"},
    "network/endpointNames": {"dnsZones", "dnsLinks"},
    "alerts": {"function"},
}
"""What has to wait for what, mostly without a reference from which the compiler would know it."""


def wrong_order(deployment: Deployment) -> Iterator[str]:
    """Something may be created before what it needs."""
    order: dict[str, str] = deployment.resources["order"]
    for name, needed in NEEDED_ORDER.items():
        missing = needed - {*order.get(name, "").split(", ")}
        yield from (f"{name} does not wait for {other}." for other in sorted(missing))


def silent_alerts(deployment: Deployment) -> Iterator[str]:
    """An alert that is off, or that nobody gets."""
    groups = {key.rpartition("/")[2] for key in deployment.of_type("Microsoft.Insights/actionGroups")}
    for kind in ("Microsoft.Insights/scheduledQueryRules", "Microsoft.Insights/metricAlerts"):
        for each in deployment.of_type(kind).values():
            if each["properties"].get("enabled") is not True:
                yield f"{each['name']} is off."
            if not any(f"/{group}" in json.dumps(each["properties"].get("actions", [])) for group in groups):
                yield f"{each['name']} has no action group."


def wrong_subnets(deployment: Deployment) -> Iterator[str]:
    """Flex Consumption needs a subnet that is delegated to it (learn.microsoft.com, "flex-consumption-how-to")."""
    for network in deployment.of_type("Microsoft.Network/virtualNetworks").values():
        (subnet,) = [each for each in network["properties"]["subnets"] if each["name"] == "app"]
        services = [each["properties"]["serviceName"] for each in subnet["properties"].get("delegations", [])]
        if services != ["Microsoft.App/environments"]:
            yield "vnet: the app's subnet is not delegated to Microsoft.App/environments."


LINKS = (
    *(wrong_addresses, wrong_identities, wrong_sign_in, wrong_endpoints, wrong_order),
    *(silent_alerts, wrong_subnets),
)
