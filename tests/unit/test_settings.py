"""The app's settings: how they are read, and which values are refused."""

from __future__ import annotations

import pytest

from shared.errors import SettingInvalid
from shared.secret import Secret
from shared.settings import Settings, StorageAccount, binding_queues, read_settings

REQUIRED = {"JobStorage": "UseDevelopmentStorage=true;AccountKey=MARK"}
URIS = {
    "JobStorage__queueServiceUri": "https://s.queue.core.windows.net",
    "JobStorage__blobServiceUri": "https://s.blob.core.windows.net",
    "JobStorage__tableServiceUri": "https://s.table.core.windows.net",
}


def read(**environment: str) -> Settings:
    """The settings of an environment, with the required ones added."""
    return read_settings(REQUIRED | environment)


def refusal(environment: dict[str, str]) -> str:
    """The message for an invalid environment. It must not show a secret."""
    with pytest.raises(SettingInvalid) as raised:
        read_settings(environment)
    assert "MARK" not in str(raised.value)
    return str(raised.value)


def test_settings_have_defaults():
    """Only storage is required; what is not switched on is off."""
    assert (
        Settings(
            job_storage=StorageAccount(Secret(REQUIRED["JobStorage"]), "", "", "", ""),
            key_vault_url="",
            key_vault_ca_file="",
            azure_client_id="",
            entra_client_id="",
            static_connection=Secret(""),
            allow_static_connection="",
            allowed_endpoint_suffixes=(),
            allow_local_endpoints=False,
            allow_private_endpoints=False,
            jobs_queue="jobs",
            results_queue="results",
            callbacks_queue="callbacks",
            allowed_result_queues=(),
            results_container="results",
            input_containers=("inputs",),
            jobs_table="jobs",
        )
        == read()
    )


def test_every_setting_is_read():
    """Each setting is in its field, without surrounding white space."""
    settings = read(
        KEY_VAULT_URL=" HTTPS://v.vault.azure.net/ ",
        KEY_VAULT_CA_FILE="/ca.pem",
        AZURE_CLIENT_ID="a",
        ENTRA_CLIENT_ID="e",
        STATIC_CONNECTION='{"api_key": "MARK"}',
        ALLOW_STATIC_CONNECTION="acme",
        ALLOWED_ENDPOINT_SUFFIXES="contoso.com, openai.azure.com;",
        ALLOW_LOCAL_ENDPOINTS="true",
        ALLOW_PRIVATE_ENDPOINTS="1",
        JOBS_QUEUE="j",
        RESULTS_QUEUE="r",
        CALLBACKS_QUEUE="c",
        ALLOWED_RESULT_QUEUES="x;y",
        RESULTS_CONTAINER="rc",
        INPUT_CONTAINERS="i1,i2",
        JOBS_TABLE="t",
    )

    assert (
        Settings(
            job_storage=settings.job_storage,
            key_vault_url="HTTPS://v.vault.azure.net/",
            key_vault_ca_file="/ca.pem",
            azure_client_id="a",
            entra_client_id="e",
            static_connection=Secret('{"api_key": "MARK"}'),
            allow_static_connection="acme",
            allowed_endpoint_suffixes=("contoso.com", "openai.azure.com"),
            allow_local_endpoints=True,
            allow_private_endpoints=True,
            jobs_queue="j",
            results_queue="r",
            callbacks_queue="c",
            allowed_result_queues=("x", "y"),
            results_container="rc",
            input_containers=("i1", "i2"),
            jobs_table="t",
        )
        == settings
    )
    assert "j-poison" == settings.poison_queue


def test_settings_show_no_secret():
    """Their repr contains neither the key of the storage account nor the static connection."""
    assert "MARK" not in repr(read(STATIC_CONNECTION="MARK"))


def test_storage_can_be_urls_and_an_identity():
    """Three URLs replace the connection string, with a client id if one is set."""
    settings = read_settings(URIS | {"JobStorage__clientId": "id-1"})

    assert StorageAccount(None, *URIS.values(), "id-1") == settings.job_storage


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"JobStorage": ""},
        {"JobStorage": "  "},
        *({name: uri for name, uri in URIS.items() if name != missing} for missing in URIS),
        URIS | {"JobStorage__tableServiceUri": " "},
        {"AzureWebJobsStorage": "UseDevelopmentStorage=true"},
    ],
)
def test_storage_settings_must_be_complete(environment: dict[str, str]):
    """Without a connection string, all three URLs are required."""
    assert (
        "JobStorage must be a connection string, or JobStorage__queueServiceUri, JobStorage__blobServiceUri "
        "and JobStorage__tableServiceUri must all be set." == refusal(environment)
    )


@pytest.mark.parametrize("url", ["http://v.vault.azure.net", "v.vault.azure.net", "https:/v", "ftp://v"])
def test_vault_is_https(url: str):
    """A vault URL without https is refused."""
    assert "KEY_VAULT_URL must begin with https://, such as https://my-vault.vault.azure.net." == refusal(
        REQUIRED | {"KEY_VAULT_URL": url}
    )


@pytest.mark.parametrize("name", ["ALLOW_LOCAL_ENDPOINTS", "ALLOW_PRIVATE_ENDPOINTS"])
@pytest.mark.parametrize(
    ("text", "flag"),
    [
        *((text, True) for text in ("1", "true", "True", "YES", "on", " true ")),
        *((text, False) for text in ("", "0", "false", "No", "OFF", " ")),
    ],
)
def test_flags_are_read(name: str, text: str, flag: bool):
    """The usual words for yes and no set a flag, in any case."""
    assert flag == getattr(read(**{name: text}), name.lower())


@pytest.mark.parametrize("name", ["ALLOW_LOCAL_ENDPOINTS", "ALLOW_PRIVATE_ENDPOINTS"])
@pytest.mark.parametrize("text", ["maybe", "2", "tru", "*", "yes,no"])
def test_other_values_of_a_flag_are_refused(name: str, text: str):
    """A value that is neither yes nor no is an error, not a default."""
    assert f"{name} must be true or false." == refusal(REQUIRED | {name: text})


@pytest.mark.parametrize("name", ["RESULTS_QUEUE", "CALLBACKS_QUEUE"])
@pytest.mark.parametrize("queue", ["work", "work-poison"])
def test_no_other_queue_can_be_the_jobs_queue(name: str, queue: str):
    """Results in the jobs queue would be read as jobs, in a loop."""
    assert f"{name} must be a queue other than work and work-poison, which are for jobs." == refusal(
        REQUIRED | {"JOBS_QUEUE": "work", name: queue}
    )


@pytest.mark.parametrize(
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
        ("Acme", "acme", False),
        ("acme*", "acme-2", False),
        ("acme,*", "contoso", False),
        ("acme,", "", False),
    ],
)
def test_the_static_connection_serves_the_customers_in_the_setting(allowed: str, customer: str, expected: bool):
    """
    It is for all customers if the setting is exactly `*`, `true` or `1`, for none if it is empty, `false` or `0`.
    Otherwise it is for the customers in the list, whose names are compared exactly: `on` and `no` are names, too.
    """
    assert expected == read(ALLOW_STATIC_CONNECTION=allowed).allows_static(customer)


@pytest.mark.parametrize(
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
