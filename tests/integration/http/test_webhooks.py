"""Webhooks: who is let in, and what becomes of jobs, CloudEvents and foreign events; through the door."""

from __future__ import annotations

import json
import re
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from hypothesis import example, given, settings
from hypothesis import strategies as st

from local.vault.server import Vault
from local.vault.server import start as start_vault
from shared.connections import secret_cache
from shared.contract.job import decode_job
from shared.errors import InvalidJob
from shared.http.request_parsing import MAX_BODY_BYTES
from shared.webhooks.templates import fill
from tests.support.harness import Customer, World, open_world
from tests.support.http_client import Answered, knock
from tests.support.signatures import new_secret, signed

ROOT = Path(__file__).parents[3]
REFUSED = "The webhook's signature is missing, invalid or more than five minutes off."


@dataclass
class Sender:
    """Somebody who holds a customer's signing secret."""

    customer: Customer
    secret: str

    async def send(self, body: Any, *, webhook_id: str = "msg_1", headers: Mapping[str, str] | None = None) -> Answered:
        """What the door answers to a signed body."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        given_headers = {**signed(self.secret, data, webhook_id=webhook_id), **(headers or {})}
        return await post(self.customer.world, self.customer.name, data, given_headers)

    def job(self, **members: Any) -> dict[str, Any]:
        """A job without its customer, as the path names it."""
        return {name: value for name, value in self.customer.job(**members).items() if name != "customer"}

    async def keep_template(self, template: Any) -> None:
        """Puts the customer's template where the app looks for it."""
        data = template if isinstance(template, bytes) else json.dumps(template).encode()
        world = self.customer.world
        container = world.blobs.get_container_client(world.environment["TEMPLATES_CONTAINER"])
        await container.upload_blob(f"{self.customer.name}/webhook.json", data, overwrite=True)


async def post(world: World, customer: str, body: bytes, headers: Mapping[str, str]) -> Answered:
    """What the door answers to a body with these headers."""
    return await knock(world, "POST", f"webhooks/{customer}", body=body, headers=headers)


@pytest_asyncio.fixture(loop_scope="session")
async def sender(world: World) -> AsyncIterator[Sender]:
    """The sender of one test, which leaves nothing in the queue that all tests share, and answers for no other test."""
    for limit in (world.services.signing._known_reads, world.services.signing._senders_reads):
        limit._read_at.clear()  # quick tests, one after the other, may be a flood of made-up names
    customer, secret = world.customer(), new_secret()
    world.keep(f"webhook--{customer.name}", secret)
    yield Sender(customer, secret)
    await world.messages(world.environment["JOBS_QUEUE"])


