"""The app's settings: how they are read, and which values are refused."""

from __future__ import annotations

import pytest

from shared.errors import SettingInvalid
from shared.secret import Secret
from shared.settings import Settings, binding_queues, find_faults, read_settings
from shared.storage_settings import StorageAccount
from tests.support.rows import every_row

REQUIRED = {"JobStorage": "AccountName=acct;AccountKey=MARK"}
NO_CONNECTION_STRING = (
    "JobStorage is not the connection string of a storage account: it needs an AccountName and an AccountKey. "
    "`az storage account show-connection-string` prints it."
)
URIS = {
    "JobStorage__queueServiceUri": "https://s.queue.core.windows.net",
    "JobStorage__blobServiceUri": "https://s.blob.core.windows.net",
    "JobStorage__tableServiceUri": "https://s.table.core.windows.net",
}


def read(**environment: str) -> Settings:
    """The settings of an environment, with the required ones added."""
    return read_settings(REQUIRED | environment)


CLIENT_ID = "01234567-89ab-cdef-0123-456789abcdef"
NAMES = {
    "key_vault_url": ("", " HTTPS://v.vault.azure.net/ ", "HTTPS://v.vault.azure.net/"),
    "key_vault_ca_file": ("", "/ca.pem", "/ca.pem"),
    "azure_client_id": ("", CLIENT_ID, CLIENT_ID),
    "entra_client_id": ("", CLIENT_ID.upper(), CLIENT_ID.upper()),
    "static_connection": (Secret(""), '{"api_key": "MARK"}', Secret('{"api_key": "MARK"}')),
    "allow_static_connection": ("", "acme", "acme"),
    "static_models": ((), "gpt-4o, ft:gpt-4o:org::1", ("gpt-4o", "ft:gpt-4o:org::1")),
    "allowed_scopes": ((), "api://x/.default", ("api://x/.default",)),
    "entra_customer_claim": ("customer", "http://schemas.x/customer", "http://schemas.x/customer"),
    "allowed_entra_hosts": ((), "ai.contoso.com; x.example", ("ai.contoso.com", "x.example")),
    "allowed_endpoint_suffixes": ((), "contoso.com, openai.azure.com;", ("contoso.com", "openai.azure.com")),
    "allow_local_endpoints": (False, "true", True),
    "allow_private_endpoints": (False, "1", True),
    "jobs_queue": ("jobs", "our-jobs", "our-jobs"),
    "poison_queue": ("jobs-poison", "", "our-jobs-poison"),
    "results_queue": ("results", "r-1", "r-1"),
    "callbacks_queue": ("callbacks", "c-1", "c-1"),
    "batches_queue": ("batches", "b-1", "b-1"),
    "batch_window_s": (300, "1", 1),
    "batch_adopt_s": (120, "0", 0),
    "adopt_window_s": (120, "60", 60),
    "allowed_result_queues": ((), "for-all;acme=own", ("for-all", "acme=own")),
    "results_container": ("results", "results2", "results2"),
    "input_containers": (("inputs",), "in1,in2", ("in1", "in2")),
    "jobs_table": ("jobs", "OurJobs", "OurJobs"),
}
"""By setting in lower case: its default, and a text with the value that it means."""


def test_every_setting_is_read():
    """Only storage is required. Each setting is in its field, without surrounding white space; no repr has a secret."""
    settings = read(**{name.upper(): text for name, (_, text, _) in NAMES.items()})

    assert {name: default for name, (default, _, _) in NAMES.items()} == {name: getattr(read(), name) for name in NAMES}
    assert {name: value for name, (_, _, value) in NAMES.items()} == {name: getattr(settings, name) for name in NAMES}
    assert "MARK" not in repr(settings)


@pytest.mark.parametrize(
    ("environment", "account"),
    [
        (REQUIRED, StorageAccount(Secret(REQUIRED["JobStorage"]), "", "", "", "")),
        (URIS | {"JobStorage__clientId": CLIENT_ID}, StorageAccount(None, *URIS.values(), CLIENT_ID)),
    ],
)
def test_storage_is_a_connection_string_or_urls(environment: dict[str, str], account: StorageAccount):
    """Three URLs replace the connection string, with a client id if one is set."""
    assert account == read_settings(environment).job_storage


