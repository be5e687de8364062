"""The benchmarks run and measure both sides. The figures depend on the machine, so no test compares them."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import aiohttp
import pytest

from benchmarks import density, pickup, responses, statements
from benchmarks.endpoint import READY, call_tag
from benchmarks.gateways import installs, postgres
from benchmarks.gateways.accounts import Kept, account
from benchmarks.messages import conversation
from local.paths import PROJECT
from local.stack.processes import running


@pytest.mark.long
@pytest.mark.timeout(450)  # both sides, with their own parts: fifteen seconds on an idle machine
@pytest.mark.parametrize("name", ["cold_start", "warm_job"])
def test_a_benchmark_measures_both_sides(name: str, tmp_path: Path):
    """One round of a benchmark succeeds, with figures of this app and of the peer."""
    file = tmp_path / "figures.json"

    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", name, "--rounds", "1", "--json", str(file)],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        timeout=420,
        check=False,
    )

    assert 0 == done.returncode, done.stdout + done.stderr
    assert "this app" in done.stdout
    assert "openai" in done.stdout
    assert name in json.loads(file.read_text())


async def test_a_benchmark_compares_statements():
    """A statement of few records from rollups is that of the records, and the figures of both are reported."""
    figures = await statements.measure(300)

    assert (300, 30, True) == (figures["records"], figures["rows"], figures["equal"])
    assert statements.report(figures).startswith("300 records: ")


@pytest.mark.long
def test_a_benchmark_compares_customers_with_and_without_budgets(tmp_path: Path):
    """Jobs on no budget, on one and on two, in one run: the figures of each, and how many transactions were refused."""
    file = tmp_path / "figures.json"
    arguments = ["budgets", "--rounds", "200", "--json", str(file)]

    subprocess.run([sys.executable, "-m", "benchmarks", *arguments], cwd=PROJECT, timeout=60, check=True)

    sides = json.loads(file.read_text())["budgets"]["budgets"]
    assert ["0", "1", "2"] == list(sides)
    assert (1, 0) == (sides["0"]["ratio"], sides["0"]["refused"])
    assert all(side["ratio"] < 1 and side["requests"] > sides["0"]["requests"] for side in (sides["1"], sides["2"]))


@pytest.mark.long
def test_a_benchmark_counts_how_often_a_backlog_is_requeued(tmp_path: Path):
    """On one worker and on ten: all jobs end, not faster than their connection allows, and others' jobs pass them."""
    file = tmp_path / "figures.json"
    arguments = ["backlog", "--rounds", "600", "--json", str(file)]

    subprocess.run([sys.executable, "-m", "benchmarks", *arguments], cwd=PROJECT, timeout=60, check=True)

    single, many = json.loads(file.read_text())["backlog"]["sides"]
    assert single["requeued"] > many["requeued"]
    assert all(side["backlog_s"] >= side["shortest_s"] > side["first_s"] > 0 for side in (single, many))


@pytest.mark.long
@pytest.mark.timeout(450)
async def test_a_benchmark_shows_memory_and_latency_by_the_jobs_in_flight():
    """Each level has its figures, the long run has at least one block, and the report has a row for each level."""
    figures = await density.measure(0.001, levels=(2, 40), long_level=4, delay_s=0.2)

    assert [2, 40] == [level["in_flight"] for level in figures["levels"]]
    assert all(level["peak_mb"] >= level["memory_mb"] > 0 < level["cpu_ms"] for level in figures["levels"])
    assert 20 == figures["long"]["jobs"]
    assert 2 + 2 == sum(line.startswith("|") for line in density.report(figures).splitlines())


@pytest.mark.long
@pytest.mark.timeout(900)  # two minutes on an idle machine
async def test_a_thousand_responses_at_once_cost_a_worker_little_memory():
    """Their jobs wait, are looked at, and have a message for each connection in all."""
    figures = await responses.measure(seconds=15)

    assert figures["grown_mb"] < 50, figures
    assert figures["messages"] <= 2 * figures["customers"], figures
    assert "1,000 jobs" in responses.report(figures)


@pytest.mark.long
@pytest.mark.timeout(450)
async def test_a_benchmark_measures_how_long_an_idle_queues_job_waits():
    """Each message but the first, which finds a cold worker, has a wait."""
    figures = await pickup.measure(2, pauses_s=(0.1, 0.2))

    assert (2, True) == (len(figures["waits_s"]), all(wait_s > 0 for wait_s in figures["waits_s"]))
    assert "2 messages" in pickup.report(figures)


