"""
Parses a connection's `endpoint`: provider, base URL, API version, key header, Entra scope. Pure.

Error messages quote nothing of it, because a key may have been pasted anywhere, even into the host.
"""

import re
from dataclasses import dataclass, field, replace
from typing import Self
from urllib.parse import unquote

from shared.connections.endpoint_url import (
    DEFAULT_PORTS,
    encode_segment,
    is_resource_name,
    normalize_path,
    parse_api_version,
    parse_authority,
    split_url,
    unwrap,
)
from shared.errors import ConnectionInvalid

PROVIDERS = ("azure_openai", "foundry", "openai")

OPENAI_HOST = "api.openai.com"
_OPENAI_BASE = f"https://{OPENAI_HOST}/v1"
# The last GA version with a date, and the only version that the Foundry inference route published.
_DEFAULT_VERSIONS = {"deployments": "2024-10-21", "models": "2024-05-01-preview"}

# In the deployment style, newer models need the last preview version for these (Microsoft's pages on image generation
# and audio in Azure OpenAI). The v1 API and OpenAI's own have no versions.
_IN_PREVIEW = ("images/generations", "images/edits", "audio/speech", "audio/transcriptions")
_OPERATION_VERSIONS = dict.fromkeys(_IN_PREVIEW, "2025-04-01-preview")

# Operations that the official client sends to /deployments/NAME (openai 3.52, lib/azure.py). Others of that style, such
# as `models` or `files`, belong to the resource, directly under /openai.
_DEPLOYMENT_OPERATIONS = frozenset(
    {
        "audio/speech",
        "audio/transcriptions",
        "audio/translations",
        "chat/completions",
        "completions",
        "embeddings",
        "images/edits",
        "images/generations",
    }
)

_NAMES = (
    r"(?:chat/)?completions|embeddings|responses|moderations|files|batches|info"
    r"|images/(?:generations|edits|variations|embeddings)|audio/(?:speech|transcriptions|translations)"
)
_OPERATION = rf"(?:/(?:{_NAMES}))?"
_OR_LIST = rf"(?:/(?:{_NAMES}|models))?"  # after /v1 or /openai, `models` is an operation, not the inference route
_PREFIX = r"(?P<base>(?P<prefix>(?:/[^/]+)*?)"


def _path_pattern(text: str, operation: str = _OR_LIST) -> re.Pattern[str]:
    return re.compile(_PREFIX + text + operation, re.IGNORECASE)


_V1 = ("v1", _path_pattern(r"(?:/api/projects/[^/]+)?/openai/v1)"), "")
_PROJECT = ("v1", _path_pattern(r"/api/projects/[^/]+)(?:/openai)?", _OPERATION), "/openai/v1")
_DEPLOYMENTS = ("deployments", _path_pattern(r"/openai)(?:/deployments(?:/(?P<name>[^/]+))?)?"), "")
_MODELS = ("models", _path_pattern(r"/models)", _OPERATION), "")
_PLAIN_V1 = ("v1", _path_pattern(r"/v1)"), "")
_NO_API_PATH = _path_pattern(")", _OPERATION)


@dataclass(frozen=True, slots=True)
class _Family:
    """Hosts that serve the same APIs."""

    providers: tuple[str, ...]  # the first is the default if the connection names none
    shapes: tuple[tuple[str, re.Pattern[str], str], ...]  # style, pattern of the path, suffix; the first match counts
    root: tuple[str, str]  # style and suffix if the path names no API
    key_header: str = "api-key"
    entra: bool = True


