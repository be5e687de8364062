"""The console's page as it is built and served: up to date, with uPlot as its package has it, under a strict policy."""

from __future__ import annotations

import base64
import hashlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

from console import build
from local.paths import LOCAL
from shared.http.app import HttpApp
from shared.http.console import ConsoleResource
from shared.http.messages import Request, Response
from shared.settings import read_settings
from tests.support import browser as browsers
from tests.support.doc_samples import ROOT
from tests.support.html_reader import read_html

STATIC = ROOT / "shared/http/static"
PAGE = (STATIC / "console.html").read_text(encoding="utf-8")


async def get(**headers: str) -> Response:
    """The app's response to `GET /console`."""
    app = HttpApp(read_settings({"JobStorage": "UseDevelopmentStorage=true"}), {"console": ConsoleResource().page})
    return await app.handle("console", Request("GET", "", headers=headers))


def digest(text: str) -> str:
    """The source of a policy that allows this text."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def scripts() -> list[str]:
    """The scripts of the page."""
    return [each.partition("</script>")[0] for each in PAGE.split("<script>")[1:]]


def test_the_page_is_up_to_date():
    """It is what its sources make; whoever changes one runs the command."""
    assert [] == build.stale_files(), f"run `{build.COMMAND}` and commit the files"


def test_uplot_is_the_packages():
    """The library in the page is the file of the pinned package, byte for byte, with its licence beside the page."""
    installed = json.loads((build.UPLOT / "package.json").read_text())
    pinned = json.loads((LOCAL / "package.json").read_text())["dependencies"]["uplot"]

    assert pinned == installed["version"]
    assert "MIT" == installed["license"]
    assert (build.UPLOT / "dist/uPlot.iife.min.js").read_text() == scripts()[0]
    assert (build.UPLOT / "dist/uPlot.min.css").read_text() in PAGE
    assert (build.UPLOT / "LICENSE").read_bytes() == (STATIC / "uplot-license.txt").read_bytes()
    assert "Permission is hereby granted" in (STATIC / "uplot-license.txt").read_text()


async def test_the_policy_allows_the_pages_own_parts_alone():
    """It names the hashes of the style and the scripts, connects to its own origin, and takes no text as markup."""
    response = await get()
    policy = dict(each.strip().split(" ", 1) for each in response.headers["Content-Security-Policy"].split(";"))

    assert {
        "default-src": "'none'",
        "style-src": digest(read_html(PAGE).style),
        "script-src": " ".join(map(digest, scripts())),
        "connect-src": "'self'",
        "frame-src": "blob:",
        "require-trusted-types-for": "'script'",
        "trusted-types": "'none'",
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "'none'",
    } == policy
    others = ("X-Content-Type-Options", "Referrer-Policy", "Cross-Origin-Opener-Policy")
    assert ("nosniff", "no-referrer", "same-origin") == tuple(response.headers[name] for name in others)


async def test_the_page_is_served_with_an_etag():
    """Anybody gets the file's bytes, may keep them, and gets 304 with their `ETag`."""
    response = await get()
    unchanged = await get(**{"if-none-match": response.headers["ETag"]})

    assert (200, "text/html; charset=utf-8", "no-cache") == (
        response.status,
        response.media_type,
        response.headers["Cache-Control"],
    )
    assert PAGE.encode() == response.body
    assert (304, b"") == (unchanged.status, unchanged.body)


def test_the_page_refers_to_nothing():
    """It has no element or attribute that loads or runs anything but its own text."""
    page = read_html(PAGE)

    assert set() == {tag for tag, _ in page.tags} & {"link", "img", "iframe", "object", "form", "base"}
    assert set() == {name for _, attributes in page.tags for name in attributes} & {"style", "src", "onclick"}
    assert "@import" not in page.style
    assert "url(" not in page.style


def test_a_part_that_would_end_its_element_is_refused(monkeypatch: pytest.MonkeyPatch):
    """A script with a closing tag in it is an error when the page is built."""
    monkeypatch.setattr(build, "read_package", lambda _: "'</script>'")

    with pytest.raises(ValueError, match="The style would end its element"):
        build.console_files()


def test_a_missing_browser_is_named(monkeypatch: pytest.MonkeyPatch):
    """Without a browser, its tests are skipped with the reason; in CI, where there is one, they fail."""
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CI", raising=False)
    with pytest.raises(pytest.skip.Exception, match="No browser is installed: the tests look for chromium, "):
        browsers.program()
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match="No browser is installed"):
        browsers.program()


def test_the_command_compares_and_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """`--check` accepts the files as they are committed; missing and changed ones are stale until they are written."""
    done = subprocess.run(
        [sys.executable, "-m", "console", "--check"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    monkeypatch.setattr(build, "_PROJECT", tmp_path)
    monkeypatch.setattr(build, "_FOLDER", tmp_path)
    names = [Path("console.html"), Path("uplot-license.txt")]

    assert (0, "", "") == (done.returncode, done.stdout, done.stderr)
    assert names == build.stale_files()
    assert names == build.write_files()
    (tmp_path / "console.html").write_bytes(b"changed")
    assert names[:1] == build.stale_files()
