"""
The app's settings, read from the environment once a worker.

A setting's name is its field's in upper case; `JobStorage` and its parts follow the Functions
host's own form. The lists in README.md and local.settings.sample.json are held to this by a test.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from shared.errors import SettingInvalid
from shared.secret import Secret

_YES = {"1", "true", "yes", "on"}
_NO = {"", "0", "false", "no", "off"}


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

    lease_seconds: int = 90
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
        """Where the host puts a message that crashed the worker too often; the name is the host's rule."""
        return f"{self.jobs_queue}-poison"

    @property
    def callbacks_poison_queue(self) -> str:
        """The same for callbacks."""
        return f"{self.callbacks_queue}-poison"

    def allows_static(self, customer: str) -> bool:
        """Whether `customer`, having no connection, may run on the operator's own account."""
        allowed = self.allow_static_connection.strip()
        if allowed.lower() in _NO:
            return False
        if allowed == "*" or allowed.lower() in _YES:
            return True
        return customer in _split(allowed)


def binding_queues(environment: Mapping[str, str]) -> tuple[str, str, str]:
    """The names of the jobs, poison and results queues, which the app's bindings need to be indexed."""
    jobs = environment.get("JOBS_QUEUE", "").strip() or "jobs"
    return jobs, f"{jobs}-poison", environment.get("RESULTS_QUEUE", "").strip() or "results"


def callback_queues(environment: Mapping[str, str]) -> tuple[str, str]:
    """As `binding_queues`: the callbacks queue and its poison queue."""
    callbacks = environment.get("CALLBACKS_QUEUE", "").strip() or "callbacks"
    return callbacks, f"{callbacks}-poison"


def read_settings(environment: Mapping[str, str]) -> Settings:
    """
    The settings in `environment`; what is not set there has its default.

    Raises SettingInvalid, naming the setting and what would be right.
    """

    def text(name: str, default: str) -> str:
        return environment.get(name, "").strip() or default

    vault = text("KEY_VAULT_URL", "")
    if vault and not vault.lower().startswith("https://"):
        raise SettingInvalid("KEY_VAULT_URL must begin with https://, such as https://my-vault.vault.azure.net.")
    jobs, poison, results = binding_queues(environment)
    callbacks, dead_callbacks = callback_queues(environment)
    for name, queue in (("RESULTS_QUEUE", results), ("CALLBACKS_QUEUE", callbacks)):
        if queue in {jobs, poison}:
            raise SettingInvalid(f"{name} must be a queue other than {jobs} and {poison}, which hold jobs.")
    if results in {callbacks, dead_callbacks}:
        raise SettingInvalid(
            f"RESULTS_QUEUE must be a queue other than {callbacks} and {dead_callbacks}, which hold callbacks."
        )
    return Settings(
        job_storage=_storage(environment),
        key_vault_url=vault,
        key_vault_ca_file=text("KEY_VAULT_CA_FILE", ""),
        azure_client_id=text("AZURE_CLIENT_ID", ""),
        entra_client_id=text("ENTRA_CLIENT_ID", ""),
        static_connection=Secret(text("STATIC_CONNECTION", "")),
        allow_static_connection=text("ALLOW_STATIC_CONNECTION", ""),
        allowed_endpoint_suffixes=_split(text("ALLOWED_ENDPOINT_SUFFIXES", "")),
        allowed_scopes=_split(text("ALLOWED_SCOPES", "")),
        allow_local_endpoints=_flag(environment, "ALLOW_LOCAL_ENDPOINTS"),
        allow_private_endpoints=_flag(environment, "ALLOW_PRIVATE_ENDPOINTS"),
        jobs_queue=jobs,
        results_queue=results,
        callbacks_queue=callbacks,
        allowed_result_queues=_split(text("ALLOWED_RESULT_QUEUES", "")),
        results_container=text("RESULTS_CONTAINER", "results"),
        input_containers=_split(text("INPUT_CONTAINERS", "inputs")),
        templates_container=text("TEMPLATES_CONTAINER", "templates"),
        jobs_table=text("JOBS_TABLE", "jobs"),
        http_auth=_one_of(environment, "HTTP_AUTH", "key", "entra"),
        entra_customer_claim=text("ENTRA_CUSTOMER_CLAIM", "customer"),
        website_auth_enabled=_flag(environment, "WEBSITE_AUTH_ENABLED"),
        lease_seconds=_whole(environment, "LEASE_SECONDS", 90, 10, 540),
        retain_jobs_days=_whole(environment, "RETAIN_JOBS_DAYS", 30, 0, 3650),
        retain_usage_months=_whole(environment, "RETAIN_USAGE_MONTHS", 24, 0, 120),
        applicationinsights_connection_string=Secret(text("APPLICATIONINSIGHTS_CONNECTION_STRING", "")),
        telemetry_content=_flag(environment, "TELEMETRY_CONTENT"),
    )


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


def _flag(environment: Mapping[str, str], name: str) -> bool:
    value = environment.get(name, "").strip().lower()
    if value in _YES:
        return True
    if value in _NO:
        return False
    raise SettingInvalid(f"{name} must be true or false.")


def _one_of(environment: Mapping[str, str], name: str, *values: str) -> str:
    text = environment.get(name, "").strip() or values[0]
    if text not in values:
        raise SettingInvalid(f"{name} must be {' or '.join(values)}.")
    return text


def _whole(environment: Mapping[str, str], name: str, default: int, least: int, most: int) -> int:
    text = environment.get(name, "").strip() or str(default)
    if not text.isascii() or not text.isdecimal() or not least <= int(text) <= most:
        raise SettingInvalid(f"{name} must be a whole number from {least} to {most}.")
    return int(text)


def _split(text: str) -> tuple[str, ...]:
    return tuple(part for part in (piece.strip() for piece in text.replace(";", ",").split(",")) if part)
