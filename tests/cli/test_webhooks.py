"""`webhooks` and `templates`: signing secrets that are shown once, and templates that are checked first."""

from __future__ import annotations

import json
import re

import pytest

from tests.support.cli_runner import CliRunner
from tests.support.harness import Customer
from tests.support.webhook_sender import Sender

TEMPLATE = {"action": "chat", "input": {"prompt": "{{text}}"}, "job_id": "order-{{order.id}}"}


def stored(customer: Customer) -> str:
    """The value of the customer's signing secret."""
    return customer.harness.vault.secrets.live[f"webhook--{customer.name}"].versions[-1].value


def sender(customer: Customer, secret: str) -> Sender:
    """Somebody who signs with a secret."""
    return Sender(customer, secret)


async def accepted(customer: Customer, secret: str, webhook_id: str) -> bool:
    """Whether the app takes a webhook that is signed with the secret."""
    sending = sender(customer, secret)
    customer.harness.services.__dict__.pop("signing", None)  # another worker, which has no secret in memory
    customer.harness.services.__dict__.pop("http", None)
    return (await sending.send(sending.job(), webhook_id=webhook_id)).status == 202


async def test_secret_is_made_and_rotated(cli: CliRunner, customer: Customer):
    """A new secret is shown once; during a rotation both are valid, after it only the new one."""
    first = json.loads((await cli.expect(f"webhooks create {customer.name} --json")).out)["secret"]
    assert await accepted(customer, first, "msg_1")

    shown = await cli.expect(f"webhooks rotate {customer.name}")
    (second,) = re.findall(r"^whsec_\S+$", shown.out, re.MULTILINE)
    assert f"{second} {first}" == stored(customer)
    assert [True, True] == [await accepted(customer, key, f"msg_{index}") for index, key in enumerate((first, second))]
    await cli.expect(f"webhooks rotate {customer.name}", 1, err="is under way")

    await cli.expect(f"webhooks rotate {customer.name} --finish", 1, out="Nothing was changed.", stdin="no\n")
    done = await cli.expect(f"webhooks rotate {customer.name} --finish", stdin=f"{customer.name}\n")
    assert second not in done.text
    assert [False, True] == [await accepted(customer, key, f"msg_{index}") for index, key in enumerate((first, second))]
    await cli.expect(f"webhooks rotate {customer.name} --finish --yes", 1, err="No rotation is under way")


async def test_secret_of_another_operator_is_kept(cli: CliRunner, customer: Customer, monkeypatch: pytest.MonkeyPatch):
    """What another operator stores while the question of `--finish` is open is not replaced by what was read before."""
    await cli.expect(f"webhooks create {customer.name}")
    await cli.expect(f"webhooks rotate {customer.name}")

    def answer(*_: object) -> bool:
        cli.harness.put_secret(f"webhook--{customer.name}", "whsec_another")
        return True

    monkeypatch.setattr("aijobs.webhooks.is_confirmed", answer)

    await cli.expect(f"webhooks rotate {customer.name} --finish", 1, err="was just changed. Run the command again.")
    assert "whsec_another" == stored(customer)


async def test_secret_is_not_replaced_by_accident(cli: CliRunner, customer: Customer):
    """`create` refuses a customer that has a secret, `rotate` one that has none."""
    await cli.expect(f"webhooks rotate {customer.name}", 1, err=f"`aijobs webhooks create {customer.name}` makes one")
    await cli.expect(f"webhooks create {customer.name}", out="It is shown this once")
    before = stored(customer)
    await cli.expect(
        f"webhooks create {customer.name}", 1, err=f"`aijobs webhooks rotate {customer.name}` makes a new one"
    )

    assert before == stored(customer)
    assert before not in (await cli.expect("webhooks list", out=customer.name)).text


async def test_rotation_keeps_tags_and_drops_what_is_invalid(cli: CliRunner, customer: Customer):
    """The secret's tags stay; a value that is no secret is replaced; dates that are lost are mentioned."""
    name = f"webhook--{customer.name}"
    cli.harness.put_secret(name, "not a secret", tags={"team": "blue"}, attributes={"exp": 2_000_000_000})

    shown = await cli.expect(f"webhooks rotate {customer.name}", out="The previous version had")

    assert re.fullmatch(r"whsec_[A-Za-z0-9+/]{43}=", stored(customer))
    assert "in place of an invalid one" in shown.out
    assert {"team": "blue"} == cli.harness.vault.secrets.live[name].versions[-1].tags


