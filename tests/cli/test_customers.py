"""Customers on the command line: keys go in unseen, are tried, and never come out."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.cli_runner import Operator
from tests.support.endpoint import error
from tests.support.harness import Customer, World

ROOT = Path(__file__).parents[2]


@pytest.fixture
def operator(world: World, tmp_path: Path) -> Operator:
    return Operator(world, tmp_path)


@pytest.fixture
def customer(world: World) -> Customer:
    """A customer with an account and without a connection."""
    return world.customer(connection=None)


def endpoint_of(world: World) -> str:
    return f"--endpoint {world.endpoint.url}/openai/v1 --provider azure_openai"


def kept(customer: Customer, connection: str = "default") -> str | None:
    """The newest value in the vault."""
    secret = customer.world.vault.secrets.live.get(f"ai--{customer.name}--{connection}")
    return None if secret is None else secret.versions[-1].value


async def test_customer_that_is_added_runs_jobs(operator: Operator, customer: Customer):
    """A key from stdin is tried and kept, and the next job of the customer runs on it."""
    ended = await operator.types(
        f"customers add {customer.name} {endpoint_of(operator.world)} --default-model gpt-4o",
        said=f"{customer.account.key}\n",
    )

    assert (0, "") == (ended.code, ended.err)
    assert "fine" in ended.out
    assert "succeeded" == (await customer.run())["status"]
    assert customer.account.key not in ended.said


async def test_key_comes_out_of_a_file(operator: Operator, customer: Customer):
    """`--key-file` names a file with the key; a trial of a key alone asks for the list of models."""
    customer.account.will_answer(error(401))
    operator.writes("key.txt", f"{customer.account.key}\n")

    line = f"customers add {customer.name} --connection second {endpoint_of(operator.world)} --key-file key.txt"
    tried = await operator.types(line)
    untried = await operator.types(f"{line} --no-test")

    assert (1, True) == (tried.code, "key_refused" in tried.out)
    assert (0, customer.account.key) == (untried.code, json.loads(kept(customer, "second") or "")["api_key"])
    assert ["GET"] == [one.method for one in customer.account.received]
    assert customer.account.key not in tried.said + untried.said


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ("--endpoint https://169.254.169.254/openai/v1 --provider openai", "public host"),
        ("--endpoint https://evil.example/openai/v1 --provider openai", "ALLOWED_ENDPOINT_SUFFIXES"),
        ("--max-concurrency 0", "max_concurrency"),
        ("--endpoint nonsense", "endpoint"),
    ],
)
async def test_what_would_not_serve_is_not_kept(operator: Operator, customer: Customer, more: str, told: str):
    """A connection goes through the app's own decoder and checks before the vault hears of it."""
    ended = await operator.types(f"customers add {customer.name} {more}", said="THE-SECRET-KEY-ITSELF")

    assert 1 == ended.code
    assert told in ended.err
    assert kept(customer) is None
    assert "THE-SECRET-KEY-ITSELF" not in ended.said


@pytest.mark.parametrize("words", ["--key THE-KEY", "--api-key=THE-KEY", "THE-KEY", "-k THE-KEY", "--key-file THE-KEY"])
async def test_key_as_an_argument_is_refused_and_not_repeated(operator: Operator, customer: Customer, words: str):
    """Who gives a key as an argument is told not to, without the key."""
    ended = await operator.types(f"customers add {customer.name} --endpoint https://api.openai.com {words}")

    assert ended.code in {1, 2}
    assert "THE-KEY" not in ended.said
    assert kept(customer) is None


@pytest.mark.parametrize(
    ("said", "told"), [("", "No key was given"), (" \n", "No key was given"), ("a\nb", "one line")]
)
async def test_key_that_is_none_is_refused(operator: Operator, customer: Customer, said: str, told: str):
    """Nothing at all, and more than a line, are no keys."""
    ended = await operator.types(f"customers add {customer.name} --endpoint https://api.openai.com", said=said)

    assert (1, True) == (ended.code, told in ended.err)


async def test_connection_without_a_key_asks_for_none(operator: Operator, customer: Customer):
    """With `entra` no key is read, and nothing is tried: from here it would be tried as somebody else."""
    line = f"customers add {customer.name} --auth entra --endpoint https://x.openai.azure.com/openai/v1"

    ended = await operator.types(line, said="something")

    assert (0, True) == (ended.code, "not tried" in ended.out)
    assert {"endpoint", "auth"} == set(json.loads(kept(customer) or ""))


