"""
The shapes of the interface as JSON Schema: the decoder's own types, and what it checks beyond types.

Made of msgspec's view of the Structs, so a member that is added there is here. Knows nothing of routes.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from shared.contract.chat import ChatInput
from shared.contract.decoding import CUSTOMER_PATTERN, JOB_ID_PATTERN
from shared.contract.embed import MOST_TEXTS, EmbedInput
from shared.contract.image import ImageInput
from shared.contract.job import ACTIONS, Job
from shared.contract.multi_chat import MOST_PROMPTS, MultiChatInput
from shared.contract.raw import METHODS, RESPONSE_TYPES, FileInput, RawInput
from shared.contract.summarize import STYLES, SummarizeInput
from shared.http.openapi.descriptions import MEMBERS

Schema = dict[str, Any]

REFS = "#/components/schemas/"
NAME: Schema = {"type": "string", "maxLength": 50, "pattern": f"^{CUSTOMER_PATTERN}$"}
JOB_ID: Schema = {"type": "string", "maxLength": 100, "pattern": f"^{JOB_ID_PATTERN}$"}
_TEXT: Schema = {"type": "string", "pattern": r"\S"}
_BLOB: Schema = {"type": "string", "pattern": r"^[a-z0-9][a-z0-9-]{1,61}[a-z0-9]/[^\x00-\x1f\\]{1,900}$"}
_STRINGS: Schema = {"type": "object", "additionalProperties": {"type": "string"}}
_MESSAGES: Schema = {"type": "array", "items": {"$ref": f"{REFS}Message"}}
_NO_PARAMETERS = {
    **dict.fromkeys(("ChatInput", "MultiChatInput", "SummarizeInput"), ("messages", "model")),
    "ImageInput": ("prompt", "n", "model", "stream"),
    "EmbedInput": ("input", "model"),
}
"""What can't be among `parameters`, because it has a place of its own."""

INPUTS: dict[str, type[msgspec.Struct]] = {
    "chat": ChatInput,
    "multi_chat": MultiChatInput,
    "image": ImageInput,
    "summarize": SummarizeInput,
    "embed": EmbedInput,
    "raw": RawInput,
}


def components(taken: Iterable[type], given: Iterable[type]) -> dict[str, Schema]:
    """
    The schemas of the types that requests and answers have, and of all that they refer to.

    `Job` is one of a schema for each action.
    """
    inputs = [*INPUTS.values(), FileInput, Job, *taken]
    _, requests = msgspec.json.schema_components(inputs, ref_template=REFS + "{name}")
    _, found = msgspec.json.schema_components([*inputs, *given], ref_template=REFS + "{name}")
    for name in found.keys() - requests.keys():
        _leave_out_nulls(found[name])
    _tighten(found)
    job = found.pop("Job")
    del found["PutBack"]
    jobs = {_job_name(action): _job_schema(job, action) for action in ACTIONS}
    for name, words in MEMBERS.items():
        for schema in jobs.values() if name == "Job" else [found[name]]:
            _describe(schema, words)
    return {"Job": _one_of(jobs), **jobs, **_parts(), **dict(sorted(found.items()))}


def reference(kind: type) -> Schema:
    """A reference to a type's schema."""
    return {"$ref": f"{REFS}{kind.__name__}"}


def _job_name(action: str) -> str:
    return "".join(word.capitalize() for word in action.split("_")) + "Job"


def _one_of(jobs: dict[str, Schema]) -> Schema:
    mapping = {action: f"{REFS}{_job_name(action)}" for action in ACTIONS}
    return {
        "title": "Job",
        "description": "One request to run one action for one customer.",
        "oneOf": [{"$ref": f"{REFS}{name}"} for name in jobs],
        "discriminator": {"propertyName": "action", "mapping": mapping},
    }


def _job_schema(job: Schema, action: str) -> Schema:
    members = {name: schema for name, schema in job["properties"].items() if name != "_put_back"}
    members["action"] = {"const": action}
    members["input"] = {"anyOf": [reference(INPUTS[action]), {"$ref": f"{REFS}BlobInput"}]}
    return {
        **job,
        "title": _job_name(action),
        "description": f"A job of the action {action}.",
        "properties": {name: dict(schema) for name, schema in members.items()},
        "oneOf": [{"required": ["input"]}, {"required": ["input_blob"]}],
    }


def _parts() -> dict[str, Schema]:
    part = {"type": "object", "required": ["type"], "properties": {"type": {"type": "string"}}}
    content = {"type": ["string", "array", "null"], "items": part}
    return {
        "BlobInput": {
            "title": "BlobInput",
            "description": "A blob that holds the input, in place of it.",
            "type": "object",
            "properties": {"input_blob": _BLOB},
            "required": ["input_blob"],
            "additionalProperties": False,
        },
        "Message": {
            "title": "Message",
            "description": "An OpenAI message; members beyond these are the model's.",
            "type": "object",
            "properties": {"role": {"type": "string"}, "content": content},
            "required": ["role"],
            "anyOf": [
                {"required": ["content"], "properties": {"content": {"type": ["string", "array"]}}},
                {"properties": {"role": {"enum": ["assistant", "function"]}}},
            ],
        },
    }


