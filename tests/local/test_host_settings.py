"""What the host reads before it runs anything: host.json, bindings, connections, routes."""

import json

import pytest

from local.host.bindings import read_connection, read_function, resolve
from local.host.errors import HostError
from local.host.host_json import HostJson, QueueSettings, load_host_json, parse_host_json
from local.host.routes import Routes, read_route


def parse(environ=None, **sections):
    return parse_host_json({"version": "2.0", **sections}, environ or {})


def test_no_host_json_means_the_defaults(tmp_path):
    """Those of the real host, with one core."""
    assert load_host_json(tmp_path / "host.json", {}) == HostJson(QueueSettings(16, 8, 5, 0, 60, "base64"), "api", 1800)


def test_host_json_is_honoured():
    """Every setting that the host knows; others are ignored."""
    queues = {
        "batchSize": 32,
        "newBatchThreshold": 0,
        "maxDequeueCount": 1,
        "visibilityTimeout": "00:00:30",
        "maxPollingInterval": "00:00:00.5",
        "messageEncoding": "None",
        "unknown": [],
    }
    found = parse(
        extensions={"queues": queues, "http": {"routePrefix": "v1/"}}, functionTimeout="1.02:03:04", logging=1
    )

    assert found == HostJson(QueueSettings(32, 0, 1, 30, 0.5, "none"), "v1", 93784)


def test_the_threshold_follows_the_batch_size():
    """Half of it, unless it is set."""
    assert parse(extensions={"queues": {"batchSize": 5}}).queues.new_batch_threshold == 2


def test_minus_one_is_no_function_timeout():
    """As Azure writes unbounded."""
    assert parse(functionTimeout="-1").function_timeout is None


def test_an_app_setting_overrides_host_json():
    """Without regard to case, and as a text."""
    settings = {"azurefunctionsjobhost__EXTENSIONS__queues__BatchSize": "7"}
    assert parse(settings, extensions={"queues": {"batchSize": 5}}).queues.batch_size == 7


@pytest.mark.parametrize(
    ("setting", "value", "problem"),
    [
        ("batchSize", 0, "must be a whole number from 1 to 32, and is 0"),
        ("batchSize", True, "must be a whole number from 1 to 32, and is True"),
        ("maxDequeueCount", "x", "must be a whole number of at least 1, and is 'x'"),
        ("visibilityTimeout", "30", "must be a time \"hh:mm:ss\", and is '30'"),
        ("visibilityTimeout", 30, 'must be a time "hh:mm:ss", and is 30'),
        ("maxPollingInterval", "00:00:00", "must be at least 0.1 s, and is '00:00:00'"),
        ("messageEncoding", "utf8", "must be one of base64, none, and is 'utf8'"),
    ],
)
def test_a_wrong_value_is_refused(setting, value, problem):
    """In a sentence with the setting's whole name."""
    with pytest.raises(HostError) as caught:
        parse(extensions={"queues": {setting: value}})

    assert str(caught.value) == f"host.json: extensions.queues.{setting} {problem}."


@pytest.mark.parametrize("text", ["{", '{"version": "1.0"}', "[]"])
def test_what_is_no_host_json_is_refused(tmp_path, text):
    """Broken JSON, another version, no object."""
    (tmp_path / "host.json").write_text(text)

    with pytest.raises(HostError, match=r"host\.json"):
        load_host_json(tmp_path / "host.json", {})


def test_settings_in_a_name_are_resolved():
    """Anywhere in it."""
    assert resolve("%A%-jobs-%B%", {"A": "x", "B": "y"}) == "x-jobs-y"


def test_a_setting_in_a_name_that_is_not_set_is_refused():
    """With its name."""
    with pytest.raises(HostError, match="app setting NO_SUCH, which is not set"):
        resolve("%NO_SUCH%-jobs", {})


def test_a_connection_by_identity_is_refused():
    """It cannot work here, and the host says what can."""
    with pytest.raises(HostError, match="is set up with an identity"):
        read_connection("X", {"X__queueServiceUri": "https://x.example"})


@pytest.mark.parametrize(("kind", "direction"), [("blobTrigger", "IN"), ("serviceBusTrigger", "IN"), ("blob", "OUT")])
def test_a_binding_that_the_host_does_not_play_is_refused(kind, direction):
    """With the function's name and the binding's type."""
    with pytest.raises(HostError, match=f"Function 'f' has a binding of type '{kind}'"):
        read_function("f", "1", [json.dumps({"type": kind, "direction": direction, "name": "x"})])


def test_a_connection_may_have_the_prefix_of_webjobs():
    """`AzureWebJobsX` goes before `X`, as in Azure."""
    assert read_connection("X", {"X": "plain", "AzureWebJobsX": "prefixed"}) == "prefixed"
    assert read_connection("X", {"X": "plain"}) == "plain"


def test_a_connection_that_is_not_set_is_refused():
    """With its name."""
    with pytest.raises(HostError, match="app setting X"):
        read_connection("X", {})


def test_a_function_has_one_trigger():
    """And the connection that nobody names is the host's own."""
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
    """Templates of ASP.NET, as far as the host knows them."""
    expected = None if params is None else ("f", params)
    assert Routes([read_route("f", template, "api", ["GET"])]).find("GET", path) == expected


def test_the_functions_name_decides_between_two_routes():
    """Not how exact the route is: Azure tries them by name."""
    routes = Routes([read_route("b_exact", "jobs/new", "api", None), read_route("a_loose", "jobs/{id}", "api", None)])
    assert routes.find("GET", "/api/jobs/new") == ("a_loose", {"id": "new"})


@pytest.mark.parametrize("template", ["{id:length(3)}", "a-{id}", "{id=1}"])
def test_a_route_that_the_host_does_not_understand_is_refused(template):
    """Azure might; better to say so than to answer 404."""
    with pytest.raises(HostError, match="does not understand"):
        read_route("f", template, "api", None)
