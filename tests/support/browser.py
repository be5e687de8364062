"""
A Chromium without a window, driven through its DevTools protocol. It needs no package beside aiohttp.

chromedevtools.github.io/devtools-protocol describes the protocol.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import itertools
import os
import shutil
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from local.stack.processes import running

PROGRAMS = ("chromium", "google-chrome", "google-chrome-stable", "chromium-browser")
_FLAGS = (
    *("--headless=new", "--remote-debugging-port=0", "--no-first-run", "--no-default-browser-check", "--disable-gpu"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-extensions"),
    *(
        "--no-sandbox",
        "--disable-dev-shm-usage",
        "--hide-scrollbars",
        "--force-color-profile=srgb",
        "--no-proxy-server",
    ),
)
# The sandbox can't be set up for root, and in some containers. The pages are this project's own.
_KEYS = {
    "Enter": (13, "\r"),
    "Tab": (9, ""),
    "Escape": (27, ""),
    " ": (32, " "),
    "ArrowRight": (39, ""),
    "End": (35, ""),
    "Home": (36, ""),
}
# Runs before the page's own scripts: what the page's policy has blocked.
_WATCH = (
    "window.violations = []; addEventListener('securitypolicyviolation', (e) => violations.push(e.violatedDirective))"
)


def program() -> str:
    """The path of a Chromium. Without one, the test is skipped; in CI, which has one, it fails."""
    path = next(filter(None, map(shutil.which, PROGRAMS)), None)
    if path is not None:
        return path
    message = f"No browser is installed: the tests look for {', '.join(PROGRAMS)}."
    if os.environ.get("CI"):
        pytest.fail(message)
    pytest.skip(message)


@dataclass
class Tab:
    """A tab of its own profile: no cookie, storage or cache of another tab is in it."""

    browser: Browser
    session: str
    context: str
    """Its profile."""
    requests: list[dict[str, Any]] = field(default_factory=list)
    """Each request with its `url`, `method` and `headers`."""
    errors: list[str] = field(default_factory=list)
    """Exceptions and errors in the browser's console, other than of HTTP."""
    replacements: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    """
    What responds in place of the app, by a part of the URL: parameters of Fetch.fulfillRequest or failRequest, and
    `after_s`, how long it takes.
    """
    dialogs: list[str] = field(default_factory=list)
    """Texts of alert() and the like."""

    async def send(self, method: str, **parameters: Any) -> Any:
        """The result of a command."""
        return await self.browser.send(method, self.session, **parameters)

    async def open(self, url: str) -> None:
        """Load a page."""
        await self.send("Page.navigate", url=url)
        await self.wait("document.readyState === 'complete' && location.href !== 'about:blank'")

    async def evaluate(self, script: str) -> Any:
        """The value of an expression, which may be a promise."""
        done = await self.send("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in done, f"{script}: {done['exceptionDetails']}"
        return done["result"].get("value")

    async def wait(self, condition: str, within: float = 15) -> None:
        """Wait until an expression is true. Fails with what the page shows."""
        try:
            async with asyncio.timeout(within):
                while not await self.evaluate(f"Boolean({condition})"):  # noqa: ASYNC110  # a page's changes have no event of ours
                    await asyncio.sleep(0.03)
        except TimeoutError:
            shown = await self.text("body")
            pytest.fail(f"Never true: {condition}\nErrors: {self.errors}\nThe page shows:\n{shown}")

    async def save_files_to(self, folder: Path) -> None:
        """Save what the page offers as files to a folder."""
        options = {"behavior": "allow", "downloadPath": str(folder), "browserContextId": self.context}
        await self.browser.send("Browser.setDownloadBehavior", **options)

    async def text(self, selector: str) -> str:
        """The text of an element as it is shown."""
        shown: str = await self.evaluate(f"document.querySelector({selector!r})?.innerText ?? ''")
        return shown

    async def press(self, key: str, times: int = 1, *, shift: bool = False) -> None:
        """Press a key."""
        code, text = _KEYS[key]
        common = {"key": key, "code": key, "windowsVirtualKeyCode": code, "modifiers": 8 if shift else 0}
        for _ in range(times):
            await self.send("Input.dispatchKeyEvent", type="keyDown", **common, **({"text": text} if text else {}))
            await self.send("Input.dispatchKeyEvent", type="keyUp", **common)

    async def write(self, text: str) -> None:
        """Type a text into the element that has the focus."""
        await self.send("Input.insertText", text=text)

    async def resize(self, width: int, height: int = 900) -> None:
        """Set the size of the window."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        await self.send("Emulation.setDeviceMetricsOverride", **size)

    async def emulate(self, *, scheme: str = "light", media: str = "") -> None:
        """Set the colour scheme that the reader prefers, and the medium, such as `print`."""
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        await self.send("Emulation.setEmulatedMedia", media=media, features=features)

    async def screenshot(self, file: Path, *, whole: bool = True) -> None:
        """Write a picture of the page to a file: of the whole page, or of what the window shows."""
        done = await self.send("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        await asyncio.to_thread(file.write_bytes, base64.b64decode(done["data"]))

    async def restart(self) -> None:
        """Leave the page for an empty one of its origin, for which the browser starts no process, as for a tab."""
        await self.check()
        empty = f"{self.requests[0]['url'].partition('/api/')[0]}/api/empty"
        self.replacements.clear()
        self.replacements["/api/empty"] = json_reply(200, b'<link rel="icon" href="data:,">', "text/html")
        await self.open(empty)
        await self.wait(f"location.href === '{empty}'")
        self.replacements.clear()
        self.requests.clear()

    async def check(self) -> None:
        """Fail if the page's policy was violated, a script failed, or a request left its origin."""
        assert [] == await self.violations()
        assert [] == self.errors
        assert [] == self.dialogs
        urls = [request["url"] for request in self.requests if "blob:" not in request["url"]]
        assert 1 == len({url.partition("/api/")[0] for url in urls})

    async def violations(self) -> list[str]:
        """The directives of the page's policy that anything has violated."""
        blocked: list[str] = await self.evaluate("window.violations")
        return blocked


class Browser:
    """A running Chromium."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket
        self._numbers = itertools.count(1)
        self._replies: dict[int, asyncio.Future[Any]] = {}
        self._tabs: dict[str, Tab] = {}
        self._tasks: set[asyncio.Task[Any]] = set()

    async def send(self, method: str, session: str | None = None, **parameters: Any) -> Any:
        """The result of a command, to the browser or to a tab's session."""
        number = next(self._numbers)
        self._replies[number] = asyncio.get_running_loop().create_future()
        message = {"id": number, "method": method, "params": parameters, **({"sessionId": session} if session else {})}
        await self._socket.send_json(message)
        try:
            reply = await self._replies[number]
        finally:
            del self._replies[number]
        assert "error" not in reply, f"{method}: {reply['error']}"
        return reply["result"]

    async def read(self) -> None:
        """Read what the browser sends until it closes."""
        async for message in self._socket:
            content = message.json()
            if (number := content.get("id")) in self._replies:
                self._replies[number].set_result(content)
            elif tab := self._tabs.get(content.get("sessionId", "")):
                self._handle(tab, content["method"], content["params"])

    def _handle(self, tab: Tab, method: str, event: dict[str, Any]) -> None:
        if method == "Network.requestWillBeSent":
            tab.requests.append(event["request"])
        elif method == "Runtime.exceptionThrown":
            tab.errors.append(str(event["exceptionDetails"]))
        elif (
            method == "Log.entryAdded" and event["entry"]["level"] == "error" and event["entry"]["source"] != "network"
        ):
            tab.errors.append(event["entry"]["text"])
        elif method == "Runtime.consoleAPICalled" and event["type"] == "error":
            tab.errors.append(str(event["args"]))
        elif method == "Page.javascriptDialogOpening":
            tab.dialogs.append(event["message"])
            self._later(tab.send("Page.handleJavaScriptDialog", accept=True))
        elif method == "Fetch.requestPaused":
            url, request = event["request"]["url"], event["requestId"]
            reply = next((reply for part, reply in tab.replacements.items() if part in url), None)
            self._later(self._reply(tab, request, reply))

    async def _reply(self, tab: Tab, request: str, reply: Mapping[str, Any] | None) -> None:
        parameters = dict(reply or {})
        await asyncio.sleep(parameters.pop("after_s", 0))
        kind = "continueRequest" if reply is None else "failRequest" if "errorReason" in reply else "fulfillRequest"
        with contextlib.suppress(AssertionError):  # the page has given it up meanwhile
            await tab.send(f"Fetch.{kind}", requestId=request, **parameters)

    def _later(self, command: Any) -> None:
        task = asyncio.ensure_future(command)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    @asynccontextmanager
    async def tab(self) -> AsyncIterator[Tab]:
        """A new tab in a profile of its own, until the block ends."""
        context = (await self.send("Target.createBrowserContext"))["browserContextId"]
        target = (await self.send("Target.createTarget", url="about:blank", browserContextId=context))["targetId"]
        session = (await self.send("Target.attachToTarget", targetId=target, flatten=True))["sessionId"]
        tab = self._tabs[session] = Tab(self, session, context)
        try:
            for domain in ("Page", "Runtime", "Network", "Log"):
                await tab.send(f"{domain}.enable")
            await tab.send("Fetch.enable", patterns=[{"urlPattern": "*/api/*"}])
            await tab.send("Page.addScriptToEvaluateOnNewDocument", source=_WATCH)
            await tab.resize(1280)
            yield tab
        finally:
            await self.send("Target.disposeBrowserContext", browserContextId=context)
            del self._tabs[session]


@asynccontextmanager
async def start(folder: Path) -> AsyncIterator[Browser]:
    """A browser with its profile in `folder`, until the block ends."""
    command = [program(), *_FLAGS, f"--user-data-dir={folder}", "about:blank"]
    ready = [r"^DevTools listening on (ws://\S+)"]
    async with (
        running("The browser", command, ready=ready) as (_, (listening,)),
        aiohttp.ClientSession() as client,
        client.ws_connect(listening[1], max_msg_size=0) as socket,
    ):
        browser = Browser(socket)
        reader = asyncio.create_task(browser.read())
        try:
            yield browser
        finally:
            reader.cancel()


def json_reply(status: int, body: bytes, media_type: str = "application/json", **headers: str) -> dict[str, Any]:
    """A response in place of the app's."""
    listed = [{"name": name, "value": value} for name, value in {"Content-Type": media_type, **headers}.items()]
    return {"responseCode": status, "responseHeaders": listed, "body": base64.b64encode(body).decode()}


OFFLINE = {"errorReason": "InternetDisconnected"}
"""No reply: the network is down."""
