"""
Parses a connection's `endpoint`: provider, base URL, API version, key header, Entra scope. Pure.

Error messages quote nothing of it, because a key may have been pasted anywhere, even into the host.
"""

import re
from dataclasses import dataclass, field, replace
from typing import Self
from urllib.parse import unquote

from shared.connections.endpoint_shapes import (
    ANTHROPIC_HOST,
    CLAUDE,
    CLAUDE_STYLE,
    GATEWAYS,
    OPENAI_HOST,
    PROVIDER_HOSTS,
    RESOURCE_HOSTS,
    Family,
)
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

PROVIDERS = ("azure_openai", "foundry", "openai", CLAUDE)

_BASES = {"openai": f"https://{OPENAI_HOST}/v1", CLAUDE: f"https://{ANTHROPIC_HOST}/v1"}
"""Where a provider's own keys lead if the connection names no endpoint."""
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


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a connection's requests go, and what the API there requires."""

    provider: str  # one of PROVIDERS
    style: str  # "v1", "deployments" or "models"; OpenAI's own is "v1", Claude's "messages"
    base: str  # URLs of operations begin with it; no trailing slash
    deployment: str | None  # the one in the pasted URL
    api_version: str | None
    key_header: str  # "api-key", "x-api-key", or "authorization", whose value is then "Bearer KEY"
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

    @property
    def has_model_list(self) -> bool:
        """Whether `models` lists models. Claude in Foundry has no such list, nor has Foundry's inference route."""
        return self.style != "models" and not (
            self.style == CLAUDE_STYLE and self.base.lower().endswith("/anthropic/v1")
        )

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
    key_provider: str | None = None,
) -> Endpoint:
    """
    Parse a connection's `endpoint`. Raises ConnectionInvalid.

    `provider` and `api_version` are the connection's own members, and take precedence over the text.
    `key_provider`: whose keys begin as its key does, so that the text may be empty. Whether the app may send requests
    to the host is not checked here; see `check_allowed`.
    """
    if provider is not None and provider not in PROVIDERS:
        raise ConnectionInvalid(f"The `provider` must be one of {', '.join(PROVIDERS)}.")
    pasted = unwrap(text or "")
    if not pasted and (provider == "openai" or provider in (None, key_provider)):
        pasted = _BASES.get(provider or key_provider or "", "")
    if provider in RESOURCE_HOSTS and is_resource_name(pasted):
        # With a version of the API, its older style is meant.
        api = "/anthropic/v1" if provider == CLAUDE else "" if api_version else "/openai/v1"
        pasted = f"https://{pasted}.{RESOURCE_HOSTS[provider]}{api}"
    scheme, authority, path, query = split_url(pasted)
    host, port = parse_authority(authority)
    path = normalize_path(path)
    suffix, family = _family(host, provider, path)
    style, base_path, deployment = _style(path, family, is_provider_host=suffix is not None)
    version = parse_api_version(query, api_version)
    if style == CLAUDE_STYLE:
        version = None  # it is in a header
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


def _family(host: str, provider: str | None, path: str) -> tuple[str | None, Family]:
    suffix = next((suffix for suffix in PROVIDER_HOSTS if f".{host}".endswith(f".{suffix}")), None)
    if suffix is None:
        if provider is None:
            raise ConnectionInvalid(
                "The `endpoint` has a host that is not Azure's, OpenAI's or Anthropic's, so the connection's "
                f"`provider` must name the API that the host serves: {', '.join(PROVIDERS)}."
            )
        return None, GATEWAYS[provider]
    family = PROVIDER_HOSTS[suffix]
    is_claude = provider == CLAUDE or (provider is None and path.lower().startswith("/anthropic"))
    family = family.claude if family.claude and is_claude else family
    if provider is not None and provider not in family.providers:
        raise ConnectionInvalid(
            f"The `provider` is {provider}, but the `endpoint` has a host of {family.providers[0]}: correct one of the "
            "two, or leave `provider` out."
        )
    return suffix, family


def _style(path: str, family: Family, *, is_provider_host: bool) -> tuple[str, str, str | None]:
    """Return style, base path and deployment. Only at a gateway may the path of the API have a prefix."""
    for style, pattern, suffix in family.shapes:
        match = re.fullmatch(pattern, path, re.IGNORECASE)
        if match and not (is_provider_host and match["prefix"]):
            name = match.groupdict().get("name")
            return style, match["base"] + suffix, unquote(name) if name else None
    if "openai" in family.providers and "/openai/deployments" in path.lower():
        raise ConnectionInvalid(
            "The `endpoint` has a path of Azure OpenAI, so `provider` must be azure_openai, not openai."
        )
    match = re.fullmatch(family.no_api, path, re.IGNORECASE)
    base = match["base"] if match else path
    if is_provider_host and family.claude and base.lower().startswith("/anthropic"):
        raise ConnectionInvalid(
            f"The `endpoint` has a path of Claude's API, so `provider` must be {CLAUDE}, or be left out."
        )
    if is_provider_host and base:
        raise ConnectionInvalid(
            "The `endpoint` has a path that its host does not serve: leave the path out, or paste the URL as the "
            f"portal shows it, such as {family.example}."
        )
    style, suffix = family.root
    return style, base + suffix, None


def _scope(style: str, suffix: str | None) -> str:
    # A project takes only the audience ai.azure.com; Azure Government has its own (Microsoft's page on Foundry there).
    # A gateway, whatever its domain, is assumed to be in front of the public cloud.
    cloud = suffix.rpartition(".")[2] if suffix else "com"
    audience = "ai" if style in ("v1", CLAUDE_STYLE) else "cognitiveservices"
    return f"https://{audience}.azure.{cloud}/.default"