@pytest.fixture
def at_leisure(monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes each signature that does not verify have its secret read again, however soon."""
    monkeypatch.setattr(secret_cache, "REREAD_S", 0.0)


async def run_queue(world: World, customer: str) -> list[dict[str, Any]]:
    """Runs what stands in the jobs queue, as the trigger does; gives the customer's results."""
    told = [await world.deliver(body) for body in await world.messages(world.environment["JOBS_QUEUE"])]
    results = [json.loads(one) for one in told if one is not None]
    return [result for result in results if result["customer"] == customer]


# Who is let in.


async def test_a_signed_job_is_accepted_under_the_webhooks_id(sender: Sender):
    """202 as for `POST /jobs`; the customer is the path's, the id the webhook's; it runs like any other."""
    accepted = await sender.send(sender.job(), webhook_id="msg_p5jXN8AQM9LWM0D4loKWxJek")

    assert (202, "queued", "msg_p5jXN8AQM9LWM0D4loKWxJek", sender.customer.name) == (
        accepted.status,
        *(accepted.json[name] for name in ("status", "job_id", "customer")),
    )
    assert accepted.headers["Location"].endswith("/msg_p5jXN8AQM9LWM0D4loKWxJek")
    (result,) = await run_queue(sender.customer.world, sender.customer.name)
    assert "succeeded" == result["status"]


async def test_a_replay_is_answered_with_the_same_job(sender: Sender):
    """The same webhook again is the same job, bought once, before and after it ran; other content is a conflict."""
    first = await sender.send(sender.job())
    again = await sender.send(sender.job())
    await run_queue(sender.customer.world, sender.customer.name)
    after = await sender.send(sender.job())
    other = await sender.send(sender.job(input={"prompt": "Something else?"}))

    assert [202, 202, 202, 409] == [one.status for one in (first, again, after, other)]
    assert first.json["submitted_at"] == again.json["submitted_at"] == after.json["submitted_at"]
    assert "succeeded" == after.json["status"]
    assert 1 == len(sender.customer.account.received)


async def test_a_result_is_waited_for(sender: Sender):
    """`Prefer: wait` answers with the result of a job that is done."""
    await sender.send(sender.job())
    await run_queue(sender.customer.world, sender.customer.name)
    answered = await sender.send(sender.job(), headers={"prefer": "wait=5"})

    assert (200, "Hello.") == (answered.status, answered.json["output"]["text"])


async def test_an_id_of_the_jobs_own_wins(sender: Sender):
    """A `job_id` in the body is the job's id."""
    accepted = await sender.send(sender.job(job_id="order-1"))

    assert "order-1" == accepted.json["job_id"]


@pytest.mark.parametrize("webhook_id", ["a/b", "..", "x" * 101, "urn:uuid:1", "ü"])
async def test_a_webhook_id_that_is_no_job_id_makes_one(sender: Sender, webhook_id: str):
    """It is the same one for the same webhook, and another for another's."""
    first = await sender.send(sender.job(), webhook_id=webhook_id)
    again = await sender.send(sender.job(), webhook_id=webhook_id)
    other = await sender.send(sender.job(), webhook_id=f"{webhook_id}/2")

    assert (202, 202, 202) == (first.status, again.status, other.status)
    assert re.fullmatch(r"webhook-[0-9a-f]{32}", first.json["job_id"])
    assert first.json["job_id"] == again.json["job_id"] != other.json["job_id"]


def without(name: str) -> Callable[[dict[str, str]], dict[str, str]]:
    """Leaves a header out."""
    return lambda headers: {one: text for one, text in headers.items() if one != name}


def changed(name: str, text: str) -> Callable[[dict[str, str]], dict[str, str]]:
    """Makes a header something else."""
    return lambda headers: {**headers, name: text}


MALFORMED = {
    "no id": without("webhook-id"),
    "no timestamp": without("webhook-timestamp"),
    "no signature": without("webhook-signature"),
    "another id": changed("webhook-id", "msg_2"),
    "an empty id": changed("webhook-id", ""),
    "a timestamp of words": changed("webhook-timestamp", "hello"),
    "a timestamp that is no number": changed("webhook-timestamp", "nan"),
    "an endless timestamp": changed("webhook-timestamp", "inf"),
    "a far timestamp": changed("webhook-timestamp", "1e300"),
    "a wrong signature": changed("webhook-signature", "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OA="),
    "no version": changed("webhook-signature", "g0hM9SsE"),
    "too many commas": changed("webhook-signature", "v1,g0hM,9SsE"),
    "no base64": changed("webhook-signature", "v1,g0hM9"),
    "no ASCII": changed("webhook-signature", "v1,é"),
    "an empty signature": changed("webhook-signature", "v1,"),
    "a blank": changed("webhook-signature", " "),
    "another version": lambda headers: {
        **headers,
        "webhook-signature": headers["webhook-signature"].replace("v1,", "v2,"),
    },
}


@pytest.mark.parametrize("malform", MALFORMED.values(), ids=MALFORMED.keys())
async def test_what_is_not_signed_is_unauthorized(sender: Sender, malform: Callable[[dict[str, str]], dict[str, str]]):
    """Headers that are missing, malformed or wrong are all 401, with the same words; nothing is on record."""
    body = json.dumps(sender.job()).encode()
    refused = await post(sender.customer.world, sender.customer.name, body, malform(signed(sender.secret, body)))

    assert (401, "unauthorized", REFUSED) == (refused.status, refused.json["code"], refused.json["detail"])
    assert [] == await sender.customer.rows()


async def test_a_body_that_was_changed_is_unauthorized(sender: Sender):
    """One space more, or bytes that are no text, and the signature is not the body's."""
    body = json.dumps(sender.job()).encode()
    for other in (body + b" ", b"\xff"):
        refused = await post(sender.customer.world, sender.customer.name, other, signed(sender.secret, body))
        assert 401 == refused.status


@pytest.mark.parametrize(("skew_s", "status"), [(-310, 401), (-290, 202), (290, 202), (310, 401)])
async def test_clocks_may_differ_by_five_minutes(sender: Sender, skew_s: int, status: int):
    """A timestamp within five minutes is good, one beyond is not, in both directions."""
    body = json.dumps(sender.job()).encode()
    headers = signed(sender.secret, body, at=datetime.now(UTC) + timedelta(seconds=skew_s))

    assert status == (await post(sender.customer.world, sender.customer.name, body, headers)).status


async def test_one_of_several_signatures_is_enough(sender: Sender):
    """As a sender that rotates its secret sends them."""
    body = json.dumps(sender.job()).encode()
    headers = signed(sender.secret, body)
    others = "v1,Ceo5qEr07ixe2NLpvHk3FH9bwy/WavXrAFQ/9tdO6mc= v1a,Ceo5qEr07ixe2NLpvHk3FH9bwy/WavXrAFQ/9tdO6mc="
    headers["webhook-signature"] = f"{others} {headers['webhook-signature']}"

    assert 202 == (await post(sender.customer.world, sender.customer.name, body, headers)).status


@pytest.mark.parametrize("other", ["v1,AAA ", "v1,AAA= ", "v2 ", "v1 ", " ", "v1,a,b ", "v1a,x  ", "v1,é ", "\t"])
async def test_a_malformed_signature_hides_no_good_one(sender: Sender, other: str):
    """What is no `v1` signature is passed over, wherever it stands."""
    body = json.dumps(sender.job()).encode()
    signature = signed(sender.secret, body)
    good = signature["webhook-signature"]
    for text in (f"{other}{good}", f"{good} {other}"):
        headers = {**signature, "webhook-signature": text}
        assert 202 == (await post(sender.customer.world, sender.customer.name, body, headers)).status


async def test_a_body_that_did_not_come_is_no_wrong_signature(world: World, sender: Sender):
    """An empty body is told as one, alike for every customer: in chunks, Azure's host hands on nothing."""
    headers = signed(sender.secret, json.dumps(sender.job()).encode())
    answers = [await post(world, name, b"", headers) for name in (sender.customer.name, "nobody", "No Name")]

    assert [400] * 3 == [one.status for one in answers]
    assert 1 == len({one.body for one in answers})
    assert "Content-Length" in answers[0].json["detail"]


async def test_each_of_several_secrets_verifies(sender: Sender):
    """While a secret is being rotated, both are in the vault, and either signs."""
    old, new = sender.secret, new_secret()
    sender.customer.world.keep(f"webhook--{sender.customer.name}", f"{new} {old}")

    for secret in (old, new):
        assert 202 == (await Sender(sender.customer, secret).send(sender.job())).status
    assert 401 == (await Sender(sender.customer, new_secret()).send(sender.job())).status


@pytest.mark.usefixtures("at_leisure")
async def test_a_rotated_secret_works_at_once(sender: Sender):
    """A signature of a secret that is newer than what was read has it read again; the old one is good no more."""
    assert 202 == (await sender.send(sender.job())).status
    new = Sender(sender.customer, new_secret())
    sender.customer.world.keep(f"webhook--{sender.customer.name}", new.secret)

    assert 202 == (await new.send(sender.job())).status
    assert 401 == (await sender.send(sender.job())).status


async def test_nobody_can_tell_which_customers_there_are(sender: Sender):
    """
    Unknown customers, names that can't be, secrets that are disabled, expired, not yet valid or malformed: all have
    the answer of a wrong signature, byte by byte.
    """
    world, body = sender.customer.world, json.dumps(sender.job()).encode()
    names = {"no-such-customer": None, "No Customer": None, "x" * 60: None, "..": None}
    week = 7 * 24 * 3600
    for attributes in ({"enabled": False}, {"exp": int(time.time()) - week}, {"nbf": int(time.time()) + week}):
        name = world.customer().name
        world.keep(f"webhook--{name}", sender.secret, attributes=attributes)
        names[name] = None
    for value in ("", "whsec_", "whsec_c2hvcnQ=", "whsec_!!!!", sender.secret.removeprefix("whsec_")):
        name = world.customer().name
        world.keep(f"webhook--{name}", value)
        names[name] = None
    wrong = await Sender(sender.customer, new_secret()).send(body)

    for name in names:
        refused = await post(world, name, body, signed(sender.secret, body))
        assert (401, wrong.body, wrong.headers) == (refused.status, refused.body, refused.headers), name


async def test_the_vault_is_asked_alike_for_every_customer(world: World, sender: Sender):
    """How often the vault is asked does not depend on whether there is a secret."""
    wrong, unknown = Sender(sender.customer, new_secret()), Sender(world.customer(), new_secret())

    for _ in range(3):
        assert (401, 401) == ((await wrong.send(b"{}")).status, (await unknown.send(b"{}")).status)

    assert 1 == world.vault.reads[f"webhook--{sender.customer.name}"]
    assert 1 == world.vault.reads[f"webhook--{unknown.customer.name}"]


async def test_names_that_can_not_be_do_not_reach_the_vault(world: World):
    """A path is no way into the vault's other secrets."""
    asked = world.vault.reads.total()
    for name in ("contoso--x", "a/../b", "UPPER", ""):
        assert not await world.services.signing.verify(name, b"{}", signed(new_secret(), b"{}"))

    assert asked == world.vault.reads.total()


async def test_another_customers_secret_opens_nothing(world: World, sender: Sender):
    """What one customer's sender signs is not accepted for another."""
    other = world.customer()
    world.keep(f"webhook--{other.name}", new_secret())

    assert 401 == (await Sender(other, sender.secret).send(sender.job())).status


@asynccontextmanager
async def own_world(tmp_path: Path, world: World, azurite: Any) -> AsyncIterator[tuple[World, Vault]]:
    """A world with a vault that a test may break."""
    async with start_vault(tmp_path) as vault:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("IDENTITY_ENDPOINT", vault.identity_endpoint)
            patch.setenv("IDENTITY_HEADER", vault.identity_header)
            async with open_world(azurite, vault, world.endpoint) as opened:
                yield opened, vault


async def test_a_vault_that_is_down_is_503(tmp_path: Path, world: World, azurite: Any, monkeypatch):
    """Known and unknown customers get 503 with a time to wait; a known secret still verifies."""
    async with own_world(tmp_path, world, azurite) as (opened, vault):
        known, secret = opened.customer(), new_secret()
        opened.keep(f"webhook--{known.name}", secret)
        sender = Sender(known, secret)
        assert 202 == (await sender.send(sender.job())).status
        monkeypatch.setattr(secret_cache, "REREAD_S", 0.0)
        vault.outage = True

        unknown = await Sender(opened.customer(), secret).send(sender.job())
        wrong = await Sender(known, new_secret()).send(sender.job())
        right = await sender.send(sender.job())

    assert (503, "unavailable") == (unknown.status, unknown.json["code"])
    assert 0 < int(unknown.headers["Retry-After"])
    assert (503, unknown.body) == (wrong.status, wrong.body)
    assert 202 == right.status


# What is signed, and is no job.


@pytest.mark.parametrize(
    ("body", "headers", "status", "says"),
    [
        (b"{}", {"content-type": "text/plain"}, 415, "application/json"),
        (b"{}", {"content-encoding": "gzip"}, 415, "compressed"),
        (b" " * (MAX_BODY_BYTES + 1), {}, 413, str(MAX_BODY_BYTES)),
        (b"", {}, 400, "The body is empty: send it with Content-Length, not in chunks."),
        (b"[]", {}, 400, "must be an object"),
        (b'{"input":' * 50_000, {}, 400, "nested too deeply"),
        (b'{"input":[' + b"{}," * 200_000 + b"{}]}", {}, 400, "more than 200,000 lists and objects"),
        (b'{"customer": "somebody-else"}', {}, 400, "`customer` must be the customer in the path"),
        (b'{"customer": null}', {}, 400, "`customer` must be the customer in the path"),
        (b'{"action": "chat"}', {}, 400, "`input` is missing"),
        (b'{"type": "order.paid", "data": {}}', {}, 400, "is not a known member"),
        (b'{"specversion": "0.3", "id": "1", "source": "s", "type": "t"}', {}, 400, "`specversion` must be 1.0"),
        (b'{"specversion": "1.0", "source": "s", "type": "t"}', {}, 400, "`id` is missing"),
        (b'{"specversion": "1.0", "id": "", "source": "s", "type": "t"}', {}, 400, "`id`"),
        (b'{"specversion": "1.0", "id": "1", "source": "s", "type": "t"}', {}, 400, "`data` is missing"),
        (b'{"specversion": "1.0", "id": "1", "source": "s", "type": "t", "data": "x"}', {}, 400, "`data`"),
    ],
)
async def test_what_is_no_job_is_refused(sender: Sender, body: bytes, headers: dict[str, str], status: int, says: str):
    """A signed body that is no job is the sender's to mend, in a sentence that names the member."""
    refused = await sender.send(body, headers=headers)

    assert (status, "application/problem+json") == (refused.status, refused.media_type)
    assert says in refused.json["detail"]


async def test_a_customer_that_is_the_paths_is_fine(sender: Sender):
    """A job that names its customer, as it would in the queue, can be sent as it is."""
    assert 202 == (await sender.send(sender.customer.job())).status


def cloud_event(data: Any, **more: Any) -> dict[str, Any]:
    """A CloudEvent in structured JSON."""
    return {"specversion": "1.0", "id": "4711", "source": "/shop", "type": "com.example.order", "data": data} | more


async def test_a_cloud_event_brings_a_job(sender: Sender):
    """The `data` of a CloudEvent in structured mode is the job; in binary mode the body is."""
    structured = cloud_event(sender.job(), time="2026-11-20T13:12:00Z", comexampleextension="x")
    kind = {"content-type": "application/cloudevents+json; charset=utf-8"}
    binary = {"content-type": "application/json", "ce-specversion": "1.0", "ce-id": "4711", "ce-source": "/shop"}

    first = await sender.send(structured, webhook_id="structured", headers=kind)
    second = await sender.send(sender.job(), webhook_id="binary", headers=binary)

    assert [(202, "structured"), (202, "binary")] == [(one.status, one.json["job_id"]) for one in (first, second)]
    await run_queue(sender.customer.world, sender.customer.name)
    assert ["Hello?", "Hello?"] == [one.json["messages"][0]["content"] for one in sender.customer.account.received]


# Templates.

ORDER = {
    "event": "order.paid",
    "order": {"id": 4711, "lines": [{"sku": "a-1", "count": 2}, {"sku": "b-2", "count": 1}], "note": None},
    "customer": {"name": 'Ann "the {{nice}}" Lee\n'},
}
TEMPLATE = {
    "job_id": "order-{{order.id}}",
    "action": "chat",
    "input": {"prompt": "Thank {{customer.name}} for {{order.lines.1.sku}} and {{order.lines.0}}."},
    "metadata": {"event": "{{event}}", "by": "{{$headers.webhook-id}}", "braces": "{{{{x}}"},
}


async def test_a_foreign_event_becomes_a_job(sender: Sender):
    """A system that knows nothing of us triggers a job that the customer's template makes of its event."""
    await sender.keep_template(TEMPLATE)
    accepted = await sender.send(ORDER)
    (result,) = await run_queue(sender.customer.world, sender.customer.name)

    assert (202, "order-4711") == (accepted.status, accepted.json["job_id"])
    assert {"event": "order.paid", "by": "msg_1", "braces": "{{x}}"} == result["metadata"]
    (asked,) = sender.customer.account.received
    assert 'Thank Ann "the {{nice}}" Lee\n for b-2 and {"sku":"a-1","count":2}.' == asked.json["messages"][0]["content"]


async def test_a_template_sees_the_whole_cloud_event(sender: Sender):
    """With a template the attributes of a CloudEvent can be used as well as its data."""
    await sender.keep_template(
        {"action": "chat", "input": {"prompt": "{{data.text}}"}, "metadata": {"type": "{{type}}", "id": "{{id}}"}}
    )
    accepted = await sender.send(cloud_event({"text": "Hi."}), webhook_id="evt")
    (result,) = await run_queue(sender.customer.world, sender.customer.name)

    assert (202, "evt") == (accepted.status, accepted.json["job_id"])
    assert {"type": "com.example.order", "id": "4711"} == result["metadata"]


@pytest.mark.parametrize(
    ("template", "says"),
    [
        ({"action": "chat", "input": {"prompt": "{{order.number}}"}}, "no `order.number`, which `input.prompt`"),
        ({"action": "chat", "input": {"prompt": ["{{order.lines.2}}"]}}, "no `order.lines.2`, which `input.prompt[0]`"),
        ({"action": "chat", "input": {"prompt": "{{order.id.x}}"}}, "no `order.id.x`"),
        ({"action": "{{$headers.authorization}}"}, "no `$headers.authorization`, which `action`"),
        ({"action": "{{$headers.content-type}}"}, "no `$headers.content-type`"),
        ({"action": "{{}}"}, "`action` of the customer's template has an invalid placeholder"),
        ({"action": "a {{event"}, "`action` of the customer's template has an invalid placeholder"),
        ({"action": "{{event}}", "input": {}}, "`action` must be one of"),
        ({"action": "chat", "input": {"prompt": "{{order.id}}"}}, "`input.prompt`"),
        (
            {"action": "chat", "input": {"prompt": "x"}, "customer": "{{event}}"},
            "`customer` must be the customer in the path",
        ),
        (
            {"action": "chat", "input": {"prompt": "x"}, "_envelope": {"submitted_at": "2030-01-01T00:00:00Z"}},
            "`_envelope",
        ),
        (b"{", "`template` is not valid JSON"),
        (b"[]", "`template`"),
    ],
)
async def test_what_a_template_makes_is_checked_like_any_job(sender: Sender, template: Any, says: str):
    """400 with the member that is wrong, or that the event does not have; nothing is on record."""
    await sender.keep_template(template)
    refused = await sender.send(ORDER)

    assert (400, "invalid_job") == (refused.status, refused.json["code"])
    assert says in refused.json["detail"]
    assert [] == await sender.customer.rows()


async def test_with_a_template_no_event_is_a_job_of_its_own(sender: Sender):
    """The template alone says what is asked, also where an event looks like a job."""
    await sender.keep_template({"action": "chat", "input": {"prompt": "Always this."}})
    await sender.send(sender.job(input={"prompt": "Something else."}, options={"max_retries": 20}))
    await run_queue(sender.customer.world, sender.customer.name)

    (asked,) = sender.customer.account.received
    assert "Always this." == asked.json["messages"][0]["content"]


def filled(template: Any, event: Any, headers: Mapping[str, str] | None = None, limit: int = MAX_BODY_BYTES) -> Any:
    """A template, filled."""
    return json.loads(fill(json.dumps(template).encode(), json.dumps(event).encode(), headers or {}, limit=limit))


@pytest.mark.parametrize("value", ["text", 7, 1.5, True, None, [1, "2"], {"a": {"b": []}}])
def test_a_placeholder_alone_keeps_the_type(value: Any):
    """A string that is one placeholder becomes the member's value; within a text, a string or JSON."""
    text = value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))

    assert {"alone": value, "within": f"<{text}>"} == filled(
        {"alone": "{{ a.b }}", "within": "<{{a.b}}>"}, {"a": {"b": value}}
    )


