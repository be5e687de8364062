"""The limits that the docs name are those of the contract's types, of the code and of host.json."""

from __future__ import annotations

import json
import re

import msgspec
from msgspec import Struct

from shared.connections.connection import DEFAULT_CONCURRENCY
from shared.contract.connection import ConnectionRecord
from shared.contract.embed import EmbedInput
from shared.contract.image import ImageInput
from shared.contract.job import METADATA_LIMIT
from shared.contract.multi_chat import MultiChatInput
from shared.contract.raw import MAX_PARTS
from shared.contract.result import MESSAGE_LIMIT
from shared.jobs.admission import MAX_HELD, WORKER_CONCURRENCY
from shared.jobs.executor import MAX_FAILED_ATTEMPTS
from tests.support.doc_samples import ROOT
from tests.support.rows import every_row

QUEUES = json.loads((ROOT / "host.json").read_text())["extensions"]["queues"]
BATCH, THRESHOLD = QUEUES["batchSize"], QUEUES["newBatchThreshold"]
WORDS = ["no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"]


@every_row(
    ("page", "struct", "member"),
    [
        ("actions/multi_chat.md", MultiChatInput, "prompts"),
        ("actions/embed.md", EmbedInput, "texts"),
        ("actions/image.md", ImageInput, "n"),
        ("onboard.md", ConnectionRecord, "max_concurrency"),
    ],
)
def test_a_page_names_the_limits_of_a_member(page: str, struct: type[Struct], member: str):
    """Near a member, the page says how little and how much of it is allowed."""
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    schema = msgspec.json.schema_components([struct])[1][struct.__name__]["properties"][member]
    limits = next(each for each in (schema, *schema.get("anyOf", ())) if {"maximum", "maxItems"} & each.keys())
    lowest, highest = [limits.get(f"{end}imum", limits.get(f"{end}Items")) for end in ("min", "max")]

    assert re.search(rf"`{member}`[^\n]{{1,60}}\b{lowest} to {highest}\b", text)


@every_row(
    ("page", "text"),
    [
        ("operate", f"{MESSAGE_LIMIT:,} bytes"),
        ("submit", f"strings, up to {METADATA_LIMIT // 1024} KB"),
        ("onboard", f"default {DEFAULT_CONCURRENCY} |"),
        ("http", f"| fields and files of a `raw` job's form | {MAX_PARTS:,} |"),
        ("actions/raw", f"at most {MAX_PARTS:,} fields and files"),
        ("operate", f"after {WORDS[MAX_FAILED_ATTEMPTS]} failed attempts"),
        ("operate", f"up to {QUEUES['maxDequeueCount']} times in all"),
        ("operate", f"| jobs at once on a worker | {WORKER_CONCURRENCY}, and {MAX_HELD} more"),
        ("operate", f"(`newBatchThreshold`, {THRESHOLD}, is the sum)"),
        ("deploy", f"(`batchSize` and `newBatchThreshold`, {BATCH} and {THRESHOLD})"),
        ("scale", f"| jobs at once on a worker | {WORKER_CONCURRENCY} |"),
        ("scale", f"one for {BATCH + THRESHOLD} messages"),
    ],
)
def test_numbers_are_those_of_the_code_and_of_host_json(page: str, text: str):
    """Sizes, the default concurrency, failed attempts, deliveries, and jobs at once on a worker."""
    assert text in (ROOT / f"docs/{page}.md").read_text()
