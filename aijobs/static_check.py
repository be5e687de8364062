"""Check of `doctor`: the static connection, which serves customers without one of their own."""

from __future__ import annotations

from dataclasses import replace

from aijobs.finding import Finding, run_check
from aijobs.model_retirements import check_models
from aijobs.vault_checks import models_of
from shared.connections.connection import Connection
from shared.connections.entra_binding import EntraBinding
from shared.connections.resolver import Connections
from shared.setting_values import split
from shared.settings import Settings


async def check_static_connection(settings: Settings) -> list[Finding]:
    """Check that it is valid, whom it serves, and the models that it may be used for."""
    check = "static connection"
    if not settings.static_connection:
        if not any(map(settings.allows_static, _served(settings))):
            return [Finding(check, "ok", "It is not set.")]
        message = (
            "ALLOW_STATIC_CONNECTION names its customers, but STATIC_CONNECTION is not set, or is a Key Vault "
            "reference, which only the app resolves."
        )
        return [Finding(check, "warning", message)]
    opened: list[Connection] = []

    async def resolve() -> str:
        for_all = replace(settings, allow_static_connection="*")
        connection = await Connections(for_all, None).resolve("doctor", "default")
        opened.append(connection)
        use = EntraBinding.of(connection)
        identity = "" if use is None else f" It uses the app's identity for {use}."
        return f"It is valid; its provider is {connection.endpoint.provider}.{identity}"

    finding = await run_check(check, resolve)
    if not any(map(settings.allows_static, _served(settings))):
        verdict = "warning" if finding.verdict == "error" else finding.verdict
        finding = replace(finding, verdict=verdict, message=f"{finding.message} It serves no customer.")
    elif finding.verdict == "ok" and settings.static_for_all:
        everybody = "It serves every customer without a connection, at your cost. Name the customers instead."
        finding = replace(finding, verdict="warning", message=f"{finding.message} {everybody}")
    return [finding, *(_check_static_models(check, settings, opened[0]) if opened else [])]


def _served(settings: Settings) -> tuple[str, ...]:
    """The customers that the setting names; any name stands for all."""
    return split(settings.allow_static_connection)


def _check_static_models(check: str, settings: Settings, connection: Connection) -> list[Finding]:
    allowed, usual = settings.static_models, connection.endpoint.deployment or connection.default_model
    findings = check_models(check, connection.endpoint.provider, dict.fromkeys((*models_of(connection), *allowed)))
    if usual and allowed and usual not in allowed:
        message = f"STATIC_MODELS doesn't allow {usual}, which jobs without a model use: add it, or name another one."
        findings.append(Finding(check, "warning", message))
    return findings