_AZURE_SHAPES = (_V1, _PROJECT, _DEPLOYMENTS)
_OPENAI = _Family(("openai",), (_PLAIN_V1,), ("v1", "/v1"), key_header="authorization", entra=False)
_AZURE_OPENAI = _Family(("azure_openai", "foundry"), _AZURE_SHAPES, ("deployments", "/openai"))
_FOUNDRY = _Family(("foundry", "azure_openai"), (*_AZURE_SHAPES, _MODELS), ("v1", "/openai/v1"))
# A region's shared host can't take Entra tokens: they need the resource's own subdomain.
_REGIONAL = _Family(("azure_openai",), _AZURE_SHAPES, ("deployments", "/openai"), entra=False)
_SERVERLESS = _Family(("foundry",), (_PLAIN_V1,), ("models", ""), key_header="authorization")
_GATEWAY_SHAPES = (*_AZURE_SHAPES, _MODELS, _PLAIN_V1)
_GATEWAYS = {
    "azure_openai": _Family(("azure_openai",), _GATEWAY_SHAPES, _AZURE_OPENAI.root),
    "foundry": _Family(("foundry",), _GATEWAY_SHAPES, _FOUNDRY.root),
    "openai": _OPENAI,
}

_RESOURCE_HOSTS = {
    None: "openai.azure.com",
    "azure_openai": "openai.azure.com",
    "foundry": "services.ai.azure.com",
}
"""Where a resource is that the endpoint only names, by provider."""

_PROVIDER_HOSTS = (
    {f"openai.azure.{cloud}": _AZURE_OPENAI for cloud in ("com", "us", "cn")}
    | {f"cognitiveservices.azure.{cloud}": _AZURE_OPENAI for cloud in ("com", "us", "cn")}
    | {f"services.ai.azure.{cloud}": _FOUNDRY for cloud in ("com", "us", "cn")}
    | {"api.cognitive.microsoft.com": _REGIONAL, "models.ai.azure.com": _SERVERLESS}
    | {OPENAI_HOST: _OPENAI}
)


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a connection's requests go, and what the API there requires."""

    provider: str  # "azure_openai", "foundry" or "openai"
    style: str  # "v1", "deployments" or "models"; OpenAI's own is "v1"
    base: str  # URLs of operations begin with it; no trailing slash
    deployment: str | None  # the one in the pasted URL
    api_version: str | None
    key_header: str  # "api-key", or "authorization", whose value is then "Bearer KEY"
    scope: str | None  # the usual one of an Entra token; None if the API takes no tokens
    host: str  # lower case, no port, no brackets
    is_version_explicit: bool = field(default=False, compare=False)  # the connection names the API version

    def url(self, operation: str, model: str) -> str:
        """
        Return the URL of an operation such as `chat/completions`, with the API version.

        A deployment in the endpoint takes precedence over `model`. Raises ConnectionInvalid if the URL must contain
        the model, and it is not a path segment.
        """
        path = operation.strip("/")
        if self.has_model_in_url(path):
            name = self.deployment or model
            if name in ("", ".", ".."):
                raise ConnectionInvalid("The `model` must name a deployment, because the `endpoint` does not.")
            path = f"deployments/{encode_segment(name)}/{path}"
        query = f"?api-version={self.api_version}" if self.api_version else ""
        return f"{self.base}/{path}{query}"

    def for_operation(self, operation: str) -> Self:
        """Return the endpoint with the API version that an operation needs, unless the connection names a version."""
        version = _OPERATION_VERSIONS.get(operation) if self.style == "deployments" else None
        return self if version is None or self.is_version_explicit else replace(self, api_version=version)

    def has_model_in_url(self, operation: str) -> bool:
        """Return whether the URL of an operation contains the deployment."""
        return self.style == "deployments" and operation in _DEPLOYMENT_OPERATIONS

    def model_in_body(self, model: str) -> str:
        """
        Return the value of `model` in a request body.

        Every style has it: the official client sends it even if the URL contains the deployment (openai 3.52,
        lib/azure.py reads `model` from the body and leaves it there).
        """
        return self.deployment or model


