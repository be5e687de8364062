"""What the value of each setting must be, by the name of its field in `settings.Settings`; which contradict others."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
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
    poison_of,
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
    "batch_window_s": partial(integer, minimum=1, maximum=3600),
    "batch_adopt_s": partial(integer, minimum=0, maximum=3600),
    "adopt_window_s": partial(integer, minimum=0, maximum=3600),
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
    "batches_queue": check_trigger_queue,
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


def find_queue_conflicts(own: Mapping[str, str], named: Mapping[str, Collection[str]]) -> list[str]:
    """
    Return which settings name a queue, or its poison queue, that another one has for the app's own messages.

    What is sent there would be read as something else. `own`: the app's own queues, by what they are for. `named`:
    those of other settings.
    """
    queues, faults = {f"{purpose.upper()}_QUEUE": [queue] for purpose, queue in own.items()} | dict(named), []
    for purpose, queue in own.items():
        del queues[f"{purpose.upper()}_QUEUE"]
        faults += [
            f"{setting} must be a queue other than {queue} and {poison_of(queue)}, which are for {purpose}."
            for setting, others in queues.items()
            if queue in others or poison_of(queue) in others
        ]
    return faults


def find_container_conflicts(statements: str, named: Mapping[str, str | Collection[str]]) -> list[str]:
    """
    Return which settings of containers name that of statements.

    A job could read the bills in a container of its input, and replace one in that of the results.
    """
    return [
        f"STATEMENTS_CONTAINER must be a container that {setting} does not name: jobs would read and write there."
        for setting, names in named.items()
        if statements == names or (not isinstance(names, str) and statements in names)
    ]
