"""A message on its way in and out: trigger metadata, encoding, outputs. All pure."""

from datetime import UTC, datetime

import pytest

from local.host.message_encoding import NotBase64, decode_text, encode_body, split_output
from local.host.queue_listener import Backoff
from local.host.trigger_metadata import MessageProperties, queue_metadata

PROPERTIES = {
    "DequeueCount": ("json", "2"),
    "ExpirationTime": ("json", '"2024-05-13T07:08:09+00:00"'),
    "Id": ("string", "the-id"),
    "InsertionTime": ("json", '"2024-05-06T07:08:09+00:00"'),
    "NextVisibleTime": ("json", '"2024-05-06T07:18:09+00:00"'),
    "PopReceipt": ("string", "receipt"),
}


@pytest.mark.parametrize(
    ("text", "replaced"),
    [
        ("hello", {}),
        ('{"dequeueCount": "many"}', {"DequeueCount": ("string", "many")}),
        ('{"DEQUEUECOUNT": 3}', {"DequeueCount": ("string", "3")}),
        ('{"id": true}', {"Id": ("string", "True")}),
        ('{"id": {"a": 1}}', {"Id": ("json", '{"a": 1}')}),
        ('{"id": null}', {}),
        ('{"id": [1]}', {}),
        # Newtonsoft reads the time and writes it in a form that the worker cannot read.
        ('{"insertionTime": "2024-01-02T05:04:05+02:00"}', {"InsertionTime": ("string", "01/02/2024 03:04:05")}),
        ('{"insertionTime": "yesterday"}', {"InsertionTime": ("string", "yesterday")}),
        ('{"other": 1}', {"other": ("string", "1")}),
        *((text, {}) for text in ("[1]", "{broken}", "", '"id"', "[" * 100_000 + "]" * 100_000)),
        (None, {}),  # with `data_type=BINARY` the host does not parse the body
    ],
    ids=lambda each: str(each)[:30],
)
def test_properties_have_the_types_of_the_real_host(text, replaced):
    """
    Numbers and times are JSON, the others text; a message expires after seven days. The top-level members of a JSON
    object replace them, regardless of their case, except for null and arrays.
    """
    message = MessageProperties("the-id", 2, "receipt", datetime(2024, 5, 6, 7, 8, 9, tzinfo=UTC))
    body = {} if text is None else {"QueueTrigger": ("string", text)}

    metadata = {name: (datum.type, datum.value) for name, datum in queue_metadata(message, text).items()}

    assert metadata == PROPERTIES | body | replaced


@pytest.mark.parametrize(
    ("text", "encoding", "body"),
    [("/2J5dGVz", "base64", b"\xffbytes"), ("é", "none", "é".encode())],
)
def test_an_encoding_round_trip(text, encoding, body):
    """With `messageEncoding: none`, the body is the message text."""
    assert (text, body) == (encode_body(body, encoding), decode_text(text, encoding))


def test_white_space_in_base64_is_ignored():
    """As in .NET."""
    assert decode_text(" /2J5\ndGVz ", "base64") == b"\xffbytes"


@pytest.mark.parametrize("text", ["{}", "abc", "é"])
def test_an_invalid_encoding_is_an_error(text):
    """It has an exception of its own."""
    with pytest.raises(NotBase64):
        decode_text(text, "base64")


@pytest.mark.parametrize(
    ("value", "bodies"),
    [
        (b'[1,  "x"]', [b'[1,  "x"]']),
        ("plain", [b"plain"]),
        ('{"a":1.10}', [b'{\n  "a": 1.1\n}']),
        ('["x", 1, true, null]', [b"x", b"1", b"True", b""]),
        (["x", "[1]"], [b"x", b"[1]"]),
        ("2024-01-01T00:00:00Z", [b"2024-01-01T00:00:00Z"]),
        ([], []),
    ],
)
def test_an_output_becomes_messages(value, bodies):
    """Bytes are unchanged; a text that looks like JSON is parsed and written again."""
    assert split_output(value) == bodies


def test_an_output_that_only_looks_like_json_is_an_error():
    """In Azure it fails the invocation."""
    with pytest.raises(ValueError, match="Expecting"):
        split_output("{not JSON}")


def test_an_empty_queue_is_polled_less_and_less_often():
    """Pauses double from a tenth of a second to the maximum, and restart after a message."""
    backoff = Backoff(0.1, 2)
    pauses = [backoff.next() for _ in range(12)]

    assert pauses[0] == pytest.approx(0.1)
    assert pauses == sorted(pauses)
    assert pauses[-1] == 2
    backoff.reset()
    assert backoff.next() == pytest.approx(0.1)
