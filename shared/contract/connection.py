"""A connection as a secret holds it: a JSON object, or the bare key with the same settings as tags."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Mapping
from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct

from shared.contract.decoding import UNKNOWN, decode, json_object
from shared.contract.pasted import is_placeholder, unquote
from shared.contract.usage import DeploymentScope
from shared.errors import ConnectionInvalid, InvalidJob
from shared.secret import is_reference

Provider = Literal["azure_openai", "foundry", "openai", "anthropic"]
Auth = Literal["api_key", "entra"]
# White space and quotes around a value are often pasted along, and removed after decoding.
ApiKey = Annotated[
    str,
    Meta(
        pattern=r"^\s*[!-~]{0,4096}\s*\Z",
        description="at most 4096 characters of printable ASCII, without spaces and line breaks",
    ),
]
HeaderText = Annotated[
    str,
    Meta(pattern=r"^\s*[!-~]*\s*\Z", description="printable ASCII, without spaces and line breaks"),
]


# `api_key` is plain here: whoever decodes a record wraps it at once.
class ConnectionRecord(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An endpoint, how to authenticate to it, and options."""

    endpoint: str | None = None
    """The address of the resource or API, in any of the forms that portals show, or a resource's name."""
    api_key: ApiKey | None = None
    """The key. No response ever contains it."""
    provider: Provider | None = None
    """Needed only if the endpoint's host does not show it, such as the own domain of a gateway."""
    auth: Auth = "api_key"
    """With `entra`, the app authenticates with its own identity, without a key, once its operator has allowed that."""
    scope: str | None = None
    """The scope of the token, if it is not the usual one."""
    tenant_id: str | None = None
    """The customer's tenant, if it is not the app's."""
    api_version: str | None = None
    """The API version, for endpoints that take one."""
    organization: HeaderText | None = None
    """The OpenAI organization, sent as a header. Only for an endpoint of OpenAI's."""
    project: HeaderText | None = None
    """The OpenAI project, sent as a header. Only for an endpoint of OpenAI's."""
    default_model: str | None = None
    """The model of jobs that name none."""
    batch_model: str | None = None
    """The deployment that runs batches, if it is not the job's: Azure's batches need a deployment of their own."""
    deployment_scope: DeploymentScope | None = None
    """Where the deployment processes data, for usage records: its price depends on it."""
    max_concurrency: Annotated[int, Meta(ge=1, le=1000)] | None = None
    """How many calls one worker makes at the same time."""
    monthly_budget: Annotated[float, Meta(ge=0)] | None = None
    """A hard monthly budget of this connection, in the price book's currency."""

    def __repr__(self) -> str:
        return "ConnectionRecord(***)"


_SETTINGS = frozenset(ConnectionRecord.__struct_fields__) - {"api_key"}
ENTRA_TAGS = ("entra_host", "entra_scope", "entra_tenant")
"""What the secret allows the app's own identity for. Only who may write to the vault can set tags."""
_ENCODING = "file-encoding"
"""The tag in which Azure's command line names the encoding of a file that it stored."""
OWN_TAGS = _SETTINGS | {*ENTRA_TAGS, _ENCODING}
"""Tags that say something about the value, in lower case; others are the vault owner's."""
_MEMBER = re.compile(r"`[A-Za-z_-]{1,24}`")
"""What a misspelt member looks like, and no key does: only such a name is quoted."""


