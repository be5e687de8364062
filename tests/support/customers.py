"""The customers of tests: each test has customers, and accounts at the endpoint, of its own."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from tests.support.endpoint import Account


@dataclass
class Customer:
    """A customer with an account at the AI endpoint."""

    name: str
    account: Account

    def job(self, **members: Any) -> dict[str, Any]:
        """A chat job of this customer; `members` replace and add members."""
        return {"customer": self.name, "action": "chat", "input": {"prompt": "Hello?"}} | members

    def body(self, **members: Any) -> bytes:
        """The message of that job."""
        return json.dumps(self.job(**members)).encode()

    def secret(self, **members: Any) -> str:
        """The value of a secret with a connection to this account; `members` replace and add members."""
        connection = {
            "endpoint": f"{self.account.base}/openai/v1",
            "provider": "azure_openai",
            "api_key": self.account.key,
            "default_model": "gpt-4o",
        }
        return json.dumps(connection | members)
