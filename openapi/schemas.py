"""
The types of the API as JSON Schema.

msgspec makes the schemas from the Structs that decode requests, limits and patterns included; the docstrings of their
members become descriptions. Added here is what the decoders check in code, as far as JSON Schema can express it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any

import msgspec

from openapi.member_docs import member_docs
from openapi.portable_schema import Schema, default_text, exactly_one, portable
from shared.contract import edit_image, embed, image, respond, speak, transcribe
from shared.contract.inputs import INPUTS
from shared.contract.job import ACTIONS, Action, Job
from shared.contract.names import BlobPath
from shared.contract.raw import FileInput
from shared.contract.result import USUAL_COUNTS

REFS = "#/components/schemas/"
_NOT_PARAMETERS = {
    **dict.fromkeys(("ChatInput", "MultiChatInput", "SummarizeInput"), ("messages", "model")),
    **{
        kind.__name__: tuple(module.INSTEAD)
        for kind, module in (
            (image.ImageInput, image),
            (edit_image.EditImageInput, edit_image),
            (transcribe.TranscribeInput, transcribe),
            (speak.SpeakInput, speak),
            (respond.RespondInput, respond),
            (embed.EmbedInput, embed),
        )
    },
}
"""What `parameters` can't hold, because a job sets it elsewhere."""
_ALWAYS = {"Result": ("metadata", "attempts", "usage"), "Usage": tuple(USUAL_COUNTS), "JobDocument": ("links",)}
"""Members that responses always have, although their types have a default."""


class InputMissing(Exception):
    """An action has no type of its input here, so the document can't describe its jobs."""


def components(requests: Iterable[type], responses: Iterable[type]) -> dict[str, Schema]:
    """
    The schemas of the types of requests and responses, and of all types that they refer to.

    `Job` is one of a schema for each action. Raises InputMissing.
    """
    if missing := [action for action in ACTIONS if action not in INPUTS]:
        raise InputMissing(
            f"The action {missing[0]} has no type of its input: add it to `INPUTS` in shared/contract/inputs.py."
        )
    taken = [*INPUTS.values(), FileInput, Job, *requests]
    (_, of_requests), (_, schemas) = (
        msgspec.json.schema_components(kinds, ref_template=REFS + "{name}") for kinds in (taken, [*taken, *responses])
    )
    for name in schemas.keys() - of_requests.keys():
        _as_sent(schemas[name], nullable=USUAL_COUNTS if name == "Usage" else ())
        schemas[name]["required"] += _ALWAYS.get(name, ())
    for kind in _structs([*taken, *responses]):
        if kind.__name__ in schemas:
            _describe(schemas[kind.__name__], member_docs(kind))
    _add_checks(schemas)
    job = schemas.pop("Job")
    jobs = {_job_name(action): _job_schema(job, action) for action in ACTIONS}
    converted: dict[str, Schema] = portable(
        {
            "Job": _one_of(jobs),
            **jobs,
            "BlobInput": _blob_input(),
            "Message": _message(),
            **dict(sorted(schemas.items())),
        }
    )
    return converted


def schema_of(kind: Any) -> Schema:
    """The schema of a type that is not a Struct, such as an annotated string."""
    schema: Schema = portable(msgspec.json.schema(kind))
    return schema


def reference(kind: type) -> Schema:
    """A reference to a type's schema."""
    return {"$ref": f"{REFS}{kind.__name__}"}


def _structs(kinds: Iterable[Any]) -> list[type[msgspec.Struct]]:
    """The Structs among `kinds`, and those of their members, however deep."""
    structs: dict[type[msgspec.Struct], None] = {}
    for info in msgspec.inspect.multi_type_info(kinds):
        _collect(info, structs)
    return list(structs)


def _collect(info: Any, structs: dict[type[msgspec.Struct], None]) -> None:
    if isinstance(info, msgspec.inspect.StructType) and info.cls not in structs:
        structs[info.cls] = None
        for field in info.fields:
            _collect(field.type, structs)
    for name in ("type", "item_type", "value_type"):
        if (inner := getattr(info, name, None)) is not None:
            _collect(inner, structs)
    for inner in getattr(info, "types", ()):
        _collect(inner, structs)


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


