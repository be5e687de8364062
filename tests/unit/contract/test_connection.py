"""A connection as a secret holds it: its two forms, its errors, and that none of them shows the secret."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from shared.contract.connection import ConnectionRecord, decode_connection
from shared.errors import ConnectionInvalid
from tests.support.rows import every_row

MARK = "k3y-MARK"
ENDPOINT = "https://r.openai.azure.com"


def secret(**members: Any) -> str:
    return json.dumps({"endpoint": ENDPOINT, "api_key": MARK} | members)


def refusal(value: str, tags: dict[str, str] | None = None) -> str:
    with pytest.raises(ConnectionInvalid) as raised:
        decode_connection(value, tags)
    assert "MARK" not in str(raised.value)
    assert raised.value.__suppress_context__ or raised.value.__context__ is None
    return str(raised.value)


def members_of(record: ConnectionRecord) -> dict[str, Any]:
    return {name: value for name, value in msgspec.structs.asdict(record).items() if value is not None}


COMPLETE = {
    "endpoint": ENDPOINT,
    "api_key": MARK,
    "provider": "azure_openai",
    "auth": "api_key",
    "scope": "https://ai.azure.com/.default",
    "tenant_id": "1f1c5b2e-0000-4000-8000-000000000000",
    "api_version": "2024-10-21",
    "organization": "org-1",
    "project": "proj_1",
    "default_model": "gpt-4.1",
    "batch_model": "gpt-4.1-batch",
    "max_concurrency": 8,
    "monthly_budget": 99.5,
}


def test_json_has_all_members():
    """A secret in JSON has each member that the contract names."""
    assert COMPLETE == members_of(decode_connection(json.dumps(COMPLETE)))


def test_bare_key_with_tags_is_equivalent():
    """A bare key with the settings as tags is the same connection as the JSON."""
    tags = {name: str(value) for name, value in COMPLETE.items() if name != "api_key"}

    assert decode_connection(json.dumps(COMPLETE)) == decode_connection(MARK, tags)


BARE = {"api_key": MARK, "auth": "api_key"}
ENTRA = {"auth": "entra", "endpoint": ENDPOINT}


@every_row(
    ("value", "tags", "members"),
    [
        *((MARK, tags, BARE) for tags in (None, {}, {"owner": "kari", "CredentialId": "x", "Project id": "x"})),
        pytest.param(MARK, {"api_key": "other"}, BARE, id="a tag, which many may list, is not the key"),
        pytest.param(
            secret(),
            {"endpoint": "https://other", "auth": "entra", "max_concurrency": "x"},
            {"endpoint": ENDPOINT, **BARE},
            id="no tag is mixed into JSON",
        ),
        *((value, ENTRA, ENTRA) for value in ("", " ", json.dumps(ENTRA))),
        *(
            (MARK, {name: text}, {**BARE, name: number})
            for name, text, number in (
                ("max_concurrency", "8", 8),
                ("max_concurrency", " 1000 ", 1000),
                ("monthly_budget", "0", 0),
                ("monthly_budget", "250", 250),
                ("monthly_budget", "99.50", 99.5),
                ("monthly_budget", "1e3", 1000),
            )
        ),
    ],
)
def test_value_and_tags_make_a_connection(value: str, tags: dict[str, str] | None, members: dict[str, Any]):
    """A bare key has its settings in tags, and other tags are ignored; JSON is complete; with Entra there is no key."""
    assert members == members_of(decode_connection(value, tags))


@pytest.mark.parametrize("wrap", [" {} ", "\n{}\n", "\t{}\r\n"])
def test_white_space_around_values_is_removed(wrap: str):
    """A line break that was pasted along is not part of a value."""
    assert MARK == decode_connection(wrap.replace("{}", MARK)).api_key
    assert MARK == decode_connection(wrap.replace("{}", secret())).api_key
    for name in ("api_key", "organization", "project", "default_model", "batch_model", "tenant_id"):
        assert "a" == getattr(decode_connection(secret(**{name: wrap.replace("{}", "a")})), name)
    assert "a" == decode_connection(MARK, {"default_model": wrap.replace("{}", "a")}).default_model


MARKS = ["{}", "\ufeff{}", "\xef\xbb\xbf{}", "\ufeff{}\r\n", "\u200b{}\x00", "\xa0{}\u2028"]
"""A byte order mark, also misread as Latin-1, and what else nobody sees."""
QUOTES = ["{}", '"{}"', "'{}'", "`{}`", "\u201c{}\u201d", "\u2018{}\u2019", "\u201e{}\u201c", "'\"{}\"'"]


@every_row("mark", MARKS, ids=ascii)
@every_row("quotes", QUOTES, ids=ascii)
def test_marks_and_quotes_around_values_are_removed(mark: str, quotes: str):
    """What an editor, a shell or a spreadsheet wrote around a secret, or around a tag, is not part of it."""

    def wrapped(text: str) -> str:
        return mark.replace("{}", quotes.replace("{}", text))

    assert MARK == decode_connection(wrapped(MARK)).api_key
    assert MARK == decode_connection(wrapped(secret())).api_key
    tags = {"endpoint": ENDPOINT, "auth": "entra", "max_concurrency": "8"}
    record = decode_connection("", {name: wrapped(text) for name, text in tags.items()})
    assert (ENDPOINT, "entra", 8) == (record.endpoint, record.auth, record.max_concurrency)


def test_json_that_was_encoded_twice_is_read():
    """A JSON object within a JSON string, as templates write it, is the object."""
    assert decode_connection(secret(project="a\\b")) == decode_connection(json.dumps(secret(project="a\\b")))


@every_row("quotes", ['"{}"', "'{}'", " {} ", "{}"])
def test_quotes_around_a_member_are_removed(quotes: str):
    """A key in quotes within JSON is the key; quotes within a value are part of it."""
    assert MARK == decode_connection(secret(api_key=quotes.replace("{}", MARK))).api_key
    assert "gpt-4o" == decode_connection(secret(default_model=quotes.replace("{}", "gpt-4o"))).default_model
    for key in ('MA"RK', '"MARK', "MARK'", '"MA"RK\\'):
        assert key == decode_connection(secret(api_key=key)).api_key == decode_connection(key).api_key


@pytest.mark.parametrize("spelling", [str.upper, str.title, " {} ".format])
def test_names_of_tags_are_read_in_any_case(spelling: Any):
    """Portals and scripts write tags in capitals, and they mean the same."""
    tags = {name: str(value) for name, value in COMPLETE.items() if name != "api_key"}

    assert decode_connection(MARK, tags) == decode_connection(MARK, {spelling(name): tag for name, tag in tags.items()})


@pytest.mark.parametrize("name", ["endpoint", "auth", "entra_host"])
def test_tags_that_contradict_each_other_are_refused(name: str):
    """Two tags that differ only in their capitals are one if they agree, and are refused if they don't."""
    decode_connection(MARK, {name: "api_key", name.upper(): "api_key"})
    decode_connection(MARK, {"team": "red", "Team": "blue"})

    assert f"the tag `{name}` twice" in refusal(MARK, {name: "api_key", name.upper(): "entra"})


