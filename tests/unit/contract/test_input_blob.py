"""A job whose input is in a blob: how it names the blob."""

from __future__ import annotations

import json

from shared.contract.job import decode_job, named_blob
from shared.contract.names import BlobName
from tests.support.job_bodies import SMALLEST, body, decoded, refusal
from tests.support.rows import every_row


def naming(text: str, *, as_input: bool) -> bytes:
    """Return a job whose input is in a blob of that name."""
    members = {name: value for name, value in SMALLEST.items() if name != "input"}
    named = {"input_blob": text}
    return json.dumps(members | ({"input": named} if as_input else named)).encode()


@every_row("as_input", [False, True], ids=["input_blob", "input"])
@every_row("name", ["acme/a.json", "a--b/c--d", "..a", "a..", "a b", "é/ü", "a?b#c", "%2e%2e/x", "n" * 900])
def test_input_may_be_in_a_blob(as_input: bool, name: str):
    """Both ways of naming a blob yield its container and name as they are written."""
    job = decode_job(naming(f"inputs/{name}", as_input=as_input), default_id="m-1")

    assert BlobName("inputs", name) == named_blob(job)


@every_row("as_input", [False, True], ids=["input_blob", "input"])
@every_row(
    "text",
    [
        *("", "inputs", "inputs/", "/a", "inputs//a", "inputs/a/", "inputs/..", "inputs/../other/a"),
        *("inputs/acme/../other/a", "inputs/./a", "inputs/a/.", "../inputs/a", "inputs/a\\b", "inputs\\a"),
        *("inputs/a\x00", "inputs/a\nb", "Inputs/a", "in--puts/a", "-inputs/a", "in/a", "$root/a"),
        *("https://example.com/a", "i" * 64 + "/a", "inputs/" + "n" * 901),
    ],
)
def test_invalid_blob_names_are_refused(as_input: bool, text: str):
    """A name that leads to another blob, or that Storage would read differently, is refused."""
    member = "input.input_blob" if as_input else "input_blob"

    assert f"`{member}` must be a blob's `container/name`." == refusal(naming(text, as_input=as_input))


def test_other_values_are_refused():
    """A number as the name of a blob is refused in both members, and a blob beside an input is ambiguous."""
    assert "`input.input_blob` must be a blob's `container/name`." == refusal(body(input={"input_blob": 3}))
    assert "`input_blob` must be a string, not a whole number." == refusal(body(input_blob=3))
    assert "`input` and `input_blob` can't be combined: leave one of them out." == refusal(
        body(input_blob="inputs/acme/a.json")
    )


def test_a_prompt_with_the_word_input_blob_is_a_prompt():
    """The word input_blob within an input names no blob."""
    assert named_blob(decoded(input={"prompt": 'What is "input_blob"?'})) is None
    assert named_blob(decoded(input={"prompt": "x", "input_blob": "inputs/a"})) is None
