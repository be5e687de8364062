"""
`speak`: a text as audio, kept as a blob of its real bytes.

The call is a step, and its audio is a blob before the step is stored, so it is not billed and then lost.
"""

from __future__ import annotations

from functools import partial

import msgspec
from msgspec import Raw

from shared.actions.answer import answered_error
from shared.actions.audio_format import inspect_audio
from shared.actions.base import Completed, Context, Step
from shared.actions.openai_api import check_openai_api
from shared.billing.usage import Call, call_of_answer
from shared.contract.decoding import json_object
from shared.contract.error_codec import error_body, error_from_body
from shared.contract.speak import Speak, decode_speak
from shared.errors import ProviderUnavailable, UpstreamFacts
from shared.upstream.messages import Response

NEEDS_MODEL = True


def decode(data: Raw | bytes) -> Speak:
    """See Action."""
    return decode_speak(data)


def keeps_blobs(_: Speak) -> bool:
    """See Action."""
    return True


async def run(request: Speak, ctx: Context) -> Completed:
    """See Action."""
    check_openai_api(ctx.connection.endpoint, "speech")
    step = await ctx.step("whole", partial(_speak, request, ctx))
    if "error" in step.value:
        return Completed(None, (), "failed", error_from_body(step.value["error"]))
    return Completed(step.value)


async def _speak(request: Speak, ctx: Context) -> Step:
    operation = ctx.operation("audio/speech", {"input": request.text, **request.parameters})
    response = await ctx.call(operation)
    audio = inspect_audio(response.body)
    if audio is None:
        return _no_audio(response)
    blob = await ctx.save_blob(f"speech.{audio.extension}", response.body, audio.content_type)
    call = Call(
        request_id=response.request_id,
        characters=len(request.text),
        processing=response.processing,
        metered_as=response.metered_as,
    )
    adapted = {"adapted": operation.adapted} if operation.adapted else {}
    return Step({"blob": msgspec.to_builtins(blob), "characters": len(request.text), **adapted}, [call])


def _no_audio(response: Response) -> Step:
    body = json_object(response.body) if not response.is_large else {}
    facts = UpstreamFacts(status=response.status, request_id=response.request_id)
    error = answered_error([body], response) or ProviderUnavailable(
        "The endpoint's response is no audio of a known format.", facts
    )
    call = call_of_answer(body, response.request_id, response.processing, response.metered_as)
    return Step({"error": msgspec.to_builtins(error_body(error))}, [call])