async def test_secret_is_removed_after_a_question(cli: CliRunner, customer: Customer):
    """Only the customer's id confirms; afterwards there is none to remove."""
    await cli.expect(f"webhooks create {customer.name}")
    await cli.expect(f"webhooks remove {customer.name}", 1, out="Nothing was removed.", stdin="yes\n")
    await cli.expect(f"webhooks remove {customer.name}", out="Removed", stdin=f"{customer.name}\n")
    await cli.expect(f"webhooks remove {customer.name} --yes", 1, err="has no signing secret")


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("[]", "must be an object"),
        ("{", "not valid JSON"),
        ('{"customr": "x"}', "`customr` of the template is not a member of a job"),
        ('{"action": "chat", "input": {"prompt": ["{{a}} {{b"]}}', "`input.prompt[0]` of the customer's template"),
        ('{"action": "chat", "input": {"prompt": "{{ }}"}}', "has an invalid placeholder"),
    ],
)
async def test_invalid_template_is_not_stored(cli: CliRunner, customer: Customer, template: str, message: str):
    """What can't make a job of any event is refused, with the member at fault."""
    cli.write("template.json", template)

    await cli.expect(f"templates set {customer.name} template.json", 1, err=message)
    await cli.expect(f"templates show {customer.name}", 1, err="has no template")


@pytest.mark.parametrize(
    ("event", "message"),
    [
        ({"text": "Hello?"}, "The event has no `order.id`"),
        ({"text": "Hello?", "order": {"id": "a/b"}}, "`job_id`"),
        ({"text": 1, "order": {"id": 1}}, "`input.prompt`"),
    ],
)
async def test_event_is_tried_before_a_template_is_stored(
    cli: CliRunner, customer: Customer, event: object, message: str
):
    """
    An event that the template makes no valid job of is refused as the app would refuse it. A byte order mark at the
    beginning of a file, which editors write, is left out.
    """
    cli.write("template.json", f"\ufeff{json.dumps(TEMPLATE)}")
    cli.write("event.json", f"\ufeff{json.dumps(event)}")
    line = f"templates set {customer.name} template.json --event event.json"

    await cli.expect(line, 1, err=message)
    cli.write("event.json", json.dumps({"text": "Hello?", "order": {"id": 4711}}))
    document = json.loads((await cli.expect(f"{line} --check --json")).out)
    await cli.expect(f"templates show {customer.name}", 1, err="has no template")

    assert ("order-4711", {"prompt": "Hello?"}) == (document["job"]["job_id"], document["job"]["input"])


async def test_template_is_used_until_it_is_removed(cli: CliRunner, customer: Customer):
    """The app uses what `set` stored; `--replace` replaces it; `list` and `show` have it; `remove` asks."""
    secret = json.loads((await cli.expect(f"webhooks create {customer.name} --json")).out)["secret"]
    cli.write("template.json", f"\ufeff{json.dumps(TEMPLATE)}")
    await cli.expect(f"templates set {customer.name} template.json")
    await cli.expect(f"templates set {customer.name} template.json", 1, err="Use --replace")
    await cli.expect(f"templates set {customer.name} template.json --replace")
    response = await sender(customer, secret).send({"text": "Hello?", "order": {"id": 4711}})
    await cli.expect("templates list", out=customer.name)
    shown = await cli.expect(f"templates show {customer.name}")
    in_terminal = await cli.run(f"templates show {customer.name}", columns=20)
    await cli.expect(f"templates remove {customer.name}", 1, out="Nothing was removed.", stdin="no\n")
    await cli.expect(f"templates remove {customer.name}", stdin=f"{customer.name}\n")
    await cli.expect(f"templates remove {customer.name}", 1, err="has no template")

    assert "order-4711" == response.json["job_id"]
    assert f"{json.dumps(TEMPLATE)}\n" == shown.out == in_terminal.out


async def test_template_that_is_shown_can_be_stored_again(cli: CliRunner, customer: Customer):
    """In a pipe, `show` prints each character, those of an emoji that nobody sees included."""
    text = json.dumps(TEMPLATE | {"metadata": {"team": "\U0001f469\u200d\U0001f469"}}, indent="\t", ensure_ascii=False)
    cli.write("template.json", f"{text}\n")
    await cli.expect(f"templates set {customer.name} template.json")

    assert f"{text}\n" == (await cli.expect(f"templates show {customer.name}")).out
