"""Texts, jobs and chats that hypothesis makes."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st

few = settings(max_examples=120)
text = st.text(max_size=20)
scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | text
anything = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=3),
    max_leaves=8,
)
messages = st.lists(
    st.fixed_dictionaries({"role": st.sampled_from(["system", "user", "assistant"]), "content": text}),
    min_size=1,
    max_size=3,
)
parameters = st.dictionaries(st.sampled_from(["temperature", "tools", "seed", "x"]), anything, max_size=3)
chats = st.fixed_dictionaries({"messages": messages}, optional={"parameters": parameters}) | (
    st.fixed_dictionaries(
        {"prompt": text.filter(str.strip)},
        optional={"system": text, "history": messages, "context": text, "parameters": parameters},
    )
)
names = st.from_regex(r"[a-z0-9]{1,8}(-[a-z0-9]{1,8}){0,2}", fullmatch=True)
jobs = st.fixed_dictionaries(
    {"customer": names, "action": st.sampled_from(["chat", "embed", "raw"]), "input": chats},
    optional={
        "job_id": st.from_regex(r"[A-Za-z0-9._-]{0,20}[A-Za-z0-9_-]", fullmatch=True),
        "connection": names,
        "model": text.filter(str.strip),
        "output": st.fixed_dictionaries({}, optional={"queue": st.booleans(), "blob": st.booleans()}),
        "options": st.fixed_dictionaries(
            {},
            optional={
                "timeout_s": st.integers(1, 480),
                "max_retries": st.integers(0, 20),
                "retry_on_all_errors": st.booleans(),
            },
        ),
        "metadata": st.dictionaries(text, text, max_size=3),
    },
)
paths = [
    *(("customer",), ("action",), ("input",), ("input_blob",), ("job_id",), ("connection",), ("model",)),
    *(("output",), ("output", "queue"), ("output", "blob"), ("output", "callback"), ("output", "x")),
    *(("options",), ("options", "timeout_s"), ("options", "max_retries"), ("options", "deadline_s")),
    *(("metadata",), ("metadata", "x"), ("input", "prompt"), ("input", "messages"), ("input", "input_blob")),
    *(("x" * 2000,), ("output", "x`" * 1000), ("metadata", "x" * 2000)),
]
