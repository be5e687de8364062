"""The tools for agents, as the Model Context Protocol lists them: made from the types that decode their arguments."""

from __future__ import annotations

import json
from typing import Any

import msgspec

from openapi.member_docs import member_docs
from openapi.portable_schema import Schema, portable
from openapi.schemas import REFS
from shared.contract.inputs import INPUTS
from shared.contract.job import ACTIONS
from shared.http.mcp_tools import JobResult, SubmitJob

_DEFS = "#/$defs/"


def tools(schemas: dict[str, Schema]) -> list[dict[str, Any]]:
    """The tools. `schemas` are those of the OpenAPI document."""
    return [
        {
            "name": "submit_job",
            "title": "Submit an AI job",
            "description": "Runs an AI job for a customer: chat, images, summaries, embeddings and more. Returns the "
            "result if it is ready within `wait_s` seconds, else the job's status; then read it with job_result. Set "
            "`job.job_id`: submitting the same job again under that id returns the same job, and buys nothing again.",
            "inputSchema": _submit_schema(schemas),
            "annotations": {"readOnlyHint": False, "destructiveHint": False, "openWorldHint": True},
        },
        {
            "name": "job_result",
            "title": "Get a job's result",
            "description": "Returns the result of a job that was submitted, or its status as long as there is none.",
            "inputSchema": _arguments(JobResult),
            "annotations": {"readOnlyHint": True, "openWorldHint": False},
        },
    ]


def _submit_schema(schemas: dict[str, Schema]) -> Schema:
    """
    The schema of `submit_job`, complete in itself.

    It has one schema of a job, whose input depends on the action: an agent reads all of it, so nothing is repeated.
    """
    job = dict(schemas[f"{ACTIONS[0].capitalize()}Job"])
    action, job_input = job["properties"]["action"], job["properties"]["input"]
    job["title"], job["description"] = "Job", "One request to run one action for one customer."
    job["properties"] = {
        **job["properties"],
        "action": {"type": "string", "enum": list(ACTIONS), "description": action["description"]},
        "input": {"type": "object", "additionalProperties": True, "description": job_input["description"]},
    }
    job["allOf"] = [
        {
            "if": {"properties": {"action": {"const": name}}, "required": ["action"]},
            "then": {"properties": {"input": {"anyOf": [{"$ref": f"{REFS}{each}"} for each in (kind, "BlobInput")]}}},
        }
        for name, kind in ((name, INPUTS[name].__name__) for name in ACTIONS)
    ]
    schema = _arguments(SubmitJob)
    schema["properties"]["job"] = {"$ref": f"{REFS}Job"}
    used = {"Job": job}
    waiting = [job]
    while waiting:
        for name in sorted(_references(waiting.pop()) - used.keys()):
            used[name] = schemas[name]
            waiting.append(schemas[name])
    text = json.dumps({**schema, "$defs": dict(sorted(used.items()))})
    complete: Schema = json.loads(text.replace(REFS, _DEFS))
    return complete


def _arguments(kind: type[msgspec.Struct]) -> Schema:
    _, schemas = msgspec.json.schema_components([kind])
    schema = dict(schemas[kind.__name__])
    for name, text in member_docs(kind).items():
        schema["properties"][name]["description"] = text
    converted: Schema = portable(
        {name: value for name, value in schema.items() if name not in {"title", "description"}}
    )
    return converted


def _references(schema: Any) -> set[str]:
    text = json.dumps(schema).split(f'"{REFS}')
    return {each.partition('"')[0] for each in text[1:]}
