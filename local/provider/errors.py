"""Errors of the API, as OpenAI, Azure OpenAI and Anthropic write them."""

from collections.abc import Mapping
from typing import Any

_CLAUDE_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    504: "timeout_error",
    529: "overloaded_error",
}
_TYPES = {401: "authentication_error", 404: "not_found_error", 429: "rate_limit_error", 500: "server_error"}


class ApiError(Exception):
    """A request is refused with a status, a code and a message."""

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        param: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.param = param
        self.headers = dict(headers or {})

    def body(self, style: str) -> dict[str, Any]:
        """Return the JSON in a style, `openai`, `azure` or `anthropic`."""
        if style == "anthropic":
            kind = _CLAUDE_TYPES.get(self.status, "api_error" if self.status >= 500 else "invalid_request_error")  # noqa: PLR2004
            return {"type": "error", "error": {"type": kind, "message": str(self)}}
        error: dict[str, Any] = {"code": self.code, "message": str(self)}
        if style == "openai" or self.param is not None:
            error |= {"type": _TYPES.get(self.status, "invalid_request_error"), "param": self.param}
        if style == "azure" and self.code == "content_filter":
            filtered = {"violence": {"filtered": True, "severity": "medium"}}
            error["innererror"] = {"code": "ResponsibleAIPolicyViolation", "content_filter_result": filtered}
        return {"error": error}


def not_found(kind: str, name: str) -> ApiError:
    """Return the error for an object that the account doesn't have."""
    return ApiError(404, "not_found", f"No {kind} found with id '{name}'.", "id")
