"""What a line of a batch says of its call: a response or an error, and what is billed. Pure."""

from __future__ import annotations

from dataclasses import replace

import msgspec

from shared.billing.usage import UNANSWERED, Call, call_of_answer
from shared.contract.decoding import UNREADABLE, json_object
from shared.errors import (
    AccountBlocked,
    ProviderUnavailable,
    RequestRejected,
    UpstreamError,
    UpstreamFacts,
    UpstreamTimeout,
)
from shared.jobs.lines import MISSING, UNDONE, UNREAD, LineRecord
from shared.upstream.error_mapping import map_error
from shared.upstream.messages import Response

_REFUSED = 400
_OF_BATCH = {each.code: each for each in (RequestRejected, AccountBlocked)}
"""What the creation of a batch may have met, by the code that its lines have for it, beside the app's own sentence."""


class _Lists(msgspec.Struct):
    """The lists of answers in a response of the Responses API, and in a completion of either kind."""

    output: msgspec.Raw = msgspec.Raw()
    choices: msgspec.Raw = msgspec.Raw()


def response_of(line: LineRecord) -> Response:
    """Return a line's answer as the response to its call. Raises UpstreamError if it is a refusal, or there is none."""
    answer = line.answer
    assert answer is not None  # noqa: S101  # the caller has looked
    if answer.is_ok:
        return Response(
            answer.status,
            {},
            answer.body,
            answer.request_id or None,
            processing="batch",
            metered_as=line.metered_as,
        )
    if answer.status:
        error = map_error(answer.status, {}, answer.body)
        if answer.error_code:  # the provider says that it bills no such line, whatever it would do with a call
            error.facts = replace(error.facts, unanswered=False)
        raise error
    if answer.error_code in UNDONE:
        raise UpstreamTimeout(answer.error or "The batch ended before this call was made.")
    if answer.error_code == MISSING:
        message = "The batch ended without an answer to this call, which may have been billed."
        raise ProviderUnavailable(message, UpstreamFacts(unanswered=True))
    if answer.error_code == UNREAD:
        message = "The batch could not be read before the deadline of its jobs. This call may have been billed."
        raise UpstreamTimeout(message, UpstreamFacts(unanswered=True))
    if (kind := _OF_BATCH.get(answer.error_code)) is not None:
        raise kind(answer.error, UpstreamFacts(_REFUSED))
    raise map_error(_REFUSED, {}, msgspec.json.encode({"error": {"code": answer.error_code, "message": answer.error}}))


def check_operation(name: str, response: Response, *, has_tools: bool) -> None:
    """
    Raise RequestRejected, in a provider's words, if a response is that of another operation than `name`.

    By which one a model is called is learned, and forgotten within the hour, so that an attempt which reads the answer
    may not know what the one before it asked for. `has_tools`: that is learned apart.
    """
    try:
        lists = msgspec.json.decode(response.body, type=_Lists)
    except UNREADABLE:
        return
    has_items, has_choices = (bytes(each).startswith(b"[") for each in (lists.output, lists.choices))
    other = "chat/completions" if name == "responses" else "responses"
    if not (has_choices if name == "responses" else has_items) or (has_items and has_choices):
        return
    line = "line with function tools" if has_tools else "line"
    raise RequestRejected(f"This {line} was answered by another operation: use v1/{other}.", UpstreamFacts(_REFUSED))


def call_of_line(line: LineRecord) -> Call | None:
    """Return the call that a line's answer is billed as; None if it is not, or there is none yet."""
    if line.answer is None:
        return None
    try:
        response = response_of(line)
    except UpstreamError as error:
        return unanswered(line, error) if error.facts.unanswered else None
    return call_of_answer(json_object(response.body), response.request_id, response.processing, response.metered_as)


def unanswered(line: LineRecord, error: UpstreamError) -> Call:
    """Return the call of a line that may have been billed, and that `error` stands for."""
    call = replace(UNANSWERED, request_id=error.facts.request_id, processing="batch", metered_as=line.metered_as)
    return replace(call, provisional=line.answer is not None and line.answer.error_code == UNREAD)
