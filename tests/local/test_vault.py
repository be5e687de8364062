"""The local Key Vault, through Azure's own clients."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest
from azure.core.credentials import AccessToken
from azure.core.exceptions import HttpResponseError, ResourceExistsError, ResourceNotFoundError
from azure.identity.aio import ManagedIdentityCredential
from azure.keyvault.secrets import SecretClient as BlockingClient
from azure.keyvault.secrets.aio import SecretClient

from local.stack.customers import Customer, onboard, vault_client

NAME = "ai--contoso--default"


@pytest.fixture
async def client(key_vault):
    async with vault_client(key_vault) as opened:
        yield opened


async def test_a_secret_round_trip(client):
    """Value, tags, content type and times are as they were set, and the id is that of the new version."""
    expires = datetime.now(UTC).replace(microsecond=0) + timedelta(days=1)

    put = await client.set_secret(NAME, "v", tags={"a": "b"}, content_type="text/plain", expires_on=expires)
    got = await client.get_secret(NAME)

    assert got.value == "v"
    assert got.properties.tags == {"a": "b"}
    assert got.properties.content_type == "text/plain"
    assert expires == got.properties.expires_on
    assert put.id == got.id
    assert got.properties.enabled


async def test_the_latest_version_is_the_default(client):
    """A new version inherits nothing; the older one can be read by its version."""
    first = await client.set_secret(NAME, "one", tags={"a": "b"})
    await client.set_secret(NAME, "two")

    latest = await client.get_secret(NAME)
    older = await client.get_secret(NAME, first.properties.version)

    assert (latest.value, latest.properties.tags) == ("two", {})
    assert older.value == "one"


async def test_names_are_not_case_sensitive(client):
    """A secret is found by its name in any case."""
    await client.set_secret("AI--Contoso--Default", "v")

    assert (await client.get_secret(NAME)).value == "v"


async def test_a_missing_secret_is_404(client):
    """An unknown name and an unknown version have the code SecretNotFound."""
    await client.set_secret(NAME, "v")

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


async def test_an_expired_secret_can_be_read(client):
    """As in Key Vault, the reader checks `nbf` and `exp`."""
    past = datetime.now(UTC) - timedelta(days=1)
    await client.set_secret(NAME, "v", expires_on=past)

    assert (await client.get_secret(NAME)).properties.expires_on < datetime.now(UTC)


async def test_an_update_changes_tags_and_keeps_the_value(client):
    """PATCH replaces the tags of the existing version."""
    version = (await client.set_secret(NAME, "v", tags={"old": "1"})).properties.version

    await client.update_secret_properties(NAME, tags={"new": "2"})

    got = await client.get_secret(NAME)
    assert ("v", {"new": "2"}, version) == (got.value, got.properties.tags, got.properties.version)


async def test_secrets_and_versions_are_listed_without_values(client):
    """A list has only properties, with every version of a secret."""
    await client.set_secret(NAME, "one")
    await client.set_secret(NAME, "two")
    await client.set_secret("other", "three")

    names = {secret.name async for secret in client.list_properties_of_secrets()}
    versions = [secret.version async for secret in client.list_properties_of_secret_versions(NAME)]

    assert {NAME, "other"} == names
    assert len(set(versions)) == 2


async def test_many_secrets_are_listed_by_pages(client):
    """A page has 25 secrets, and the pages have all of them."""
    names = {f"secret-{number}" for number in range(60)}
    for name in names:
        await client.set_secret(name, "v")

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
    """A deleted secret can't be read or created again until it is purged."""
    await client.set_secret(NAME, "v")
    await client.delete_secret(NAME)

    with pytest.raises(ResourceNotFoundError):
        await client.get_secret(NAME)
    with pytest.raises(ResourceExistsError, match="ObjectIsDeletedButRecoverable"):
        await client.set_secret(NAME, "w")
    assert [secret.name async for secret in client.list_deleted_secrets()] == [NAME]

    await client.purge_deleted_secret(NAME)
    await client.set_secret(NAME, "w")
    assert (await client.get_secret(NAME)).value == "w"


async def test_a_deleted_secret_can_be_recovered(client):
    """A recovered secret has its value again."""
    await client.set_secret(NAME, "v")
    await client.delete_secret(NAME)

    await client.recover_deleted_secret(NAME)

    assert (await client.get_secret(NAME)).value == "v"


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