@pytest.mark.parametrize(
    ("text", "read_as"),
    [
        ("UseDevelopmentStorage=true;", "UseDevelopmentStorage=true"),
        ("AccountName=s;; AccountKey=MARK;\n", "AccountName=s;AccountKey=MARK"),
        ("accountname=s;accountkey=MARK", "accountname=s;accountkey=MARK"),
    ],
)
def test_what_the_host_takes_as_a_connection_string_is_taken(text: str, read_as: str):
    """Python's SDKs refuse empty parts: then the host would deliver jobs, and every one would fail."""
    assert Secret(read_as) == read(JobStorage=text).job_storage.connection_string


@pytest.mark.parametrize("text", [",", " ; ,"])
def test_a_list_of_nothing_is_the_default(text: str):
    """A list that has separators alone, as templates make of empty parameters, is as good as not set."""
    assert read() == read(INPUT_CONTAINERS=text, ALLOWED_SCOPES=text, STATIC_MODELS=text)


@every_row("name", ["ALLOW_LOCAL_ENDPOINTS", "ALLOW_PRIVATE_ENDPOINTS"])
@every_row(
    ("text", "flag"),
    [
        *((text, True) for text in ("1", "true", "True", "YES", "on", " true ")),
        *((text, False) for text in ("", "0", "false", "No", "OFF", " ")),
    ],
)
def test_flags_are_read(name: str, text: str, flag: bool):
    """The usual words for yes and no set a flag, in any case."""
    assert flag == getattr(read(**{name: text}), name.lower())


REFERENCE = "@Microsoft.KeyVault(SecretUri=https://v.vault.azure.net/secrets/MARK)"


@every_row("name", ["JobStorage", *URIS, *(name.upper() for name in NAMES)])
def test_a_reference_that_azure_did_not_resolve_is_named(name: str):
    """A setting that is still a reference is refused by its name; only the static connection's own jobs wait for it."""
    if name in ("STATIC_CONNECTION", "POISON_QUEUE"):
        assert read(**{name: REFERENCE})
        return

    with pytest.raises(
        SettingInvalid, match=f"{name} is a reference to a secret that Azure has not resolved"
    ) as raised:
        read(**{name: f" {REFERENCE.lower()}"})

    assert "mark" not in str(raised.value)


INCOMPLETE = (
    "JobStorage must be a connection string, or JobStorage__queueServiceUri, JobStorage__blobServiceUri and "
    "JobStorage__tableServiceUri must all be set, to URLs."
)
QUEUES = (
    "ALLOWED_RESULT_QUEUES must be pairs such as contoso=contoso-results, or queues for all customers, separated by "
    "commas:"
)
SERVICE_URL = "must be a URL such as https://ACCOUNT.{service}.core.windows.net, without a path and a query."
CLIENT = "must be a client id such as 01234567-89ab-cdef-0123-456789abcdef."
WHOSE = "is a connection string whose"
STORAGE_URL = (
    "JobStorage is a URL, but must be a connection string. URLs belong in JobStorage__queueServiceUri, "
    "JobStorage__blobServiceUri and JobStorage__tableServiceUri."
)
URL = "KEY_VAULT_URL must be a URL such as https://my-vault.vault.azure.net, without a path."
SHORTER = "must have at most 56 characters, because the name of its poison queue ends in -poison."
CLAIM = "ENTRA_CUSTOMER_CLAIM must be the type of a claim, such as customer, without quotes and spaces."
CUSTOMERS = "ALLOW_STATIC_CONNECTION must be ids of customers, separated by commas, or *, true or false alone:"
MODELS = "STATIC_MODELS must be names of models, separated by commas, without quotes, brackets and spaces."
SUFFIXES = "ALLOWED_ENDPOINT_SUFFIXES must be ends of hosts such as contoso.com, separated by commas, without https://:"
HOSTS = "ALLOWED_ENTRA_HOSTS must be hosts in full, such as ai.contoso.com, separated by commas:"
SCOPES = "ALLOWED_SCOPES must be scopes such as https://contoso.com/.default, separated by commas:"
NAME = "must be a name of 3 to 63 lower-case letters, digits and single hyphens, which begins and ends with a letter or"


