"""
The app's settings, read from the environment once per worker.

The name of a setting is that of its field in upper case; `JobStorage` and its parts have the Functions host's own form.
A test compares the lists in README.md and local.settings.sample.json with these fields.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any

from shared.errors import SettingInvalid
from shared.secret import Secret
from shared.setting_rules import CHECKS, READERS, find_container_conflicts, find_queue_conflicts
from shared.setting_values import ALL_CUSTOMERS, NO_CUSTOMERS, check_resolved, flag, poison_of, split
from shared.storage_settings import StorageAccount, check_account, read_account

if TYPE_CHECKING:
    from shared.export_settings import Export

LEASE_S = 90
"""Default of LEASE_SECONDS."""
STORAGE = "JobStorage"


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
    batches_queue: str = "batches"
    allowed_result_queues: tuple[str, ...] = ()
    """Queues that jobs may name for their results: `customer=queue` for one customer's, `queue` for everybody's."""
    results_container: str = "results"
    input_containers: tuple[str, ...] = ("inputs",)
    templates_container: str = "templates"
    """Customers' templates, which make jobs of other systems' webhooks."""
    statements_container: str = "statements"
    """Price books and closed months, which outlive jobs and usage records."""
    jobs_table: str = "jobs"
    budget_default_estimate: int = 20_000
    """Output tokens that a budget reserves for a job of which nothing is known."""
    batch_window_s: int = 300
    """Seconds for which jobs gather into one batch of the provider's."""
    batch_adopt_s: int = 120
    adopt_window_s: int = 120
    """Seconds for which a provider's list of batches may lack one whose creation was not answered."""
    usage_exports: tuple[Export, ...] = ()
    """Where usage records are sent."""

    http_auth: str = "key"
    """`key`: the host requires a function key. `entra`: App Service authentication is in front of the app."""
    entra_customer_claim: str = "customer"
    """The claim that ties a token to one customer."""
    mcp_enabled: bool = False
    """Whether agents may use the app's tools over the Model Context Protocol."""
    website_auth_enabled: bool = False
    """Azure sets it if App Service authentication is on (learn.microsoft.com, "reference-app-settings")."""

    lease_seconds: int = LEASE_S
    """Seconds after which another worker may take over a job whose lease was not renewed."""
    retain_jobs_days: int = 30
    """Days that a finished job is kept, with its blobs; 0: no limit."""
    retain_usage_months: int = 24
    """Complete months that usage records are kept, besides the current one; 0: no limit."""
    retain_statements_years: int = 10
    """Complete years that the documents of closed months are kept, besides the current one; 0: no limit."""

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
    def batches_poison_queue(self) -> str:
        """The poison queue of the batches queue."""
        return poison_of(self.batches_queue)

    @property
    def static_for_all(self) -> bool:
        """Whether all customers without a connection may use the operator's own."""
        return self.allow_static_connection.lower() in ALL_CUSTOMERS

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
        allowed = self.allow_static_connection
        return allowed.lower() not in NO_CUSTOMERS and customer in split(allowed)


_DEFAULTS = Settings(job_storage=StorageAccount(None, "", "", "", ""))
_FIELDS = tuple(each.name for each in fields(Settings) if each.name not in {"job_storage", "fault"})


def binding_queues(environment: Mapping[str, str]) -> tuple[str, str, str]:
    """Return the names of the jobs, poison and results queues, which the bindings need before settings are read."""
    jobs: str = _read(environment, "jobs_queue")
    return jobs, poison_of(jobs), _read(environment, "results_queue")


def callback_queues(environment: Mapping[str, str]) -> tuple[str, str]:
    """Return the names of the callbacks queue and its poison queue, as `binding_queues` does."""
    callbacks: str = _read(environment, "callbacks_queue")
    return callbacks, poison_of(callbacks)


def batch_queues(environment: Mapping[str, str]) -> tuple[str, str]:
    """Return the names of the batches queue and its poison queue, as `binding_queues` does."""
    batches: str = _read(environment, "batches_queue")
    return batches, poison_of(batches)


def setting_names() -> tuple[str, ...]:
    """Return the names of the settings of fields; that of Storage, and its parts, are in `storage_settings`."""
    return tuple(name.upper() for name in _FIELDS)


def read_settings(environment: Mapping[str, str]) -> Settings:
    """
    Return the settings in `environment`, with defaults for those that are not set.

    Raises SettingInvalid, whose message names the setting and what is valid.
    """
    settings, faults = _read_all(environment)
    if faults:
        raise SettingInvalid(faults[0])
    return settings


def find_faults(environment: Mapping[str, str]) -> list[str]:
    """Return what is wrong with the settings in `environment`: a sentence for each setting that is invalid."""
    return _read_all(environment)[1]


def settings_with_fault(environment: Mapping[str, str], fault: SettingInvalid) -> Settings:
    """Return what is needed to requeue messages until `fault` is corrected, and defaults for everything else."""
    names = ("azure_client_id", "jobs_queue", "callbacks_queue", "batches_queue", "results_container")
    values = {name: _read(environment, name) for name in names}
    return Settings(job_storage=read_account(environment, STORAGE), fault=str(fault), **values)


def _read_all(environment: Mapping[str, str]) -> tuple[Settings, list[str]]:
    """Return the settings, with defaults for the invalid ones, and why these are invalid."""
    values, faults = {}, []
    try:
        check_account(environment, STORAGE)
    except SettingInvalid as exc:
        faults.append(str(exc))
    for name in _FIELDS:
        try:
            if name != "static_connection":
                check_resolved(name.upper(), environment.get(name.upper(), ""))
            value = _read(environment, name)
            if name in CHECKS and value != getattr(_DEFAULTS, name):
                CHECKS[name](name.upper(), value)
            values[name] = value
        except SettingInvalid as exc:
            faults.append(str(exc))
    settings = Settings(job_storage=read_account(environment, STORAGE), **values)
    return settings, faults or _find_conflicts(settings)


def _find_conflicts(settings: Settings) -> list[str]:
    """Return which settings contradict others, such as queues and containers that are used twice."""
    results, others = settings.results_queue, set(settings.result_queues()) - {settings.results_queue}
    exports = {export.queue for export in settings.usage_exports if export.queue}
    faults = find_queue_conflicts(
        {"jobs": settings.jobs_queue, "callbacks": settings.callbacks_queue, "batches": settings.batches_queue},
        {"RESULTS_QUEUE": {results}, "ALLOWED_RESULT_QUEUES": others, "USAGE_EXPORTS": exports},
    )
    of_jobs = ("results_container", "input_containers", "templates_container")
    faults += find_container_conflicts(
        settings.statements_container, {name.upper(): getattr(settings, name) for name in of_jobs}
    )
    if settings.usage_exports:
        from shared.export_settings import check_exports  # noqa: PLC0415  # most apps have none

        faults += check_exports(settings.usage_exports, bool(settings.key_vault_url), {results, *others})
    return faults


def _read(environment: Mapping[str, str], field_name: str) -> Any:
    """Return the setting of a field, in the type of its default, or the default if it is not set."""
    name, default = field_name.upper(), getattr(_DEFAULTS, field_name)
    text = environment.get(name, "").strip()
    if not text:
        return default
    if field_name in READERS:
        return READERS[field_name](name, text)
    if isinstance(default, bool):
        return flag(name, text)
    if isinstance(default, tuple):
        return split(text) or default  # of separators alone
    return Secret(text) if isinstance(default, Secret) else text
