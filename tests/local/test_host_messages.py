"""A message on its way in and out: trigger metadata, encoding, outputs. All pure."""

from datetime import UTC, datetime

import pytest

from local.host.message_encoding import NotBase64, decode_text, encode_body, split_output
from local.host.queue_listener import Backoff
from local.host.trigger_metadata import MessageProperties, queue_metadata

AT = datetime(2024, 5, 6, 7, 8, 9, tzinfo=UTC)


def metadata_of(text):
    metadata = queue_metadata(MessageProperties("the-id", 2, "receipt", AT), text)
    return {name: (datum.type, datum.value) for name, datum in metadata.items()}


def test_properties_have_the_types_of_the_real_host():
    """Numbers and times are JSON, the others text; a message expires after seven days."""
    assert metadata_of("hello") == {
        "DequeueCount": ("json", "2"),
        "ExpirationTime": ("json", '"2024-05-13T07:08:09+00:00"'),
        "Id": ("string", "the-id"),
        "InsertionTime": ("json", '"2024-05-06T07:08:09+00:00"'),
        "NextVisibleTime": ("json", '"2024-05-06T07:18:09+00:00"'),
        "PopReceipt": ("string", "receipt"),
        "QueueTrigger": ("string", "hello"),
    }


@pytest.mark.parametrize(
    ("member", "name", "value"),
    [
        ('"dequeueCount": "many"', "DequeueCount", ("string", "many")),
        ('"DEQUEUECOUNT": 3', "DequeueCount", ("string", "3")),
        ('"id": true', "Id", ("string", "True")),
        ('"id": {"a": 1}', "Id", ("json", '{"a": 1}')),
        ('"id": null', "Id", ("string", "the-id")),
        ('"id": [1]', "Id", ("string", "the-id")),
        # Newtonsoft reads the time and writes it in a form that the worker cannot read.
        ('"insertionTime": "2024-01-02T05:04:05+02:00"', "InsertionTime", ("string", "01/02/2024 03:04:05")),
        ('"insertionTime": "yesterday"', "InsertionTime", ("string", "yesterday")),
        ('"other": 1', "other", ("string", "1")),
    ],
)
def test_members_of_a_json_body_replace_properties(member, name, value):
    """Top-level members, regardless of their case, except for null and arrays."""
    assert metadata_of("{" + member + "}")[name] == value


@pytest.mark.parametrize("text", ["[1]", "{broken}", "", '"id"', "[" * 100_000 + "]" * 100_000])
def test_other_bodies_replace_nothing(text):
    """A body that is not a JSON object is no error."""
    assert metadata_of(text)["Id"] == ("string", "the-id")


def test_nothing_is_copied_from_a_binary_body():
    """With `data_type=BINARY` the host does not parse the body."""
    assert "QueueTrigger" not in metadata_of(None)


def test_base64_round_trip():
    """As in .NET, white space is ignored."""
    assert encode_body(b"\xffbytes", "base64") == "/2J5dGVz"
    assert decode_text(" /2J5\ndGVz ", "base64") == b"\xffbytes"


def test_no_encoding_is_utf_8():
    """With `messageEncoding: none`, the body is the message text."""
    assert decode_text(encode_body("é".encode(), "none"), "none") == "é".encode()


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
