from collections.abc import Callable
from dataclasses import replace

import httpx
import pytest

from shared.connections.endpoint import Endpoint, parse_endpoint
from shared.connections.endpoint_shapes import PROVIDER_HOSTS
from shared.errors import ConnectionInvalid
from shared.upstream.egress_policy import DEFAULT_ALLOWED_SUFFIXES, ENTRA_SUFFIXES, check_allowed
from tests.support.rows import every_row

GA = "2024-10-21"
MODELS = "2024-05-01-preview"
CHAT = "/chat/completions"
CLAUDE_CHAT = "/messages"
V = "?api-version="

# (pasted, provider argument) -> (provider, style, base, deployment, api version, key header, scope, chat URL)
# The job's model is always `m`.
SHAPES: list[tuple[str, str | None, str, str, str, str | None, str | None, str, str | None, str]] = []


def shape(
    pasted: str,
    own_provider: str | None,
    provider: str,
    style: str,
    base: str,
    *,
    scope: str | None = None,
    deployment: str | None = None,
    header: str = "api-key",
) -> None:
    version = {"deployments": GA, "models": MODELS}.get(style)
    operation = CLAUDE_CHAT if style == "messages" else CHAT
    middle = f"/deployments/{deployment or 'm'}" if style == "deployments" else ""
    chat = f"{base}{middle}{operation}" + (f"{V}{version}" if version else "")
    SHAPES.append((pasted, own_provider, provider, style, base, deployment, version, header, scope, chat))


for cloud in ("com", "us", "cn"):
    AI, COGNITIVE = f"https://ai.azure.{cloud}/.default", f"https://cognitiveservices.azure.{cloud}/.default"
    for name in ("openai", "cognitiveservices"):
        R = f"https://r.{name}.azure.{cloud}"
        D = f"{R}/openai/deployments/gpt-4.1_eu"
        shape(f"{R}/openai/v1", None, "azure_openai", "v1", f"{R}/openai/v1", scope=AI)
        shape(R, None, "azure_openai", "deployments", f"{R}/openai", scope=COGNITIVE)
        shape(f"{R}/openai", "foundry", "foundry", "deployments", f"{R}/openai", scope=COGNITIVE)
        shape(D, None, "azure_openai", "deployments", f"{R}/openai", scope=COGNITIVE, deployment="gpt-4.1_eu")
    R = f"https://r.services.ai.azure.{cloud}"
    P = f"{R}/api/projects/P-1"
    shape(R, None, "foundry", "v1", f"{R}/openai/v1", scope=AI)
    shape(f"{R}/openai/v1", None, "foundry", "v1", f"{R}/openai/v1", scope=AI)
    shape(f"{R}/openai/v1", "azure_openai", "azure_openai", "v1", f"{R}/openai/v1", scope=AI)
    shape(P, None, "foundry", "v1", f"{P}/openai/v1", scope=AI)
    shape(f"{P}/openai", None, "foundry", "v1", f"{P}/openai/v1", scope=AI)
    shape(f"{P}/openai/v1", None, "foundry", "v1", f"{P}/openai/v1", scope=AI)
    shape(f"{R}/models", None, "foundry", "models", f"{R}/models", scope=COGNITIVE)
    shape(f"{R}/openai", None, "foundry", "deployments", f"{R}/openai", scope=COGNITIVE)

AI, COGNITIVE = "https://ai.azure.com/.default", "https://cognitiveservices.azure.com/.default"
R = "https://westus.api.cognitive.microsoft.com"
shape(R, None, "azure_openai", "deployments", f"{R}/openai")
R = "https://llama.eastus2.models.ai.azure.com"
shape(R, None, "foundry", "models", R, scope=COGNITIVE, header="authorization")
shape(f"{R}/v1", None, "foundry", "v1", f"{R}/v1", scope=AI, header="authorization")
for R in ("https://api.openai.com", "https://eu.api.openai.com", "https://us.api.openai.com"):
    shape(R, None, "openai", "v1", f"{R}/v1", header="authorization")
    shape(f"{R}/v1", None, "openai", "v1", f"{R}/v1", header="authorization")
