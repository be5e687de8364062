"""The settings in the code, in local.settings.sample.json, in the README's table and in the local stack agree."""

from __future__ import annotations

import dataclasses
import inspect
import json
import re
from dataclasses import fields

from local.stack import stack
from shared.settings import Settings, read_settings
from shared.storage_settings import StorageAccount
from tests.support.app_settings import settings_in_code
from tests.support.doc_samples import ROOT

HOSTS_OWN = {"AzureWebJobsStorage", "FUNCTIONS_REQUEST_BODY_SIZE_LIMIT"}
AZURES_OWN = {"WEBSITE_AUTH_ENABLED"}
"""Set by Azure alone."""
SAMPLE: dict[str, str] = json.loads((ROOT / "local.settings.sample.json").read_text())["Values"]


def test_every_field_has_its_setting():
    """A field of Settings is read from the setting of its name in upper case."""
    names = {field.name.upper() for field in fields(Settings)} - {"JOB_STORAGE", "FAULT"}
    parts = {field.name for field in fields(StorageAccount)} - {"connection_string"}
    in_code = settings_in_code()

    assert names == {name for name in in_code if name.isupper()}
    assert len(parts) == len([name for name in in_code if name.startswith("JobStorage__")])


def test_sample_and_readme_list_what_the_code_reads():
    """Both list every setting that the code reads, but for Azure's own, and no other, in the same order."""
    table = (ROOT / "README.md").read_text().partition("| setting |")[2]
    readme = re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)

    assert ["FUNCTIONS_WORKER_RUNTIME", *readme] == list(SAMPLE)
    assert (settings_in_code() | HOSTS_OWN) - AZURES_OWN == set(readme)


def test_sample_has_the_defaults():
    """The app starts on the sample file as it is; but for the vault, it means the same as leaving its settings out."""
    defaults = read_settings({"JobStorage": SAMPLE["JobStorage"]})

    assert dataclasses.replace(defaults, key_vault_url=SAMPLE["KEY_VAULT_URL"]) == read_settings(SAMPLE)


def test_local_stack_sets_only_what_there_is():
    """The local stack sets no setting that the app, its host or azure-identity does not read."""
    allowed = settings_in_code() | HOSTS_OWN | {"FUNCTIONS_WORKER_RUNTIME", "IDENTITY_ENDPOINT", "IDENTITY_HEADER"}
    names = re.findall(r'"([A-Za-z_]+)":', inspect.getsource(stack.app_settings))

    assert len(names) > 5
    assert set() == {*names, *stack.NAMES} - allowed
