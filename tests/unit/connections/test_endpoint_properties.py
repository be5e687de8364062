import time
from contextlib import suppress
from dataclasses import replace

import httpx
import yarl
from hypothesis import assume, example, given
from hypothesis import strategies as st

from shared.connections.endpoint import PROVIDERS, parse_endpoint
from shared.errors import ConnectionInvalid
from shared.upstream.egress_policy import DEFAULT_ALLOWED_SUFFIXES, check_allowed
from tests.support.rows import every_row

SECRET = "s3cr3tM4RK"

hosts = st.sampled_from(
    [
        *("r.openai.azure.com", "R.cognitiveservices.azure.us", "r.services.ai.azure.com", "api.openai.com"),
        *("api.anthropic.com", "R.services.ai.azure.com"),
        *("x.eastus.models.ai.azure.com", "westus.api.cognitive.microsoft.com", "gw.contoso.com:8443"),
        *("127.0.0.1:9000", "[::1]:9000", "evil.com", "r.openai.azure.com.evil.com", "intranet", "0x7f.1"),
    ]
)
segments = st.sampled_from(
    [
        *("openai", "OpenAI", "v1", "models", "deployments", "api", "projects", "P", "gpt-4.1", "a%20b"),
        *("chat", "completions", "embeddings", "images", "generations", "responses", "..", "%2e", "a%2Fb", ""),
        *("anthropic", "messages", "batches"),
    ]
)
queries = st.sampled_from(["", "?api-version=2024-10-21", "?", "?api-version=", "#x", "?a=b"])
addresses = st.builds(
    lambda scheme, host, path, query: scheme + host + "".join(f"/{segment}" for segment in path) + query,
    st.sampled_from(["https://", "http://", "HTTPS://", "", "//"]),
    hosts,
    st.lists(segments, max_size=8),
    queries,
)
noise = st.text(alphabet=st.sampled_from("ahst:/\\?#@[]%.-_0 1x\t\n\x00é“{}"), max_size=40)
pasted = st.one_of(addresses, noise, st.text(), st.builds(str.__add__, addresses, noise))
providers = st.sampled_from([None, *PROVIDERS])
operations = st.sampled_from(["chat/completions", "embeddings", "completions", "images/generations"])
models = st.text(st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="/\\%\ufffd"), min_size=1)


def refusal(function, *args, **kwargs) -> str:
    """Return the error message, or an empty text if there is no error."""
    try:
        function(*args, **kwargs)
    except ConnectionInvalid as refused:
        return str(refused)
    return ""


@given(pasted, providers, st.one_of(st.none(), st.text()), st.sampled_from([None, "openai", "anthropic"]))
def test_parsing_returns_an_endpoint_or_an_error(text, provider, version, key_provider):
    """Any text is either an endpoint or refused; the host that is checked is the one that its URLs go to."""
    with suppress(ConnectionInvalid):
        endpoint = parse_endpoint(text, provider=provider, api_version=version, key_provider=key_provider)

        assert endpoint.host == httpx.URL(endpoint.base).host
        assert endpoint.host == httpx.URL(endpoint.url("chat/completions", "m")).host
        assert endpoint.base.isascii()
        assert not endpoint.base.endswith("/")
        check_allowed(endpoint.base, suffixes=DEFAULT_ALLOWED_SUFFIXES, allow_local=False)
        assert any(f".{endpoint.host}".endswith(f".{suffix}") for suffix in DEFAULT_ALLOWED_SUFFIXES)


@given(addresses, providers, operations, models)
def test_a_built_url_parses_to_its_endpoint(text, provider, operation, model):
    """
    A URL that was built from an endpoint can be parsed, to that endpoint with the model as its deployment. Neither
    httpx nor yarl, which send the request, changes it.
    """
    assume(model not in (".", ".."))
    try:
        endpoint = parse_endpoint(text, provider=provider)
    except ConnectionInvalid:
        return
    operation = "messages" if endpoint.style == "messages" else operation  # it has none of OpenAI's
    url = endpoint.url(operation, model)
    again = parse_endpoint(url, provider=provider)

    parse_endpoint(endpoint.base, provider=provider)
    named = (endpoint.deployment or model) if endpoint.style == "deployments" else None
    assert replace(endpoint, deployment=named) == again
    assert url == again.url(operation, "another") == str(httpx.URL(url)) == str(yarl.URL(url, encoded=True))


@given(hosts, providers, st.sampled_from(["https://", "http://", "ftp://", ""]), noise, noise)
def test_no_error_shows_a_secret(host, provider, scheme, before, after):
    """A key in the user info, query, fragment, port or path of an endpoint is in no message."""
    marked = before + SECRET + after
    for text in (
        f"{scheme}user:{marked}@{host}",
        f"{scheme}{marked}@{host}/openai/v1",
        f"{scheme}{host}:{marked}",
        f"{scheme}{host}/?api-key={marked}",
        f"{scheme}{host}/?api-version={marked}",
        f"{scheme}{host}/openai/v1#{marked}",
        f"{scheme}{host}/{marked}",
        marked,
        f"sk-{marked}",
    ):
        message = refusal(parse_endpoint, text, provider=provider)
        message += refusal(check_allowed, text, suffixes=("contoso.com",), allow_local=False)

        assert SECRET.lower() not in message.lower()


@given(pasted)
@example("https://evil.com?.openai.azure.com")
@example("https://evil.com#.openai.azure.com")
@example("https://evil.com/.openai.azure.com")
@example("https://evil.com\\.openai.azure.com")
@example("https://evil.com:80@r.openai.azure.com")
@example("https://r.openai.azure.com:80:90")
@example("https://r.openai.azure.com.")
def test_no_other_host_is_allowed(url):
    """What is allowed is https to a host under a suffix, as httpx and yarl parse the URL, too."""
    with suppress(ConnectionInvalid):
        check_allowed(url, suffixes=DEFAULT_ALLOWED_SUFFIXES, allow_local=False)
        for seen in (httpx.URL(url), yarl.URL(url)):
            host = (seen.host or "").removesuffix(".")

            assert seen.scheme == "https"
            assert any(f".{host}".endswith(f".{suffix}") for suffix in DEFAULT_ALLOWED_SUFFIXES)


@every_row("text", ["/" * 2000, "https://gw.co/" + "/openai" * 290, "https://gw.co/" + "a/" * 1000])
@every_row("provider", PROVIDERS)
def test_hostile_paths_are_parsed_quickly(text, provider):
    """A path made for catastrophic backtracking is parsed or refused at once."""
    started = time.process_time()

    with suppress(ConnectionInvalid):
        parse_endpoint(text, provider=provider)

    assert time.process_time() - started < 1