@pytest.mark.long
@pytest.mark.timeout(450)  # a minute on an idle machine
def test_gateways_are_compared_without_those_that_are_absent(tmp_path: Path):
    """
    This product and the bare client: all figures of both. After its worker was killed, every call of this product that
    was bought is on record, and every job has its answer; a call is bought again only if the record says that it may
    have been. What is not measured is named, with the reason.
    """
    file = tmp_path / "figures.json"
    arguments = ["gateways", "--without-peers", "--rounds", "1", "--json", str(file)]

    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", *arguments],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        timeout=420,
        check=False,
    )

    assert 0 == done.returncode, done.stdout + done.stderr
    figures = json.loads(file.read_text())["gateways"]
    sides = {"this product", "openai, bare client"}
    assert {"LiteLLM proxy", "Portkey gateway"} == set(figures["absent"])
    assert all(f"{name}: not measured: {reason}" in done.stdout for name, reason in figures["absent"].items())
    assert [1, 200] == [scenario["customers"] for scenario in figures["scenarios"]]
    assert all(sides == set(scenario["sides"]) for scenario in figures["scenarios"])
    assert all(
        side[name] > 0
        for scenario in figures["scenarios"]
        for side in scenario["sides"].values()
        for name in ("per_core_s", "ratio", "p50_ms", "p99_ms", "per_s", "memory_mb")
    )
    killed = figures["killed"]
    assert sides == set(killed)
    assert all((1, 0) == (side["kills"], side["without_answer"]) for side in killed.values())
    assert all(side["bought"] >= side["calls"] for side in killed.values())
    ours = killed["this product"]
    assert (ours["calls"], 0) == (ours["recorded"], ours["unrecorded"])
    assert ours["bought_twice"] == ours["recorded_as_unanswered"] <= 32
    assert killed["openai, bare client"]["unrecorded"] == killed["openai, bare client"]["bought"]


def test_calls_are_held_against_what_is_on_record():
    """A response that is not on record is unrecorded, unless a record says that its call may have been paid for."""
    tags = [call_tag("ours", number) for number in range(3)]
    journal = {"a": tags[0], "b": tags[1], "c": tags[1], "d": tags[2], "e": call_tag("other", 0)}

    of_all = account("ours", 3, journal, Kept(set(tags), {"a", "c", "d"}, Counter([tags[1]])))
    of_some = account("ours", 3, journal, Kept(set(tags[:2]), {"a", "e"}, Counter([tags[0]])))
    of_none = account("ours", 3, journal, Kept(set(tags), None, Counter()))

    assert (4, 1, 3, 1, 0, 0) == _counts(of_all)
    assert (4, 1, 1, 0, 3, 1) == _counts(of_some)
    assert (4, 1, 0, 0, 4, 0) == _counts(of_none)
    assert [True, True, False] == [figures["durable_record"] for figures in (of_all, of_some, of_none)]


def _counts(figures: Mapping[str, int]) -> tuple[int, ...]:
    names = ("bought", "bought_twice", "recorded", "recorded_as_unanswered", "unrecorded", "without_answer")
    return tuple(figures[name] for name in names)


async def test_a_peer_that_cannot_be_installed_is_absent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The reason is that of the machine. An installation that failed is not taken for one that succeeded."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(installs, "CACHE", tmp_path / "cache")
    monkeypatch.setattr(postgres, "DEBIAN", tmp_path)
    npm = tmp_path / "npm"

    with pytest.raises(installs.Absent, match="npm is not installed"):
        await installs.portkey()
    with pytest.raises(installs.Absent, match="PostgreSQL is not installed: there is no initdb"):
        await postgres.start().__aenter__()
    npm.write_text("#!/bin/sh\necho first\necho 'ENOTFOUND registry'\nexit 1\n")
    npm.chmod(0o755)
    for _ in range(2):
        with pytest.raises(installs.Absent, match=r"^Portkey's gateway could not be installed: ENOTFOUND registry$"):
            await installs.portkey()
    npm.write_text("#!/bin/sh\n")
    script = await installs.portkey()
    npm.unlink()

    assert script == await installs.portkey()


def test_the_page_names_the_versions_that_are_measured():
    """The versions of the peers in docs/gateways.md are those that the command installs."""
    page = (PROJECT / "docs/gateways.md").read_text()

    assert f"LiteLLM's proxy {installs.LITELLM} " in page
    assert f"Portkey's gateway {installs.PORTKEY} " in page


async def test_the_endpoint_journals_what_it_has_answered():
    """Each response to a prompt with a tag has an id of its own, in the journal; a refused call isn't bought."""
    command = [sys.executable, "-m", "benchmarks.endpoint"]
    tag = call_tag("ours", 7)
    async with running("AI endpoint", command, ready=[rf"{READY}(\d+)"], cwd=PROJECT) as (_, matches):
        url = f"http://127.0.0.1:{matches[0][1]}"
        async with aiohttp.ClientSession() as http:
            body = {"messages": conversation(tag)}
            for headers in ({"api-key": "any"}, {}, {"api-key": "any"}):
                async with http.post(f"{url}/openai/v1/chat/completions", json=body, headers=headers) as response:
                    assert response.status == (200 if headers else 401)
                    if headers:
                        answer = await response.json()
                        assert answer["id"] == response.headers["x-request-id"]
            async with http.get(f"{url}/journal") as response:
                journal = await response.json()

    assert [tag, tag] == list(journal.values())
    assert answer["id"] in journal
