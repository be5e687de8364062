"""
Checks of `doctor`: where keys and the app's own token may go. Pure.

The app accepts these settings: it can't know what the operator means. Here they are named if they let strangers in.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from fnmatch import fnmatchcase

from aijobs.finding import Finding
from shared.connections.entra_binding import EntraBinding
from shared.connections.store import SecretInfo
from shared.contract.names import is_name
from shared.errors import ConnectionInvalid
from shared.settings import Settings
from shared.upstream.egress_policy import (
    DEFAULT_ALLOWED_SUFFIXES,
    is_entra_host,
    is_under,
    normalize_host,
    normalize_suffix,
)

# Domains under which anybody can have a host: of the clouds, and of tunnels to anybody's machine. Each label is a
# pattern, such as that of a region.
_SHARED_DOMAINS = (
    *("azure-api.net", "azure-api.us", "azure-api.cn", "azurewebsites.net", "*-[0-9]*.azurewebsites.net"),
    *("azurewebsites.us", "chinacloudsites.cn", "azurefd.net", "[a-z][0-9]*.azurefd.net", "azureedge.net"),
    *("trafficmanager.net", "usgovtrafficmanager.net", "cloudapp.net", "*.cloudapp.azure.com", "*.azurecontainer.io"),
    *("*.azurecontainerapps.io", "azurestaticapps.net", "[0-9]*.azurestaticapps.net", "*.inference.ml.azure.com"),
    *("*.core.windows.net", "*.web.core.windows.net", "servicebus.windows.net", "*.cloudapp.chinacloudapi.cn"),
    *("*.cloudapp.usgovcloudapi.net", "*.devtunnels.ms", "*.amazonaws.com", "execute-api.*.amazonaws.com"),
    *("*.elb.amazonaws.com", "lambda-url.*.on.aws", "cloudfront.net", "run.app", "a.run.app", "cloudfunctions.net"),
    *("appspot.com", "web.app", "workers.dev", "pages.dev", "trycloudflare.com", "vercel.app", "netlify.app"),
    *("herokuapp.com", "onrender.com", "fly.dev", "up.railway.app", "ngrok.io", "ngrok.app", "ngrok.dev"),
    *("ngrok-free.app", "ngrok-free.dev", "loca.lt", "github.io", "app.github.dev", "gitpod.io", "duckdns.org"),
    *("nip.io", "sslip.io", "no-ip.org", "ddns.net"),
)
_REGISTRIES = re.compile(r"(?:co|com|net|org|gov|gob|edu|ac|or|ne|go|ltd|plc)\.[a-z]{2}")
"""Second-level domains in which names are registered, such as co.uk."""
_DANGEROUS_AUDIENCES = (
    *("vault.azure.", "vault.usgovcloudapi.net", "vault.microsoftazure.", "storage.azure.", ".core.windows.net"),
    *("management.azure.", "management.core.", "management.usgovcloudapi.net", "management.chinacloudapi.cn"),
    *("graph.microsoft.", "graph.windows.net", "servicebus.azure.", "database.windows.net", "monitor.azure."),
)
"""Parts of scopes whose token opens the app's own resources, or the directory."""


def check_egress(settings: Settings) -> list[Finding]:
    """Return what is wrong with the settings that say where keys and tokens may go."""
    findings = []
    for written in settings.allowed_endpoint_suffixes:
        if _is_open(normalize_suffix(written)):
            problem = "anybody can have a host under it, so it limits nothing. Name the gateway's host in full."
            findings.append(Finding("ALLOWED_ENDPOINT_SUFFIXES", "error", f"{written}: {problem}"))
    suffixes = settings.allowed_endpoint_suffixes or DEFAULT_ALLOWED_SUFFIXES
    for written in settings.allowed_entra_hosts:
        if not is_under(normalize_host(written), suffixes):
            problem = "ALLOWED_ENDPOINT_SUFFIXES doesn't allow it, so no connection can use it."
            findings.append(Finding("ALLOWED_ENTRA_HOSTS", "error", f"{written}: {problem}"))
    for scope in settings.allowed_scopes:
        if any(part in scope.lower() for part in _DANGEROUS_AUDIENCES):
            problem = "a token for it opens the app's own resources to whoever receives it. Remove it."
            findings.append(Finding("ALLOWED_SCOPES", "error", f"{scope}: {problem}"))
    return findings


def check_bindings(settings: Settings, secrets: Sequence[tuple[str, SecretInfo]]) -> list[Finding]:
    """Return a finding for each secret whose tags allow its connection the use of the app's identity."""
    rows: list[tuple[str, str, EntraBinding | None]] = []
    customers: dict[str, set[str]] = defaultdict(set)
    for customer, secret in secrets:
        if not is_name(customer) or not is_name(secret.connection):
            continue
        try:
            use = EntraBinding.from_tags(secret.tags)
        except ConnectionInvalid:
            rows.append((customer, secret.connection, None))
            continue
        if use is not None:
            rows.append((customer, secret.connection, use))
            customers[use.host].add(customer)
    return [
        _binding(settings, customer, connection, use, customers)
        for customer, connection, use in sorted(rows, key=lambda row: row[:2])
    ]


def _binding(
    settings: Settings, customer: str, connection: str, use: EntraBinding | None, customers: dict[str, set[str]]
) -> Finding:
    check = f"identity: {customer}/{connection}"
    if use is None:
        return Finding(check, "error", "Its secret has one of the tags twice, in different capitals.")
    message = f"It may use the app's identity for {use}."
    if not is_entra_host(use.host, allowed=settings.allowed_entra_hosts):
        problem = "The host is not one of Microsoft's AI services, nor in ALLOWED_ENTRA_HOSTS, so its jobs fail."
        return Finding(check, "error", f"{message} {problem}")
    others = sorted(customers[use.host] - {customer})
    if others:
        problem = f"So may {', '.join(others)}: check that the resource belongs to all of them."
        return Finding(check, "warning", f"{message} {problem}")
    return Finding(check, "ok", message)


def _is_open(suffix: str) -> bool:
    """Whether anybody can have a host that ends so."""
    if "." not in suffix or _REGISTRIES.fullmatch(suffix):
        return True
    if suffix in DEFAULT_ALLOWED_SUFFIXES:  # under which anybody has a resource, on the providers' servers
        return False
    return any(_is_end(suffix.split("."), domain.split(".")) for domain in _SHARED_DOMAINS)


def _is_end(labels: list[str], domain: list[str]) -> bool:
    """Whether a domain is these labels, or ends with them."""
    ends = domain[-len(labels) :]
    return len(labels) == len(ends) and all(map(fnmatchcase, labels, ends))
