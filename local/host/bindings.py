"""
The functions of an app: triggers and outputs, as the decorators declare them, and the meaning of their settings
(`%SETTING%`, connections).

Supports queue and HTTP bindings and timers, and rejects all others. Knows nothing of Storage or of the worker.
"""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from local.host.errors import HostError

QUEUE_TRIGGER = "queueTrigger"
HTTP_TRIGGER = "httpTrigger"
TIMER_TRIGGER = "timerTrigger"
QUEUE = "queue"
HTTP = "http"
RETURN = "$return"

_TRIGGERS = {QUEUE_TRIGGER, HTTP_TRIGGER, TIMER_TRIGGER}
_SUPPORTED = {*((trigger, "IN") for trigger in _TRIGGERS), (QUEUE, "OUT"), (HTTP, "OUT")}
# `JobStorage__queueServiceUri` and the like: a connection by identity instead of by key.
_IDENTITY_SETTINGS = ("queueServiceUri", "serviceUri", "accountName", "credential")


@dataclass(frozen=True, slots=True)
class Binding:
    """One binding of a function. `settings` are those of its decorator, with function.json's names."""

    name: str
    type: str
    settings: Mapping[str, Any]

    @property
    def queue_name(self) -> str:
        """As written, with `%SETTING%` unresolved."""
        return str(self.settings["queueName"])

    @property
    def connection(self) -> str:
        """The name of the app setting that has the queue's connection string."""
        return str(self.settings.get("connection") or "AzureWebJobsStorage")

    @property
    def is_binary(self) -> bool:
        """Whether the decorator asks for `data_type=BINARY`."""
        return str(self.settings.get("dataType", "")).upper() == "BINARY"


@dataclass(frozen=True, slots=True)
class Function:
    """One function of the app."""

    name: str
    function_id: str
    trigger: Binding
    bindings: tuple[Binding, ...]

    @property
    def queue_outputs(self) -> tuple[Binding, ...]:
        """The queues it sends to. A binding named `$return` sends what the function returns."""
        return tuple(binding for binding in self.bindings if binding.type == QUEUE)


def read_function(name: str, function_id: str, raw_bindings: Iterable[str]) -> Function:
    """
    A function, from the worker's description of it.

    Raises HostError for a binding that this host does not support.
    """
    bindings = []
    for settings in map(json.loads, raw_bindings):
        if (settings["type"], settings["direction"]) not in _SUPPORTED:
            raise HostError(
                f"Function '{name}' has a binding of type '{settings['type']}' (direction"
                f" {settings['direction'].lower()}), which this host does not support: it supports queue triggers,"
                " queue outputs, HTTP and timers. Azure and Core Tools may support it."
            )
        bindings.append(Binding(settings["name"], settings["type"], settings))
    triggers = [binding for binding in bindings if binding.type in _TRIGGERS]
    if len(triggers) != 1:
        raise HostError(f"Function '{name}' has {len(triggers)} triggers; a function has exactly one.")
    return Function(name, function_id, triggers[0], tuple(bindings))


def resolve(text: str, environ: Mapping[str, str]) -> str:
    """
    `text` with every `%NAME%` replaced by the app setting of that name.

    Raises HostError if a setting does not exist.
    """

    def setting(match: re.Match[str]) -> str:
        try:
            return environ[match[1]]
        except KeyError:
            raise HostError(f"'{text}' refers to the app setting {match[1]}, which is not set.") from None

    return re.sub(r"%([^%]+)%", setting, text)


def read_connection(name: str, environ: Mapping[str, str]) -> str:
    """
    The connection string in the app setting `name`. As in Azure, `AzureWebJobs{name}` precedes it.

    Raises HostError if neither is set, or if they configure an identity.
    """
    for setting in (f"AzureWebJobs{name}", name):
        if value := environ.get(setting):
            return value
        if any(f"{setting}__{suffix}" in environ for suffix in _IDENTITY_SETTINGS):
            raise HostError(
                f"The connection {name} uses an identity ({setting}__…). This host supports only connection strings:"
                f" set {setting} to one."
            )
    raise HostError(f"The app setting {name}, the connection of a queue, is not set.")
