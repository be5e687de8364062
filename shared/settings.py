"""
The app's settings, read from the environment once per worker.

The name of a setting is that of its field in upper case; `JobStorage` and its parts have the Functions host's own form.
A test compares the lists in README.md and local.settings.sample.json with these fields.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from shared.errors import SettingInvalid
from shared.secret import Secret
from shared.setting_values import (
    check_connection_string,
    check_name,
    check_resolved,
    check_result_queues,
    check_storage_urls,
    check_table_name,
    check_vault_url,
    flag,
    integer,
    split,
    without_empty_parts,
)

LEASE_S = 90
"""Default of LEASE_SECONDS."""
# Values of ALLOW_STATIC_CONNECTION. Anything else is a list of customer ids.
_ALL = {"*", "true", "1"}
_NONE = {"", "false", "0"}
_CHOICES = {"http_auth": ("key", "entra")}
_STORAGE = ("JobStorage", *(f"JobStorage__{name}ServiceUri" for name in ("queue", "blob", "table")))
_NAMES = ("jobs_queue", "results_queue", "callbacks_queue", "results_container", "templates_container")
"""Settings that name a queue or container."""
_RANGES = {"lease_seconds": (10, 540), "retain_jobs_days": (0, 3650), "retain_usage_months": (0, 120)}


@dataclass(frozen=True, slots=True)
class StorageAccount:
    """The account that holds the jobs: a connection string, or URLs for the app's identity."""

    connection_string: Secret | None
    queue_service_uri: str
    blob_service_uri: str
    table_service_uri: str
    client_id: str
    """The user-assigned identity to use, if any."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The operator's settings. `read_settings` makes them."""

    job_storage: StorageAccount

    key_vault_url: str = ""
    """Empty: there is no vault, and only the static connection can be used."""
    key_vault_ca_file: str = ""
    """A private certificate authority of the vault, such as the local stack's."""
    azure_client_id: str = ""
    """The user-assigned identity of the app, if any."""
    entra_client_id: str = ""
    """The app registration that customers in other tenants have consented to."""

    static_connection: Secret = field(default_factory=lambda: Secret(""))
    allow_static_connection: str = ""
    static_models: tuple[str, ...] = ()
    """Models that the operator's own connection may be used for; empty: all."""

    allowed_endpoint_suffixes: tuple[str, ...] = ()
    """Host suffixes that the endpoints of connections may have; empty: those of Azure and OpenAI."""
    allowed_scopes: tuple[str, ...] = ()
    """Scopes that connections may request Entra tokens for, besides those of AI services."""
    allowed_entra_hosts: tuple[str, ...] = ()
    """Hosts that the app's own Entra tokens may be sent to, besides those of Microsoft's AI services."""
    allow_local_endpoints: bool = False
    allow_private_endpoints: bool = False

    jobs_queue: str = "jobs"
    results_queue: str = "results"
    callbacks_queue: str = "callbacks"
    allowed_result_queues: tuple[str, ...] = ()
    """Queues that jobs may name for their results: `customer=queue` for one customer's, `queue` for everybody's."""
    results_container: str = "results"
    input_containers: tuple[str, ...] = ("inputs",)
    templates_container: str = "templates"
    """Customers' templates, which make jobs of other systems' webhooks."""
    jobs_table: str = "jobs"

    http_auth: str = "key"
    """`key`: the host requires a function key. `entra`: App Service authentication is in front of the app."""
    entra_customer_claim: str = "customer"
    """The claim that ties a token to one customer."""
    website_auth_enabled: bool = False
    """Azure sets it if App Service authentication is on (learn.microsoft.com, "reference-app-settings")."""

    lease_seconds: int = LEASE_S
    """Seconds after which another worker may take over a job whose lease was not renewed."""
    retain_jobs_days: int = 30
    """Days that a finished job is kept, with its blobs; 0: no limit."""
    retain_usage_months: int = 24
    """Complete months that usage records are kept, besides the current one; 0: no limit."""

    applicationinsights_connection_string: Secret = field(default_factory=lambda: Secret(""))
    """Where the telemetry of host and app goes; empty: none is sent, and its packages are not loaded."""
    telemetry_content: bool = False
    """Whether telemetry contains prompts and completions."""

    fault: str = ""
    """What is wrong with a setting. If anything is, only Storage and the names of `settings_with_fault` are as set."""

    @property
    def poison_queue(self) -> str:
        """The poison queue of the jobs queue."""
        return poison_of(self.jobs_queue)

    @property
    def callbacks_poison_queue(self) -> str:
        """The poison queue of the callbacks queue."""
        return poison_of(self.callbacks_queue)

    @property
    def static_for_all(self) -> bool:
        """Whether all customers without a connection may use the operator's own."""
        return self.allow_static_connection.strip().lower() in _ALL

    def result_queues(self, customer: str = "") -> tuple[str, ...]:
        """Return the queues that a job of this customer may name for its result; without a customer: of any."""
        pairs = (entry.rpartition("=") for entry in self.allowed_result_queues)
        allowed = (queue for owner, _, queue in pairs if not customer or owner in {"", customer})
        return tuple(dict.fromkeys((self.results_queue, *allowed)))

    def check(self) -> None:
        """Raise SettingInvalid if a setting is wrong."""
        if self.fault:
            raise SettingInvalid(self.fault)

    def allows_static(self, customer: str) -> bool:
        """Return whether this customer may use the operator's own connection if it has none."""
        if self.static_for_all:
            return True
        allowed = self.allow_static_connection.strip()
        return allowed.lower() not in _NONE and customer in split(allowed)