def _job_schema(job: Schema, action: Action) -> Schema:
    members = {name: dict(schema) for name, schema in job["properties"].items() if name != "_envelope"}
    members["action"] = {"const": action, "description": members["action"]["description"]}
    either = [reference(INPUTS[action]), {"$ref": f"{REFS}BlobInput"}]
    members["input"] = {"anyOf": either, "description": members["input"]["description"]}
    return {
        **job,
        "title": _job_name(action),
        "description": f"A job of the action {action}.",
        "properties": members,
        **exactly_one("input", "input_blob"),
    }


def _blob_input() -> Schema:
    return {
        "title": "BlobInput",
        "description": "A blob that holds the input, in place of it.",
        "type": "object",
        "properties": {"input_blob": msgspec.json.schema(BlobPath)},
        "required": ["input_blob"],
        "additionalProperties": False,
    }


def _message() -> Schema:
    part = {
        "type": "object",
        "required": ["type"],
        "properties": {"type": {"type": "string"}},
        "additionalProperties": True,
    }
    return {
        "title": "Message",
        "description": "An OpenAI message; members beyond these are the model's.",
        "type": "object",
        "properties": {
            "role": {"type": "string", "description": "Such as system, user or assistant."},
            "content": {
                "anyOf": [{"type": "string"}, {"type": "array", "items": part}, {"type": "null"}],
                "description": "A text or content parts. Only an assistant's message may have none.",
            },
        },
        "required": ["role"],
        "additionalProperties": True,
        "if": {"not": {"properties": {"role": {"enum": ["assistant", "function"]}}}},
        "then": {"required": ["content"], "properties": {"content": {"type": ["string", "array"]}}},
    }


def _add_checks(schemas: dict[str, Schema]) -> None:
    for name, others in _NOT_PARAMETERS.items():
        schemas[name]["properties"]["parameters"]["propertyNames"] = {"not": {"enum": list(others)}}
    chat, prompts = schemas["ChatInput"]["properties"], schemas["MultiChatInput"]["properties"]["prompts"]
    for messages in (*chat["messages"]["anyOf"], *chat["history"]["anyOf"], *prompts["items"]["anyOf"]):
        if messages["type"] == "array":
            messages["items"] = {"$ref": f"{REFS}Message"}
    schemas["ChatInput"] |= exactly_one("messages", "prompt")
    schemas["SummarizeInput"] |= exactly_one("text", "blob", "blobs")
    if connection := schemas.get("ConnectionRecord"):
        connection["required"] = ["endpoint"]  # in a secret, a tag may hold it instead
        connection["properties"]["endpoint"] = _without_null(connection["properties"]["endpoint"])
        connection["if"] = {"required": ["auth"], "properties": {"auth": {"const": "entra"}}}
        connection["else"] = {"required": ["api_key"], "properties": {"api_key": {"type": "string"}}}


def _as_sent(schema: Schema, *, nullable: Collection[str]) -> None:
    """A response leaves out what it does not know: no member of it is ever null, but the counts that it always has."""
    for name, member in schema.get("properties", {}).items():
        member.pop("default", None)
        if name not in nullable:
            schema["properties"][name] = _without_null(member)


def _without_null(member: Schema) -> Schema:
    choices = [each for each in member.get("anyOf", ()) if each.get("type") != "null"]
    rest = {key: value for key, value in member.items() if key != "anyOf"}
    if not choices:
        return rest
    return {**choices[0], **rest} if len(choices) == 1 else {"anyOf": choices, **rest}


def _describe(schema: Schema, docs: Mapping[str, str]) -> None:
    """Adds each member's docstring; the rule of its type, such as of a name, and its default become sentences."""
    for name, member in schema.get("properties", {}).items():
        default = default_text(member)
        member.pop("default", None)
        if name in docs:
            rules = [each.pop("description") for each in (member, *member.get("anyOf", ())) if "description" in each]
            sentences = [docs[name], *(f"{rule[:1].upper()}{rule[1:]}." for rule in rules), default]
            member["description"] = " ".join(filter(None, sentences))
