"""Fixtures of all tests. Parts are started once in each test process and shared; each test uses its own customers."""

from __future__ import annotations

from tests.support import authorities  # before what reads the system's when it is imported

# isort: split
import contextlib
import gc
import importlib
from collections.abc import AsyncIterator, Generator, Iterator
from pathlib import Path
from types import FunctionType
from typing import Any

import certifi
import pytest
import pytest_asyncio
from hypothesis import HealthCheck, settings

from local.stack import azurite as azurites
from local.vault import server as vaults
from shared.jobs import attempt as attempts
from tests.support import endpoint as endpoints
from tests.support.distribution import LoadFileScheduling, Scheduling
from tests.support.harness import Harness, open_harness
from tests.support.property_tests import prepare_files, property_tests, shorten
from tests.support.sampled import Sampled, sampled_of, sampled_tests

pytest_plugins = ["tests.support.host_fixtures", "tests.support.live_server"]

# By default an example, and generating it, must take less than 200 ms. A busy machine needs longer.
settings.register_profile("no deadline", settings(), deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("no deadline")


@pytest.hookimpl(wrapper=True)
def pytest_collection(session: pytest.Session) -> Generator[None, object, object]:
    """
    What is collected stays to the end, half a gigabyte of it: it is no garbage, and is not searched for any. What tests
    leave is searched more rarely than is usual, as most of it stays, too.
    """
    gc.disable()
    try:
        _import_own_share(session.config)
        return (yield)
    finally:
        gc.freeze()
        gc.set_threshold(10_000, 20, 20)
        gc.enable()


def _import_own_share(config: pytest.Config) -> None:
    """
    Import another part of the test modules first in each of the processes, of which each imports all, and prepare what
    hypothesis reads in another one.

    In a new clone, a module's assertions are rewritten when it is imported, which takes half of the collection, and the
    result is kept for other processes. These would do the same to the same modules at the same time.
    """
    worker = getattr(config, "workerinput", None)
    if worker is None:
        if config.option.dist != "no":  # this process starts the others, and waits until they have collected
            prepare_files()
        return
    files = sorted(file for folder in config.args for file in Path(folder).rglob("test_*.py"))
    for file in files[int(worker["workerid"].removeprefix("gw")) :: worker["workercount"]]:
        with contextlib.suppress(Exception, pytest.skip.Exception):  # the collection reports it
            importlib.import_module(".".join(file.resolve().relative_to(config.rootpath).with_suffix("").parts))


@pytest.hookimpl(optionalhook=True)  # xdist's, which may be turned off
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadFileScheduling | None:
    """Have one process import the providers' own packages."""
    return Scheduling(config, log) if config.option.dist == "loadfile" else None


@pytest.hookimpl(tryfirst=True)
def pytest_pycollect_makeitem(collector: pytest.Collector, obj: object) -> list[pytest.Item] | None:
    """Make no cases of a test that is long where these are excluded: they would be dropped again."""
    if collector.config.option.markexpr != "not long" or not isinstance(obj, FunctionType):
        return None
    return [] if any(mark.name == "long" for mark in getattr(obj, "pytestmark", ())) else None


@pytest.hookimpl(tryfirst=True)  # before pytest drops the tests that `-m` excludes
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Property tests and those that sample are in both tiers: in the default one with few cases, else with all."""
    properties = property_tests(items)
    for item in properties if config.option.markexpr == "not long" else ():
        shorten(item.obj)
    for item in (*properties, *sampled_tests(items)) if config.option.markexpr == "long" else ():
        item.add_marker("long")


@pytest.fixture(scope="session", autouse=True)
def _few_authorities() -> Iterator[None]:
    """Trust one authority in the place of the system's, in clients that ignore the environment, too."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(certifi, "where", lambda: str(authorities.FEW))
        yield


@pytest_asyncio.fixture(scope="session")
async def azurite() -> AsyncIterator[azurites.Azurite]:
    """Azurite, with its data in memory."""
    async with azurites.start() as storage:
        yield storage


@pytest_asyncio.fixture(scope="session")
async def vault(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[vaults.Vault]:
    """The local Key Vault, with its managed-identity endpoint in the environment, as in Azure."""
    async with vaults.start(tmp_path_factory.mktemp("vault")) as running:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("IDENTITY_ENDPOINT", running.identity_endpoint)
            patch.setenv("IDENTITY_HEADER", running.identity_header)
            yield running


@pytest_asyncio.fixture(scope="session")
async def endpoint() -> AsyncIterator[endpoints.Endpoint]:
    """The AI endpoint, which records requests."""
    async with endpoints.start() as running:
        yield running


@pytest_asyncio.fixture(scope="session")
async def harness(
    azurite: azurites.Azurite, vault: vaults.Vault, endpoint: endpoints.Endpoint
) -> AsyncIterator[Harness]:
    """
    The app's services, with a table, queues and containers that all tests of the process share. It has no prices: a
    test that publishes some needs `own_harness`, or each result that is compared later has a cost.
    """
    async with open_harness(azurite, vault, endpoint) as opened:
        yield opened
        assert await opened.services.price_books.current() is None


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def own_harness(
    azurite: azurites.Azurite,
    vault: vaults.Vault,  # noqa: ARG001  # sets the managed identity in the environment
    endpoint: endpoints.Endpoint,
    tmp_path_factory: pytest.TempPathFactory,
) -> AsyncIterator[Harness]:
    """The same for one module, for tests that read whole queues, or list a vault: nothing of other tests is there."""
    async with (
        vaults.start(tmp_path_factory.mktemp("vault")) as own,
        open_harness(azurite, own, endpoint) as opened,
    ):
        yield opened


@pytest.fixture
def sampled(request: pytest.FixtureRequest) -> Sampled:
    """Chooses some of many points that a test tries, or all of them in the long tier."""
    return sampled_of(request.node)


@pytest.fixture
def without_storage_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Don't wait before writes to Storage are retried."""
    monkeypatch.setattr(attempts, "STORAGE_WAITS_S", ())
