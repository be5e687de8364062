"""Every app setting with wrong values, and what whoever has to correct it should read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

ACCOUNT = "AccountName=acct;AccountKey=YQ=="
URLS = {
    f"JobStorage__{service}ServiceUri": f"https://acct.{service}.core.windows.net"
    for service in ("queue", "blob", "table")
}
CLIENT = "must be a client id such as"
NAME = "must be a name of 3 to 63 lower-case letters"
FLAG = "must be true or false."
CLIENT_ID = "01234567-89ab-cdef-0123-456789abcdef"


@dataclass(frozen=True)
class Wrong:
    """A value, and words of the sentence about it. `by`: whether the app refuses it, too, or only `doctor` sees it."""

    value: str
    words: str
    by: Literal["app", "doctor"] = "app"


@dataclass(frozen=True)
class Setting:
    """
    A setting with a value that means nothing, and with one that looks right and isn't.

    `missing`: words of what `doctor` says if it is not set, or set to nothing; None: its default is right.
    """

    garbage: Wrong
    plausible: Wrong
    missing: str | None = None


def part(service: str) -> Setting:
    """The URL of one of the services of `JobStorage`."""
    rule = f"must be a URL such as https://ACCOUNT.{service}.core.windows.net"
    other = "blob" if service != "blob" else "queue"
    return Setting(
        Wrong("https://[", rule), Wrong(f"https://acct.{other}.core.windows.net", rule), "must all be set, to URLs"
    )


SETTINGS = {
    "FUNCTIONS_REQUEST_BODY_SIZE_LIMIT": Setting(
        Wrong("lots", "must be a number of bytes. Set it to 16842752", "doctor"),
        Wrong("104857600", "larger bodies than the app takes. Set it to 16842752", "doctor"),
        "is not set: the host reads bodies of up to 100 MB. Set it to 16842752",
    ),
    "AzureWebJobsStorage": Setting(
        Wrong("https://[", "must be a connection string", "doctor"),
        Wrong("AccountName=host;AccountKey=my key", "AccountKey is not a key, which is base64", "doctor"),
        "the Functions host doesn't start without a storage account of its own",
    ),
    "JobStorage": Setting(
        Wrong("https://[", "must be a connection string"),
        Wrong("DefaultEndpointsProtocol=https;AccountName=acct;AccountKye=YQ==", "is not the connection string"),
        "must be a connection string, or JobStorage__queueServiceUri",
    ),
    **{f"JobStorage__{service}ServiceUri": part(service) for service in ("queue", "blob", "table")},
    "JobStorage__clientId": Setting(Wrong("[", CLIENT), Wrong("/subscriptions/s/resourceGroups/g/id", CLIENT)),
    "JOBS_QUEUE": Setting(Wrong("[ ]", NAME), Wrong("q" * 60, "must have at most 56 characters")),
    "RESULTS_QUEUE": Setting(Wrong("Results!", NAME), Wrong("our-jobs", "must be a queue other than our-jobs")),
    "CALLBACKS_QUEUE": Setting(Wrong("a--b", NAME), Wrong("our-jobs-poison", "must be a queue other than our-jobs")),
    "BATCHES_QUEUE": Setting(Wrong("a--b", NAME), Wrong("our-jobs", "must be a queue other than our-jobs")),
    "ALLOWED_RESULT_QUEUES": Setting(
        Wrong("a=b=c", "must be pairs such as contoso=contoso-results"),
        Wrong("contoso:contoso-results", "must be pairs such as contoso=contoso-results"),
    ),
    "RESULTS_CONTAINER": Setting(Wrong("[", NAME), Wrong("results/2026", NAME)),
    "INPUT_CONTAINERS": Setting(Wrong("[", NAME), Wrong('["inputs"]', NAME)),
    "TEMPLATES_CONTAINER": Setting(Wrong("$", NAME), Wrong("Templates", NAME)),
    "STATEMENTS_CONTAINER": Setting(
        Wrong("$", NAME), Wrong("our-texts", "must be a container that TEMPLATES_CONTAINER does not")
    ),
    "JOBS_TABLE": Setting(Wrong("[", "3 to 63 letters and digits"), Wrong("our-jobs", "3 to 63 letters and digits")),
    "BUDGET_DEFAULT_ESTIMATE": Setting(
        Wrong("many", "a whole number from 1 to 10000000"), Wrong("20,000", "a whole number from 1 to 10000000")
    ),
    "BATCH_WINDOW_S": Setting(
        Wrong("soon", "a whole number from 1 to 3600"), Wrong("7200", "a whole number from 1 to 3600")
    ),
    "BATCH_ADOPT_S": Setting(Wrong("late", "a whole number from 0 to 3600"), Wrong("2m", "a whole number from 0")),
    "ADOPT_WINDOW_S": Setting(Wrong("late", "a whole number from 0 to 3600"), Wrong("2m", "a whole number from 0")),
    "USAGE_EXPORTS": Setting(
        Wrong("{", "must be a JSON list of objects"),
        Wrong(
            '[{"name": "stripe", "kind": "stripe", "event_name": "tokens"}]',
            "in entry 1, `value` must be a whole number",
        ),
    ),
    "KEY_VAULT_URL": Setting(
        Wrong("https://[", "must be a URL such as https://my-vault.vault.azure.net"),
        Wrong("our-vault", "must be a URL such as https://my-vault.vault.azure.net"),
        "is not set: only the static connection can serve customers",
    ),
    "KEY_VAULT_CA_FILE": Setting(
        Wrong("\x00", "must be a file that exists"), Wrong("/etc/hostname", "with certificates in PEM")
    ),
    "AZURE_CLIENT_ID": Setting(Wrong("[", CLIENT), Wrong("my-identity", CLIENT)),
    "ENTRA_CLIENT_ID": Setting(Wrong("[", CLIENT), Wrong("api://my-app", CLIENT)),
    "STATIC_CONNECTION": Setting(
        Wrong("{", "is not a valid connection. The connection's secret is malformed", "doctor"),
        Wrong('{"api_key": "k"}', "is not a valid connection. The connection needs an `endpoint`", "doctor"),
    ),
    "ALLOW_STATIC_CONNECTION": Setting(
        Wrong("[", "must be ids of customers"), Wrong("on", "For all customers, write * alone", "doctor")
    ),
    "STATIC_MODELS": Setting(
        Wrong("a|b", "must be names of models, separated by commas"),
        Wrong('["gpt-4o"]', "must be names of models, separated by commas, without quotes"),
    ),
    "ALLOWED_ENDPOINT_SUFFIXES": Setting(
        Wrong("https://[", "must be ends of hosts such as contoso.com"),
        Wrong("azure-api.net", "anybody can have a host under it", "doctor"),
    ),
    "ALLOWED_SCOPES": Setting(
        Wrong("[", "must be scopes such as https://contoso.com/.default"),
        Wrong("https://vault.azure.net/.default", "opens the app's own resources", "doctor"),
    ),
    "ALLOWED_ENTRA_HOSTS": Setting(
        Wrong("https://[", "must be hosts in full, such as ai.contoso.com"),
        Wrong("*.contoso.com", "must be hosts in full, such as ai.contoso.com"),
    ),
    "ALLOW_LOCAL_ENDPOINTS": Setting(Wrong("[", FLAG), Wrong("enabled", FLAG)),
    "ALLOW_PRIVATE_ENDPOINTS": Setting(Wrong("maybe", FLAG), Wrong("true;", FLAG)),
    "LEASE_SECONDS": Setting(Wrong("soon", "a whole number from 10 to 540"), Wrong("90s", "a whole number from 10")),
    "HTTP_AUTH": Setting(Wrong("[", "must be key or entra."), Wrong("Entra", "must be key or entra.")),
    "ENTRA_CUSTOMER_CLAIM": Setting(
        Wrong("é", "must be the type of a claim, such as customer"), Wrong("'customer'", "without quotes and spaces")
    ),
    "MCP_ENABLED": Setting(Wrong("[", FLAG), Wrong("agents", FLAG)),
    "RETAIN_JOBS_DAYS": Setting(Wrong("ever", "a whole number from 0 to 3650"), Wrong("-1", "a whole number from 0")),
    "RETAIN_USAGE_MONTHS": Setting(Wrong("1e3", "a whole number from 0 to 120"), Wrong("2,4", "a whole number from 0")),
    "RETAIN_STATEMENTS_YEARS": Setting(
        Wrong("long", "a whole number from 0 to 100"), Wrong("10y", "a whole number from")
    ),
    "APPLICATIONINSIGHTS_CONNECTION_STRING": Setting(
        Wrong("InstrumentationKey=[", "must be the connection string of an Application Insights", "doctor"),
        Wrong(CLIENT_ID, "must be the connection string of an Application Insights", "doctor"),
    ),
    "TELEMETRY_CONTENT": Setting(Wrong("[", FLAG), Wrong("all", FLAG)),
}
"""By setting, in the order of the README's table."""


def environment_with(name: str, text: str, base: dict[str, str]) -> dict[str, str]:
    """Return an environment with the setting. Without a connection string, Storage is named by URLs."""
    by_url = base | {"JobStorage": ""} | URLS if name.startswith("JobStorage__") else base
    return by_url | {name: text}


def wrong_cases(*, by_app: bool) -> list[tuple[str, Wrong]]:
    """Return each wrong value with its setting; `by_app`: only those that the app itself refuses."""
    return [
        (name, wrong)
        for name, setting in SETTINGS.items()
        for wrong in (setting.garbage, setting.plausible)
        if not by_app or wrong.by == "app"
    ]
