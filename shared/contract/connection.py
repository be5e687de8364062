"""A connection as a secret holds it: a JSON object, or the bare key with the same settings as tags."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct

from shared.contract.decoding import decode
from shared.errors import ConnectionInvalid, InvalidJob

KEY_LIMIT = 4096
"""Characters; a header of more is refused by most servers."""


class ConnectionRecord(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The members that the contract names. `api_key` is plain here: wrap it at once."""

    endpoint: str | None = None
    api_key: str | None = None
    provider: Literal["azure_openai", "foundry", "openai"] | None = None
    auth: Literal["api_key", "entra"] = "api_key"
    scope: str | None = None
    tenant_id: str | None = None
    api_version: str | None = None
    organization: str | None = None
    project: str | None = None
    default_model: str | None = None
    max_concurrency: Annotated[int, Meta(ge=1, le=1000)] | None = None
    monthly_budget: Annotated[float, Meta(ge=0)] | None = None

    def __repr__(self) -> str:
        return "ConnectionRecord(***)"


_SETTINGS = frozenset(ConnectionRecord.__struct_fields__) - {"api_key"}
_UNKNOWN = " is not a known member."
_MEMBER = re.compile(r"`[A-Za-z_-]{1,24}`")
"""What a misspelt member looks like, and no key does: a name of this form is quoted, no other."""


def decode_connection(value: str, tags: Mapping[str, str] | None = None) -> ConnectionRecord:
    """
    The record in a secret's value.

    A value that begins with `{` is the JSON object whole; tags then say nothing. Any other is the
    bare API key, and the settings are the tags that bear the contract's names; other tags are the
    vault owner's own. Raises ConnectionInvalid, which never shows the value.
    """
    text = value.strip()
    if not _is_unicode(text, *(tags or {}).values()):
        raise ConnectionInvalid("The connection's secret holds half a character, as of an emoji cut in two.")
    if text.startswith("{"):
        return _record(text.encode())
    settings: dict[str, object] = {name: tag.strip() for name, tag in (tags or {}).items() if name in _SETTINGS}
    for name, kind in (("max_concurrency", int), ("monthly_budget", float)):
        if name in settings:
            settings[name] = _number(name, str(settings[name]), kind)
    return _record(msgspec.json.encode({**settings, "api_key": text} if text else settings))


def _record(data: bytes) -> ConnectionRecord:
    try:
        record = decode(data, ConnectionRecord)
    except InvalidJob as exc:
        # `from None`: the cause holds the decoder's view of a text with a key in it.
        raise ConnectionInvalid(f"The connection's secret is malformed: {_without_values(str(exc))}") from None
    texts = {name: text for name, text in msgspec.structs.asdict(record).items() if isinstance(text, str)}
    record = msgspec.structs.replace(record, **{name: text.strip() for name, text in texts.items()})
    if record.auth == "api_key" and not record.api_key:
        raise ConnectionInvalid("The connection's secret has no `api_key`, and its `auth` is not `entra`.")
    if len(record.api_key or "") > KEY_LIMIT:
        raise ConnectionInvalid(f"The connection's `api_key` has more than {KEY_LIMIT} characters.")
    if not _is_header_text(record.api_key or ""):
        raise ConnectionInvalid("The connection's `api_key` has characters that no key has, such as a line break.")
    for name in ("organization", "project"):
        if not _is_header_text(getattr(record, name) or ""):
            raise ConnectionInvalid(f"The connection's `{name}` has characters that no header may carry.")
    return record


def _is_header_text(text: str) -> bool:
    return all("!" <= character <= "~" for character in text)


def _is_unicode(*texts: str) -> bool:
    return not any("\ud800" <= character <= "\udfff" for text in texts for character in text)


def _without_values(message: str) -> str:
    # The decoder quotes member names, which a mispasted key may be, and an "invalid enum value": drop both.
    if message.endswith(_UNKNOWN) and not _MEMBER.fullmatch(message.removesuffix(_UNKNOWN)):
        return "it has a member that the contract does not name."
    before, marker, _ = message.partition("invalid enum value")
    if marker:
        return f"{before}not one of the values that the contract names."
    return message.replace("The job", "the value")


def _number(name: str, text: str, kind: type[int | float]) -> int | float:
    try:
        return msgspec.json.decode(text, type=kind)  # as in the JSON form: no nan, no 1_000
    except msgspec.DecodeError:
        raise ConnectionInvalid(f"The connection's tag `{name}` is not a number.") from None