for cloud in ("com", "us", "cn"):
    R, SCOPE = f"https://r.services.ai.azure.{cloud}", f"https://ai.azure.{cloud}/.default"
    for text, name in (
        (f"{R}/anthropic", None),
        (f"{R}/anthropic/v1", None),
        (f"{R}/Anthropic/v1/messages", "anthropic"),
        (R, "anthropic"),
    ):
        api = "Anthropic" if "Anthropic" in text else "anthropic"
        shape(text, name, "anthropic", "messages", f"{R}/{api}/v1", scope=SCOPE, header="x-api-key")
A = "https://api.anthropic.com"
for text in (A, f"{A}/v1", f"{A}/v1/messages", f"{A}/v1/messages/batches", f"{A}/v1/models"):
    shape(text, None, "anthropic", "messages", f"{A}/v1", header="x-api-key")
for G in ("https://gw.contoso.com/ai/x", "https://gw.contoso.us:8443/a%20b", "http://127.0.0.1:9000"):
    for text in (G, f"{G}/v1"):
        shape(text, "anthropic", "anthropic", "messages", f"{G}/v1", scope=AI, header="x-api-key")
    shape(f"{G}/anthropic", "anthropic", "anthropic", "messages", f"{G}/anthropic/v1", scope=AI, header="x-api-key")
for G in ("https://gw.contoso.com/ai/x", "https://gw.contoso.us:8443/a%20b", "http://127.0.0.1:9000"):
    A, D, P = "azure_openai", f"{G}/openai/deployments/D", f"{G}/api/projects/P"
    shape(G, A, A, "deployments", f"{G}/openai", scope=COGNITIVE)
    shape(f"{G}/openai", A, A, "deployments", f"{G}/openai", scope=COGNITIVE)
    shape(D, A, A, "deployments", f"{G}/openai", scope=COGNITIVE, deployment="D")
    shape(f"{G}/openai/v1", A, A, "v1", f"{G}/openai/v1", scope=AI)
    shape(f"{G}/v1", A, A, "v1", f"{G}/v1", scope=AI)
    shape(G, "foundry", "foundry", "v1", f"{G}/openai/v1", scope=AI)
    shape(P, "foundry", "foundry", "v1", f"{P}/openai/v1", scope=AI)
    shape(f"{G}/models", "foundry", "foundry", "models", f"{G}/models", scope=COGNITIVE)
    shape(G, "openai", "openai", "v1", f"{G}/v1", header="authorization")
    shape(f"{G}/v1", "openai", "openai", "v1", f"{G}/v1", header="authorization")
    shape(f"{G}/openai/v1", "openai", "openai", "v1", f"{G}/openai/v1", header="authorization")


def with_host(pasted: str, change: Callable[[str], str]) -> str:
    """Change scheme and host of what was pasted, unless it has a port."""
    scheme, _, rest = pasted.partition("://")
    host, slash, path = rest.partition("/")
    return pasted if ":" in host else f"{change(f'{scheme}://{host}')}{slash}{path}"


VARIANTS: dict[str, Callable[[str], str]] = {
    "as it is": str,
    "trailing slash": "{}/".format,
    "double slashes": lambda pasted: f"{pasted.replace('/', '//').replace('////', '//')}//",
    "pasted chat": "{}/chat/completions".format,
    "pasted completions": "{}/completions".format,
    "pasted embeddings": "{}/embeddings/".format,
    "pasted images": "{}/images/generations".format,
    "pasted edits": "{}/images/edits".format,
    "pasted responses": "{}/responses".format,
    "empty query": "{}?".format,
    "empty version": "{}?api-version=".format,
    "fragment": "{}#overview".format,
    "upper-case host": lambda pasted: with_host(pasted, str.upper),
    "default port": lambda pasted: with_host(pasted, "{}:443".format),
    "trailing dot": lambda pasted: with_host(pasted, "{}.".format),
    "no scheme": lambda pasted: pasted.removeprefix("https://"),
    "white space": " \t{}\r\n".format,
    "quotes": "“{}”".format,
    "JSON": '"{}",'.format,
    "angle brackets": "<{}>".format,
}


OPENAI_ONLY = {name for name in VARIANTS if name.startswith("pasted ")}


