"""
The app's settings, read from the environment once a worker.

A setting's name is its field's in upper case; `JobStorage` and its parts follow the Functions
host's own form. The lists in README.md and local.settings.sample.json are held to this by a test.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from shared.errors import SettingInvalid
from shared.secret import Secret

LEASE_S = 90
"""Seconds that a claim of a job holds unless it is renewed, where nothing else is set."""
_YES = {"1", "true", "yes", "on"}
_NO = {"0", "false", "no", "off"}
# Of ALLOW_STATIC_CONNECTION, where they are all that it says; any other word is some customer's id.
_EVERYBODY = {"*", "true", "1"}
_NOBODY = {"", "false", "0"}
_AMONG = {"http_auth": ("key", "entra")}
_WITHIN = {"lease_seconds": (10, 540), "retain_jobs_days": (0, 3650), "retain_usage_months": (0, 120)}


@dataclass(frozen=True, slots=True)
class StorageAccount:
    """Where jobs are kept: a connection string, or addresses that are reached with the app's identity."""

    connection_string: Secret | None
    queue_service_uri: str
    blob_service_uri: str
    table_service_uri: str
    client_id: str
    """The user-assigned identity to use, where there is one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What the operator has set. `read_settings` makes one."""

    job_storage: StorageAccount

    key_vault_url: str = ""
    """Empty: there is no vault, and only the static connection can serve."""
    key_vault_ca_file: str = ""
    """A certificate authority of one's own, for a vault behind one: the local stack's."""
    azure_client_id: str = ""
    """The user-assigned identity of the app."""
    entra_client_id: str = ""
    """The app registration that customers in other tenants have consented to."""

    static_connection: Secret = field(default_factory=lambda: Secret(""))
    allow_static_connection: str = ""

    allowed_endpoint_suffixes: tuple[str, ...] = ()
    """Host suffixes that connections may point at; empty: those of Azure and OpenAI."""
    allowed_scopes: tuple[str, ...] = ()
    """Scopes of Entra tokens that connections may name, besides those of AI services."""
    allow_local_endpoints: bool = False
    allow_private_endpoints: bool = False

    jobs_queue: str = "jobs"
    results_queue: str = "results"
    callbacks_queue: str = "callbacks"
    allowed_result_queues: tuple[str, ...] = ()
    results_container: str = "results"
    input_containers: tuple[str, ...] = ("inputs",)
    templates_container: str = "templates"
    """Customers' templates for webhooks of systems that know nothing of us."""
    jobs_table: str = "jobs"

    http_auth: str = "key"
    """`key`: the host asks for a function key. `entra`: App Service authentication stands in front of the app."""
    entra_customer_claim: str = "customer"
    """The claim of a token that ties it to one customer."""
    website_auth_enabled: bool = False
    """Set by Azure where App Service authentication is on (learn.microsoft.com, "reference-app-settings")."""

    lease_seconds: int = LEASE_S
    """How long after its last sign of life a worker's job may be taken over by another."""
    retain_jobs_days: int = 30
    """How long what became of a done job is kept, with its blobs; 0: for ever."""
    retain_usage_months: int = 24
    """How many whole months usage records are kept, besides the one that is running; 0: for ever."""

    applicationinsights_connection_string: Secret = field(default_factory=lambda: Secret(""))
    """Where telemetry goes, the host's and the app's; empty: nothing is loaded for it, and nothing told."""
    telemetry_content: bool = False
    """Whether telemetry has questions and answers in it."""

    @property
    def poison_queue(self) -> str:
        """Where the host puts a message that crashed the worker too often."""
        return poison_of(self.jobs_queue)

    @property
    def callbacks_poison_queue(self) -> str:
        """The same for callbacks."""
        return poison_of(self.callbacks_queue)

    @property
    def static_for_everybody(self) -> bool:
        """Whether any customer who has no connection may run on the operator's own account."""
        return self.allow_static_connection.strip().lower() in _EVERYBODY

    def allows_static(self, customer: str) -> bool:
        """Whether `customer`, having no connection, may run on the operator's own account."""
        if self.static_for_everybody:
            return True
        allowed = self.allow_static_connection.strip()
        return allowed.lower() not in _NOBODY and customer in _split(allowed)


