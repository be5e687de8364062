"""Parameters of chat completions that ask for nothing, where a chat is carried to another API. Pure."""

from __future__ import annotations

from typing import Any

NEUTRAL: dict[str, tuple[Any, ...]] = {
    "logprobs": (False,),
    "top_logprobs": (0,),
    "modalities": (["text"],),
    "stream": (False,),
    "store": (False,),
    "presence_penalty": (0,),
    "frequency_penalty": (0,),
    "logit_bias": ({},),
    "functions": ([],),
}
"""Values that ask for nothing, so that the parameter goes without a word."""
