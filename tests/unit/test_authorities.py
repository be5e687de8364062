"""Which certificate authorities tests and their processes trust."""

from __future__ import annotations

import os

import aiohttp.connector
import pytest

from tests.support import authorities


def test_what_is_imported_first_reads_one_authority(monkeypatch: pytest.MonkeyPatch):
    """As aiohttp, which makes contexts then; what installs something has the system's all the same."""
    context = aiohttp.connector._SSL_CONTEXT_VERIFIED
    assert context is not None
    assert 1 == len(context.get_ca_certs())
    assert str(authorities.FEW) == os.environ["SSL_CERT_FILE"]

    for before in ("/etc/own.pem", ""):
        monkeypatch.delenv("SSL_CERT_FILE_OF_THE_SYSTEM")
        monkeypatch.setenv("SSL_CERT_FILE", before)
        for _ in range(2):  # the second time in a process of that one
            authorities.trust_few()
        assert before == authorities.environment().get("SSL_CERT_FILE", "")
        assert "SSL_CERT_FILE_OF_THE_SYSTEM" not in authorities.environment()
