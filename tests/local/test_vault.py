"""
The local Key Vault, through Azure's own client. What the app reads from it, and how it fails, is tested with the app's
own client in tests/integration/connections.
"""

from datetime import UTC, datetime, timedelta

import pytest
from azure.core.exceptions import HttpResponseError, ResourceExistsError, ResourceNotFoundError
from azure.identity.aio import ManagedIdentityCredential
from azure.keyvault.secrets.aio import SecretClient

from local.stack.customers import Customer, onboard, vault_client

NAME = "ai--contoso--default"


@pytest.fixture
async def client(key_vault):
    async with vault_client(key_vault) as opened:
        yield opened


async def test_a_secret_round_trip(client):
    """A secret has the value, tags, content type and times that were set, and is found by its name in any case."""
    expires = datetime.now(UTC).replace(microsecond=0) + timedelta(days=1)

    put = await client.set_secret(NAME.upper(), "v", tags={"a": "b"}, content_type="text/plain", expires_on=expires)
    got = await client.get_secret(NAME)

    properties = got.properties
    assert (got.value, got.id, properties.enabled) == ("v", put.id, True)
    assert (properties.tags, properties.content_type, properties.expires_on) == ({"a": "b"}, "text/plain", expires)


async def test_versions_of_a_secret(client):
    """
    A new version inherits nothing and is the default; PATCH replaces the tags of a version and keeps its value. An
    unknown version is a 404 with the code SecretNotFound, as an unknown name is.
    """
    first = await client.set_secret(NAME, "one", tags={"a": "b"})
    second = await client.set_secret(NAME, "two")
    latest = await client.get_secret(NAME)
    await client.update_secret_properties(NAME, tags={"new": "2"})
    updated = await client.get_secret(NAME)

    assert ("two", {}) == (latest.value, latest.properties.tags)
    assert ("two", {"new": "2"}) == (updated.value, updated.properties.tags)
    assert second.properties.version == updated.properties.version
    assert (await client.get_secret(NAME, first.properties.version)).value == "one"
    versions = [secret.version async for secret in client.list_properties_of_secret_versions(NAME)]
    assert sorted(versions) == sorted([first.properties.version, second.properties.version])
    for name, version in (("nobody", None), (NAME, "0" * 32)):
        with pytest.raises(ResourceNotFoundError, match="SecretNotFound"):
            await client.get_secret(name, version)


async def test_a_disabled_secret_is_403(client):
    """A disabled secret can't be read, with the inner code SecretDisabled, until it is enabled."""
    await client.set_secret(NAME, "v")
    await client.update_secret_properties(NAME, enabled=False)

    with pytest.raises(HttpResponseError, match="SecretDisabled") as rejected:
        await client.get_secret(NAME)
    assert rejected.value.status_code == 403

    await client.update_secret_properties(NAME, enabled=True)
    assert (await client.get_secret(NAME)).value == "v"


async def test_secrets_are_listed_by_pages(key_vault, client):
    """A page has the properties of 25 secrets, and the pages have all of them."""
    names = {f"secret-{number}" for number in range(60)}
    for name in names:
        key_vault.secrets.put(name, "v")

    pages = [[secret.name async for secret in page] async for page in client.list_properties_of_secrets().by_page()]

    assert [25, 25, 10] == [len(page) for page in pages]
    assert names == {name for page in pages for name in page}


async def test_a_read_only_vault_rejects_changes(key_vault, client):
    """Reading and listing work; a change is a 403 with the inner code ForbiddenByRbac."""
    await client.set_secret(NAME, "v")
    key_vault.read_only = True

    with pytest.raises(HttpResponseError, match="ForbiddenByRbac") as rejected:
        await client.set_secret(NAME, "w")
    assert rejected.value.status_code == 403
    assert (await client.get_secret(NAME)).value == "v"
    assert [_ async for _ in client.list_properties_of_secrets()]


async def test_a_deleted_name_stays_reserved_until_purged(client):
    """A deleted secret can't be read or created again until it is purged; until then it can be recovered."""
    await client.set_secret(NAME, "v")
    await client.delete_secret(NAME)

    with pytest.raises(ResourceNotFoundError):
        await client.get_secret(NAME)
    with pytest.raises(ResourceExistsError, match="ObjectIsDeletedButRecoverable"):
        await client.set_secret(NAME, "w")
    assert [secret.name async for secret in client.list_deleted_secrets()] == [NAME]

    await client.recover_deleted_secret(NAME)
    assert (await client.get_secret(NAME)).value == "v"

    await client.delete_secret(NAME)
    await client.purge_deleted_secret(NAME)
    await client.set_secret(NAME, "w")
    assert (await client.get_secret(NAME)).value == "w"


@pytest.mark.parametrize(
    ("name", "value", "tags"),
    [
        ("under_score", "v", {}),
        (NAME, "v" * (25 * 1024 + 1), {}),
        (NAME, "v", dict.fromkeys("abcdefghijklmnop", "1")),
    ],
)
async def test_an_invalid_secret_is_rejected(client, name, value, tags):
    """An invalid name, a value over 25 KB and a sixteenth tag are 400 BadParameter."""
    with pytest.raises(HttpResponseError, match="BadParameter") as rejected:
        await client.set_secret(name, value, tags=tags)

    assert rejected.value.status_code == 400


async def test_reads_are_counted(client, key_vault):
    """Each read of a value counts, by the name in lower case; changes and lists do not."""
    await client.set_secret(NAME, "v")
    await client.get_secret(NAME)
    await client.get_secret(NAME.upper())
    assert [_ async for _ in client.list_properties_of_secret_versions(NAME)]

    assert key_vault.reads == {NAME: 2}


async def test_managed_identity_works(key_vault, monkeypatch):
    """With the header of the settings a client gets a token, which the vault accepts; with another it gets none."""
    options = {"connection_verify": str(key_vault.ca_file), "verify_challenge_resource": False}
    monkeypatch.setenv("IDENTITY_ENDPOINT", key_vault.identity_endpoint)
    monkeypatch.setenv("IDENTITY_HEADER", key_vault.identity_header)
    async with (
        ManagedIdentityCredential() as credential,
        SecretClient(key_vault.url, credential, **options) as client,
    ):
        await client.set_secret(NAME, "v")

        token = await credential.get_token("https://vault.azure.net/.default")
        assert (await client.get_secret(NAME)).value == "v"
        assert token.expires_on > datetime.now(UTC).timestamp() + 3600

    monkeypatch.setenv("IDENTITY_HEADER", "guessed")
    async with ManagedIdentityCredential() as credential:
        with pytest.raises(Exception, match=r"(?i)unauthorized|401|authentication"):
            await credential.get_token("https://vault.azure.net/.default")


async def test_onboarding_writes_both_kinds_of_secret(client, key_vault):
    """One customer's secret is JSON; the other's is the bare key, with its settings as tags. No repr has a key."""
    with_json = Customer("contoso", "", "/openai/v1", {"provider": "azure_openai"})
    with_bare_key = Customer("fabrikam", "", "/v1", {"provider": "openai"}, bare_key=True)

    await onboard(key_vault, "http://127.0.0.1:1", with_json, with_bare_key)

    assert f'"api_key": "{with_json.key}"' in (await client.get_secret(NAME)).value
    second = await client.get_secret("ai--fabrikam--default")
    assert with_bare_key.key == second.value
    assert second.properties.tags == {"endpoint": "http://127.0.0.1:1/v1", "provider": "openai"}
    assert with_json.key not in repr(with_json)
