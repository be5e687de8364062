"""The settings in the code, in local.settings.sample.json, in the README's table and in the local stack agree."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path

from local.stack.stack import Stack
from shared.settings import Settings, StorageAccount, read_settings
from tests.support.app_settings import settings_in_code

ROOT = Path(__file__).parents[2]
HOSTS_OWN = {"AzureWebJobsStorage"}
AZURES_OWN = {"WEBSITE_AUTH_ENABLED"}
"""Set by Azure alone."""


def _sample() -> dict[str, str]:
    return json.loads((ROOT / "local.settings.sample.json").read_text())["Values"]


def _readme() -> set[str]:
    table = (ROOT / "README.md").read_text().partition("| setting |")[2]
    return set(re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE))


def test_every_field_has_its_setting():
    """A field of Settings is read from the setting of its name in upper case."""
    fields = {field.name.upper() for field in dataclasses.fields(Settings)} - {"JOB_STORAGE"}
    parts = {field.name for field in dataclasses.fields(StorageAccount)} - {"connection_string"}
    in_code = settings_in_code()

    assert fields == {name for name in in_code if name.isupper()}
    assert len(parts) == len([name for name in in_code if name.startswith("JobStorage__")])


def test_sample_and_readme_list_what_the_code_reads():
    """The sample file and the README list every setting that the code reads, and no other, but for Azure's own."""
    expected = (settings_in_code() | HOSTS_OWN) - AZURES_OWN

    assert expected == set(_sample()) - {"FUNCTIONS_WORKER_RUNTIME"}
    assert expected == _readme()


def test_sample_has_the_defaults():
    """The sample's names of queues, containers and the table are the code's defaults."""
    sample, settings = _sample(), read_settings({"JobStorage": "x"})

    assert (sample["JOBS_QUEUE"], sample["RESULTS_QUEUE"]) == (settings.jobs_queue, settings.results_queue)
    assert (sample["RESULTS_CONTAINER"], sample["JOBS_TABLE"]) == (
        settings.results_container,
        settings.jobs_table,
    )
    assert (sample["INPUT_CONTAINERS"], sample["CALLBACKS_QUEUE"]) == (
        ",".join(settings.input_containers),
        settings.callbacks_queue,
    )


def test_sample_has_the_order_of_the_readme():
    """The sample file lists the settings in the order of the README, after what the host needs."""
    table = (ROOT / "README.md").read_text().partition("| setting |")[2]
    order = re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)

    assert ["FUNCTIONS_WORKER_RUNTIME", *order] == list(_sample())


def test_sample_can_be_read():
    """The app starts on the sample file as it is."""
    read_settings(_sample())


def test_local_stack_sets_only_what_there_is():
    """The local stack sets no setting that the app, its host or azure-identity does not read."""
    allowed = settings_in_code() | HOSTS_OWN | {"FUNCTIONS_WORKER_RUNTIME", "IDENTITY_ENDPOINT", "IDENTITY_HEADER"}

    assert set() == set(re.findall(r'"([A-Za-z_]+)":', _source_of_settings())) - allowed


def _source_of_settings() -> str:
    import inspect  # noqa: PLC0415

    from local.stack import stack  # noqa: PLC0415

    names = ", ".join(f'"{name}":' for name in stack.NAMES)
    return inspect.getsource(Stack.settings) + names