def _tighten(found: dict[str, Schema]) -> None:
    """What the decoder checks in code, as far as JSON Schema can say it."""
    job = found["Job"]["properties"]
    _narrow(job, customer=NAME, connection=NAME, job_id=JOB_ID, input_blob=_BLOB, metadata=_STRINGS)
    _narrow(job, model={**_TEXT, "minLength": 1, "maxLength": 200})
    queue = {"type": "string", "minLength": 3, "maxLength": 63, "pattern": "^[a-z0-9]+(-[a-z0-9]+)*$"}
    _narrow(found["Output"]["properties"], queue=queue, callback={"type": "string", "format": "uri"})
    chat, many = found["ChatInput"], found["MultiChatInput"]
    _narrow(chat["properties"], messages={**_MESSAGES, "minItems": 1}, history=_MESSAGES, prompt=_TEXT)
    _narrow(chat["properties"], template={"type": "string", "pattern": "@@userPrompt"})
    chat["oneOf"] = [{"required": ["messages"]}, {"required": ["prompt"]}]
    prompt = {"oneOf": [_TEXT, {**_MESSAGES, "minItems": 1}]}
    _narrow(many["properties"], prompts={"type": "array", "items": prompt, "minItems": 1, "maxItems": MOST_PROMPTS})
    _narrow(found["ImageInput"]["properties"], prompt=_TEXT)
    summarize = found["SummarizeInput"]
    _narrow(summarize["properties"], text=_TEXT, blob=_BLOB, language=_TEXT, instructions=_TEXT)
    _narrow(summarize["properties"], style={"enum": list(STYLES)})
    summarize["oneOf"] = [{"required": ["text"]}, {"required": ["blob"]}]
    texts = {"type": "array", "items": {"type": "string", "minLength": 1}, "minItems": 1, "maxItems": MOST_TEXTS}
    _narrow(found["EmbedInput"]["properties"], texts=texts)
    _tighten_raw(found)
    _tighten_connection(found)
    for name, ours in _NO_PARAMETERS.items():
        found[name]["properties"]["parameters"]["propertyNames"] = {"not": {"enum": list(ours)}}


def _tighten_connection(found: dict[str, Schema]) -> None:
    if "ConnectionRecord" in found:
        found["ConnectionRecord"]["required"] = ["endpoint"]
        found["ConnectionRecord"]["anyOf"] = [
            {"required": ["api_key"], "properties": {"api_key": {"type": "string"}}},
            {"required": ["auth"], "properties": {"auth": {"const": "entra"}}},
        ]


def _tighten_raw(found: dict[str, Schema]) -> None:
    raw = found["RawInput"]["properties"]
    one = {"type": ["string", "number", "boolean"]}
    values = {"anyOf": [one, {"type": "array", "items": one}]}
    _narrow(raw, headers=_STRINGS, form=_STRINGS, query={"type": "object", "additionalProperties": values})
    _narrow(raw, method={"type": "string", "enum": list(METHODS)})
    _narrow(raw, response_type={"type": "string", "enum": list(RESPONSE_TYPES)})
    content = {"type": "string", "contentEncoding": "base64"}
    raw["files"]["additionalProperties"] = {"anyOf": [content, {"$ref": f"{REFS}FileInput"}]}


def _narrow(members: dict[str, Schema], /, **narrower: Schema) -> None:
    """Puts narrower schemas in the places of members' own; a null, true or false that they take, they still do."""
    for name, schema in narrower.items():
        old = members[name]
        others = [one for one in old.get("anyOf", ()) if one.get("type") in {"null", "boolean"}]
        about: Schema = {key: old[key] for key in ("default", "description") if key in old}
        members[name] = {"anyOf": [schema, *others], **about} if others else {**schema, **about}


def _leave_out_nulls(schema: Schema) -> None:
    """An answer leaves out what it does not know: no member of it is ever null."""
    for name, member in schema.get("properties", {}).items():
        known = [one for one in member.get("anyOf", ()) if one.get("type") != "null"]
        if len(known) < len(member.get("anyOf", ())):
            rest = {key: value for key, value in member.items() if key not in {"anyOf", "default"}}
            schema["properties"][name] = {**known[0], **rest} if len(known) == 1 else {"anyOf": known, **rest}


def _describe(schema: Schema, words: dict[str, str]) -> None:
    for name, text in words.items():
        schema["properties"][name] = {**schema["properties"][name], "description": text}