@pytest.mark.parametrize(("template", "expected"), [("{{{{", "{{"), ("{{{{a}}", "{{a}}"), ("a}} {b}", "a}} {b}")])
def test_braces_can_be_written(template: str, expected: str):
    """Four open braces are two; closing ones are themselves."""
    assert {"x": expected} == filled({"x": template}, {"a": 1})


def test_headers_are_those_of_the_webhook():
    """Headers are named in whatever case; none but the webhook's own can be had."""
    headers = {"webhook-id": "msg_1", "authorization": "Bearer x"}

    assert {"x": "msg_1"} == filled({"x": "{{$headers.Webhook-Id}}"}, {}, headers)
    with pytest.raises(InvalidJob, match=r"no `\$headers\.authorization`"):
        filled({"x": "{{$headers.authorization}}"}, {}, headers)


def test_a_large_event_is_not_repeated_without_end():
    """What is filled in has a bound, however often a template names it."""
    with pytest.raises(InvalidJob, match="larger than a job may be"):
        filled({"x": ["{{a}}"] * 11}, {"a": "x" * 100}, limit=1000)


def test_depth_has_an_end():
    """A template or an event that is nested without end is refused."""
    deep = b'{"a":' * 50_000 + b"1" + b"}" * 50_000  # how deep is too deep differs between versions of Python
    half = b'{"a":' * 30_000 + b'"{{a}}"' + b"}" * 30_000
    for template, event in ((deep, b"{}"), (b"{}", deep), (half, half)):
        with pytest.raises(InvalidJob, match="nested too deeply"):
            fill(template, event, {}, limit=MAX_BODY_BYTES)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
