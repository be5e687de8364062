"""
What a pasted endpoint means: provider, address, API version, key header, Entra scope. Pure.

Refusals quote nothing of what was pasted: a key may stand anywhere in it, the host included.
"""

import re
from dataclasses import dataclass, field, replace
from typing import Self
from urllib.parse import unquote

from shared.connections.endpoint_url import (
    DEFAULT_PORTS,
    api_version_in,
    encode_segment,
    normal_path,
    parse_authority,
    split_address,
    unwrap,
)
from shared.errors import ConnectionInvalid

PROVIDERS = ("azure_openai", "foundry", "openai")

_OPENAI_BASE = "https://api.openai.com/v1"
# The last dated GA version, and the only one that the Foundry inference route published.
_DEFAULT_VERSIONS = {"deployments": "2024-10-21", "models": "2024-05-01-preview"}

# The first that has GPT image models in the deployment style is the last preview (Microsoft's page on image
# generation in Azure OpenAI); the v1 and OpenAI's own API have no versions.
_OPERATION_VERSIONS = {"images/generations": "2025-04-01-preview"}

# What the official client puts under /deployments/NAME (openai 3.52, lib/azure.py); the rest of the
# deployment-style API, say `models` or `files`, belongs to the resource and stands right under /openai.
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
_OR_LIST = rf"(?:/(?:{_NAMES}|models))?"  # behind /v1 or /openai, `models` is an operation and no route
_PREFIX = r"(?P<base>(?P<prefix>(?:/[^/]+)*?)"


def _path_pattern(text: str, operation: str = _OR_LIST) -> re.Pattern[str]:
    return re.compile(_PREFIX + text + operation, re.IGNORECASE)


_V1 = ("v1", _path_pattern(r"(?:/api/projects/[^/]+)?/openai/v1)"), "")
_PROJECT = ("v1", _path_pattern(r"/api/projects/[^/]+)(?:/openai)?", _OPERATION), "/openai/v1")
_DEPLOYMENTS = ("deployments", _path_pattern(r"/openai)(?:/deployments(?:/(?P<name>[^/]+))?)?"), "")
_MODELS = ("models", _path_pattern(r"/models)", _OPERATION), "")
_PLAIN_V1 = ("v1", _path_pattern(r"/v1)"), "")
_NOTHING_TELLING = _path_pattern(")", _OPERATION)


@dataclass(frozen=True, slots=True)
class _Family:
    """Hosts that are spoken to alike."""

    providers: tuple[str, ...]  # the first is the name if the connection gives none
    shapes: tuple[tuple[str, re.Pattern[str], str], ...]  # style, path, what is added to it; in this order
    root: tuple[str, str]  # style and addition where the path tells nothing
    key_header: str = "api-key"
    entra: bool = True


_AZURE_SHAPES = (_V1, _PROJECT, _DEPLOYMENTS)
_OPENAI = _Family(("openai",), (_PLAIN_V1,), ("v1", "/v1"), key_header="authorization", entra=False)
_AZURE_OPENAI = _Family(("azure_openai", "foundry"), _AZURE_SHAPES, ("deployments", "/openai"))
_FOUNDRY = _Family(("foundry", "azure_openai"), (*_AZURE_SHAPES, _MODELS), ("v1", "/openai/v1"))
# A region's shared host can't tell whose token it gets: Entra needs the resource's own subdomain.
_REGIONAL = _Family(("azure_openai",), _AZURE_SHAPES, ("deployments", "/openai"), entra=False)
_SERVERLESS = _Family(("foundry",), (_PLAIN_V1,), ("models", ""), key_header="authorization")
_GATEWAY_SHAPES = (*_AZURE_SHAPES, _MODELS, _PLAIN_V1)
_GATEWAYS = {
    "azure_openai": _Family(("azure_openai",), _GATEWAY_SHAPES, _AZURE_OPENAI.root),
    "foundry": _Family(("foundry",), _GATEWAY_SHAPES, _FOUNDRY.root),
    "openai": _OPENAI,
}