async def test_connection_that_is_there_is_only_replaced_where_asked(operator: Operator, customer: Customer):
    """`add` does not overwrite; `--replace` puts the new one there whole."""
    operator.world.connect(customer, organization="org-1")
    line = f"customers add {customer.name} {endpoint_of(operator.world)} --no-test"

    refused = await operator.types(line, said="one")
    replaced = await operator.types(f"{line} --replace", said="another")

    assert (1, True) == (refused.code, "--replace" in refused.err)
    assert 0 == replaced.code
    assert {"endpoint", "provider", "auth", "api_key"} == set(json.loads(kept(customer) or ""))


async def test_customers_are_listed_without_their_keys(operator: Operator, customer: Customer):
    """All customers by name and dates; of one its settings, and what is wrong with a connection."""
    world = operator.world
    world.connect(customer)
    world.connect(customer, "mixed-up", organization=customer.account.key)
    world.keep(f"ai--{customer.name}--broken", "{")
    world.keep(f"ai--{customer.name}--off", "x", attributes={"enabled": False})
    world.keep(f"ai--{customer.name}--over", json.dumps({"api_key": "sk-1"}), attributes={"exp": 1700000000})

    everybody = await operator.types("customers list")
    one = await operator.types(f"customers list {customer.name}")

    assert (0, 0) == (everybody.code, one.code)
    assert f"{customer.name} default yes" in everybody.said
    assert f"{customer.name} off no" in everybody.said
    assert "2023-11-14" in everybody.said
    for told in ("gpt-4o", "connection_invalid", "connection_disabled", "connection_expired"):
        assert told in one.said
    assert customer.account.key not in everybody.said + one.said


@pytest.mark.parametrize(
    ("status", "verdict", "code"), [(200, "fine", 0), (401, "key_refused", 1), (404, "deployment_missing", 1)]
)
async def test_trial_gives_the_verdict_of_the_route(
    operator: Operator, customer: Customer, status: int, verdict: str, code: int
):
    """`test` says what `POST …/test` says, and ends with 0 only where all is fine."""
    operator.world.connect(customer)
    if status != 200:
        customer.account.will_answer(error(status, "DeploymentNotFound" if status == 404 else "401"))

    ended = await operator.types(f"customers test {customer.name}")

    assert (code, True) == (ended.code, ended.out.startswith(verdict))


async def test_trial_of_what_can_not_serve_is_a_verdict(operator: Operator, customer: Customer):
    """A connection that is switched off, or not there, is told so."""
    operator.world.keep(f"ai--{customer.name}--off", "x", attributes={"enabled": False})

    off = await operator.types(f"customers test {customer.name} --connection off")
    none = await operator.types(f"customers test {customer.name}")

    assert (1, True) == (off.code, off.out.startswith("disabled"))
    assert (1, True) == (none.code, "has no connection named default" in none.err)


async def test_new_key_is_tried_before_it_is_kept(operator: Operator, customer: Customer):
    """A key that the endpoint refuses leaves the old one; one that it takes becomes the current version."""
    operator.world.connect(customer, organization="org-1")
    before = kept(customer)
    new = operator.world.endpoint.account().key

    refused = await operator.types(f"customers rotate {customer.name}", said="a-key-that-nobody-has")
    unchanged = kept(customer)
    rotated = await operator.types(f"customers rotate {customer.name}", said=new)

    assert (1, True, before) == (refused.code, "Nothing was kept" in refused.out, unchanged)
    assert (0, True) == (rotated.code, "5 minutes" in rotated.out)
    assert json.loads(before or "") | {"api_key": new, "auth": "api_key"} == json.loads(kept(customer) or "")
    assert new not in rotated.said


async def test_bare_key_stays_one_with_its_tags(operator: Operator, customer: Customer):
    """A secret that a rotation function writes keeps its form: the bare key, and the settings as tags."""
    tags = {"endpoint": f"{operator.world.endpoint.url}/openai/v1", "provider": "azure_openai", "team": "blue"}
    tags["default_model"] = "gpt-4o"
    operator.world.keep(f"ai--{customer.name}--default", customer.account.key, tags=tags)
    new = operator.world.endpoint.account().key

    ended = await operator.types(f"customers rotate {customer.name}", said=new)

    version = operator.world.vault.secrets.live[f"ai--{customer.name}--default"].versions[-1]
    assert (0, new, tags) == (ended.code, version.value, version.tags)