hostile = st.sampled_from(
    ['"}', '", "action": "raw', "{{b}}", "{{{{", "}}", '{"a": 1}', "\\", "\u2028", "${x}", "{{$headers.webhook-id}}"]
)


@settings(max_examples=200, database=None)
@given(hostile | st.text(), json_values)
@example('", "customer": "other', {"input": "{{a}}"})
def test_an_event_never_changes_what_the_template_says(text: str, value: Any):
    """Whatever an event holds stands where its placeholder stood, as a value, and all else is the template's."""
    template = {
        "action": "chat",
        "input": {"prompt": "<{{a}}|{{a}}>", "system": "{{a}}", "extra": ["{{b}}", {"c": "{{b}}"}]},
        "metadata": {"fixed": "}} {b}", "braces": "{{{{a}}"},
    }

    assert {
        "action": "chat",
        "input": {"prompt": f"<{text}|{text}>", "system": text, "extra": [value, {"c": value}]},
        "metadata": {"fixed": "}} {b}", "braces": "{{a}}"},
    } == filled(template, {"a": text, "b": value, "action": "raw", "input": {}})


# The page.


def blocks(language: str) -> list[str]:
    """The fenced blocks of the page in one language."""
    text = (ROOT / "docs/webhooks.md").read_text()
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


async def test_the_pages_template_makes_a_job_of_the_pages_event(sender: Sender):
    """Template and event as the page shows them, copied, make the job that it shows."""
    event, template, made = (json.loads(block) for block in blocks("json")[:3])
    await sender.keep_template(template)
    accepted = await sender.send(event, webhook_id="msg_2KWPBgLlAfxdpx2AI54pPJ85f4W")

    assert made == filled(template, event, {"webhook-id": "msg_2KWPBgLlAfxdpx2AI54pPJ85f4W"})
    assert (202, made["job_id"]) == (accepted.status, accepted.json["job_id"])
    assert decode_job(json.dumps(made | {"customer": "contoso"}).encode(), default_id="x").id == made["job_id"]


async def test_the_pages_script_signs(sender: Sender):
    """The function with which the page signs makes headers that are let in."""
    names: dict[str, Any] = {}
    exec(blocks("python")[0], names)
    body = json.dumps(sender.job()).encode()
    headers = names["signed"](sender.secret, "msg_1", body)

    assert 202 == (await post(sender.customer.world, sender.customer.name, body, headers)).status
