"""What docs/mcp.md says of the tools is what an agent reads, and its configuration leads to them."""

from __future__ import annotations

import json
import re
from urllib.parse import urlsplit

from shared.contract.documents import API_PREFIX
from shared.http.mcp_messages import VERSIONS
from shared.http.mcp_tools import MAX_TEXT_BYTES
from shared.http.request_parsing import MAX_WAIT_S
from shared.http.routes import ROUTES
from tests.support.doc_samples import ROOT, blocks

PAGE = (ROOT / "docs/mcp.md").read_text(encoding="utf-8")
TOOLS = json.loads((ROOT / "shared/http/static/mcp_tools.json").read_text(encoding="utf-8"))


def test_its_tools_and_arguments_are_the_served_ones():
    """Each tool has a row with its arguments."""
    rows = re.findall(r"^\| `(\w+)` \| (.+?) \| .+ \|$", PAGE, re.MULTILINE)
    shown = {name: set(re.findall(r"`(\w+)`", arguments)) for name, arguments in rows}

    assert {tool["name"]: set(tool["inputSchema"]["properties"]) for tool in TOOLS} == shown
    assert f"`wait_s`, up to {MAX_WAIT_S:g}" in PAGE


def test_its_configuration_leads_to_the_route():
    """Its URL is the tools' route, with the header that the host takes a key in."""
    (block,) = blocks("docs/mcp.md", "json")
    (server,) = json.loads(block)["mcpServers"].values()
    (route,) = [route for route in ROUTES if route.name == "use_tools"]

    assert f"{API_PREFIX}/{route.path}" == urlsplit(server["url"]).path
    assert ["x-functions-key"] == [*server["headers"]]
    assert "http" == server["type"]


def test_its_versions_and_sizes_are_the_codes():
    """All versions that are spoken, and how much of a result is in a text, too."""
    (line,) = re.findall(r"^Versions (.*) of the protocol are spoken", PAGE, re.MULTILINE)

    assert [*VERSIONS] == re.findall(r"[0-9-]{10}", line)
    assert f"{MAX_TEXT_BYTES:,} bytes" in PAGE