_KNOWN_HOSTS = (
    {f"openai.azure.{cloud}": _AZURE_OPENAI for cloud in ("com", "us", "cn")}
    | {f"cognitiveservices.azure.{cloud}": _AZURE_OPENAI for cloud in ("com", "us", "cn")}
    | {f"services.ai.azure.{cloud}": _FOUNDRY for cloud in ("com", "us", "cn")}
    | {"api.cognitive.microsoft.com": _REGIONAL, "models.ai.azure.com": _SERVERLESS}
    | {"api.openai.com": _OPENAI}
)


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a connection's calls go, and what they need there."""

    provider: str  # "azure_openai", "foundry" or "openai"
    style: str  # "v1", "deployments" or "models"; OpenAI's own is "v1"
    base: str  # operations are joined to it; no trailing slash
    deployment: str | None  # the one that a pasted URL named
    api_version: str | None
    key_header: str  # "api-key", or "authorization", whose value is then "Bearer KEY"
    scope: str | None  # of an Entra token; None where none is taken
    host: str  # lower case, no port, no brackets
    version_given: bool = field(default=False, compare=False)  # somebody chose the API version

    def url(self, operation: str, model: str) -> str:
        """
        Where to send an operation such as `chat/completions`, API version included.

        A deployment that the endpoint names wins over `model`. Raises ConnectionInvalid for a model
        that is no path segment, where the path would have to carry it.
        """
        path = operation.strip("/")
        if self.carries_model(path):
            name = self.deployment or model
            if name in ("", ".", ".."):
                raise ConnectionInvalid("The `model` must name a deployment, as the `endpoint` names none of its own.")
            path = f"deployments/{encode_segment(name)}/{path}"
        query = f"?api-version={self.api_version}" if self.api_version else ""
        return f"{self.base}/{path}{query}"

    def suited(self, operation: str) -> Self:
        """The endpoint at the API version that an operation needs, where nobody has chosen one."""
        version = _OPERATION_VERSIONS.get(operation) if self.style == "deployments" else None
        return self if version is None or self.version_given else replace(self, api_version=version)

    def carries_model(self, operation: str) -> bool:
        """Whether the address of an operation names the deployment."""
        return self.style == "deployments" and operation in _DEPLOYMENT_OPERATIONS

    def model_in_body(self, model: str) -> str:
        """
        The body's `model`.

        Every style sends one: the official client does so even where the path names the deployment
        (openai 3.52, lib/azure.py: `model` is read from the body and left there).
        """
        return self.deployment or model


def parse_endpoint(
    text: str | None,
    *,
    provider: str | None = None,
    api_version: str | None = None,
    scope: str | None = None,
    api_key_prefix_is_openai: bool = False,
) -> Endpoint:
    """
    What was pasted as a connection's `endpoint`, understood.

    `provider`, `api_version` and `scope` are the connection's own members and win over what the text
    says; `api_key_prefix_is_openai` says that its key begins `sk-`, which is enough where there is no
    text. Raises ConnectionInvalid. Nothing here says that the host may be called: `check_allowed` does.
    """
    if provider is not None and provider not in PROVIDERS:
        raise ConnectionInvalid(f"The `provider` must be one of {', '.join(PROVIDERS)}.")
    pasted = unwrap(text or "")
    if not pasted and (provider == "openai" or (provider is None and api_key_prefix_is_openai)):
        pasted = _OPENAI_BASE
    scheme, authority, path, query = split_address(pasted)
    host, port = parse_authority(authority)
    suffix, family = _family(host, provider)
    style, base_path, deployment = _style(normal_path(path), family, known=suffix is not None)
    version = api_version_in(query, api_version)
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
        scope=scope or (_scope(style, suffix) if family.entra else None),
        host=host,
        version_given=version is not None,
    )


def _family(host: str, provider: str | None) -> tuple[str | None, _Family]:
    suffix = next((known for known in _KNOWN_HOSTS if host == known or host.endswith(f".{known}")), None)
    if suffix is None:
        if provider is None:
            raise ConnectionInvalid(
                "The host of the `endpoint` is neither Azure's nor OpenAI's own, so the connection's "
                f"`provider` must say what answers there: {', '.join(PROVIDERS)}."
            )
        return None, _GATEWAYS[provider]
    family = _KNOWN_HOSTS[suffix]
    if provider is not None and provider not in family.providers:
        raise ConnectionInvalid(
            f"The `provider` says {provider}, but the host of the `endpoint` is one of "
            f"{family.providers[0]}: correct one of the two, or leave `provider` out."
        )
    return suffix, family


def _style(path: str, family: _Family, *, known: bool) -> tuple[str, str, str | None]:
    """Style, base path and deployment. Only a gateway may put something before the path of the API."""
    for style, pattern, added in family.shapes:
        match = pattern.fullmatch(path)
        if match and not (known and match["prefix"]):
            name = match.groupdict().get("name")
            return style, match["base"] + added, unquote(name) if name else None
    if "openai" in family.providers and "/openai/deployments" in path.lower():
        raise ConnectionInvalid(
            "The path of the `endpoint` is Azure OpenAI's, so `provider` must be azure_openai, not openai."
        )
    match = _NOTHING_TELLING.fullmatch(path)
    base = match["base"] if match else path
    if known and base:
        raise ConnectionInvalid(
            "The path of the `endpoint` is none that its host is known for: leave the path out, or paste "
            "the address as the portal shows it, such as https://RESOURCE.openai.azure.com/openai/v1."
        )
    style, added = family.root
    return style, base + added, None


def _scope(style: str, suffix: str | None) -> str:
    # A project takes no audience but ai.azure.com; Azure Government has its own (Microsoft's page on
    # Foundry there), and a gateway on any domain is taken to stand before the public cloud.
    cloud = suffix.rpartition(".")[2] if suffix else "com"
    audience = "ai" if style == "v1" else "cognitiveservices"
    return f"https://{audience}.azure.{cloud}/.default"