PLACEHOLDERS = ["${MARK}", "$(MARK)", "{{ MARK }}", "#{MARK}#", "<MARK>"]
REFERENCES = [
    "@Microsoft.KeyVault(SecretUri=https://v.vault.azure.net/secrets/MARK)",
    " @microsoft.keyvault (VaultName=v;SecretName=MARK)",
    "@Microsoft.AppConfiguration(Endpoint=https://x; Key=MARK)",
]


@every_row(
    ("text", "words"),
    [*((text, "placeholder") for text in PLACEHOLDERS), *((text, "reference such as") for text in REFERENCES)],
)
def test_what_stands_in_place_of_a_value_is_named(text: str, words: str):
    """A reference that nobody resolved, and a placeholder, are named with their member, and never sent as a key."""
    bare, quoted, api_key = refusal(text), refusal(f'"{text}"'), refusal(secret(api_key=text))
    endpoint, model = refusal(secret(endpoint=text)), refusal(MARK, {"default_model": text})

    assert f"The connection's `api_key` is a {words}" in bare == quoted == api_key
    assert f"The connection's `endpoint` is a {words}" in endpoint
    assert f"The connection's `default_model` is a {words}" in model


@pytest.mark.parametrize("encoding", ["base64", "hex"])
def test_an_encoded_file_is_named(encoding: str):
    """A file that Azure's command line stored in another form is refused with the option that would be right."""
    assert "--encoding utf-8" in refusal("TUFSSw==", {"file-encoding": encoding, "endpoint": ENDPOINT})
    assert MARK == decode_connection(MARK, {"file-encoding": "utf-8"}).api_key
    assert MARK == decode_connection(secret(), {"file-encoding": encoding}).api_key


NO_KEY = "The connection's secret has no `api_key`, and its `auth` is not `entra`."
KEY = "`api_key` must be at most 4096 characters of printable ASCII, without spaces and line breaks."
HEADER = "must be printable ASCII, without spaces and line breaks."
UNNAMED = "it has a member that the contract does not name."
PROVIDER = "`provider` must be one of azure_openai, foundry, openai, anthropic."
CONCURRENCY = "`max_concurrency` must be a whole number from 1 to 1,000."
BUDGET = "`monthly_budget` must be a number of at least 0."


