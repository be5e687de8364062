"""The template against the code: app settings, and the queues, containers and the table that they name."""

from __future__ import annotations

import json
import re

import pytest

from shared.settings import binding_queues, callback_queues, read_settings
from tests.support.app_settings import settings_in_code
from tests.support.bicep import value
from tests.support.bicep_settings import INFRA, MAIN, ROOT, readable_settings, settings_of_template

NOT_SET = {
    "JobStorage": "a connection string: in Azure the app uses its identity",
    "KEY_VAULT_CA_FILE": "for a vault with a private certificate authority: the local stack's",
    "ALLOW_LOCAL_ENDPOINTS": "for the local stack",
    "WEBSITE_AUTH_ENABLED": "Azure sets it",
    "TELEMETRY_CONTENT": "prompts and answers stay out of telemetry",
}
"""Settings that the code reads and the template doesn't set, and why."""


def test_every_setting_that_the_code_reads_is_set():
    """
    The template sets everything that the code reads, except `NOT_SET`, and nothing that nothing reads or that Flex
    Consumption has elsewhere (learn.microsoft.com, "functions-app-settings"). The connection that the triggers name,
    and the host's own, are set with the app's identity, without a key.
    """
    template, code = set(settings_of_template()), settings_in_code()
    for_host = {"JobStorage__credential", "APPLICATIONINSIGHTS_AUTHENTICATION_STRING"}
    for_host.add("FUNCTIONS_REQUEST_BODY_SIZE_LIMIT")
    connections = set(re.findall(r'connection="(\w+)"', (ROOT / "function_app.py").read_text()))

    assert code - set(NOT_SET) == template & code
    assert set(NOT_SET) <= code
    assert {"JobStorage"} == connections
    assert {"JobStorage__clientId", "JobStorage__credential"} <= template
    assert template - code == for_host | {
        f"AzureWebJobsStorage__{part}" for part in ("credential", "clientId", "blobServiceUri", "tableServiceUri")
    }


def test_settings_of_the_template_are_valid_and_are_the_defaults():
    """The app starts with the template's settings; by default they mean the same as leaving them out."""
    addresses = {name: text for name, text in readable_settings().items() if name.startswith("JobStorage__")}
    default, template = read_settings(addresses), read_settings(readable_settings())

    differing = {
        name
        for name in default.__slots__
        if name != "static_connection" and getattr(default, name) != getattr(template, name)
    }
    assert {"key_vault_url", "azure_client_id", "applicationinsights_connection_string"} == differing


def test_queues_containers_and_the_table_are_created():
    """
    Every queue, container and table that the settings name is created, and nothing else in that account. The host
    fills a poison queue for each queue with a trigger, except for the poison queues.
    """
    functions = (ROOT / "function_app.py").read_text()
    names = MAIN.variables(**MAIN.defaults())
    settings = readable_settings()
    app = read_settings(settings)
    params = next(module for module in MAIN.modules() if module.symbol == "jobStorage").params

    triggers = set(re.findall(r"queue_name=(\w+), connection", "\n".join(re.findall(r"queue_trigger\(.*", functions))))
    jobs, poison, results = binding_queues(settings)
    callbacks, callbacks_poison = callback_queues(settings)
    assert {"JOBS", "POISON", "CALLBACKS", "DEAD_CALLBACKS"} == triggers
    queues = {jobs, poison, callbacks, callbacks_poison, results, *app.allowed_result_queues}
    assert {f"{jobs}-poison", f"{callbacks}-poison"} == {poison, callbacks_poison}
    containers = {app.results_container, app.templates_container, app.statements_container, *app.input_containers}
    assert queues == set(value(params["queues"], names))
    assert containers == set(value(params["containers"], names))
    assert [app.jobs_table] == value(params["tables"], names)
    assert list(app.input_containers) == value(params["expiringContainers"], names)


@pytest.mark.parametrize(
    "allowed", ["special", "contoso=contoso-results", "special, contoso=contoso-results,fabrikam=shared,acme=shared"]
)
def test_result_queues_of_customers_are_created(allowed: str):
    """Each queue that ALLOWED_RESULT_QUEUES names, for all or for a customer, is created once."""
    names = MAIN.variables(**{**MAIN.defaults(), "allowedResultQueues": allowed})
    app = read_settings(readable_settings() | {"ALLOWED_RESULT_QUEUES": allowed})

    created = names["queues"]
    assert len(created) == len(set(created))
    assert {*app.result_queues(), app.jobs_queue} <= set(created)
    assert len(app.result_queues()) + 4 == len(created)


def test_queues_of_exports_are_created():
    """Each queue that USAGE_EXPORTS names is created."""
    exports = [
        {"name": "queue", "kind": "cloudevents", "queue": "usage-events"},
        {"name": "stripe", "kind": "stripe", "event_name": "tokens", "value": "total_tokens"},
    ]
    text = json.dumps(exports)
    app = read_settings(readable_settings() | {"USAGE_EXPORTS": text})

    created = MAIN.variables(**{**MAIN.defaults(), "usageExports": text})["queues"]
    assert {export.queue for export in app.usage_exports if export.queue} == {"usage-events"} < set(created)


def test_always_ready_is_off_and_names_a_function():
    """By default no instance costs anything at rest; the always-ready group is the function that runs jobs."""
    source = (INFRA / "app/function.bicep").read_text()

    assert (0, 0) == (MAIN.defaults()["alwaysReadyJobs"], MAIN.defaults()["alwaysReadyHttp"])
    (name,) = re.findall(r"'function:(\w+)'", source)
    assert f"async def {name}(" in (ROOT / "function_app.py").read_text()