_DEFAULTS = Settings(job_storage=StorageAccount(None, "", "", "", ""))


def poison_of(queue: str) -> str:
    """Return the name of a queue's poison queue, by the rule of the Functions host."""
    return f"{queue}-poison"


def binding_queues(environment: Mapping[str, str]) -> tuple[str, str, str]:
    """Return the names of the jobs, poison and results queues, which the bindings need before settings are read."""
    jobs: str = _read(environment, "jobs_queue")
    return jobs, poison_of(jobs), _read(environment, "results_queue")


def callback_queues(environment: Mapping[str, str]) -> tuple[str, str]:
    """Return the names of the callbacks queue and its poison queue, as `binding_queues` does."""
    callbacks: str = _read(environment, "callbacks_queue")
    return callbacks, poison_of(callbacks)


def read_settings(environment: Mapping[str, str]) -> Settings:
    """
    Return the settings in `environment`, with defaults for those that are not set.

    Raises SettingInvalid, whose message names the setting and what is valid.
    """
    names = [field.name for field in fields(Settings) if field.name not in {"job_storage", "fault"}]
    required = (*_STORAGE, *(name.upper() for name in names if name != "static_connection"))
    for name in required:  # the static connection concerns its own jobs alone, which check it
        check_resolved(name, environment.get(name, ""))
    values = {name: _read(environment, name) for name in names}
    settings = Settings(job_storage=_storage(environment), **values)
    _check(settings)
    return settings


def _check(settings: Settings) -> None:
    storage = settings.job_storage
    if storage.connection_string is not None:
        check_connection_string("JobStorage", storage.connection_string.reveal())
    else:
        uris = (storage.queue_service_uri, storage.blob_service_uri, storage.table_service_uri)
        check_storage_urls("JobStorage", *uris)
    if settings.key_vault_url:
        check_vault_url("KEY_VAULT_URL", settings.key_vault_url)
    for field_name in _NAMES:
        check_name(field_name.upper(), getattr(settings, field_name))
    for container in settings.input_containers:
        check_name("INPUT_CONTAINERS", container)
    check_result_queues("ALLOWED_RESULT_QUEUES", settings.allowed_result_queues)
    check_table_name("JOBS_TABLE", settings.jobs_table)
    jobs, poison, results = settings.jobs_queue, settings.poison_queue, settings.results_queue
    callbacks, dead_callbacks = settings.callbacks_queue, settings.callbacks_poison_queue
    for name, queue in (("RESULTS_QUEUE", results), ("CALLBACKS_QUEUE", callbacks)):
        if queue in {jobs, poison}:
            raise SettingInvalid(f"{name} must be a queue other than {jobs} and {poison}, which are for jobs.")
    if results in {callbacks, dead_callbacks}:
        raise SettingInvalid(
            f"RESULTS_QUEUE must be a queue other than {callbacks} and {dead_callbacks}, which are for callbacks."
        )


def settings_with_fault(environment: Mapping[str, str], fault: SettingInvalid) -> Settings:
    """Return what is needed to requeue messages until `fault` is corrected, and defaults for everything else."""
    names = ("azure_client_id", "jobs_queue", "callbacks_queue", "results_container")
    values = {name: _read(environment, name) for name in names}
    return Settings(job_storage=_storage(environment), fault=str(fault), **values)


def _read(environment: Mapping[str, str], field_name: str) -> Any:
    """Return the setting of a field, in the type of its default, or the default if it is not set."""
    name, default = field_name.upper(), getattr(_DEFAULTS, field_name)
    text = environment.get(name, "").strip()
    if not text:
        return default
    if isinstance(default, bool):
        return flag(name, text)
    if isinstance(default, int):
        return integer(name, text, *_RANGES[field_name])
    if isinstance(default, tuple):
        return split(text)
    if isinstance(default, Secret):
        return Secret(text)
    values = _CHOICES.get(field_name)
    if values and text not in values:
        raise SettingInvalid(f"{name} must be {' or '.join(values)}.")
    return text


def _storage(environment: Mapping[str, str]) -> StorageAccount:
    def part(name: str) -> str:
        return environment.get(f"JobStorage__{name}", "").strip()

    connection_string = without_empty_parts(environment.get("JobStorage", ""))
    return StorageAccount(
        connection_string=Secret(connection_string) if connection_string else None,
        queue_service_uri=part("queueServiceUri"),
        blob_service_uri=part("blobServiceUri"),
        table_service_uri=part("tableServiceUri"),
        client_id=part("clientId"),
    )