_DEFAULTS = Settings(job_storage=StorageAccount(None, "", "", "", ""))


def poison_of(queue: str) -> str:
    """The name of a queue's poison queue, after the Functions host's own rule."""
    return f"{queue}-poison"


def binding_queues(environment: Mapping[str, str]) -> tuple[str, str, str]:
    """The names of the jobs, poison and results queues, which the app's bindings need to be indexed."""
    jobs: str = _read(environment, "jobs_queue")
    return jobs, poison_of(jobs), _read(environment, "results_queue")


def callback_queues(environment: Mapping[str, str]) -> tuple[str, str]:
    """As `binding_queues`: the callbacks queue and its poison queue."""
    callbacks: str = _read(environment, "callbacks_queue")
    return callbacks, poison_of(callbacks)


def read_settings(environment: Mapping[str, str]) -> Settings:
    """
    The settings in `environment`; what is not set there has its default.

    Raises SettingInvalid, naming the setting and what would be right.
    """
    read = {one.name: _read(environment, one.name) for one in fields(Settings) if one.name != "job_storage"}
    settings = Settings(job_storage=_storage(environment), **read)
    vault = settings.key_vault_url
    if vault and not vault.lower().startswith("https://"):
        raise SettingInvalid("KEY_VAULT_URL must begin with https://, such as https://my-vault.vault.azure.net.")
    jobs, poison, results = settings.jobs_queue, settings.poison_queue, settings.results_queue
    callbacks, dead_callbacks = settings.callbacks_queue, settings.callbacks_poison_queue
    for name, queue in (("RESULTS_QUEUE", results), ("CALLBACKS_QUEUE", callbacks)):
        if queue in {jobs, poison}:
            raise SettingInvalid(f"{name} must be a queue other than {jobs} and {poison}, which hold jobs.")
    if results in {callbacks, dead_callbacks}:
        raise SettingInvalid(
            f"RESULTS_QUEUE must be a queue other than {callbacks} and {dead_callbacks}, which hold callbacks."
        )
    return settings


def _read(environment: Mapping[str, str], field_name: str) -> Any:
    """What is set for a field, of its default's type; where nothing is set, its default."""
    name, default = field_name.upper(), getattr(_DEFAULTS, field_name)
    text = environment.get(name, "").strip()
    if not text:
        return default
    if isinstance(default, bool):
        return _flag(name, text)
    if isinstance(default, int):
        return _whole(name, text, *_WITHIN[field_name])
    if isinstance(default, tuple):
        return _split(text)
    if isinstance(default, Secret):
        return Secret(text)
    values = _AMONG.get(field_name)
    if values and text not in values:
        raise SettingInvalid(f"{name} must be {' or '.join(values)}.")
    return text


def _storage(environment: Mapping[str, str]) -> StorageAccount:
    def part(name: str) -> str:
        return environment.get(f"JobStorage__{name}", "").strip()

    connection_string = environment.get("JobStorage", "").strip()
    account = StorageAccount(
        connection_string=Secret(connection_string) if connection_string else None,
        queue_service_uri=part("queueServiceUri"),
        blob_service_uri=part("blobServiceUri"),
        table_service_uri=part("tableServiceUri"),
        client_id=part("clientId"),
    )
    uris = (account.queue_service_uri, account.blob_service_uri, account.table_service_uri)
    if account.connection_string is None and not all(uris):
        raise SettingInvalid(
            "JobStorage must be a connection string, or JobStorage__queueServiceUri, "
            "JobStorage__blobServiceUri and JobStorage__tableServiceUri must all be set."
        )
    return account


def _flag(name: str, text: str) -> bool:
    if text.lower() in _YES:
        return True
    if text.lower() in _NO:
        return False
    raise SettingInvalid(f"{name} must be true or false.")


def _whole(name: str, text: str, least: int, most: int) -> int:
    if not text.isascii() or not text.isdecimal() or len(text) > 9 or not least <= int(text) <= most:  # noqa: PLR2004
        raise SettingInvalid(f"{name} must be a whole number from {least} to {most}.")
    return int(text)


def _split(text: str) -> tuple[str, ...]:
    return tuple(part for part in (piece.strip() for piece in text.replace(";", ",").split(",")) if part)
