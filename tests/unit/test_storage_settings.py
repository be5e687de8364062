"""The settings of a storage account: what passes the checks opens the SDKs' clients, whatever it is."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any, cast

from azure.core.credentials import AzureNamedKeyCredential
from azure.data.tables.aio import TableServiceClient
from azure.keyvault.secrets.aio import SecretClient
from azure.storage.blob.aio import BlobServiceClient
from azure.storage.queue.aio import QueueServiceClient
from hypothesis import example, given, settings
from hypothesis import strategies as st

from shared.errors import SettingInvalid
from shared.setting_values import check_vault_url
from shared.settings import find_faults, read_settings
from shared.storage_settings import StorageAccount, check_service_url

SAS = "sv=2026-01-01&sig=YQ%3D%3D"
MEMBERS = st.dictionaries(
    st.sampled_from(
        [
            *("AccountName", "accountkey", "SharedAccessSignature", "DefaultEndpointsProtocol", "EndpointSuffix"),
            *("BlobEndpoint", "QueueEndpoint", "TableEndpoint", "BlobSecondaryEndpoint", "UseDevelopmentStorage", "x"),
        ]
    ),
    st.sampled_from(
        [
            *("true", "acct", "YQ==", "http", "https", "ftp", "core.windows.net", "core.windows.net/", "https://["),
            *(
                "https://acct.blob.core.windows.net/",
                "http://127.0.0.1:10000/acct",
                "https://a:99999",
                "sv=1&sig=YQ==",
                "",
            ),
        ]
    )
    | st.text("ab/:[]=.1é %", max_size=8),
)


async def open_clients(account: StorageAccount) -> None:
    """Open the SDKs' clients of the three services, and close them."""
    for kind in (BlobServiceClient, QueueServiceClient, TableServiceClient):
        text = account.connection_string
        assert text is not None
        async with kind.from_connection_string(text.reveal()):
            pass


@given(MEMBERS)
@example(
    {
        "AccountName": "acct",
        "accountkey": "YQ==",
        "BlobSecondaryEndpoint": "https://acct-secondary.blob.core.windows.net",
    }
)
@example({"AccountName": "acct", "AccountKey": "YQ==", "EndpointSuffix": "core.windows.net"})
@example({**dict.fromkeys(("BlobEndpoint", "QueueEndpoint", "TableEndpoint"), "https://x.y"), "AccountKey": "YQ=="})
@example(
    {**dict.fromkeys(("BlobEndpoint", "QueueEndpoint", "TableEndpoint"), "https://x.y"), "SharedAccessSignature": SAS}
)
@settings(max_examples=150)
def test_a_connection_string_that_is_accepted_opens_every_client(members: dict[str, str]):
    """The SDKs raise no error of their own for a connection string that passed the checks."""
    environment = {"JobStorage": ";".join(f"{name}={value}" for name, value in members.items())}
    if find_faults(environment):
        return

    asyncio.run(open_clients(read_settings(environment).job_storage))


URLS = st.builds(
    "{}{}{}{}".format,
    st.sampled_from(["https://", "http://", "HTTPS://", ""]),
    st.sampled_from(["a.blob.core.windows.net", "127.0.0.1", "[", "[::1]", "a b", "é.com", "a_b", "localhost", ""])
    | st.text("ab.-:[]@", max_size=6),
    st.sampled_from(["", ":443", ":99999", ":x", ":"]),
    st.sampled_from(["", "/", "/acct", "/../x", "?x", "#x", "/%2"]),
)


@given(URLS)
def test_a_url_that_is_accepted_opens_a_client(url: str):
    """The same holds for the URL of a service and of a vault."""
    credential = AzureNamedKeyCredential("acct", "YQ==")
    with suppress(SettingInvalid):
        check_service_url("JobStorage__blobServiceUri", url, "blob")
        BlobServiceClient(url, credential=credential)
        TableServiceClient(url, credential=credential)
        QueueServiceClient(url, credential=credential)
    with suppress(SettingInvalid):
        check_vault_url("KEY_VAULT_URL", url)
        SecretClient(url, credential=cast(Any, credential))