@every_row("row", SHAPES, ids=lambda row: f"{row[0]} {row[1]}")
def test_every_shape_is_parsed_however_it_was_pasted(row):
    """An endpoint has the same meaning with and without what people paste along with it."""
    pasted, own_provider, provider, style, base, deployment, version, header, scope, chat = row
    host = base.partition("://")[2].partition("/")[0].partition(":")[0]
    expected = (Endpoint(provider, style, base, deployment, version, header, scope, host), chat)

    variants = {name: variant for name, variant in VARIANTS.items() if style != "messages" or name not in OPENAI_ONLY}
    parsed = {name: parse_endpoint(variant(pasted), provider=own_provider) for name, variant in variants.items()}

    operation = chat.partition("?")[0].removeprefix(f"{base}/") if style == "messages" else "chat/completions"
    wrong = {name: each for name, each in parsed.items() if (each, each.url(operation, "m")) != expected}
    assert {} == wrong


@every_row("row", [row for row in SHAPES if row[3] != "messages"], ids=lambda row: f"{row[0]} {row[1]}")
def test_members_of_the_connection_take_precedence(row):
    """The API version in a pasted query replaces the default, and the connection's own replaces both."""
    pasted, own_provider, *_, chat = row
    text = f"{pasted}/chat/completions?api-version=2025-04-01-preview"

    with_version = parse_endpoint(text, provider=own_provider)
    overridden = parse_endpoint(text, provider=own_provider, api_version="preview")

    bare = chat.partition("?")[0]
    assert f"{bare}?api-version=2025-04-01-preview" == with_version.url("chat/completions", "m")
    assert f"{bare}?api-version=preview" == overridden.url("chat/completions", "m")


@every_row("text", [None, "", "  ", '""'])
def test_key_or_provider_of_openai_needs_no_endpoint(text):
    """A key that begins with sk-, or the provider openai, is enough for OpenAI; an endpoint overrides the key."""
    by_key = parse_endpoint(text, key_provider="openai")
    by_provider = parse_endpoint(text, provider="openai")
    azure = "https://r.openai.azure.com/openai/v1"

    assert parse_endpoint("https://api.openai.com/v1") == by_key == by_provider
    assert parse_endpoint(azure) == parse_endpoint(azure, key_provider="openai")


@pytest.mark.parametrize("provider", [None, "anthropic"])
def test_key_of_anthropic_needs_no_endpoint(provider):
    """A key that begins with sk-ant- is enough for Anthropic's API. Another key of Claude's may be one of Foundry's."""
    by_key = parse_endpoint("", provider=provider, key_provider="anthropic")

    assert parse_endpoint("https://api.anthropic.com/v1") == by_key
    assert "needs an `endpoint`" in refusal_of(parse_endpoint, "", provider="anthropic")
    assert "needs an `endpoint`" in refusal_of(parse_endpoint, "", provider="anthropic", key_provider="openai")


@every_row(
    ("text", "provider", "part"),
    [
        ("https://r.services.ai.azure.com/anthropic/v1", "foundry", "`provider` must be anthropic"),
        ("https://r.services.ai.azure.com/openai/v1", "anthropic", "services.ai.azure.com/anthropic/v1"),
        ("https://r.openai.azure.com/anthropic/v1", None, "path that its host does not serve"),
        ("https://r.openai.azure.com", "anthropic", "has a host of azure_openai"),
        ("https://api.anthropic.com", "openai", "has a host of anthropic"),
        ("https://api.anthropic.com/anthropic/v1", None, "such as https://api.anthropic.com/v1"),
    ],
)
def test_claude_elsewhere_is_refused(text, provider, part):
    """What can't be Claude's API, or is named as another's, is refused, and the message says what it should be."""
    assert part in refusal_of(parse_endpoint, text, provider=provider)


@every_row(
    ("text", "provider", "has_list"),
    [
        ("https://r.services.ai.azure.com/anthropic", None, False),
        ("https://gw.contoso.com/anthropic", "anthropic", False),
        ("https://api.anthropic.com", None, True),
        ("https://r.services.ai.azure.com/models", None, False),
        ("https://r.services.ai.azure.com", None, True),
    ],
)
def test_model_lists(text, provider, has_list):
    """Claude in Foundry has no list of models, nor has Foundry's older route."""
    assert has_list == parse_endpoint(text, provider=provider).has_model_list


