"""An operation of a connection's endpoint, whose parameters follow what the provider's refusals say."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import msgspec

from shared.connections.connection import Connection
from shared.errors import RequestRejected, UpstreamError
from shared.upstream.capabilities import Adaptation, Capabilities, read_adaptation
from shared.upstream.messages import Operation, UpstreamRequest

if TYPE_CHECKING:
    from shared.actions.form import FormFile

# Foundry's older route refuses parameters that its schema does not list unless this header says otherwise
# (learn.microsoft.com/azure/ai-foundry/model-inference, "extra parameters").
_PASS_THROUGH = {"extra-parameters": "pass-through"}
_CONDITIONS = (("reasoning", "effort"), ("output_config", "effort"), ("thinking", "type"))
"""Members of a body, and what of them decides which others a model takes, beside `reasoning_effort`."""
_ONE_OF = frozenset({"temperature", "top_p"})
"""Of these, some of Claude's models take one at a time."""
_MESSAGES = "messages"
"""Claude's operation."""
_MAX_CONDITION_LENGTH = 20
"""Characters of a condition that identify it. It is a caller's, and is kept in memory."""


def not_final(_: RequestRejected) -> bool:
    """No refusal is final."""
    return False


class JsonOperation(Operation):
    """
    One operation with a JSON body, or with a form that has the body's members as fields.

    A parameter that the provider refuses by name is renamed, or dropped if it is `droppable`; what was learned is
    applied to later operations of the same endpoint and model at once. A `strict` one stays as it is.
    """

    __slots__ = ("_capabilities", "_droppable", "_files", "_is_final", "_key", "_strict", "adapted", "body", "name")

    def __init__(
        self,
        name: str,
        body: dict[str, Any],
        *,
        connection: Connection,
        model: str,
        capabilities: Capabilities,
        droppable: frozenset[str] = frozenset(),
        is_final: Callable[[RequestRejected], bool] = not_final,
        strict: bool = False,
    ) -> None:
        endpoint = connection.endpoint
        self.name, self.body = name, {"model": endpoint.model_in_body(model), **body}
        self._files: Sequence[FormFile] = ()
        self.adapted: list[str] = []
        """How the parameters were changed, in words."""
        self._capabilities, self._droppable, self._is_final, self._strict = capabilities, droppable, is_final, strict
        # Some models take sampling parameters with one effort and not with another (GPT-5.1, 5.2: only with none), not
        # while they think, or one of two (Claude).
        conditions = [body.get("reasoning_effort"), "+" if name == _MESSAGES and body.keys() >= _ONE_OF else None]
        conditions += [part.get(member) for of, member in _CONDITIONS if isinstance(part := body.get(of), dict)]
        self._key = (
            *connection.identity,
            model,
            name,
            *(str(condition)[:_MAX_CONDITION_LENGTH] for condition in conditions if condition is not None),
        )
        for adaptation in () if strict else capabilities.adaptations(*self._key):
            if adaptation.parameter in self.body:
                self._change(adaptation)
        extra = _PASS_THROUGH if endpoint.style == "models" else {}
        super().__init__(
            UpstreamRequest(
                method="POST",
                url=endpoint.for_operation(name).url(name, model),
                content=msgspec.json.encode(self.body),
                headers={"content-type": "application/json", **extra, **connection.headers()},
            )
        )

    def is_final(self, error: UpstreamError) -> bool:
        """See Operation."""
        return isinstance(error, RequestRejected) and self._is_final(error)

    def adapt(self, error: UpstreamError) -> bool:
        """See Operation."""
        if self._strict or not isinstance(error, RequestRejected):
            return False
        adaptation = read_adaptation(error, self.body, droppable=self._droppable)
        if adaptation is None:
            return False
        self._capabilities.learn(adaptation, *self._key)
        self._change(adaptation)
        self._write()
        return True

    def set_members(self, **members: Any) -> None:
        """Have the body say something else; None removes a member."""
        body = {**self.body, **members}
        self.body = {name: value for name, value in body.items() if value is not None or name not in members}
        self._write()

    def attach(self, files: Sequence[FormFile]) -> None:
        """Have the body sent as a form with these files."""
        self._files = files
        self._write()

    def _write(self) -> None:
        if not self._files:
            self.request = replace(self.request, content=msgspec.json.encode(self.body))
            return
        from shared.actions.form import Form  # noqa: PLC0415  # few operations have files

        form = Form(self.body, self._files)
        headers = {**self.request.headers, "content-type": form.content_type}
        self.request = replace(self.request, content=b"", headers=headers, body=form)

    def _change(self, adaptation: Adaptation) -> None:
        self.adapted += adaptation.changes(self.body)
        self.body = adaptation.apply(self.body)
