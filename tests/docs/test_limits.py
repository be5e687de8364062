"""The limits that the docs name are those of the contract's types."""

from __future__ import annotations

import json
import re
from typing import Any

import msgspec
import pytest
from msgspec import Struct

from shared.connections.connection import DEFAULT_CONCURRENCY
from shared.contract.connection import ConnectionRecord
from shared.contract.embed import EmbedInput
from shared.contract.image import ImageInput
from shared.contract.job import METADATA_LIMIT
from shared.contract.multi_chat import MultiChatInput
from shared.contract.result import MESSAGE_LIMIT
from shared.jobs.executor import MAX_FAILED_ATTEMPTS
from tests.support.doc_samples import ROOT


def bounds(struct: type[Struct], member: str) -> tuple[Any, Any]:
    """The least and the most that a type allows for one of its members; None for none."""
    (field,) = [each for each in msgspec.inspect.type_info(struct).fields if each.name == member]
    kinds = [field.type, *getattr(field.type, "types", ())]
    for kind in kinds:
        for lowest, highest in (("ge", "le"), ("gt", "le"), ("min_length", "max_length")):
            if getattr(kind, highest, None) is not None:
                return getattr(kind, lowest, None), getattr(kind, highest)
    return None, None


@pytest.mark.parametrize(
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
    lowest, highest = bounds(struct, member)

    assert re.search(rf"`{member}`[^\n]{{1,60}}\b{lowest} to {highest}\b", text)


def test_sizes_are_those_of_the_code():
    """The size of a message and of metadata, and the default concurrency, are the code's."""
    submit, operate, onboard = [(ROOT / f"docs/{page}.md").read_text() for page in ("submit", "operate", "onboard")]

    assert f"{MESSAGE_LIMIT:,} bytes" in operate
    assert f"strings, up to {METADATA_LIMIT // 1024} KB" in submit
    assert f"default {DEFAULT_CONCURRENCY} |" in onboard


def test_numbers_of_the_host_are_those_of_host_json():
    """How often a message is delivered, and how many jobs a worker runs at once, is as host.json says."""
    queues = json.loads((ROOT / "host.json").read_text())["extensions"]["queues"]
    operate, deploy, scale = [(ROOT / f"docs/{page}.md").read_text() for page in ("operate", "deploy", "scale")]
    batch, threshold = queues["batchSize"], queues["newBatchThreshold"]

    assert f"up to {queues['maxDequeueCount']} times in all" in operate
    assert f"| jobs at once on a worker | {batch + threshold} (`batchSize` and `newBatchThreshold`" in operate
    assert f"(`batchSize` and `newBatchThreshold`, {batch} and {threshold})" in deploy
    assert f"| jobs at once on a worker | {batch + threshold} (`host.json`)" in scale


def test_number_of_failed_attempts_is_that_of_the_code():
    """The page on operating says after how many failed attempts a job is given up."""
    words = ["no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"]

    assert f"after {words[MAX_FAILED_ATTEMPTS]} failed attempts" in (ROOT / "docs/operate.md").read_text()