def test_version_of_claude_is_in_no_url():
    """What was pasted along as the API version doesn't count: Claude's is in a header."""
    endpoint = parse_endpoint("https://r.services.ai.azure.com/anthropic?api-version=2024-10-21")

    assert "https://r.services.ai.azure.com/anthropic/v1/messages" == endpoint.url("messages", "m")


@every_row(
    ("text", "provider", "version", "url"),
    [
        ("contoso-ai", None, None, "https://contoso-ai.openai.azure.com/openai/v1"),
        (' "contoso-ai-2", ', "azure_openai", None, "https://contoso-ai-2.openai.azure.com/openai/v1"),
        ("contoso-ai", "foundry", None, "https://contoso-ai.services.ai.azure.com/openai/v1"),
        ("contoso-ai", "anthropic", None, "https://contoso-ai.services.ai.azure.com/anthropic/v1"),
        ("contoso-ai", None, GA, f"https://contoso-ai.openai.azure.com?api-version={GA}"),
    ],
)
def test_a_resource_name_is_completed(text, provider, version, url):
    """The name of an Azure resource is its endpoint; with a version of the API, in the style that has versions."""
    assert parse_endpoint(url, provider=provider) == parse_endpoint(text, provider=provider, api_version=version)


@every_row(
    ("text", "provider"),
    [
        ("contoso-ai", "openai"),
        *((text, None) for text in ("contosoai", "Contoso-AI", "contoso_ai", "4711-0815", "contoso--ai", "contoso-")),
        *((text, None) for text in ("sk-proj-abc", "0f0e0d0c-0b0a-0908-0706-050403020100", "a-" + "b" * 31, "a" * 32)),
    ],
)
def test_what_may_be_a_key_is_no_resource_name(text, provider):
    """A host is looked up in public, so no word that could be a key becomes one, and OpenAI has no resources."""
    with pytest.raises(ConnectionInvalid, match="must be a URL, such as") as refused:
        parse_endpoint(text, provider=provider)

    assert text not in str(refused.value)


@every_row(
    ("operation", "model", "expected"),
    [
        ("completions", "m", "deployments/m/completions"),
        ("embeddings", "m", "deployments/m/embeddings"),
        ("images/generations", "m", "deployments/m/images/generations"),
        ("/images/edits/", "m", "deployments/m/images/edits"),
        ("models", "m", "models"),
        ("responses", "m", "responses"),
        ("files", "m", "files"),
        ("embeddings", "a/b", "deployments/a%2Fb/embeddings"),
        ("embeddings", "a b", "deployments/a%20b/embeddings"),
        ("embeddings", "ä?#", "deployments/%C3%A4%3F%23/embeddings"),
        ("embeddings", "../x", "deployments/..%2Fx/embeddings"),
        ("embeddings", "\ud800", "deployments/%3F/embeddings"),
        ("chat/completions", "", None),
        ("chat/completions", ".", None),
        ("chat/completions", "..", None),
    ],
)
def test_url_of_an_operation_in_the_deployment_style(operation, model, expected):
    """
    Only operations of a deployment are under it. A job's model stays one segment of the path, whatever it contains:
    dots would leave the path, and an empty name would collapse it.
    """
    endpoint = parse_endpoint("https://r.openai.azure.com")

    if expected is None:
        with pytest.raises(ConnectionInvalid, match="`model`"):
            endpoint.url(operation, model)
    else:
        assert f"https://r.openai.azure.com/openai/{expected}?api-version={GA}" == endpoint.url(operation, model)


@every_row(
    ("text", "api_version", "for_images", "for_chat"),
    [
        ("/openai/deployments/d", None, "2025-04-01-preview", GA),
        ("/openai/deployments/d", GA, GA, GA),
        ("/openai/deployments/d?api-version=2025-03-01", None, "2025-03-01", "2025-03-01"),
        ("/openai/v1", None, None, None),
        ("/openai/v1", "preview", "preview", "preview"),
    ],
)
def test_images_need_a_preview_version(text, api_version, for_images, for_chat):
    """In the deployment style, images have a preview version, unless the connection names a version."""
    endpoint = parse_endpoint(f"https://r.openai.azure.com{text}", api_version=api_version)

    assert for_images == endpoint.for_operation("images/generations").api_version
    assert for_chat == endpoint.for_operation("chat/completions").api_version


