"""The endpoint that is read from the settings is the one that Microsoft's SDKs read."""

from __future__ import annotations

from typing import Any

from azure.data.tables.aio import TableServiceClient
from azure.storage.blob.aio import BlobServiceClient
from azure.storage.queue.aio import QueueServiceClient

from shared.network.hosts import host_header
from shared.secret import Secret
from shared.storage.direct.endpoint import read_endpoint
from shared.storage_settings import StorageAccount
from tests.support.rows import every_row

KEY = "a2V5IG9mIHRoZSBhY2NvdW50"
CLIENTS: dict[str, Any] = {"table": TableServiceClient, "queue": QueueServiceClient, "blob": BlobServiceClient}
NAMED = f"AccountName=acme;AccountKey={KEY}"
ENDPOINTS = ";".join(f"{s.capitalize()}Endpoint=https://acme.{s}.contoso.com:8443/" for s in CLIENTS)
LOCAL = ";".join(
    f"{s.capitalize()}Endpoint=http://127.0.0.1:{port}/acme" for s, port in zip(CLIENTS, (3, 2, 1), strict=True)
)


@every_row("service", CLIENTS)
@every_row(
    "text",
    [
        "UseDevelopmentStorage=true",
        NAMED,
        f"DefaultEndpointsProtocol=https;{NAMED};EndpointSuffix=core.windows.net",
        f"DefaultEndpointsProtocol=http;{NAMED};EndpointSuffix=core.chinacloudapi.cn",
        f"{NAMED};{ENDPOINTS}",
        f"accountname=acme;ACCOUNTKEY={KEY};{LOCAL}",
        f"{NAMED};SharedAccessSignature=sv=2020&sig=x",
    ],
)
def test_a_connection_string_is_read_as_the_sdk_reads_it(service: str, text: str):
    """URL, account and key are the same, in every form that the settings accept."""
    endpoint = read_endpoint(StorageAccount(Secret(text), "", "", "", ""), service)

    client = CLIENTS[service].from_connection_string(text)
    named_key = client.credential
    name, key = (
        named_key.named_key if hasattr(named_key, "named_key") else (named_key.account_name, named_key.account_key)
    )
    assert (client.url.rstrip("/"), name, key) == (endpoint.url, endpoint.account, endpoint.key.reveal())
    assert not endpoint.has_sas


def test_a_signature_is_left_to_the_sdk():
    """A SAS belongs in the URL of each request; only the SDK puts it there."""
    text = f"SharedAccessSignature=sv=2020&sig=x;{ENDPOINTS}"

    assert read_endpoint(StorageAccount(Secret(text), "", "", "", ""), "table").has_sas


def test_an_identity_has_urls():
    """Each service has its own; the `Host` header has a port only if it is not the usual one."""
    account = StorageAccount(None, "https://q.contoso.com", "https://[::1]:8443/", "https://T.contoso.com/", "")

    table, queue, blob = (read_endpoint(account, service) for service in CLIENTS)

    assert ["https://t.contoso.com", "https://q.contoso.com"] == [table.url, queue.url]
    assert ("[::1]:8443", "t.contoso.com") == (host_header(blob.host), host_header(table.host))
    assert not any(endpoint.has_sas or endpoint.key for endpoint in (table, queue, blob))
    assert KEY not in repr(read_endpoint(StorageAccount(Secret(NAMED), "", "", "", ""), "table"))
