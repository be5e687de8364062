"""The settings that the host reads at its start: host.json, bindings, connections, routes."""

import json

import pytest

from local.host.bindings import read_connection, read_function, resolve
from local.host.errors import HostError
from local.host.host_json import HostJson, QueueSettings, load_host_json, parse_host_json
from local.host.routes import Routes, read_route

TRIGGER = {"type": "queueTrigger", "direction": "IN", "name": "m", "queueName": "q", "connection": ""}


def parse(environ=None, **sections):
    return parse_host_json({"version": "2.0", **sections}, environ or {})


def read_bound(kind, direction):
    return read_function("f", "1", [json.dumps({"type": kind, "direction": direction, "name": "x"})])


def test_without_host_json_the_defaults_apply(tmp_path):
    """They are those of the real host on one core."""
    assert load_host_json(tmp_path / "host.json", {}) == HostJson(QueueSettings(16, 8, 5, 0, 60, "base64"), "api", 1800)


def test_settings_of_host_json_are_read():
    """The host reads all that it supports, and ignores others."""
    queues = {
        "batchSize": 32,
        "newBatchThreshold": 0,
        "maxDequeueCount": 1,
        "visibilityTimeout": "00:00:30",
        "maxPollingInterval": "00:00:00.5",
        "messageEncoding": "None",
        "unknown": [],
    }
    settings = parse(
        extensions={"queues": queues, "http": {"routePrefix": "v1/"}}, functionTimeout="1.02:03:04", logging=1
    )

    assert settings == HostJson(QueueSettings(32, 0, 1, 30, 0.5, "none"), "v1", 93784)


def test_an_app_setting_overrides_host_json():
    """The setting's name is not case-sensitive. The threshold follows the batch size; -1 is no function timeout."""
    settings = {"azurefunctionsjobhost__EXTENSIONS__queues__BatchSize": "7"}

    parsed = parse(settings, extensions={"queues": {"batchSize": 5}}, functionTimeout="-1")

    assert parsed == HostJson(QueueSettings(7, 3, 5, 0, 60, "base64"), "api", None)


@pytest.mark.parametrize(
    ("setting", "value", "problem"),
    [
        ("batchSize", 0, "must be an integer from 1 to 32. It is 0"),
        ("batchSize", True, "must be an integer from 1 to 32. It is True"),
        ("maxDequeueCount", "x", "must be an integer of at least 1. It is 'x'"),
        ("visibilityTimeout", "30", "must be a time \"hh:mm:ss\". It is '30'"),
        ("visibilityTimeout", 30, 'must be a time "hh:mm:ss". It is 30'),
        ("maxPollingInterval", "00:00:00", "must be at least 0.1 s. It is '00:00:00'"),
        ("messageEncoding", "utf8", "must be one of base64, none. It is 'utf8'"),
    ],
)
def test_an_invalid_value_is_an_error(setting, value, problem):
    """The message is a sentence with the setting's full name."""
    with pytest.raises(HostError) as caught:
        parse(extensions={"queues": {setting: value}})

    assert str(caught.value) == f"host.json: extensions.queues.{setting} {problem}."


@pytest.mark.parametrize("text", ["{", '{"version": "1.0"}', "[]"])
def test_an_invalid_host_json_is_an_error(tmp_path, text):
    """Malformed JSON, another version, and something other than an object."""
    (tmp_path / "host.json").write_text(text)

    with pytest.raises(HostError, match=r"host\.json"):
        load_host_json(tmp_path / "host.json", {})


def test_names_and_connections_are_read_from_the_settings():
    """A setting may stand anywhere in a name; as in Azure, `AzureWebJobsX` precedes the connection `X`."""
    assert resolve("%A%-jobs-%B%", {"A": "x", "B": "y"}) == "x-jobs-y"
    assert read_connection("X", {"X": "plain", "AzureWebJobsX": "prefixed"}) == "prefixed"
    assert read_connection("X", {"X": "plain"}) == "plain"
    assert read_function("f", "1", [json.dumps(TRIGGER)]).trigger.connection == "AzureWebJobsStorage"


@pytest.mark.parametrize(
    ("read", "problem"),
    [
        (lambda: resolve("%NO_SUCH%-jobs", {}), "app setting NO_SUCH, which is not set"),
        (lambda: read_connection("X", {"X__queueServiceUri": "https://x.example"}), "uses an identity"),
        (lambda: read_connection("X", {}), "app setting X"),
        (lambda: read_function("f", "1", [json.dumps(TRIGGER)] * 2), "has 2 triggers"),
        (lambda: read_bound("blobTrigger", "IN"), "Function 'f' has a binding of type 'blobTrigger'"),
        (lambda: read_bound("serviceBusTrigger", "IN"), "Function 'f' has a binding of type 'serviceBusTrigger'"),
        (lambda: read_bound("blob", "OUT"), "Function 'f' has a binding of type 'blob'"),
        *(
            (lambda template=template: read_route("f", template, "api", None), "does not support")
            for template in ("{id:length(3)}", "a-{id}", "{id=1}")
        ),
    ],
)
def test_what_the_host_can_not_run_is_an_error(read, problem):
    """The message names the setting that is missing, or what the host does not support."""
    with pytest.raises(HostError, match=problem):
        read()


@pytest.mark.parametrize(
    ("template", "path", "params"),
    [
        ("jobs", "/api/jobs", {}),
        ("jobs", "/API/Jobs/", {}),
        ("jobs/{id}", "/api/jobs/a%2Fb%20c", {"id": "a%2Fb c"}),
        ("jobs/{id?}", "/api/jobs", {}),
        ("jobs/{id?}", "/api/jobs/1", {"id": "1"}),
        ("jobs/{id:int}/x", "/api/jobs/12/x", {"id": "12"}),
        ("{*rest}", "/api/a/b", {"rest": "a/b"}),
        ("openapi.json", "/api/openapi.json", {}),
        ("openapi.json", "/api/openapi-json", None),
        ("jobs/{id}", "/api/jobs", None),
        ("jobs/{id}", "/api/jobs/1/2", None),
        ("jobs/{id:int}", "/api/jobs/x", None),
        ("jobs/{id:alpha}", "/api/jobs/tool", {"id": "tool"}),
        ("jobs/{id:alpha}", "/api/jobs/t00l", None),
        ("jobs", "/jobs", None),
    ],
)
def test_routes_match_as_in_azure(template, path, params):
    """ASP.NET's templates, as far as the host supports them."""
    expected = None if params is None else ("f", params)
    assert Routes([read_route("f", template, "api", ["GET"])]).find("GET", path) == expected


def test_functions_are_tried_in_the_order_of_their_names():
    """As in Azure, a more exact route does not come first."""
    routes = Routes([read_route("b_exact", "jobs/new", "api", None), read_route("a_loose", "jobs/{id}", "api", None)])
    assert routes.find("GET", "/api/jobs/new") == ("a_loose", {"id": "new"})
