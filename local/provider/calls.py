"""One call of the model: faults, refusals, the answer, and its entry in the journal."""

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

from local.provider.account import Account
from local.provider.answers import Answer, answer, hash_prompt, prompt_of
from local.provider.errors import ApiError
from local.provider.faults import CallFault
from local.provider.journal import Entry

TIERS = {"flex": "flex", "priority": "priority"}
MAX_TAG = 60
_PREFIXES = {"chat/completions": "chatcmpl-", "completions": "cmpl-", "responses": "resp_", "messages": "msg_"}
_RUN = uuid4().hex[:12]
_numbers = itertools.count()


@dataclass(frozen=True, slots=True)
class Call:
    """A call to make. `at` is the clock's time."""

    operation: str
    body: Mapping[str, Any]
    at: float
    processing: str = "standard"
    custom_id: str = ""
    batch_id: str = ""
    fault: CallFault | None = None
    """It errors so, whatever the account's faults are."""


@dataclass(frozen=True, slots=True)
class Executed:
    """What came of a call. `body` is the answer's JSON, or that of an error."""

    request_id: str
    status: int
    body: dict[str, Any]
    headers: Mapping[str, str]
    input_tokens: int = 0
    output_tokens: int = 0


def execute(account: Account, call: Call) -> Executed:
    """Make a call, and record it."""
    is_claude = call.operation == "messages"  # whose batches give a message's id alone
    request_id = f"{'msg' if is_claude else 'req'}_{_RUN}{next(_numbers):012x}"
    model = str(call.body.get("model") or "")
    tier = TIERS.get(str(call.body.get("service_tier")), "default") if call.processing != "batch" else "default"
    shown_tier = {"batch": "batch"}.get(call.processing, "standard") if is_claude else tier
    prompt = ""
    try:
        prompt = prompt_of(call.operation, call.body)
        filtered = _refuse(account, call, model, prompt, tier)
        made = _answer(call, prompt, shown_tier, filtered)
    except ApiError as exc:
        executed = Executed(request_id, exc.status, exc.body(account.style), exc.headers)
        code, cost = exc.code, None
    else:
        prefix = _PREFIXES.get(call.operation)
        body = made.body if prefix is None else {"id": f"{prefix}{request_id[4:]}", **made.body}
        executed = Executed(request_id, 200, body, {}, made.input_tokens, made.output_tokens)
        prices = account.prices_of(model)
        code, cost = "", prices.cost(made.input_tokens, made.output_tokens, call.processing, tier)
    entry = Entry(
        call.at,
        account.name,
        request_id,
        call.operation,
        model,
        prompt[:MAX_TAG],
        hash_prompt(call.operation, model, prompt),
        executed.status,
        code,
        call.processing,
        tier,
        executed.input_tokens,
        executed.output_tokens,
        billed=cost is not None,
        **({} if cost is None else {"cost": cost}),
        custom_id=call.custom_id,
        batch_id=call.batch_id,
    )
    account.record(entry)
    return executed


def _answer(call: Call, prompt: str, tier: str, filtered: bool) -> Answer:
    try:
        return answer(call.operation, call.body, prompt, at=call.at, service_tier=tier, filtered=filtered)
    except (AttributeError, LookupError, TypeError, ValueError):
        raise ApiError(400, "invalid_type", "A parameter of the request has the wrong type.") from None


def check_model(account: Account, model: str, *, batch: bool = False) -> None:
    """Raises ApiError if the account doesn't have the model."""
    has = account.batch_models if batch and account.batch_models is not None else account.models
    if has is None or model in has:
        return
    if account.style == "anthropic":
        raise ApiError(404, "not_found_error", f"model: {model}")
    if account.style == "azure":
        raise ApiError(404, "DeploymentNotFound", "The API deployment for this resource does not exist.")
    raise ApiError(404, "model_not_found", f"The model `{model}` does not exist or you do not have access to it.")


def _refuse(account: Account, call: Call, model: str, prompt: str, tier: str) -> bool:
    """Raises ApiError for a call that is refused. Returns whether the content filter cuts the answer short."""
    check_model(account, model, batch=call.processing == "batch")
    if tier == "flex" and call.processing == "standard" and account.faults.flex_unavailable:
        wait = account.faults.flex_unavailable.take()
        message = "There are not enough resources for flex processing."
        raise ApiError(429, "resource_unavailable", message, headers={"retry-after": str(wait)})
    fault = call.fault
    if fault is None and account.faults.calls:
        fault = account.faults.calls.take(lambda each: each.fits(call.custom_id, prompt, call.body))
    if fault is None or fault.status == 200:  # noqa: PLR2004 -- HTTP's own number
        return fault is not None
    headers = {} if fault.retry_after_s is None else {"retry-after": str(fault.retry_after_s)}
    raise ApiError(fault.status, fault.code, fault.message, fault.param or fault.if_parameter or None, headers)
