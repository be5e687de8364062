"""What the templates lock: Storage, the vault and telemetry without keys, and no secret in any shipped file."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from tests.support.bicep import members as members_of
from tests.support.bicep import read, value
from tests.support.bicep_settings import INFRA, MAIN, ROOT

SHIPPED = [
    *sorted(INFRA.rglob("*.bicep*")),
    *INFRA.rglob("*.json"),
    *INFRA.rglob("*.kql"),
    ROOT / "azure.yaml",
    *(ROOT / ".github").rglob("*.yml"),
    *(path for path in (ROOT / "container").rglob("*") if path.is_file()),
]


@pytest.mark.parametrize(
    ("file", "kind", "expected"),
    [
        (
            "storage.bicep",
            "Microsoft.Storage/storageAccounts@",
            {
                "allowSharedKeyAccess": False,
                "allowBlobPublicAccess": False,
                "allowCrossTenantReplication": False,
                "minimumTlsVersion": "TLS1_2",
                "supportsHttpsTrafficOnly": True,
            },
        ),
        (
            "vault.bicep",
            "Microsoft.KeyVault/vaults@",
            {
                "enableRbacAuthorization": True,
                "enableSoftDelete": True,
                "softDeleteRetentionInDays": 90,
                "enablePurgeProtection": True,
            },
        ),
        (
            "vault.bicep",
            "Microsoft.Insights/diag",
            {"logs": [{"categoryGroup": "audit", "enabled": True}], "logAnalyticsDestinationType": "Dedicated"},
        ),
        ("monitoring.bicep", "Microsoft.Insights/components@", {"DisableLocalAuth": True}),
        ("monitoring.bicep", "Microsoft.Oper", {"features": {"disableLocalAuth": True}}),
    ],
)
def test_resources_are_locked(file: str, kind: str, expected: dict[str, Any]):
    """
    Storage accounts: no shared keys, no public blobs, TLS 1.2, https. The vault: roles, soft delete for 90 days, purge
    protection, and reads logged into a table of their own, AZKVAuditLogs. Telemetry accepts no key.
    """
    body = next(body for type_, body in read(INFRA / "app" / file).resources() if type_.startswith(kind))
    properties = value(members_of(body)["properties"], {})

    assert expected == {name: properties.get(name) for name in expected}


@pytest.mark.parametrize("file", SHIPPED, ids=lambda file: file.name)
def test_no_file_has_a_secret(file: Path):
    """No key, no connection string, and nothing that reads one, in any file of the deployment."""
    text = file.read_text()
    reading = r"listKeys|listSecrets|list\w*Sas|AccountKey|SharedAccess|password|client[-_]?secret"
    words = re.findall(r"[A-Za-z0-9+/_]{24,}={0,2}", text)

    assert not re.search(reading, text, re.IGNORECASE)
    assert [] == [word for word in words if len(re.findall(r"\d", word)) > 3 and word.lower() != word]


def test_outputs_are_in_upper_case_and_hold_no_secret():
    """Outputs, which azd stores, are named like environment variables, and none of them is a credential."""
    outputs = MAIN.declarations("output")

    assert [] == [name for name in outputs if not re.fullmatch(r"[A-Z][A-Z_]+", name)]
    assert [] == [
        name
        for name, node in outputs.items()
        if re.search(r"connectionString|\.list|[sS]ecret", (node.text or b"").decode())
    ]