@every_row(
    ("pasted", "provider", "base"),
    [
        ("https://[0:0::0:1]:8443/x", "openai", "https://[::1]:8443/x/v1"),
        ("http://localhost:80", "openai", "http://localhost/v1"),
        ("localhost:8080", "openai", "https://localhost:8080/v1"),
        ("https://xn--rbe-hoa.contoso.com:00443", "openai", "https://xn--rbe-hoa.contoso.com/v1"),
        ("https://gw.contoso.com/a%7Eb/%41", "openai", "https://gw.contoso.com/a~b/A/v1"),
        ("//gw.contoso.com/x", "openai", "https://gw.contoso.com/x/v1"),
        ("https://api.openai.com/v1/models", None, "https://api.openai.com/v1"),
        ("https://r.openai.azure.com/openai/models", None, "https://r.openai.azure.com/openai"),
        ("https://r.services.ai.azure.com/models/info", None, "https://r.services.ai.azure.com/models"),
    ],
)
def test_urls_are_normalized(pasted, provider, base):
    """
    Two spellings of one URL have the same base, as caches and comparisons require. `/models` after /v1 or /openai is an
    operation; directly under a Foundry host it is the inference route.
    """
    endpoint = parse_endpoint(pasted, provider=provider)

    assert (base, httpx.URL(base).raw_host.decode()) == (endpoint.base, endpoint.host)


@every_row("name", ["embeddings", "chat", "v1", "openai", "models", "completions"])
def test_deployments_and_projects_may_be_named_like_parts_of_a_path(name):
    """A deployment or project named `embeddings` or `v1` is not mistaken for an operation or a route."""
    pasted = f"https://r.openai.azure.com/openai/deployments/{name}"
    project = f"https://r.services.ai.azure.com/api/projects/{name}"

    assert name == parse_endpoint(pasted).deployment
    assert name == parse_endpoint(f"{pasted}/chat/completions").deployment
    assert f"{project}/openai/v1" == parse_endpoint(project).base
    assert f"{project}/openai/v1" == parse_endpoint(f"{project}/openai/v1/responses").base


def test_deployment_of_the_endpoint_takes_precedence():
    """Path and body have the deployment that was pasted."""
    endpoint = parse_endpoint("https://r.openai.azure.com/openai/deployments/D%20x")

    assert "/deployments/D%20x/" in endpoint.url("chat/completions", "m")
    assert endpoint.model_in_body("m") == "D x"
    assert replace(endpoint, deployment=None).model_in_body("m") == "m"


