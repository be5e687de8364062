"""The app's settings: what is read, what is left out, what is refused."""

from __future__ import annotations

import pytest

from shared.errors import SettingInvalid
from shared.secret import Secret
from shared.settings import Settings, StorageAccount, binding_queues, read_settings

LEAST = {"JobStorage": "UseDevelopmentStorage=true;AccountKey=MARK"}
URIS = {
    "JobStorage__queueServiceUri": "https://s.queue.core.windows.net",
    "JobStorage__blobServiceUri": "https://s.blob.core.windows.net",
    "JobStorage__tableServiceUri": "https://s.table.core.windows.net",
}


def read(**environment: str) -> Settings:
    return read_settings(LEAST | environment)


def refusal(environment: dict[str, str]) -> str:
    with pytest.raises(SettingInvalid) as raised:
        read_settings(environment)
    assert "MARK" not in str(raised.value)
    return str(raised.value)


def test_what_is_not_set_has_its_default():
    """Storage alone makes settings; nothing is allowed that was not switched on."""
    assert (
        Settings(
            job_storage=StorageAccount(Secret(LEAST["JobStorage"]), "", "", "", ""),
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
    """Each setting arrives in its field, without the white space around it."""
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
    """The repr of settings holds neither the storage's key nor the static connection."""
    assert "MARK" not in repr(read(STATIC_CONNECTION="MARK"))


def test_storage_is_reached_by_addresses_and_identity():
    """Three addresses take the place of a connection string, with an identity where one is named."""
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
def test_storage_must_be_set_whole(environment: dict[str, str]):
    """Without a connection string all three addresses must be there."""
    assert (
        "JobStorage must be a connection string, or JobStorage__queueServiceUri, JobStorage__blobServiceUri "
        "and JobStorage__tableServiceUri must all be set." == refusal(environment)
    )


@pytest.mark.parametrize("url", ["http://v.vault.azure.net", "v.vault.azure.net", "https:/v", "ftp://v"])
def test_vault_is_https(url: str):
    """A vault's address without https is refused."""
    assert "KEY_VAULT_URL must begin with https://, such as https://my-vault.vault.azure.net." == refusal(
        LEAST | {"KEY_VAULT_URL": url}
    )


@pytest.mark.parametrize("name", ["ALLOW_LOCAL_ENDPOINTS", "ALLOW_PRIVATE_ENDPOINTS"])
@pytest.mark.parametrize(
    ("text", "flag"),
    [
        *((text, True) for text in ("1", "true", "True", "YES", "on", " true ")),
        *((text, False) for text in ("", "0", "false", "No", "OFF", " ")),
    ],
)
def test_flags_are_yes_or_no(name: str, text: str, flag: bool):
    """The usual words switch a flag on and off."""
    assert flag == getattr(read(**{name: text}), name.lower())


@pytest.mark.parametrize("name", ["ALLOW_LOCAL_ENDPOINTS", "ALLOW_PRIVATE_ENDPOINTS"])
@pytest.mark.parametrize("text", ["maybe", "2", "tru", "*", "yes,no"])
def test_other_words_for_a_flag_are_refused(name: str, text: str):
    """A word that is neither yes nor no is not taken for either."""
    assert f"{name} must be true or false." == refusal(LEAST | {name: text})


@pytest.mark.parametrize("name", ["RESULTS_QUEUE", "CALLBACKS_QUEUE"])
@pytest.mark.parametrize("queue", ["work", "work-poison"])
def test_no_other_queue_may_be_the_jobs(name: str, queue: str):
    """Results in the queue of jobs would be taken for jobs, without end."""
    assert f"{name} must be a queue other than work and work-poison, which hold jobs." == refusal(
        LEAST | {"JOBS_QUEUE": "work", name: queue}
    )


@pytest.mark.parametrize(
    ("allowed", "customer", "served"),
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
def test_operators_account_serves_whom_the_settings_name(allowed: str, customer: str, served: bool):
    """
    The static connection is for everybody where the setting is only `*`, `true` or `1`, for nobody where it is
    empty, `false` or `0`, and else for the customers named, to the letter: `on` and `no` are names as others.
    """
    assert served == read(ALLOW_STATIC_CONNECTION=allowed).allows_static(customer)


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
    """The names that the bindings need are there without any setting, and agree with the settings."""
    assert queues == binding_queues(environment)

    settings = read_settings(LEAST | environment)
    assert queues == (settings.jobs_queue, settings.poison_queue, settings.results_queue)
