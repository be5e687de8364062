"""The settings that the host reads at its start: host.json, bindings, connections, routes."""

import json

import pytest

from local.host.bindings import read_connection, read_function, resolve
from local.host.errors import HostError
from local.host.host_json import HostJson, QueueSettings, load_host_json, parse_host_json
from local.host.routes import Routes, read_route


def parse(environ=None, **sections):
    return parse_host_json({"version": "2.0", **sections}, environ or {})


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


def test_the_threshold_follows_the_batch_size():
    """It is half the batch size if it is not set."""
    assert parse(extensions={"queues": {"batchSize": 5}}).queues.new_batch_threshold == 2


def test_minus_one_is_no_function_timeout():
    """In Azure, -1 means unlimited."""
    assert parse(functionTimeout="-1").function_timeout is None


def test_an_app_setting_overrides_host_json():
    """The setting's name is not case-sensitive, and its value is a string."""
    settings = {"azurefunctionsjobhost__EXTENSIONS__queues__BatchSize": "7"}
    assert parse(settings, extensions={"queues": {"batchSize": 5}}).queues.batch_size == 7


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


def test_settings_in_a_name_are_resolved():
    """A setting may stand anywhere in the name."""
    assert resolve("%A%-jobs-%B%", {"A": "x", "B": "y"}) == "x-jobs-y"


def test_a_missing_setting_in_a_name_is_an_error():
    """The message names the setting."""
    with pytest.raises(HostError, match="app setting NO_SUCH, which is not set"):
        resolve("%NO_SUCH%-jobs", {})


def test_a_connection_with_an_identity_is_an_error():
    """The host supports only connection strings, and the message says so."""
    with pytest.raises(HostError, match="uses an identity"):
        read_connection("X", {"X__queueServiceUri": "https://x.example"})


@pytest.mark.parametrize(("kind", "direction"), [("blobTrigger", "IN"), ("serviceBusTrigger", "IN"), ("blob", "OUT")])
def test_an_unsupported_binding_is_an_error(kind, direction):
    """The message has the function's name and the binding's type."""
    with pytest.raises(HostError, match=f"Function 'f' has a binding of type '{kind}'"):
        read_function("f", "1", [json.dumps({"type": kind, "direction": direction, "name": "x"})])


def test_a_connection_may_have_the_prefix_of_webjobs():
    """As in Azure, `AzureWebJobsX` precedes `X`."""
    assert read_connection("X", {"X": "plain", "AzureWebJobsX": "prefixed"}) == "prefixed"
    assert read_connection("X", {"X": "plain"}) == "plain"


def test_a_missing_connection_is_an_error():
    """The message names the setting."""
    with pytest.raises(HostError, match="app setting X"):
        read_connection("X", {})


def test_a_function_has_one_trigger():
    """Two triggers are an error. Without a connection, the host's own is used."""
    trigger = {"type": "queueTrigger", "direction": "IN", "name": "m", "queueName": "q", "connection": ""}
    function = read_function("f", "1", [json.dumps(trigger)])

    assert function.trigger.connection == "AzureWebJobsStorage"
    with pytest.raises(HostError, match="has 2 triggers"):
        read_function("f", "1", [json.dumps(trigger)] * 2)


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


@pytest.mark.parametrize("template", ["{id:length(3)}", "a-{id}", "{id=1}"])
def test_an_unsupported_route_is_an_error(template):
    """Azure may support it, so the host says so instead of responding with 404."""
    with pytest.raises(HostError, match="does not support"):
        read_route("f", template, "api", None)
