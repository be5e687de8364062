"""How direct requests are authorized: the signatures are the SDK's, and tokens are renewed in time."""

from __future__ import annotations

import asyncio
import time
from types import SimpleNamespace
from typing import Any

import pytest
from azure.core.credentials import AccessToken, AzureNamedKeyCredential
from azure.core.rest import HttpRequest
from azure.data.tables import _authentication as tables
from azure.storage.blob._shared import authentication as blobs
from hypothesis import given
from hypothesis import strategies as st
from yarl import URL

from shared.network.credential import Credential
from shared.secret import Secret
from shared.storage.direct.authorization import SharedKey, Tokens

KEY = "a2V5IG9mIHRoZSBhY2NvdW50"
# URLs have no segments `.` and `..`: they are resolved before anything is signed.
SEGMENT = st.text("aB1-_.~'(),=$%ä 日", min_size=1, max_size=8).filter(lambda text: text not in {".", ".."})
SEGMENTS = st.lists(SEGMENT, min_size=1, max_size=3)
VALUES = st.text("aB1;/=* -", min_size=1, max_size=12).map(str.strip).filter(bool)
HEADERS = st.fixed_dictionaries(
    {"x-ms-date": st.just("Sun, 29 Nov 2026 12:00:00 GMT"), "x-ms-version": st.just("2021-12-02")},
    optional={
        "content-length": st.sampled_from(["0", "1", "25"]),
        "content-type": VALUES,
        "if-none-match": st.just("*"),
        "x-ms-blob-type": st.just("BlockBlob"),
        "x-ms-client-request-id": VALUES,
    },
)


@pytest.mark.parametrize("service", ["table", "blob"])
@given(
    method=st.sampled_from(["GET", "PUT", "POST", "PATCH"]),
    segments=SEGMENTS,
    headers=HEADERS,
    query=st.dictionaries(st.sampled_from(["visibilitytimeout", "messagettl"]), st.integers(-1, 120).map(str)),
)
def test_a_signature_is_the_sdks(
    service: str, method: str, segments: list[str], headers: dict[str, str], query: dict[str, str]
):
    """Of the same request, as the real policies of both SDKs sign it. Queues are signed as blobs."""
    url = URL("https://acme.contoso.com").joinpath(*segments).with_query(query if service == "blob" else {})
    request = HttpRequest(method, str(url), headers=headers)
    pipeline: Any = SimpleNamespace(http_request=request, context=SimpleNamespace(transport=None))
    if service == "table":
        policy: Any = tables.SharedKeyCredentialPolicy(AzureNamedKeyCredential("acme", KEY))
        pipeline = SimpleNamespace(http_request=request, query={}, context=pipeline.context)
        policy.sign_request(SimpleNamespace(http_request=request, context=pipeline.context))
    else:
        policy = blobs.SharedKeyCredentialPolicy("acme", KEY)
        request.query = query  # type: ignore[attr-defined]  # as the SDK's own requests have it
        policy.on_request(pipeline)

    own = SharedKey("acme", Secret(KEY), tables=service == "table")
    header = asyncio.run(own.header(method, url.raw_path, query, headers))

    assert request.headers["Authorization"] == header


class Issuer:
    """Issues numbered tokens for Storage."""

    def __init__(self) -> None:
        self.issued = 0

    async def get_token(self, *scopes: str, **_: Any) -> AccessToken:
        """Issue a token."""
        assert scopes == ("https://storage.azure.com/.default",)
        self.issued += 1
        return AccessToken(f"token-{self.issued}", int(time.time() + 3600))


async def test_a_token_that_storage_refuses_is_not_used_again():
    """Requests have the identity's token until then."""
    issuer: Any = Issuer()
    credential = Credential(None, lambda: issuer)
    tokens = Tokens(lambda: credential)

    assert ["Bearer token-1"] * 2 == [await tokens.header() for _ in range(2)]
    tokens.refused()
    assert "Bearer token-2" == await tokens.header()