@every_row(
    ("value", "message"),
    [
        *((value, NO_KEY) for value in ("", secret(api_key=None), secret(api_key=" \n"), '{"endpoint": "x"}')),
        (f"{MARK}\ud83d", "The connection's secret contains half a surrogate pair, such as half an emoji."),
    ],
)
def test_value_without_a_key_or_beyond_unicode_is_refused(value: str, message: str):
    """A connection has a key unless it authenticates with Entra, and no half of a surrogate pair. A tag is no key."""
    assert message == refusal(value, {"api_key": "k"})


@every_row(
    ("value", "message"),
    [
        (f"{MARK}\n{MARK}", KEY),
        (f"{MARK} 2", KEY),
        (MARK * 600, KEY),
        (secret(api_key=f"{MARK}\r\nx: y"), KEY),
        (f"{MARK}é", KEY),
        (secret(organization="a\nMARK: b"), f"`organization` {HEADER}"),
        (secret(project="MARK é"), f"`project` {HEADER}"),
        (secret(apiKey=MARK), "`apiKey` is not a known member. Did you mean `api_key`?"),
        (secret(**{"max-concurrency": 1}), "`max-concurrency` is not a known member. Did you mean `max_concurrency`?"),
        (secret(**{MARK: 1}), UNNAMED),
        (secret(**{f"{MARK}`x": 1}), UNNAMED),
        (secret(**{f"x - at `$.{MARK}": 1}), UNNAMED),
        (secret(**{"MARK" * 9: 1}), UNNAMED),
        (secret(provider="MARK"), PROVIDER),
        (secret(provider="x - at `$.MARK`"), PROVIDER),
        (secret(auth="MARK"), "`auth` must be one of api_key, entra."),
        (secret(auth=None), "`auth` must be a string, not null."),
        (secret(endpoint=[MARK]), "`endpoint` must be a string or null, not a list."),
        (secret(api_key={MARK: MARK}), "`api_key` must be a string or null, not an object."),
        (secret(max_concurrency="8"), "`max_concurrency` must be a whole number or null, not a string."),
        (secret(max_concurrency=0), CONCURRENCY),
        (secret(max_concurrency=1001), CONCURRENCY),
        (secret(monthly_budget=-1), BUDGET),
        (
            secret()[:-1],
            "the value is not valid JSON: it ends too early, or a string contains half a surrogate pair.",
        ),
        (f"{secret()} {MARK}", "the value is not valid JSON: trailing characters (byte 67)."),
        (f"{{{MARK}}}", "the value is not valid JSON: object keys must be strings (byte 1)."),
        (f'{{"endpoint": {"[" * 5000}', "`endpoint` must be a string or null, not a list."),
    ],
    ids=range(27),
)
def test_errors_name_the_member_and_never_show_the_value(value: str, message: str):
    """An invalid connection is refused with the member at fault and nothing of the secret."""
    assert f"The connection's secret is malformed: {message}" == refusal(value)


@every_row(
    ("name", "text"),
    [
        *(("max_concurrency", text) for text in ("1.5", "8.0", "1e3")),
        *(("monthly_budget", text) for text in ("", "many", "8.5x", "1_000", "1,000", "٣", "nan", "inf", "-inf")),
        *(("monthly_budget", text) for text in ("null", "true", "[8]", "9" * 400)),
    ],
)
def test_tag_that_is_not_a_number_is_refused(name: str, text: str):
    """A tag that is not a JSON number, or a fraction of a call, is refused, and never read as no limit."""
    rule = {"max_concurrency": "a whole number", "monthly_budget": "a number"}[name]
    assert f"The connection's tag `{name}` must be {rule}." == refusal(MARK, {name: text})


@every_row(
    ("name", "text", "message"),
    [
        ("max_concurrency", "0", CONCURRENCY),
        ("max_concurrency", "1001", CONCURRENCY),
        ("max_concurrency", "9" * 50, CONCURRENCY),
        ("monthly_budget", "-0.01", BUDGET),
        ("provider", "azure", PROVIDER),
    ],
)
def test_values_in_tags_have_the_same_limits(name: str, text: str, message: str):
    """A value in a tag has the same limits and choices as in JSON."""
    assert f"The connection's secret is malformed: {message}" == refusal(MARK, {name: text})


def test_record_does_not_show_itself():
    """The repr and str of a record contain nothing of it."""
    record = decode_connection(json.dumps(COMPLETE))

    assert "ConnectionRecord(***)" == repr(record) == str(record) == f"{record}"
