"""The names of secrets: no two kinds of secret can have the same."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from shared.connections import key_vault
from shared.contract.names import is_name

NAMES = st.from_regex(r"[a-z0-9]+(-[a-z0-9]+){0,3}", fullmatch=True).filter(is_name)


@given(NAMES, NAMES, NAMES)
def test_secrets_of_exports_connections_and_signing_never_share_a_name(export: str, customer: str, connection: str):
    """A name can't contain `--`, so what comes before the first one says whose secret it is, in Key Vault's letters."""
    names = {
        key_vault._export_name(export),
        key_vault._name(customer, connection),
        key_vault._signing_name(customer),
        key_vault._events_name(customer, connection),
    }

    assert 4 == len(names)
    assert {"export", "ai", "webhook", "events"} == {name.partition("--")[0] for name in names}
    assert all(len(name) <= 127 for name in names)
