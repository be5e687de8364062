"""A key that was pasted into the wrong place, or is quoted by a server, is redacted, however it is encoded."""

from __future__ import annotations

import time
from urllib.parse import quote

import pytest

from shared.connections.endpoint_url import encode_segment
from shared.errors import ConnectionInvalid, JobError, ProviderUnavailable, UpstreamTimeout
from shared.secret import Secret, redact
from shared.upstream import guarded_addresses
from shared.upstream.messages import ApiKey, Response, UpstreamRequest
from tests.support.clients import Resolver, open_client
from tests.support.endpoint import Account, Endpoint, completion, reply
from tests.support.rows import every_row

KEYS = ["Ab9-Key-0123456789", "aB+/=:cD0123", "Schlüssel-0123"]
ODD_KEYS = ["_Ab9-Key-0123456789", '"b+/=:cD0123', "\\\\Ab90123456", "/\\Ab90123456"]


@every_row("key", KEYS)
@every_row("encode", [str, str.lower, str.upper, encode_segment, lambda key: quote(key, safe="")])
def test_a_key_is_redacted_however_it_is_encoded(key: str, encode):
    """In any case, percent-encoded as in a path or a query, in text and in bytes."""
    text = f"at {encode(key)}.example, and {key}"

    assert "at ***.example, and ***" == redact(text, Secret(key))
    if key.isascii():  # in bytes, only ASCII letters have upper and lower case
        assert b"at ***.example, and ***" == redact(text.encode(), Secret(key))


@every_row(
    "escaped", [r"aB+\/=:cD0123", r"aB\u002b/\u003D:cD0123", r"aB\u002B\/\u003d\u003acD0123", r"aB\\u002b\\\/=:cD0123"]
)
def test_a_json_escaped_key_is_redacted(escaped: str):
    """Encoders escape different characters, but whoever decodes the text gets the key."""
    assert r'{"a": "\n***"}' == redact(rf'{{"a": "\n{escaped}"}}', Secret(KEYS[1]))
    assert rb'{"a": "\n***"}' == redact(rf'{{"a": "\n{escaped}"}}'.encode(), Secret(KEYS[1]))


@every_row(
    ("key", "text", "shown"),
    [
        ("Ab90123456", r'{"a": "\/ ab90123456"}', r'{"a": "\/ ***"}'),  # the other escapes stay: the key has none
        ("Ab901234", "Ab901234", "***"),
        ("Ab9-3", "Ab9-3, not xAb9-3 or Ab9-30", "***, not xAb9-3 or Ab9-30"),  # a short key only as a whole word
        ("prompt", "a prompt", "a prompt"),
        ("1234567", '{"n": 1234567}', '{"n": 1234567}'),
        ("A9z", "A9z", "A9z"),
        ("lm-studio", "the words lm-studio", "the words lm-studio"),
        ("sk-no-key-required", "sk-no-key-required", "sk-no-key-required"),
        ('aB"9\\key', r'{"a": "aB\"9\\key"} aB"9\key', r'{"a": "***"} ***'),
        ("_Ab9-key-01234", r"a\_Ab9-key-01234 \\\_Ab9-key-01234", r"a\*** \\\***"),  # as Markdown escapes it
        (KEYS[0], "nothing of it", "nothing of it"),
        (KEYS[0], b"\xff of it", b"\xff of it"),
    ],
)
def test_other_text_is_not_changed(key: str, text: str | bytes, shown: str | bytes):
    """Only the key is redacted, also if it is all of the text; a number, a word and a placeholder are no keys."""
    assert shown == redact(text, Secret(key))


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be"])
def test_a_key_in_utf_16_is_redacted(encoding: str):
    """A body in UTF-16 shows no key either."""
    assert KEYS[0].encode("utf-16-le")[2:] not in redact(f"at {KEYS[0]}.".encode(encoding), Secret(KEYS[0]))


@every_row("piece", ["\\", "\\u002", "\\/", "aB+/=:cD012", "%", "\\\\u002bx"])
@every_row("key", [*KEYS, *ODD_KEYS])
def test_redaction_takes_linear_time(key: str, piece: str):
    """Twice as much hostile text takes about twice as long."""

    def seconds(size: int) -> float:
        text = (piece * size)[:size]
        times = []
        for _ in range(3):
            begun = time.process_time()
            redact(text, Secret(key))
            redact(text.encode(), Secret(key))
            times.append(time.process_time() - begun)
        return min(times)

    assert seconds(200_000) < 3 * seconds(100_000) + 0.02


@pytest.mark.parametrize("key", ["a" * 4000 + "b", "ab/" * 1000 + "c", "Ab9-Key-" * 400])
def test_the_length_of_a_key_does_not_multiply_the_time(key: str):
    """
    Even a key that keeps repeating its own beginning, in a text that does the same: each place of the text looks like
    a start of it. It is redacted as it is, URL-encoded, and as it stands in JSON.
    """
    text = key[:-1] * (1_000_000 // len(key)) + key + quote(key, safe="") + key.replace("/", r"\/")
    begun = time.process_time()
    shown = redact(text, Secret(key))
    in_bytes = redact(text.encode(), Secret(key))

    assert time.process_time() - begun < 0.5
    assert shown.endswith("***" * 3)
    assert shown.encode() == in_bytes


async def _send(account: Account, host: str, *, timeout_s: float = 30) -> Response:
    request = UpstreamRequest("POST", f"{account.base.replace('127.0.0.1', host)}/v1/x", b"{}")
    async with open_client() as transport:
        access = ApiKey("api-key", Secret(account.key))
        return await transport.send(request, access, customer="contoso", timeout_s=timeout_s)


@pytest.mark.parametrize(
    ("addresses", "timeout_s", "kind", "message"),
    [
        ([], 30, ProviderUnavailable, "***.contoso.example:"),
        (["127.0.0.1"], 0.2, UpstreamTimeout, "***.contoso.example did not answer within 0.2 s"),
        (["10.0.0.5"], 30, ConnectionInvalid, "***.contoso.example resolves to an IP address that is not allowed"),
    ],
    ids=["not there", "slow", "private"],
)
async def test_a_key_in_the_hosts_name_is_in_no_error(
    endpoint: Endpoint,
    monkeypatch: pytest.MonkeyPatch,
    addresses: list[str],
    timeout_s: float,
    kind: type[JobError],
    message: str,
):
    """The message for an endpoint that does not answer has its host, which is in lower case, without the key."""
    account = endpoint.account(f"Ab9-Key-{time.monotonic_ns()}")
    account.will_answer(completion(after_s=30))
    host = f"{account.key}.contoso.example".lower()
    names = Resolver({host: addresses} if addresses else {})
    monkeypatch.setattr(guarded_addresses, "look_up", names.look_up)

    with pytest.raises(kind) as raised:
        await _send(account, host, timeout_s=timeout_s)

    assert message in str(raised.value)
    assert account.key.lower() not in str(raised.value)


async def test_a_key_in_a_response_is_redacted_in_any_case(endpoint: Endpoint):
    """A gateway that quotes the host of the request shows no key, neither in the body nor in the headers."""
    account = endpoint.account(f"Ab9-Key-{time.monotonic_ns()}")
    account.will_answer(reply({"at": f"https://{account.key.lower()}/"}, headers={"x-request-id": account.key.upper()}))

    answered = await _send(account, "127.0.0.1")

    assert (b'{"at": "https://***/"}', "***") == (answered.body, answered.request_id)
