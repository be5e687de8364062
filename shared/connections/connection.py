"""A customer's connection to an AI endpoint."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from shared.connections.endpoint import Endpoint
from shared.connections.endpoint_shapes import CLAUDE
from shared.contract.job import Options
from shared.contract.result import ConnectionLabel
from shared.errors import InvalidJob
from shared.secret import redact
from shared.upstream.messages import Access, ApiKey

MAX_STATIC_TIMEOUT_S = 240
MAX_STATIC_RETRIES = 5
CLAUDE_VERSION = "2023-06-01"
"""Of Anthropic's API. The next one has no `temperature`, `top_p` and `top_k` any more."""
_CLAUDE_ACTIONS = ("chat", "multi_chat", "summarize", "raw")
DEFAULT_CONCURRENCY = 16
"""Calls at the same time, if the connection does not set `max_concurrency`."""


class OtherModel(InvalidJob):
    """The connection is for other models than the job's."""


@dataclass(frozen=True, slots=True)
class Connection:
    """A customer's connection: its endpoint and its access, both from one source."""

    customer: str
    name: str
    source: Literal["key_vault", "static"]
    version: str
    endpoint: Endpoint
    access: Access
    organization: str | None = None
    project: str | None = None
    default_model: str | None = None
    batch_model: str | None = None
    """What a batch's lines name in place of the job's model."""
    deployment_scope: str | None = None
    max_concurrency: int | None = None
    monthly_budget: float | None = None
    allowed_models: tuple[str, ...] = ()
    """Models that it may be used for; empty: all."""

    @property
    def concurrency(self) -> int:
        """How many calls a worker makes on this connection at the same time."""
        return self.max_concurrency or DEFAULT_CONCURRENCY

    @property
    def identity(self) -> tuple[str, str, str]:
        """What is learned from its endpoint belongs to: customer, name, endpoint."""
        return self.customer, self.name, self.endpoint.base

    def label(self) -> ConnectionLabel:
        """Return what results and usage records show of it."""
        billed_to: Literal["customer", "operator"] = "customer" if self.source == "key_vault" else "operator"
        return ConnectionLabel(name=self.name, source=self.source, provider=self.endpoint.provider, billed_to=billed_to)

    def model_for(self, requested: str | None, *, needed: bool = True) -> str:
        """
        Return the model of a job that requested this one, or none. Raises InvalidJob.

        If no model is `needed`, the default model is not used, and the result may be empty.
        """
        deployment = self.endpoint.deployment
        if deployment and requested and requested != deployment:
            raise OtherModel(
                f"`model` must be {deployment} or left out: the endpoint of the connection names that deployment."
            )
        model = deployment or requested or (self.default_model if needed else "")
        if needed and not model:
            raise InvalidJob(f"`model` is missing, and the connection {self.name} has no `default_model`.")
        if model:
            self.check_model(model)
        return model or ""

    def check_model(self, model: str) -> None:
        """Raise InvalidJob if the connection may not be used for this model."""
        if self.allowed_models and model not in self.allowed_models:
            raise OtherModel(
                f"`model` must be one of {', '.join(self.allowed_models)}: this customer uses the operator's "
                "connection, which is for no other."
            )

    def check_job(self, action: str, options: Options) -> None:
        """
        Raise InvalidJob if a job with these options may not use the connection: its provider has no such operation or
        tier, or the operator pays for each try.
        """
        if self.endpoint.provider == CLAUDE and action not in _CLAUDE_ACTIONS:
            raise InvalidJob(
                f"`action` can't be {action} on the connection {self.name}, which leads to Claude: it has "
                f"{', '.join(_CLAUDE_ACTIONS)}."
            )
        if options.processing == "flex" and self.endpoint.provider != "openai":
            raise InvalidJob(
                f"`options.processing` can't be flex: only OpenAI has that tier, and the provider of the connection "
                f"{self.name} is {self.endpoint.provider}. Use batch or standard."
            )
        if self.source == "key_vault":
            return
        for name, limit in (("timeout_s", MAX_STATIC_TIMEOUT_S), ("max_retries", MAX_STATIC_RETRIES)):
            if getattr(options, name) > limit:
                raise InvalidJob(
                    f"`options.{name}` must be at most {limit}: this customer uses the operator's connection."
                )

    def without_key(self, text: str) -> str:
        """Return a text with the key redacted: somebody may have pasted the key into another setting."""
        return redact(text, self.access.key) if isinstance(self.access, ApiKey) else text

    def headers(self) -> dict[str, str]:
        """Return the headers of its requests, without authentication."""
        if self.endpoint.provider == CLAUDE:
            return {"anthropic-version": CLAUDE_VERSION}
        named = {"OpenAI-Organization": self.organization, "OpenAI-Project": self.project}
        return {header: value for header, value in named.items() if value}
