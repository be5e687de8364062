"""How direct requests are authorized: the signatures are the SDK's, and tokens are renewed in time."""

from __future__ import annotations

import asyncio
import time
from types import SimpleNamespace
from typing import Any

import pytest
from azure.core.credentials import AccessToken, AzureNamedKeyCredential
from azure.core.exceptions import ClientAuthenticationError
from azure.core.rest import HttpRequest
from azure.data.tables import _authentication as tables
from azure.storage.blob._shared import authentication as blobs
from hypothesis import given
from hypothesis import strategies as st
from yarl import URL

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
    header = asyncio.run(own.header(method, url.raw_path, query, dict(sorted(headers.items()))))

    assert request.headers["Authorization"] == header


class Credential:
    """Issues numbered tokens that are valid for `valid_s`, or fails."""

    def __init__(self, valid_s: float) -> None:
        self.valid_s = valid_s
        self.issued = 0
        self.fails = False

    async def get_token(self, *scopes: str) -> AccessToken:
        """Issue a token after a moment."""
        assert scopes == ("https://storage.azure.com/.default",)
        await asyncio.sleep(0)
        if self.fails:
            raise ClientAuthenticationError("No identity.")
        self.issued += 1
        return AccessToken(f"token-{self.issued}", int(time.time() + self.valid_s))


async def test_a_token_is_requested_once_and_renewed_in_time():
    """Many requests at once share one; five minutes before it expires, or if Storage refuses it, a new one is taken."""
    long, short = Credential(3600), Credential(299)
    tokens, renewed = Tokens(lambda: long), Tokens(lambda: short)  # type: ignore[arg-type, return-value]

    assert {"Bearer token-1"} == set(await asyncio.gather(*(tokens.header() for _ in range(20))))
    tokens.refused()
    assert "Bearer token-2" == await tokens.header()
    assert ["Bearer token-1", "Bearer token-2"] == [await renewed.header() for _ in range(2)]
    assert "token-" not in repr(tokens)


async def test_without_a_token_there_is_no_header():
    """The identity's error is azure-core's, and the next request asks again."""
    credential = Credential(3600)
    tokens = Tokens(lambda: credential)  # type: ignore[arg-type, return-value]
    credential.fails = True
    with pytest.raises(ClientAuthenticationError):
        await tokens.header()

    credential.fails = False
    assert "Bearer token-1" == await tokens.header()