def parse_endpoint(
    text: str | None,
    *,
    provider: str | None = None,
    api_version: str | None = None,
    api_key_prefix_is_openai: bool = False,
) -> Endpoint:
    """
    Parse a connection's `endpoint`. Raises ConnectionInvalid.

    `provider` and `api_version` are the connection's own members, and take precedence over the text.
    `api_key_prefix_is_openai`: its key begins with `sk-`, so the text may be empty. Whether the app may send requests
    to the host is not checked here; see `check_allowed`.
    """
    if provider is not None and provider not in PROVIDERS:
        raise ConnectionInvalid(f"The `provider` must be one of {', '.join(PROVIDERS)}.")
    pasted = unwrap(text or "")
    if not pasted and (provider == "openai" or (provider is None and api_key_prefix_is_openai)):
        pasted = _OPENAI_BASE
    if provider in _RESOURCE_HOSTS and is_resource_name(pasted):
        # With a version of the API, its older style is meant.
        pasted = f"https://{pasted}.{_RESOURCE_HOSTS[provider]}{'' if api_version else '/openai/v1'}"
    scheme, authority, path, query = split_url(pasted)
    host, port = parse_authority(authority)
    suffix, family = _family(host, provider)
    style, base_path, deployment = _style(normalize_path(path), family, is_provider_host=suffix is not None)
    version = parse_api_version(query, api_version)
    authority = f"[{host}]" if ":" in host else host
    if port not in (None, DEFAULT_PORTS[scheme]):
        authority += f":{port}"
    return Endpoint(
        provider=provider or family.providers[0],
        style=style,
        base=f"{scheme}://{authority}{base_path}",
        deployment=deployment,
        api_version=version or _DEFAULT_VERSIONS.get(style),
        key_header=family.key_header,
        scope=_scope(style, suffix) if family.entra else None,
        host=host,
        is_version_explicit=version is not None,
    )


def _family(host: str, provider: str | None) -> tuple[str | None, _Family]:
    suffix = next((suffix for suffix in _PROVIDER_HOSTS if f".{host}".endswith(f".{suffix}")), None)
    if suffix is None:
        if provider is None:
            raise ConnectionInvalid(
                "The `endpoint` has a host that is neither Azure's nor OpenAI's, so the connection's `provider` must "
                f"name the API that the host serves: {', '.join(PROVIDERS)}."
            )
        return None, _GATEWAYS[provider]
    family = _PROVIDER_HOSTS[suffix]
    if provider is not None and provider not in family.providers:
        raise ConnectionInvalid(
            f"The `provider` is {provider}, but the `endpoint` has a host of {family.providers[0]}: correct one of the "
            "two, or leave `provider` out."
        )
    return suffix, family


def _style(path: str, family: _Family, *, is_provider_host: bool) -> tuple[str, str, str | None]:
    """Return style, base path and deployment. Only at a gateway may the path of the API have a prefix."""
    for style, pattern, suffix in family.shapes:
        match = pattern.fullmatch(path)
        if match and not (is_provider_host and match["prefix"]):
            name = match.groupdict().get("name")
            return style, match["base"] + suffix, unquote(name) if name else None
    if "openai" in family.providers and "/openai/deployments" in path.lower():
        raise ConnectionInvalid(
            "The `endpoint` has a path of Azure OpenAI, so `provider` must be azure_openai, not openai."
        )
    match = _NO_API_PATH.fullmatch(path)
    base = match["base"] if match else path
    if is_provider_host and base:
        raise ConnectionInvalid(
            "The `endpoint` has a path that its host does not serve: leave the path out, or paste the URL as the "
            "portal shows it, such as https://RESOURCE.openai.azure.com/openai/v1."
        )
    style, suffix = family.root
    return style, base + suffix, None


def _scope(style: str, suffix: str | None) -> str:
    # A project takes only the audience ai.azure.com; Azure Government has its own (Microsoft's page on Foundry there).
    # A gateway, whatever its domain, is assumed to be in front of the public cloud.
    cloud = suffix.rpartition(".")[2] if suffix else "com"
    audience = "ai" if style == "v1" else "cognitiveservices"
    return f"https://{audience}.azure.{cloud}/.default"
