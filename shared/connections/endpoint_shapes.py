"""
Which APIs each host serves, by the shapes of their paths: what a pasted endpoint can lead to. Data only.

Patterns are texts, compiled when one is tried: a worker tries few of them, and would pay for all at its start.
"""

from dataclasses import dataclass, replace

OPENAI_HOST = "api.openai.com"
ANTHROPIC_HOST = "api.anthropic.com"
CLAUDE = "anthropic"
"""The provider of Claude: in Foundry, at Anthropic's own API, or behind a gateway."""
CLAUDE_STYLE = "messages"

_NAMES = (
    r"(?:chat/)?completions|embeddings|responses|moderations|files|batches|info"
    r"|images/(?:generations|edits|variations|embeddings)|audio/(?:speech|transcriptions|translations)"
)
_OPERATION = rf"(?:/(?:{_NAMES}))?"
_OR_LIST = rf"(?:/(?:{_NAMES}|models))?"  # after /v1 or /openai, `models` is an operation, not the inference route
_PREFIX = r"(?P<base>(?P<prefix>(?:/[^/]+)*?)"


def _path_pattern(text: str, operation: str = _OR_LIST) -> str:
    return _PREFIX + text + operation


_V1 = ("v1", _path_pattern(r"(?:/api/projects/[^/]+)?/openai/v1)"), "")
_PROJECT = ("v1", _path_pattern(r"/api/projects/[^/]+)(?:/openai)?", _OPERATION), "/openai/v1")
_DEPLOYMENTS = ("deployments", _path_pattern(r"/openai)(?:/deployments(?:/(?P<name>[^/]+))?)?"), "")
_MODELS = ("models", _path_pattern(r"/models)", _OPERATION), "")
_PLAIN_V1 = ("v1", _path_pattern(r"/v1)"), "")
_NO_API_PATH = _path_pattern(")", _OPERATION)
_CLAUDE_OPERATION = r"(?:/(?:messages(?:/(?:batches|count_tokens))?|models|complete))?"
_CLAUDE_FOUNDRY = (CLAUDE_STYLE, _path_pattern(r"/anthropic)(?:/v1)?", _CLAUDE_OPERATION), "/v1")
_CLAUDE_V1 = (CLAUDE_STYLE, _path_pattern(r"/v1)", _CLAUDE_OPERATION), "")
_NO_CLAUDE_PATH = _path_pattern(")", _CLAUDE_OPERATION)


@dataclass(frozen=True, slots=True)
class Family:
    """Hosts that serve the same APIs."""

    providers: tuple[str, ...]  # the first is the default if the connection names none
    shapes: tuple[tuple[str, str, str], ...]  # style, pattern of the path, suffix; the first match counts
    root: tuple[str, str]  # style and suffix if the path names no API
    key_header: str = "api-key"
    entra: bool = True
    no_api: str = _NO_API_PATH  # a path that names no API, with an operation that may have been pasted
    example: str = "https://RESOURCE.openai.azure.com/openai/v1"
    claude: "Family | None" = None  # the same hosts' other API, under /anthropic


_AZURE_SHAPES = (_V1, _PROJECT, _DEPLOYMENTS)
_OPENAI = Family(("openai",), (_PLAIN_V1,), ("v1", "/v1"), key_header="authorization", entra=False)
_AZURE_OPENAI = Family(("azure_openai", "foundry"), _AZURE_SHAPES, ("deployments", "/openai"))
_CLAUDE_IN_FOUNDRY = Family(
    (CLAUDE,),
    (_CLAUDE_FOUNDRY,),
    (CLAUDE_STYLE, "/anthropic/v1"),
    key_header="x-api-key",
    no_api=_NO_CLAUDE_PATH,
    example="https://RESOURCE.services.ai.azure.com/anthropic/v1",
)
_ANTHROPIC = Family(
    (CLAUDE,),
    (_CLAUDE_V1,),
    (CLAUDE_STYLE, "/v1"),
    key_header="x-api-key",
    entra=False,
    no_api=_NO_CLAUDE_PATH,
    example=f"https://{ANTHROPIC_HOST}/v1",
)
_FOUNDRY = Family(
    ("foundry", "azure_openai"), (*_AZURE_SHAPES, _MODELS), ("v1", "/openai/v1"), claude=_CLAUDE_IN_FOUNDRY
)
# A region's shared host can't take Entra tokens: they need the resource's own subdomain.
_REGIONAL = Family(("azure_openai",), _AZURE_SHAPES, ("deployments", "/openai"), entra=False)
_SERVERLESS = Family(("foundry",), (_PLAIN_V1,), ("models", ""), key_header="authorization")
_GATEWAY_SHAPES = (*_AZURE_SHAPES, _MODELS, _PLAIN_V1)
GATEWAYS = {
    "azure_openai": Family(("azure_openai",), _GATEWAY_SHAPES, _AZURE_OPENAI.root),
    "foundry": Family(("foundry",), _GATEWAY_SHAPES, _FOUNDRY.root),
    "openai": _OPENAI,
    CLAUDE: replace(_CLAUDE_IN_FOUNDRY, shapes=(_CLAUDE_FOUNDRY, _CLAUDE_V1), root=(CLAUDE_STYLE, "/v1")),
}

RESOURCE_HOSTS = {
    None: "openai.azure.com",
    "azure_openai": "openai.azure.com",
    "foundry": "services.ai.azure.com",
    CLAUDE: "services.ai.azure.com",
}
"""Where a resource is that the endpoint only names, by provider."""

PROVIDER_HOSTS = (
    {f"openai.azure.{cloud}": _AZURE_OPENAI for cloud in ("com", "us", "cn")}
    | {f"cognitiveservices.azure.{cloud}": _AZURE_OPENAI for cloud in ("com", "us", "cn")}
    | {f"services.ai.azure.{cloud}": _FOUNDRY for cloud in ("com", "us", "cn")}
    | {"api.cognitive.microsoft.com": _REGIONAL, "models.ai.azure.com": _SERVERLESS}
    | {OPENAI_HOST: _OPENAI, ANTHROPIC_HOST: _ANTHROPIC}
)
