"""What the value of each setting must be, by the name of its field in `settings.Settings`."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from shared.setting_values import (
    check_claim,
    check_customers,
    check_hosts,
    check_id,
    check_models,
    check_name,
    check_names,
    check_result_queues,
    check_scopes,
    check_suffixes,
    check_table_name,
    check_trigger_queue,
    check_vault_url,
    choice,
    integer,
)


def _read_exports(setting: str, text: str) -> Any:
    from shared.export_settings import read_exports  # noqa: PLC0415  # most apps have none

    return read_exports(setting, text)


READERS: dict[str, Callable[[str, str], Any]] = {
    "lease_seconds": partial(integer, minimum=10, maximum=540),
    "retain_jobs_days": partial(integer, minimum=0, maximum=3650),
    "retain_usage_months": partial(integer, minimum=0, maximum=120),
    "retain_statements_years": partial(integer, minimum=0, maximum=100),
    "budget_default_estimate": partial(integer, minimum=1, maximum=10_000_000),
    "usage_exports": _read_exports,
    "http_auth": partial(choice, values=("key", "entra")),
}
"""How the text of a field is read whose type does not say it."""
CHECKS: dict[str, Callable[[str, Any], None]] = {
    "key_vault_url": check_vault_url,
    "azure_client_id": check_id,
    "entra_client_id": check_id,
    "allow_static_connection": check_customers,
    "static_models": check_models,
    "allowed_endpoint_suffixes": check_suffixes,
    "allowed_scopes": check_scopes,
    "allowed_entra_hosts": check_hosts,
    "jobs_queue": check_trigger_queue,
    "results_queue": check_name,
    "callbacks_queue": check_trigger_queue,
    "allowed_result_queues": check_result_queues,
    "results_container": check_name,
    "input_containers": check_names,
    "templates_container": check_name,
    "statements_container": check_name,
    "jobs_table": check_table_name,
    "entra_customer_claim": check_claim,
}
"""
What the value of a field must be. The static connection concerns its own jobs alone, which check it; the vault's
certificates are checked when they are loaded. Without telemetry, jobs run all the same: only `aijobs doctor` looks at
its connection string.
"""