@every_row(
    ("environment", "message"),
    [
        ({"JobStorage": ""}, INCOMPLETE),
        ({"JobStorage": "  "}, INCOMPLETE),
        *(({"JobStorage": ""} | URIS | {missing: ""}, INCOMPLETE) for missing in URIS),
        ({"JobStorage": ""} | URIS | {"JobStorage__tableServiceUri": " "}, INCOMPLETE),
        ({"JobStorage": "", "AzureWebJobsStorage": "UseDevelopmentStorage=true"}, INCOMPLETE),
        *(
            (
                {"JobStorage": ""} | URIS | {f"JobStorage__{service}ServiceUri": url},
                f"JobStorage__{service}ServiceUri {SERVICE_URL.format(service=service)}",
            )
            for service, url in (
                ("queue", "s.queue.core.windows.net"),
                ("queue", "https://["),
                ("queue", "https://s.queue.core.windows.net/jobs"),
                ("queue", "https://s.blob.core.windows.net"),
                ("blob", "http://s.blob.core.windows.net"),
                ("blob", "https://s.blob.core.windows.net/?sv=2026&sig=MARK"),
                ("table", "https://s.table.core.windows.net:65536"),
                ("table", "https://s_1.table.core.windows.net"),
            )
        ),
        ({"JobStorage": ""} | URIS | {"JobStorage__clientId": "my-identity"}, f"JobStorage__clientId {CLIENT}"),
        ({"AZURE_CLIENT_ID": "/subscriptions/s/x"}, f"AZURE_CLIENT_ID {CLIENT}"),
        ({"JobStorage": "https://s.queue.core.windows.net"}, STORAGE_URL),
        *(
            (
                {"JobStorage": f"AccountName=s;AccountKey=MARK;{part}"},
                f"JobStorage is a connection string whose {rest}.",
            )
            for part, rest in (
                ("AccountKey=not base64", "AccountKey is not a key, which is base64"),
                ("AccountName=s/..", "AccountName is not the name of an account"),
                ("DefaultEndpointsProtocol=ftp", "DefaultEndpointsProtocol is not https"),
                ("EndpointSuffix=core.windows.net/", "EndpointSuffix is not a domain such as core.windows.net"),
                ("BlobEndpoint=https://[", "BlobEndpoint is not a URL of the blob service"),
                ("BlobEndpoint=https://s.queue.core.windows.net", "BlobEndpoint is not a URL of the blob service"),
                ("TableEndpoint=s.table.core.windows.net", "TableEndpoint is not a URL of the table service"),
                ("UseDevelopmentStorage=true", "UseDevelopmentStorage is not all: write =true alone"),
            )
        ),
        ({"JobStorage": "AccountName=s;AccountKye=MARK"}, NO_CONNECTION_STRING),
        ({"JobStorage": "AccountName=s;AccountKey=MARK;core.windows.net"}, NO_CONNECTION_STRING),
        *(
            ({"KEY_VAULT_URL": url}, URL)
            for url in (
                "http://v.azure.net",
                "v.vault.azure.net",
                "https:/v",
                "ftp://v",
                "https://",
                "https://v/secrets",
                "https://[",
                "https://v:99999",
                "https://user@v",
                "https://v_1.vault.azure.net",
                "https://v?x",
            )
        ),
        *(
            ({name: text}, f"{name} {NAME} digit.")
            for name in (
                "JOBS_QUEUE",
                "RESULTS_QUEUE",
                "CALLBACKS_QUEUE",
                "BATCHES_QUEUE",
                "RESULTS_CONTAINER",
                "TEMPLATES_CONTAINER",
                "STATEMENTS_CONTAINER",
            )
            for text in ("Work", "a_b", "a--b", "-ab", "ab-", "ab", "a" * 64)
        ),
        ({"INPUT_CONTAINERS": "inputs,In"}, f"INPUT_CONTAINERS {NAME} digit."),
        *(
            (
                {"JOBS_TABLE": text},
                "JOBS_TABLE must be a name of 3 to 63 letters and digits, which begins with a letter.",
            )
            for text in ("my-jobs", "1st", "ab")
        ),
        *(
            ({name: text}, f"{name} must be true or false.")
            for name in ("ALLOW_LOCAL_ENDPOINTS", "ALLOW_PRIVATE_ENDPOINTS")
            for text in ("maybe", "2", "tru", "*", "yes,no")
        ),
        *(
            (
                {"JOBS_QUEUE": "work", name: queue},
                f"{name} must be a queue other than work and work-poison, which are for jobs.",
            )
            for name in (
                "RESULTS_QUEUE",
                "CALLBACKS_QUEUE",
                "BATCHES_QUEUE",
            )  # results among the jobs would be read as jobs
            for queue in ("work", "work-poison")
        ),
        *(
            (
                {"ALLOWED_RESULT_QUEUES": f"special, {entry}"},
                f"{QUEUES} entry 2 is neither.",
            )
            for entry in (
                "=q",
                "acme=",
                "a=b=c",
                "Acme=q",
                "acme=Q",
                "acme = q",
                "acme:q",
                "q_1",
                "acme--x=q",
                "*=q",
                "ab",
            )
        ),
        *(
            (
                {name: "q" * 57},
                f"{name} must have at most 56 characters, because the name of its poison queue ends in -poison.",
            )
            for name in ("JOBS_QUEUE", "CALLBACKS_QUEUE", "BATCHES_QUEUE")
        ),
        *(
            (
                {"CALLBACKS_QUEUE": "calls", name: queue},
                f"{name} must be a queue other than calls and calls-poison, which are for callbacks.",
            )
            for name, queue in (
                ("RESULTS_QUEUE", "calls"),
                ("BATCHES_QUEUE", "calls"),
                ("ALLOWED_RESULT_QUEUES", "xyz,acme=calls-poison"),
            )
        ),
        *(
            ({name: queue}, f"{name} must be a queue other than batches and batches-poison, which are for batches.")
            for name, queue in (("RESULTS_QUEUE", "batches-poison"), ("ALLOWED_RESULT_QUEUES", "acme=batches"))
        ),
        (
            {"ALLOWED_RESULT_QUEUES": "acme=jobs"},
            "ALLOWED_RESULT_QUEUES must be a queue other than jobs and jobs-poison, which are for jobs.",
        ),
        *(
            ({"ALLOW_STATIC_CONNECTION": f"acme, {entry}"}, f"{CUSTOMERS} entry 2 is not an id.")
            for entry in ("Acme", "acme*", "*", "a_b", "a" * 51, '["a"]')
        ),
        *(({"STATIC_MODELS": text}, MODELS) for text in ('["gpt-4o"]', "gpt 4o", "gpt-4o, 'x'", "a|b")),
        *(
            ({"ALLOWED_ENDPOINT_SUFFIXES": f"contoso.com,{entry}"}, f"{SUFFIXES} entry 2 is not one.")
            for entry in ("https://contoso.com", "contoso.com/x", "*", ".", "con_toso.com", "*.*.com")
        ),
        *(
            ({"ALLOWED_ENTRA_HOSTS": f"ai.contoso.com,{entry}"}, f"{HOSTS} entry 2 is not one.")
            for entry in ("contoso", "*.contoso.com", "https://ai.contoso.com", "ai.contoso.com:8443", "é..com")
        ),
        *(
            ({"ALLOWED_SCOPES": f"api://x/.default;{entry}"}, f"{SCOPES} entry 2 is not one.")
            for entry in ("https://contoso.com", "contoso/.default", "https://contoso.com/.default/x")
        ),
        (
            {"ENTRA_CUSTOMER_CLAIM": "my claim"},
            "ENTRA_CUSTOMER_CLAIM must be the type of a claim, such as customer, without quotes and spaces.",
        ),
        ({"HTTP_AUTH": "Entra"}, "HTTP_AUTH must be key or entra."),
    ],
)
def test_invalid_settings_are_refused(environment: dict[str, str], message: str):
    """The message names the setting and what is valid, and shows no secret. An invalid value is not a default."""
    with pytest.raises(SettingInvalid) as raised:
        read_settings(REQUIRED | environment)

    assert message == str(raised.value)
    assert "MARK" not in message


