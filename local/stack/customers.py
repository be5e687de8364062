"""
The demo's customers, one for each kind of endpoint, and the writing of their connections to the local Key Vault.

All three use the same AI endpoints, aimock as `default` and the provider with batches as `patient`, each with its own
key, which is new at every start. One of them has Claude as well: from aimock as `claude`, and with batches as
`patient-claude`.
"""

import json
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Self

from azure.core.credentials import AccessToken
from azure.keyvault.secrets.aio import SecretClient

from local.vault.server import Vault


def _new_key() -> str:
    return f"local-{secrets.token_urlsafe(24)}"


@dataclass(frozen=True, slots=True)
class Customer:
    """
    A customer's connection: `path` below the AI endpoint's URL, and its `settings`.

    `bare_key`: the secret is only the key and the settings are its tags, as key-rotation functions write it;
    otherwise the secret is one JSON object.
    """

    id: str
    kind: str
    path: str
    settings: dict[str, str]
    bare_key: bool = False
    key: str = field(default_factory=_new_key, repr=False)


def demo_customers() -> list[Customer]:
    """The demo's three customers, with new keys."""
    return [
        Customer(
            "contoso",
            "Azure OpenAI, v1 endpoint",
            "/openai/v1",
            {"provider": "azure_openai", "default_model": "contoso-chat"},
        ),
        Customer(
            "fabrikam",
            "Azure OpenAI, deployment endpoint, bare key with tags",
            "/openai/deployments/fabrikam-chat/chat/completions?api-version=2024-10-21",
            {"provider": "azure_openai"},
            bare_key=True,
        ),
        Customer(
            "northwind",
            "OpenAI; a second connection to Claude",
            "/v1",
            {"provider": "openai", "default_model": "gpt-6-luna"},
        ),
    ]


def with_claude(customers: Sequence[Customer]) -> Customer:
    """The last customer with its other connection, to Claude: the AI endpoint has Anthropic's API, too."""
    settings = {"provider": "anthropic", "default_model": "claude-sonnet-4-5"}
    return replace(customers[-1], kind="Claude", path="/v1", settings=settings)


def with_patient_claude(customers: Sequence[Customer]) -> Customer:
    """The same customer with its connection to Claude's batches, whose account has a key of its own."""
    return replace(with_claude(customers), key=_new_key())


async def onboard(vault: Vault, ai_url: str, *customers: Customer, connection: str = "default") -> None:
    """Write a connection of each customer to the vault, with Azure's own client."""
    async with vault_client(vault) as client:
        for customer in customers:
            settings = {"endpoint": ai_url + customer.path, **customer.settings}
            name = f"ai--{customer.id}--{connection}"
            if customer.bare_key:
                await client.set_secret(name, customer.key, tags=settings)
            else:
                value = json.dumps({**settings, "api_key": customer.key})
                await client.set_secret(name, value, content_type="application/json")


def vault_client(vault: Vault) -> SecretClient:
    """Azure's own client for the local vault."""
    return SecretClient(
        vault.url,
        _AnyToken(),
        connection_verify=str(vault.ca_file),
        verify_challenge_resource=False,  # its host is not vault.azure.net
    )


class _AnyToken:
    """A fixed token. The local vault accepts any, so none has to be fetched from the identity endpoint."""

    async def get_token(self, *_scopes: str, **_options: Any) -> AccessToken:
        return AccessToken("local", 2**40)

    async def close(self) -> None:
        pass

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        pass
