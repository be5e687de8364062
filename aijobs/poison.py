"""
`poison` lists the messages that the host gave up, with what the ledger knows of them, and requeues or removes them.

The app handles these messages itself (`dead_letter_job`, `dead_letter_callback`, `dead_letter_batch`), so one stays
only if the app is not running, or failed.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass

from aijobs.confirmation import is_confirmed
from aijobs.console import plural, verbatim, warn
from aijobs.diagnostics import CommandError, NotFound
from aijobs.job_view import duration
from aijobs.poison_messages import PoisonedMessage, prepare, read_message
from aijobs.program import command
from aijobs.queues import MAX_PEEKED, Message, Queue, open_queue
from aijobs.report import Report
from aijobs.scope import check_customer
from aijobs.settings import open_services
from aijobs.table import make_table
from shared.clock import now
from shared.services import Services

_COLUMNS = ("customer", "job or batch", "kind", "status", "time", "message", "reason")
_EMPTY = "The poison queues are empty."


async def list_all(args: argparse.Namespace) -> Report:
    """Run `poison list`."""
    messages: list[PoisonedMessage] = []
    counts: dict[str, int] = {}
    async with open_services(args.settings) as services:
        for name in _queues(services):
            async with open_queue(services, name) as queue:
                counts[name], _ = await queue.count()
                messages += [await read_message(services, name, message) for message in await queue.peek()]
    document = {
        "queues": [{"name": name, "count": count} for name, count in counts.items()],
        "messages": [each.document() for each in messages],
    }
    shown = {name: sum(each.queue == name for each in messages) for name in counts}
    text = [
        _describe(name, count, shown[name])
        for name, count in counts.items()
        if not messages or max(count - shown[name], 0)
    ]
    table = [make_table(_COLUMNS, [_row(each) for each in messages], prose="reason")] if messages else []
    return Report(document, [*table, *text])


async def show(args: argparse.Namespace) -> Report:
    """Run `poison show [MESSAGE]`. Raises CommandError if no poison queue has the message."""
    async with (
        open_services(args.settings) as services,
        _select(services, lambda each: args.message in {None, each.message.id}) as selected,
    ):
        messages = [poisoned async for poisoned, _ in selected]
    if not messages:
        raise NotFound(_EMPTY if args.message is None else _no_message())
    name, text = _decode(messages[0].message.body)
    return Report({**messages[0].document(), name: text}, [verbatim(text)])


async def retry(args: argparse.Namespace) -> Report:
    """Run `poison retry`. The exit code is 1 if a message could not be requeued, or if the one named is not there."""
    if args.customer is not None:
        check_customer(args.customer)
    requeued: list[dict[str, object]] = []
    failed = []
    async with (
        open_services(args.settings) as services,
        _select(services, lambda each: _is_selected(each, args)) as selected,
    ):
        async for poisoned, taken in selected:
            try:
                name, body = await prepare(services, poisoned)
            except CommandError as exc:
                warn(f"{poisoned.message.id}: {exc}")
                failed.append({"message": poisoned.message.id, "reason": str(exc)})
                continue
            # Send first: after a crash in between, both queues hold the message, and the ledger runs its job once.
            await services.queues.send(name, body)
            await taken.delete()
            requeued.append({**poisoned.document(), "queue": name})
    summary = f"Requeued {plural(len(requeued), 'message')}."
    if not requeued and not failed:
        if args.message is not None:
            raise NotFound(_no_message())
        summary = _EMPTY if args.all else f"The poison queues hold nothing of {args.customer}."
    return Report({"requeued": requeued, "failed": failed}, [summary], 1 if failed else 0)


async def remove(args: argparse.Namespace) -> Report:
    """Run `poison remove`. The exit code is 1 if it was not confirmed, or if the message that is named is not there."""
    removed: list[dict[str, object]] = []
    async with open_services(args.settings) as services:
        ids = await _unreadable(services, args.message)
        if not ids:
            return Report({"removed": removed}, ["The poison queues hold no message that the app can't read."])
        consequence = f"This removes {plural(len(ids), 'message')} that the app can't read."
        if is_confirmed(args, services.settings, consequence, str(len(ids)), "the number of messages"):
            async with _select(services, lambda each: each.message.id in ids) as selected:
                async for poisoned, taken in selected:
                    await taken.delete()
                    removed.append(poisoned.document())
    return Report({"removed": removed}, [f"Removed {plural(len(removed), 'message')}."], 0 if removed else 1)


async def _unreadable(services: Services, message_id: str | None) -> set[str]:
    """Return the ids of all unreadable messages, or the one that is named. Raises CommandError if that is not one."""
    async with _select(services, lambda each: message_id in {None, each.message.id}) as selected:
        messages = [poisoned async for poisoned, _ in selected]
    if message_id is not None and not messages:
        raise NotFound(_no_message())
    readable = [each for each in messages if each.kind != "unreadable"]
    if message_id is not None and readable:
        retry_it = command(f"poison retry --message {message_id}")
        raise CommandError(f"The message is a {readable[0].kind}: use {retry_it}, so that it ends by itself.")
    return {each.message.id for each in messages} - {each.message.id for each in readable}


@dataclass(slots=True)
class _Taken:
    """A received message, which goes back into its queue unless it is deleted."""

    queue: Queue
    message: Message
    is_deleted: bool = False

    async def delete(self) -> None:
        """Delete the message."""
        await self.queue.delete(self.message)
        self.is_deleted = True


def _select(
    services: Services, wanted: Callable[[PoisonedMessage], bool]
) -> contextlib.aclosing[AsyncGenerator[tuple[PoisonedMessage, _Taken], None]]:
    """
    Return the visible messages that are wanted. In the end, all that are not deleted are visible again.

    That needs all of them to be read: what Storage has sent and nobody has read stays hidden for a minute.
    """
    return contextlib.aclosing(_receive(services, wanted))


async def _receive(
    services: Services, wanted: Callable[[PoisonedMessage], bool]
) -> AsyncGenerator[tuple[PoisonedMessage, _Taken], None]:
    for name in _queues(services):
        received: dict[str, _Taken] = {}
        async with open_queue(services, name) as queue:
            try:
                async for message in queue.receive():
                    is_again = message.id in received  # visible again: all have been seen
                    received[message.id] = taken = _Taken(queue, message)
                    if is_again:
                        break
                    poisoned = await read_message(services, name, message)
                    if wanted(poisoned):
                        yield poisoned, taken
            finally:
                for taken in received.values():
                    if not taken.is_deleted:
                        await queue.release(taken.message)


def _no_message() -> str:
    return f"The poison queues hold no such message. {command('poison list')} shows the ids."


def _decode(body: bytes) -> tuple[str, str]:
    """Return a message as text, or in base64 if it is not UTF-8."""
    try:
        return "text", body.decode()
    except UnicodeDecodeError:
        return "base64", base64.b64encode(body).decode()


def _queues(services: Services) -> tuple[str, str, str]:
    settings = services.settings
    return settings.poison_queue, settings.callbacks_poison_queue, settings.batches_poison_queue


def _describe(name: str, count: int, shown: int) -> str:
    if not count:
        return f"{name} is empty."
    if shown < MAX_PEEKED:
        return f"{name} holds {plural(count, 'message')}, hidden while other readers have them."
    return f"Of {name}, these are the first {MAX_PEEKED} of about {count} messages."


def _is_selected(poisoned: PoisonedMessage, args: argparse.Namespace) -> bool:
    if args.message is not None:
        return bool(poisoned.message.id == args.message)
    return args.customer is None or poisoned.customer == args.customer


def _row(poisoned: PoisonedMessage) -> tuple[object, ...]:
    members = poisoned.document()
    age = duration((now() - poisoned.message.inserted_at).total_seconds())
    subject = members.get("job_id") or members.get("batch")
    kind, status = members["kind"], members.get("status")
    return (members.get("customer"), subject, kind, status, age, poisoned.message.id, poisoned.reason)