def test_all_faults_are_listed():
    """Whoever corrects the settings sees everything that is wrong with them at once, one sentence a setting."""
    wrong = {"JobStorage": "", "KEY_VAULT_URL": "v", "JOBS_QUEUE": "q", "HTTP_AUTH": "x", "LEASE_SECONDS": "soon"}

    assert list(wrong) == [fault.split()[0] for fault in find_faults(wrong)]
    assert [] == find_faults(REQUIRED)


@every_row(
    ("customer", "queues"),
    [
        ("acme", ("res", "all", "acme-q")),
        ("fabrikam", ("res", "all", "fab-q", "shared")),
        ("contoso", ("res", "all", "shared")),
        *((name, ("res", "all")) for name in ("acm", "acme2", "acme-q", "all")),
        ("", ("res", "all", "acme-q", "fab-q", "shared")),
    ],
)
def test_result_queues_belong_to_customers(customer: str, queues: tuple[str, ...]):
    """A pair allows its queue to its customer's jobs, a queue alone is for all; without a customer, all are listed."""
    settings = read(
        RESULTS_QUEUE="res",
        ALLOWED_RESULT_QUEUES="all,acme=acme-q,fabrikam=fab-q,contoso=shared,fabrikam=shared,acme=all",
    )

    assert queues == settings.result_queues(customer)


