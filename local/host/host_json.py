"""
host.json: the settings that this host supports, validated, with the real host's defaults.

Other settings are ignored. As in Azure, an app setting overrides the file, for example
`AzureFunctionsJobHost__extensions__queues__batchSize`.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from local.host.errors import HostError

MAX_BATCH_SIZE = 32  # Storage returns no more messages in one request
MIN_POLLING_INTERVAL = 0.1
_TIME = re.compile(r"(?:(\d+)\.)?(\d{1,2}):([0-5]?\d):([0-5]?\d(?:\.\d{1,7})?)")


@dataclass(frozen=True, slots=True)
class QueueSettings:
    """
    `extensions.queues`; times are in seconds. The default of `new_batch_threshold` is half of `batch_size` (in Azure,
    multiplied by the cores of the instance).
    """

    batch_size: int = 16
    new_batch_threshold: int = 8
    max_dequeue_count: int = 5
    visibility_timeout: float = 0
    max_polling_interval: float = 60
    message_encoding: str = "base64"


@dataclass(frozen=True, slots=True)
class HostJson:
    """The settings of host.json. `function_timeout` is in seconds (Flex Consumption's default); None is unlimited."""

    queues: QueueSettings = field(default_factory=QueueSettings)
    route_prefix: str = "api"
    function_timeout: float | None = 1800


def load_host_json(path: Path, environ: Mapping[str, str]) -> HostJson:
    """
    Read the file. Returns the defaults if it does not exist.

    Raises HostError.
    """
    try:
        tree = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {"version": "2.0"}
    except ValueError as exc:
        raise HostError(f"host.json is not valid JSON: {exc}.") from exc
    return parse_host_json(tree, environ)


def parse_host_json(tree: Any, environ: Mapping[str, str]) -> HostJson:
    """The settings in a decoded host.json. Raises HostError for a value that the real host would reject."""
    settings = _Settings(tree, environ)
    if settings.get("version") != "2.0":
        raise HostError('host.json must say "version": "2.0".')
    batch_size = settings.integer("extensions.queues.batchSize", 16, 1, MAX_BATCH_SIZE)
    return HostJson(
        queues=QueueSettings(
            batch_size=batch_size,
            new_batch_threshold=settings.integer("extensions.queues.newBatchThreshold", batch_size // 2, 0),
            max_dequeue_count=settings.integer("extensions.queues.maxDequeueCount", 5, 1),
            visibility_timeout=settings.seconds("extensions.queues.visibilityTimeout", 0),
            max_polling_interval=settings.seconds("extensions.queues.maxPollingInterval", 60, MIN_POLLING_INTERVAL),
            message_encoding=settings.choice("extensions.queues.messageEncoding", ("base64", "none")),
        ),
        route_prefix=settings.text("extensions.http.routePrefix", "api").strip("/"),
        function_timeout=(
            None if str(settings.get("functionTimeout")) == "-1" else settings.seconds("functionTimeout", 1800, 1)
        ),
    )


class _Settings:
    """Reads settings by their dotted names, which are not case-sensitive (as in .NET). App settings come first."""

    def __init__(self, tree: Any, environ: Mapping[str, str]) -> None:
        self._tree = tree
        self._environ = {name.lower(): value for name, value in environ.items()}

    def get(self, name: str) -> Any:
        override = self._environ.get(f"azurefunctionsjobhost__{name.replace('.', '__')}".lower())
        if override is not None:
            return override
        value = self._tree
        for part in name.split("."):
            if not isinstance(value, dict):
                return None
            value = {key.lower(): member for key, member in value.items()}.get(part.lower())
        return value

    def integer(self, name: str, default: int, minimum: int, maximum: int | None = None) -> int:
        value = self.get(name)
        if value is None:
            return default
        if isinstance(value, str) and value.strip().isdecimal():
            value = int(value)
        is_integer = isinstance(value, int) and not isinstance(value, bool)
        if not is_integer or value < minimum or (maximum is not None and value > maximum):
            limits = f"from {minimum} to {maximum}" if maximum is not None else f"of at least {minimum}"
            raise HostError(f"host.json: {name} must be an integer {limits}. It is {value!r}.")
        return int(value)

    def seconds(self, name: str, default: float, minimum: float = 0) -> float:
        value = self.get(name)
        if value is None:
            return default
        match = _TIME.fullmatch(value) if isinstance(value, str) else None
        if match is None:
            raise HostError(f'host.json: {name} must be a time "hh:mm:ss". It is {value!r}.')
        days, hours, minutes, rest = match.groups()
        seconds = ((int(days or 0) * 24 + int(hours)) * 60 + int(minutes)) * 60 + float(rest)
        if seconds < minimum:
            raise HostError(f"host.json: {name} must be at least {minimum:g} s. It is {value!r}.")
        return seconds

    def choice(self, name: str, choices: tuple[str, ...]) -> str:
        value = self.text(name, choices[0]).lower()
        if value not in choices:
            raise HostError(f"host.json: {name} must be one of {', '.join(choices)}. It is {value!r}.")
        return value

    def text(self, name: str, default: str) -> str:
        value = self.get(name)
        if value is None:
            return default
        if not isinstance(value, str):
            raise HostError(f"host.json: {name} must be a string. It is {value!r}.")
        return value