def decode_connection(value: str, tags: Mapping[str, str] | None = None) -> ConnectionRecord:
    """
    The record in a secret's value.

    A value that begins with `{` is the whole record as a JSON object, and the tags are ignored. Any other value is
    the bare API key, and the tags with the contract's names are the settings; other tags are the vault owner's own.
    Raises ConnectionInvalid, which never shows the value.
    """
    text = unquote(value)
    if not _is_unicode(text, *(tags or {}).values()):
        raise ConnectionInvalid("The connection's secret contains half a surrogate pair, such as half an emoji.")
    if text.startswith("{\\"):  # JSON in a JSON string, whose quotes are gone
        with contextlib.suppress(msgspec.DecodeError):
            text = msgspec.json.decode(f'"{text}"', type=str)
    if is_object(text):
        return _record(text.encode())
    own = read_tags(tags or {})
    if own.get(_ENCODING) in {"base64", "hex"}:
        raise ConnectionInvalid(
            f"The connection's secret is stored as {own[_ENCODING]}, as its tag `{_ENCODING}` says: store it with "
            "`--encoding utf-8`, or without that option."
        )
    settings: dict[str, object] = {name: tag for name, tag in own.items() if name in _SETTINGS}
    for name, kind in (("max_concurrency", int), ("monthly_budget", float)):
        if name in settings:
            settings[name] = _number(name, str(settings[name]), kind)
    return _record(msgspec.json.encode({**settings, "api_key": text} if text else settings))


def is_object(value: str) -> bool:
    """Whether a secret's value is the whole record, not a bare key whose settings are tags."""
    text = unquote(value)
    return text.startswith("{") and not is_placeholder(text)


def read_tags(tags: Mapping[str, str]) -> dict[str, str]:
    """
    Return the tags that say something about the value: their names in lower case, their values without quotes.

    Raises ConnectionInvalid if two that differ have the same name, in other capitals.
    """
    own: dict[str, str] = {}
    for written, tag in tags.items():
        name, text = written.strip().lower(), unquote(tag)
        if name in OWN_TAGS and own.setdefault(name, text) != text:
            raise ConnectionInvalid(f"The connection's secret has the tag `{name}` twice, in different capitals.")
    return own


def _record(data: bytes) -> ConnectionRecord:
    try:
        record = decode(data, ConnectionRecord, root="the value")
    except InvalidJob as exc:
        _check_texts(json_object(data))
        # `from None`: the cause holds the decoder's view of a text with a key in it.
        raise ConnectionInvalid(f"The connection's secret is malformed: {_without_values(str(exc))}") from None
    texts = {name: text for name, text in msgspec.structs.asdict(record).items() if isinstance(text, str)}
    texts = {name: unquote(text) for name, text in texts.items()}
    _check_texts(texts)
    record = msgspec.structs.replace(record, **texts)
    if record.auth == "api_key" and not record.api_key:
        raise ConnectionInvalid("The connection's secret has no `api_key`, and its `auth` is not `entra`.")
    return record


def _check_texts(members: Mapping[str, object]) -> None:
    """Raise ConnectionInvalid if a member only says where its value is."""
    for name in ConnectionRecord.__struct_fields__:
        text = members.get(name)
        if not isinstance(text, str):
            continue
        if is_reference(text):
            raise ConnectionInvalid(
                f"The connection's `{name}` is a reference such as @Microsoft.KeyVault(…), which Azure resolves in app "
                "settings alone: store the value itself."
            ) from None
        if is_placeholder(unquote(text)):
            raise ConnectionInvalid(
                f"The connection's `{name}` is a placeholder: put the value in its place."
            ) from None


def _is_unicode(*texts: str) -> bool:
    return not any("\ud800" <= character <= "\udfff" for text in texts for character in text)


def _without_values(message: str) -> str:
    # The message quotes the name of an unknown member, which a mispasted key may be.
    name, unknown, _ = message.partition(UNKNOWN)
    if unknown and not _MEMBER.fullmatch(name):
        return "it has a member that the contract does not name."
    return message


def _number(name: str, text: str, kind: type[int | float]) -> int | float:
    try:
        return msgspec.json.decode(text, type=kind)  # as in the JSON form: no nan, no 1_000
    except msgspec.DecodeError:
        rule = "a whole number" if kind is int else "a number"
        raise ConnectionInvalid(f"The connection's tag `{name}` must be {rule}.") from None