@every_row(
    ("allowed", "customer", "expected"),
    [
        ("", "acme", False),
        ("  ", "acme", False),
        ("0", "acme", False),
        ("false", "acme", False),
        ("False", "false", False),
        ("off", "acme", False),
        ("no", "no", True),
        ("1", "acme", True),
        ("true", "acme", True),
        (" True ", "acme", True),
        ("yes", "acme", False),
        ("on", "acme", False),
        ("on", "on", True),
        ("1,", "acme", False),
        ("1,", "1", True),
        ("true,acme", "contoso", False),
        ("*", "acme", True),
        (" * ", "acme", True),
        ("acme", "acme", True),
        ("acme", "acme-2", False),
        ("acme-2", "acme", False),
        ("acme, contoso", "contoso", True),
        ("acme;contoso ;", "contoso", True),
        ("acme,contoso", "acme,contoso", False),
        ("acme,", "", False),
    ],
)
def test_the_static_connection_serves_the_customers_in_the_setting(allowed: str, customer: str, expected: bool):
    """
    It is for all customers if the setting is exactly `*`, `true` or `1`, for none if it is empty, `false` or `0`.
    Otherwise it is for the customers in the list, whose names are compared exactly: `on` and `no` are names, too.
    """
    assert expected == read(ALLOW_STATIC_CONNECTION=allowed).allows_static(customer)


@every_row(
    ("environment", "queues"),
    [
        ({}, ("jobs", "jobs-poison", "results")),
        ({"JOBS_QUEUE": "work"}, ("work", "work-poison", "results")),
        ({"RESULTS_QUEUE": "done"}, ("jobs", "jobs-poison", "done")),
        ({"JOBS_QUEUE": " ", "RESULTS_QUEUE": ""}, ("jobs", "jobs-poison", "results")),
        ({"JOBS_QUEUE": " work ", "RESULTS_QUEUE": " done"}, ("work", "work-poison", "done")),
    ],
)
def test_bindings_need_no_other_setting(environment: dict[str, str], queues: tuple[str, str, str]):
    """The queue names of the bindings need no other setting, and are those of the settings."""
    assert queues == binding_queues(environment)

    settings = read_settings(REQUIRED | environment)
    assert queues == (settings.jobs_queue, settings.poison_queue, settings.results_queue)
