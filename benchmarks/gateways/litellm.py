"""LiteLLM's proxy, set up as its documentation says: a virtual key for each customer, and PostgreSQL for its spend."""

import asyncio
import contextlib
import json
import os
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path

import aiohttp

from benchmarks.gateways import installs, postgres
from benchmarks.gateways.postgres import Postgres
from benchmarks.gateways.proxy import Proxy
from benchmarks.messages import KEY, MODEL

_ENGINE = Path(__file__).with_name("prisma_engine.cjs")
_MASTER_KEY = "sk-benchmark-master"
_FLUSH_S = 30
"""More than LiteLLM keeps records in memory by default, before it writes them (`proxy_batch_write_at`: 10 s)."""


class LiteLLM(Proxy):
    """LiteLLM's proxy with a virtual key for each customer, and its spend in PostgreSQL."""

    not_counted = ("prisma_engine", "query-engine")

    def __init__(
        self,
        binaries: Path,
        database: Postgres,
        engine: Mapping[str, str],
        http: aiohttp.ClientSession,
        urls: Sequence[str],
    ) -> None:
        super().__init__("LiteLLM proxy", installs.LITELLM, http, urls)
        self._binaries, self._database, self._engine = binaries, database, engine
        self._keys: list[str] = []
        kind = "WebAssembly build" if engine else "native"
        self.notes = f"spend store on PostgreSQL; Prisma's query engine ({kind}) not counted"
        self._config = binaries.parent / "config.yaml"
        models = [
            {
                "model_name": _deployment(number),
                "litellm_params": {"model": f"openai/{MODEL}", "api_base": url, "api_key": KEY},
            }
            for number, url in enumerate(urls)
        ]
        self._config.write_text(json.dumps({"model_list": models}), encoding="utf-8")  # JSON is YAML

    def program(self) -> tuple[list[str | Path], Mapping[str, str], str]:
        """LiteLLM with its defaults for production: one process, errors alone in the log."""
        host, port = self.url.removeprefix("http://").split(":")
        environment = {
            "PATH": f"{self._binaries}{os.pathsep}{os.environ['PATH']}",
            "DATABASE_URL": self._database.url,
            "LITELLM_MASTER_KEY": _MASTER_KEY,
            "LITELLM_SALT_KEY": _MASTER_KEY,
            "LITELLM_MODE": "PRODUCTION",
            "LITELLM_LOG": "ERROR",
            "LITELLM_LOCAL_MODEL_COST_MAP": "True",  # no request to a host that may not be reached
            "PRISMA_HOME_DIR": str(self._binaries.parent),
            "DISABLE_SCHEMA_UPDATE": "true",  # its migrations have been applied
            **self._engine,
        }
        command: list[str | Path] = [
            self._binaries / "litellm",
            "--config",
            self._config,
            "--host",
            host,
            "--port",
            port,
        ]
        return command, environment, "/health/readiness"

    async def opened(self) -> None:
        """Make the customers' virtual keys; the database keeps them across a restart."""
        for number in range(len(self._keys), len(self.urls)):
            body = {"key_alias": f"customer-{number}", "aliases": {MODEL: _deployment(number)}}
            headers = {"authorization": f"Bearer {_MASTER_KEY}"}
            async with self.http.post(f"{self.url}/key/generate", json=body, headers=headers) as response:
                self._keys.append((await response.json())["key"])

    def headers(self, number: int) -> Mapping[str, str]:
        """The customer's virtual key."""
        return {"authorization": f"Bearer {self._keys[number]}"}

    async def recorded(self, expected: int | None = None) -> set[str]:
        """The rows of its spend logs."""
        rows: set[str] = set()
        unchanged_since = time.monotonic()
        while time.monotonic() - unchanged_since < _FLUSH_S:
            query = """SELECT request_id FROM "LiteLLM_SpendLogs" WHERE status = 'success'"""
            if (latest := set(await self._database.query(query))) != rows:
                rows, unchanged_since = latest, time.monotonic()
            if expected is not None and len(rows) >= expected:
                break
            await asyncio.sleep(1)
        return rows


@contextlib.asynccontextmanager
async def start(http: aiohttp.ClientSession, urls: Sequence[str]) -> AsyncIterator[Proxy]:
    """LiteLLM's proxy on a PostgreSQL of its own. Raises Absent, ProcessFailed."""
    async with postgres.start() as database:
        binaries = await installs.litellm()
        engine = {}
        if not await installs.generate_prisma_client(binaries):
            packages = await installs.prisma_engine_packages()
            engine = {"PRISMA_QUERY_ENGINE_BINARY": str(_ENGINE), "PRISMA_ENGINE_PACKAGES": str(packages)}
        await database.run(installs.migrations(binaries))
        proxy = LiteLLM(binaries, database, engine, http, urls)
        try:
            await proxy.start()
            yield proxy
        finally:
            await proxy.stop()


def _deployment(number: int) -> str:
    return f"{MODEL}-{number}"