SECRET = "s3cr3t"
REFUSED_AS = {
    (None, "needs an `endpoint`"): [None],
    ("azure_openai", "needs an `endpoint`"): [""],
    (None, "have a host"): [
        *("https://", "https:///openai/v1", "https://:443/", "https://-r.openai.azure.com"),
        *("https://r..openai.azure.com", "https://r%2eopenai.azure.com", "https://{resource}.openai.azure.com"),
        *(f"https://{'r' * 64}.openai.azure.com", f"https://{'r.' * 120}openai.azure.com"),
    ],
    (None, "must be a URL"): ["https:/r.openai.azure.com", "javascript:alert(1)"],
    (None, "a port, if any"): [
        *("https://r.openai.azure.com:", "https://r.openai.azure.com:0", "https://r.openai.azure.com:65536"),
        f"https://r.openai.azure.com:{SECRET}",
    ],
    ("openai", "have a host"): ["https://[::1", "https://[:::]/", "https://[fe80::1%25eth0]/"],
    (None, "`api_key`"): [
        *(f"https://user:{SECRET}@r.openai.azure.com", f"{SECRET}@r.openai.azure.com", f"user:{SECRET}@host"),
        *(f"sk-proj-{SECRET}", f"https://r.openai.azure.com/?api-version=2024-10-21&code={SECRET}"),
        f"https://r.openai.azure.com/?{SECRET}",
    ],
    ("openai", "`api_key`"): [f"sk-{SECRET}.x.y", f"https://gw.contoso.com/?subscription-key={SECRET}"],
    ("azure_openai", "`api_key`"): [SECRET * 14],
    (None, "https URL"): [f"ftp://r.openai.azure.com/{SECRET}", "file:///etc/passwd"],
    (None, "white space"): [
        *("https://r.openai.azure.com/open ai", "https://r.openai.azure.com/\x00"),
        "https://r.openai.azure.com/\nx",
    ],
    (None, "backslash"): ["https://r.openai.azure.com\\@evil.com"],
    (None, "xn--"): ["https://rübe.openai.azure.com"],
    (None, "`provider`"): [
        *("https://gw.contoso.com/ai", "https://r.openai.azure.com.evil.com/openai/v1"),
        *("https://evilopenai.azure.com/openai/v1", "http://localhost:8080/openai/v1"),
    ],
    ("openai", "is openai, but"): ["https://r.openai.azure.com", "https://r.services.ai.azure.com"],
    ("azure_openai", "is azure_openai, but"): ["https://api.openai.com/v1", "https://x.eastus.models.ai.azure.com"],
    ("gemini", "one of azure_openai, foundry, openai, anthropic"): ["https://r.openai.azure.com"],
    ("openai", "must be azure_openai"): ["https://gw.contoso.com/openai/deployments/D"],
    (None, "does not serve"): [
        *("https://r.openai.azure.com/v1", "https://r.openai.azure.com/models"),
        "https://r.services.ai.azure.com/api/projects/P/models",
        *("https://r.services.ai.azure.com/x/openai/v1", "https://api.openai.com/v2"),
    ],
    (None, "segments"): ["https://r.openai.azure.com/openai/./v1"],
    (None, "2024-10-21"): [f"https://r.openai.azure.com/?api-version={SECRET}="],
    (None, "not several"): ["https://r.openai.azure.com/?api-version=a&api-version=b"],
    (None, "2,048"): [f"https://r.openai.azure.com/{'x' * 2048}"],
}
"""What is pasted, by its provider and what its refusal says."""
REFUSED = [
    *((pasted, *case) for case, texts in REFUSED_AS.items() for pasted in texts),
    *(
        (f"https://r.openai.azure.com/openai/deployments/{path}", None, words)
        for words, paths in {
            "segments": ("../v1", "%2e%2E", "a%2Fb", "a%5cb", "a%252Fb", "a%00b", "%ff"),
            "placeholder": ("{deployment-id}/embeddings", "a%zz"),
            "does not serve": ("D/x/y",),
        }.items()
        for path in paths
    ),
]


@every_row(("pasted", "provider", "words"), REFUSED)
def test_an_invalid_endpoint_is_refused_with_a_sentence(pasted, provider, words):
    """The error says what is valid, in full sentences, and quotes nothing."""
    message = refusal_of(parse_endpoint, pasted, provider=provider)

    assert words in message
    assert "`endpoint`" in message or "`provider`" in message
    assert message.endswith(".")
    assert SECRET not in message


def refusal_of(function: Callable[..., object], *args: object, **options: object) -> str:
    """The message of the error that a call raises."""
    with pytest.raises(ConnectionInvalid) as refused:
        function(*args, **options)
    return str(refused.value)


def test_invalid_api_version_of_the_connection_is_refused():
    """A version that would add to the query is refused, in the connection's own member, too."""
    with pytest.raises(ConnectionInvalid, match="`api_version`"):
        parse_endpoint("https://r.openai.azure.com", api_version="2024-10-21&x=y")


def test_provider_hosts_are_those_allowed_by_default():
    """Every host that identifies its provider is on the default allow-list, and no other is."""
    assert sorted(PROVIDER_HOSTS) == sorted(DEFAULT_ALLOWED_SUFFIXES)


def test_tokens_go_only_to_provider_hosts_that_take_them():
    """The hosts that may get the app's own token are exactly Microsoft's AI services that take Entra tokens."""
    assert sorted(suffix for suffix, family in PROVIDER_HOSTS.items() if family.entra) == sorted(ENTRA_SUFFIXES)