async def test_rotation_that_changes_nothing_is_refused(operator: Operator, customer: Customer):
    """The same key, no connection, and one without a key are told in a sentence."""
    operator.world.connect(customer)
    operator.world.connect(customer, "keyless", api_key="", auth="entra")

    same = await operator.types(f"customers rotate {customer.name}", said=customer.account.key)
    none = await operator.types(f"customers rotate {customer.name} --connection other", said="x")
    keyless = await operator.types(f"customers rotate {customer.name} --connection keyless", said="x")

    assert (1, True) == (same.code, "kept already" in same.err)
    assert (1, True) == (none.code, "customers add" in none.err)
    assert (1, True) == (keyless.code, "has no key" in keyless.err)


async def test_removing_wants_the_name_again(operator: Operator, customer: Customer):
    """Without the name nothing goes; with it all connections go, and those of others stay."""
    other = operator.world.customer()
    operator.world.connect(customer)
    operator.world.connect(customer, "second")

    kept_all = await operator.types(f"customers remove {customer.name}", said="yes\n")
    one = await operator.types(f"customers remove {customer.name} --connection second --yes")
    rest = await operator.types(f"customers remove {customer.name}", said=f"{customer.name}\n")
    again = await operator.types(f"customers remove {customer.name} --yes")

    assert [1, 0, 0, 1] == [kept_all.code, one.code, rest.code, again.code]
    assert "connections default, second" in kept_all.out
    assert (None, None) == (kept(customer), kept(customer, "second"))
    assert kept(other) is not None


async def test_login_without_the_role_is_told(operator: Operator, customer: Customer, monkeypatch: pytest.MonkeyPatch):
    """Who may only read the vault is told which role is needed."""
    monkeypatch.setattr(operator.world.vault, "read_only", True)

    line = f"customers add {customer.name} --endpoint https://api.openai.com --no-test"
    ended = await operator.types(line, said="sk-1")

    assert (1, True) == (ended.code, "Key Vault Secrets Officer" in ended.err)


async def test_names_are_checked_before_anything_is_asked(operator: Operator):
    """What can be no customer's name is refused."""
    ended = await operator.types("customers add No_Customer --endpoint https://api.openai.com", said="x")
    nested = await operator.types("customers add a--b --endpoint https://api.openai.com", said="x")

    assert [1, 1] == [ended.code, nested.code]
    assert "lower-case letters" in ended.err


async def test_settings_without_a_vault_are_told(operator: Operator):
    """Where there is no vault, that is what is said."""
    ended = await operator.on(KEY_VAULT_URL="").types("customers list")

    assert (1, "aijobs: The settings name no Key Vault: KEY_VAULT_URL is not set.\n") == (ended.code, ended.err)


@pytest.mark.parametrize(("typed", "code", "told"), [("{key}\n", 0, "Kept"), ("\x03", 130, "stopped")])
async def test_person_types_the_key_unseen(operator: Operator, customer: Customer, typed: str, code: int, told: str):
    """At a terminal the key is asked for without an echo, and Ctrl-C ends it at once."""
    operator.settings()
    line = f"customers add {customer.name} {endpoint_of(operator.world)} --no-test --settings local.settings.json"
    answer = typed.format(key=customer.account.key)

    ended, screen = await asyncio.to_thread(_at_a_terminal, line, answer, operator.folder)

    assert (code, True) == (ended, told in screen)
    assert "Key of" in screen
    assert customer.account.key not in screen


# So that Ctrl-C is a signal. A function between fork and exec would do, but warns where there are threads.
_AS_ITS_TERMINAL = """
import fcntl, runpy, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
runpy.run_module("aijobs", run_name="__main__")
"""


def _at_a_terminal(line: str, answer: str, folder: Path) -> tuple[int, str]:
    ours, theirs = pty.openpty()
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "TERM": "xterm"}
    process = subprocess.Popen(
        [sys.executable, "-c", _AS_ITS_TERMINAL, *line.split()],
        cwd=folder,
        env=environment,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    )
    os.close(theirs)
    screen, answered = b"", False
    with contextlib.suppress(OSError):  # at the end of the other side
        while data := os.read(ours, 4096):
            screen += data
            if b"not shown" in screen and not answered:
                answered = bool(os.write(ours, answer.encode()))
    os.close(ours)
    return process.wait(), screen.decode()
