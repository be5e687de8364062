"""Reading a source of prices: from its host alone, within bounds, and every failure in one sentence."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable

import httpx
import pytest
from aiohttp import web

from aijobs.price_sources import download as downloading
from aijobs.price_sources.azure import next_page
from aijobs.price_sources.base import SourceError
from aijobs.price_sources.download import check_address, download
from aijobs.price_sources.sources import URLS
from tests.support.price_sources import PriceServer
from tests.support.rows import every_row


async def test_pages_are_followed(sources: PriceServer):
    """Each page names the next one, until one names none."""
    pages = await download(f"{sources.url}/azure", next_page)

    assert [{}, {"$skip": "1000"}] == sources.queries
    assert [126, 127] == [len(page["Items"]) for page in pages]


@pytest.mark.parametrize("name", ["azure", "genai-prices", "litellm"])
def test_address_is_that_of_the_source(name: str):
    """Each source is https; a next page may name the port that https has anyway, as Azure's do, and no other."""
    first = httpx.URL(URLS[name])

    check_address(URLS[name], first)
    check_address(f"https://{first.host}:443/api?$skip=1000", first)
    for other in (f"https://{first.host}:444/", f"http://{first.host}/", f"https://{first.host}.example.com/"):
        with pytest.raises(SourceError):
            check_address(other, first)


def page(link: object) -> web.Response:
    """A page without prices that names another."""
    return web.json_response({"Items": [], "NextPageLink": link})


ANSWERS: list[tuple[Callable[[], web.Response], str]] = [
    (lambda: web.Response(status=302, headers={"Location": "https://example.com/"}), "redirects to another address"),
    (lambda: web.Response(status=307, headers={"Location": "/azure?$skip=1"}), "redirects to another address"),
    (lambda: web.Response(status=429), "answered 429. Try again later."),
    (lambda: web.Response(status=503, text="<html>"), "answered 503. Try again later."),
    (lambda: web.Response(text="<html>"), "is not valid JSON"),
    (lambda: web.Response(text='{"Items": ['), "is not valid JSON"),
    (lambda: web.Response(text="[" * 100_000), "is not valid JSON"),
    (lambda: web.Response(text='{"Items": [NaN]}'), "is not valid JSON"),
    (lambda: web.Response(body=b"\xff\xfe{"), "is not valid JSON"),
    (lambda: page("https://example.com/azure"), "names a next page at another host (example.com)"),
    (lambda: page("http://127.0.0.1/azure"), "names a next page at another host"),
    (lambda: page("https://127.0.0.1:1/azure"), "names a next page at another host"),
    (lambda: page("https://me@127.0.0.1/azure"), "names a next page at another host"),
    (lambda: page("/azure?$skip=1"), "names a next page at another host"),
    (lambda: page("https://127.0.0.1:port/"), "names a next page that is not a URL"),
    (lambda: page(5), "`NextPageLink` of Azure's prices is not a text"),
]


@every_row(("answer", "sentence"), ANSWERS)
async def test_answer_that_is_not_followed(sources: PriceServer, answer: Callable[[], web.Response], sentence: str):
    """A redirect, an error, invalid JSON, and a next page elsewhere are refused, after one request."""
    sources.queries.clear()
    sources.answers["/azure"] = answer

    with pytest.raises(SourceError) as raised:
        await download(f"{sources.url}/azure", next_page)

    assert sentence in str(raised.value)
    assert str(raised.value).endswith(".")
    assert len(str(raised.value)) < 200
    assert 1 == len(sources.queries)


@pytest.mark.parametrize("encoding", ["identity", "gzip"])
async def test_size_is_bounded(sources: PriceServer, monkeypatch: pytest.MonkeyPatch, encoding: str):
    """A page that is too large is not read to its end, even if few bytes were sent."""
    monkeypatch.setattr(downloading, "MAX_PAGE_BYTES", 10_000)
    data = json.dumps({"Items": [], "text": "x" * 100_000}).encode()
    sources.answers["/azure"] = lambda: web.Response(
        body=data if encoding == "identity" else gzip.compress(data), headers={"Content-Encoding": encoding}
    )

    with pytest.raises(SourceError, match="sent more than 10,000 bytes"):
        await download(f"{sources.url}/azure", next_page)


async def test_all_pages_together_are_bounded(sources: PriceServer, monkeypatch: pytest.MonkeyPatch):
    """Pages that name one another without end are not followed without end, by their number and by their size."""
    sources.answers["/azure"] = lambda: page(f"{sources.url}/azure")
    monkeypatch.setattr(downloading, "MAX_PAGES", 1)
    with pytest.raises(SourceError, match="has more than 1 pages"):
        await download(f"{sources.url}/azure", next_page)


async def test_size_of_all_pages_is_bounded(sources: PriceServer, monkeypatch: pytest.MonkeyPatch):
    """The bound of all pages counts the pages before."""
    monkeypatch.setattr(downloading, "MAX_BYTES", 50_000)
    with pytest.raises(SourceError, match="sent more than"):
        await download(f"{sources.url}/azure", next_page)

    assert 2 == len(sources.queries)


async def test_time_is_bounded(sources: PriceServer, monkeypatch: pytest.MonkeyPatch):
    """A source that takes too long is given up, in words."""
    monkeypatch.setattr(downloading, "MAX_S", 0.0)
    with pytest.raises(SourceError, match=r"did not send everything within 0 seconds\. Try again later\."):
        await download(f"{sources.url}/azure", next_page)

    monkeypatch.setattr(downloading, "MAX_S", 60.0)
    monkeypatch.setattr(downloading, "_TIMEOUT_S", 0.000001)
    with pytest.raises(SourceError, match="did not answer within"):
        await download(f"{sources.url}/azure", next_page)


async def test_only_https_from_a_trusted_server(sources: PriceServer, monkeypatch: pytest.MonkeyPatch):
    """A certificate that nobody vouches for, a server that is not there, and plain http are refused."""
    with pytest.raises(SourceError, match="names a next page at another host"):
        await download("http://127.0.0.1:9/prices")
    with pytest.raises(SourceError, match=r"^127\.0\.0\.1 can't be reached: .*\.$"):
        await download("https://127.0.0.1:9/prices")
    monkeypatch.delenv("SSL_CERT_FILE")
    with pytest.raises(SourceError, match="can't be reached"):
        await download(f"{sources.url}/azure", next_page)