LOCAL = [
    *("http://127.0.0.1:10000/x", "https://127.8.9.1", "http://[::1]:7071", "http://localhost"),
    "http://LOCALHOST.:1/",
]
"""With ALLOW_LOCAL_ENDPOINTS, http and https on loopback are allowed, on any port."""
NOT_LOCAL = [
    *("http://10.0.0.4", "http://169.254.169.254", "http://0.0.0.0", "http://127.1", "http://2130706433"),
    *("http://x.localhost", "http://localhost.evil.com", "http://127.0.0.1.evil.com", "http://[::ffff:127.0.0.1]"),
    "http://r.openai.azure.com",
]
"""Only loopback in its plain spellings is local; http to other hosts stays refused."""


@every_row(
    "url",
    [
        "https://r.openai.azure.com/openai/v1",
        "https://R.OpenAI.Azure.com./openai/v1",
        "https://api.openai.com",
        "https://eu.api.openai.com:443/v1?x=y",
        "https://gw.contoso.com:8443/ai",
        "https://gw.contoso.com:1",
        "https://gw.contoso.com:65535",
        "HTTPS://gw.contoso.com#x",
        "https://a.b.fabrikam.example/x",
        "https://litware.example",
        *LOCAL,
    ],
)
def test_hosts_under_a_suffix_are_allowed(url):
    """A suffix allows its host and all hosts under it, in any case; local hosts need no suffix, but their switch."""
    suffixes = (*DEFAULT_ALLOWED_SUFFIXES, ".Contoso.com", "*.fabrikam.example.", " litware.example ")

    check_allowed(url, suffixes=() if url in LOCAL else suffixes, allow_local=True)
    if url not in LOCAL:
        check_allowed(url, suffixes=suffixes, allow_local=False)


OTHERS = {
    "ALLOWED_ENDPOINT_SUFFIXES": ["https://evil.com/openai/v1"],
    "openai.azure.com, openai.azure.us": ["https://r.openai.azure.com.evil.com"],
    "not allowed": ["https://evilopenai.azure.com", "https://azure.com"],
    "https://": ["http://r.openai.azure.com", "http://169.254.169.254/metadata/instance"],
    "not an IP address": [
        *("https://169.254.169.254/metadata/instance", "https://10.0.0.4", "https://2130706433"),
        *("https://0x7f000001", "https://0x7f.1", "https://0177.0.0.1", "https://127.1"),
        *("https://1.openai.azure.1", "https://[2606:4700::1111]", "https://[::ffff:127.0.0.1]"),
        *("https://[::]", "https://intranet", "https://x.localhost"),
    ],
    "ALLOW_LOCAL_ENDPOINTS": ["https://localhost.", "http://127.0.0.1:10000", "http://127.9.9.9", "https://[::1]:1"],
    "must be an https URL": [
        *("https://user@r.openai.azure.com", "https://evil.com\\.openai.azure.com"),
        *("https://evil.com%2f.openai.azure.com", "https://r.openai.azure.com:0"),
        *("https://r.openai.azure.com:65536", "https://r.openai.azure.com/a b", "https://r.openai.azure.com\n"),
        *("https://ópenai.azure.com", "ftp://r.openai.azure.com", "//r.openai.azure.com", "r.openai.azure.com"),
        "",
    ],
}
"""URLs by what their refusal says."""


@every_row(
    ("url", "allow_local", "words"),
    [
        *((url, False, words) for words, urls in OTHERS.items() for url in urls),
        *((url, True, "The `endpoint` must") for url in NOT_LOCAL),
    ],
)
def test_other_hosts_are_refused(url, allow_local, words):
    """Everything except https to a host under a suffix is refused; the error names the setting and the member."""
    message = refusal_of(check_allowed, url, suffixes=DEFAULT_ALLOWED_SUFFIXES, allow_local=allow_local)

    assert words in message
    assert "`endpoint`" in message
    options = {"suffixes": DEFAULT_ALLOWED_SUFFIXES, "allow_local": allow_local, "member": "callback"}
    assert message.replace("`endpoint`", "`callback`") == refusal_of(check_allowed, url, **options)


@every_row("suffixes", [(), ("",), (".",), ("*",), (" ",)])
def test_empty_suffix_allows_nothing(suffixes):
    """A stray comma in the setting does not open every host."""
    message = refusal_of(check_allowed, "https://r.openai.azure.com", suffixes=suffixes, allow_local=False)

    assert "no suffix at all" in message