async def test_an_injected_failure_occurs_once(client, key_vault):
    """The SDK gets a 429 with Retry-After, waits and retries."""
    await client.set_secret(NAME, "v")
    key_vault.fail_next(429, retry_after=0)

    assert (await client.get_secret(NAME)).value == "v"
    assert key_vault.reads[NAME] == 2


async def test_an_outage_fails_every_request_until_it_ends(key_vault):
    """During an outage a client without retries gets a 503; after it, the value."""
    async with SecretClient(
        key_vault.url,
        _Token(),
        connection_verify=str(key_vault.ca_file),
        verify_challenge_resource=False,
        retry_total=0,
    ) as client:
        await client.set_secret(NAME, "v")
        key_vault.outage = True
        with pytest.raises(HttpResponseError) as rejected:
            await client.get_secret(NAME)
        key_vault.outage = False

        assert rejected.value.status_code == 503
        assert (await client.get_secret(NAME)).value == "v"


async def test_an_unknown_authority_is_not_trusted(key_vault):
    """Without the CA file the client rejects the certificate."""
    async with SecretClient(key_vault.url, _Token(), verify_challenge_resource=False, retry_total=0) as client:
        with pytest.raises(Exception, match=r"(?i)certificate"):
            await client.get_secret(NAME)


async def test_managed_identity_works(key_vault, monkeypatch):
    """ManagedIdentityCredential finds the endpoint in the settings, and the vault accepts its token."""
    monkeypatch.setenv("IDENTITY_ENDPOINT", key_vault.identity_endpoint)
    monkeypatch.setenv("IDENTITY_HEADER", key_vault.identity_header)
    async with (
        ManagedIdentityCredential() as credential,
        SecretClient(
            key_vault.url,
            credential,
            connection_verify=str(key_vault.ca_file),
            verify_challenge_resource=False,
        ) as client,
    ):
        await client.set_secret(NAME, "v")

        token = await credential.get_token("https://vault.azure.net/.default")
        assert (await client.get_secret(NAME)).value == "v"
        assert token.expires_on > datetime.now(UTC).timestamp() + 3600


async def test_the_identity_endpoint_requires_its_header(key_vault, monkeypatch):
    """A client with another header value gets no token."""
    monkeypatch.setenv("IDENTITY_ENDPOINT", key_vault.identity_endpoint)
    monkeypatch.setenv("IDENTITY_HEADER", "guessed")
    async with ManagedIdentityCredential() as credential:
        with pytest.raises(Exception, match=r"(?i)unauthorized|401|authentication"):
            await credential.get_token("https://vault.azure.net/.default")


async def test_the_blocking_client_works_too(key_vault):
    """The synchronous client reads, in a thread, what the asynchronous one has written."""
    async with vault_client(key_vault) as client:
        await client.set_secret(NAME, "v")

    def read():
        with BlockingClient(
            key_vault.url,
            _BlockingToken(),
            connection_verify=str(key_vault.ca_file),
            verify_challenge_resource=False,
        ) as blocking:
            return blocking.get_secret(NAME).value

    assert await asyncio.to_thread(read) == "v"


async def test_onboarding_writes_both_kinds_of_secret(client, key_vault):
    """One customer's secret is a JSON object; the other's is the bare key, with its settings as tags."""
    with_json = Customer("contoso", "", "/openai/v1", {"provider": "azure_openai"})
    with_bare_key = Customer("fabrikam", "", "/v1", {"provider": "openai"}, bare_key=True)

    await onboard(key_vault, "http://127.0.0.1:1", with_json, with_bare_key)

    assert f'"api_key": "{with_json.key}"' in (await client.get_secret(NAME)).value
    second = await client.get_secret("ai--fabrikam--default")
    assert with_bare_key.key == second.value
    assert second.properties.tags == {"endpoint": "http://127.0.0.1:1/v1", "provider": "openai"}


def test_no_key_is_shown_by_repr():
    """The repr of a customer does not contain its key."""
    customer = Customer("contoso", "", "", {})

    assert customer.key not in repr(customer)


class _Token:
    async def get_token(self, *_scopes, **_options):
        return AccessToken("any", 2**40)

    async def close(self):
        pass


class _BlockingToken:
    def get_token(self, *_scopes, **_options):
        return AccessToken("any", 2**40)

    def close(self):
        pass
