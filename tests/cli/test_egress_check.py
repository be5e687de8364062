"""Settings that let strangers in are named."""

from __future__ import annotations

from aijobs.egress_check import check_egress
from shared.settings import read_settings
from shared.upstream.egress_policy import DEFAULT_ALLOWED_SCOPES, DEFAULT_ALLOWED_SUFFIXES
from tests.support.rows import every_row


def problems(**environment: str) -> list[tuple[str, str]]:
    """The settings at fault, and what is wrong with them."""
    settings = read_settings({"JobStorage": "UseDevelopmentStorage=true"} | environment)
    return [(finding.check, finding.message) for finding in check_egress(settings)]


OPEN = [
    *("com", "*.com", ".net", "io", "co.uk", "com.au", "azure.com", "windows.net", "azure-api.net", "*.AZURE-API.net."),
    *("azurewebsites.net", "swedencentral-01.azurewebsites.net", "westeurope.cloudapp.azure.com", "cloudapp.azure.com"),
    *("azurecontainerapps.io", "northeurope.azurecontainerapps.io", "core.windows.net", "blob.core.windows.net"),
    *("trafficmanager.net", "azurefd.net", "z01.azurefd.net", "amazonaws.com", "eu-west-1.elb.amazonaws.com"),
    *(
        "execute-api.eu-west-1.amazonaws.com",
        "run.app",
        "a.run.app",
        "ngrok-free.app",
        "euw.devtunnels.ms",
        "github.io",
    ),
]
LIMITED = [
    *DEFAULT_ALLOWED_SUFFIXES,
    *("contoso.com", "*.ai.contoso.com", "contoso.azure-api.net", "contoso.azurewebsites.net", "contoso.co.uk"),
    *("contoso-a1b2.z01.azurefd.net", "contoso-x.swedencentral-01.azurewebsites.net", "api.contoso.net"),
    *("vm.westeurope.cloudapp.azure.com", "env.northeurope.azurecontainerapps.io", "contoso.azurefd.net"),
    *("abc.execute-api.eu-west-1.amazonaws.com", "contoso.github.io", "resource.openai.azure.com"),
]


@every_row(
    ("suffix", "words"),
    [
        *((suffix, "anybody can have a host under it") for suffix in OPEN),
        *((suffix, "") for suffix in LIMITED),
    ],
)
def test_a_suffix_that_anybody_can_be_under_is_named(suffix: str, words: str):
    """A top-level domain and a cloud's shared domain limit nothing; a host in full does."""
    named = problems(ALLOWED_ENDPOINT_SUFFIXES=f"openai.azure.com,{suffix}")

    assert bool(words) == bool(named)
    assert all(name == "ALLOWED_ENDPOINT_SUFFIXES" and suffix in text and words in text for name, text in named)


@every_row(
    ("host", "words"),
    [
        *((host, "") for host in ("ai.contoso.com", "AI.Contoso.com.", "bücher.contoso.com", "ai.contoso.com:443")),
        ("ai.fabrikam.com", "ALLOWED_ENDPOINT_SUFFIXES"),
    ],
)
def test_a_host_for_tokens_is_allowed(host: str, words: str):
    """A host that no endpoint may have allows nothing, and is named."""
    named = problems(ALLOWED_ENTRA_HOSTS=host, ALLOWED_ENDPOINT_SUFFIXES="contoso.com")

    assert ([("ALLOWED_ENTRA_HOSTS", True)] if words else []) == [(name, words in text) for name, text in named]


@every_row(
    ("scope", "is_named"),
    [
        *((scope, False) for scope in (*DEFAULT_ALLOWED_SCOPES, "api://gateway/.default")),
        *(
            (f"https://{audience}/.default", True)
            for audience in (
                *("vault.azure.net", "vault.usgovcloudapi.net", "storage.azure.com", "management.azure.com"),
                *("graph.microsoft.com", "acct.blob.core.windows.net", "management.core.windows.net"),
            )
        ),
    ],
)
def test_a_scope_of_the_apps_own_resources_is_named(scope: str, is_named: bool):
    """A token for the vault, for Storage or for the directory must not go to an endpoint."""
    assert (["ALLOWED_SCOPES"] if is_named else []) == [name for name, _ in problems(ALLOWED_SCOPES=scope)]
