"""
A soak with hostile customers: the honest ones alone, then the same jobs at the same pace beside the hostile ones, each
on a new stack. Afterwards the latencies of the honest jobs are compared, and everything is reconciled, the hostile jobs
too.

`attacks` says what hostile customers send as jobs, `endpoint` and `bodies` how these are answered, `floods` what else
comes through the doors, `scene` when; `comparison` has the figures.
"""

import argparse
import asyncio
import contextlib
from collections.abc import Callable, Sequence
from typing import Any

from local.soak.doors import Doors, new_signing_secret, open_receiver
from local.soak.hostile import bodies, floods
from local.soak.hostile import endpoint as hostile_endpoint
from local.soak.hostile.attacks import LARGE, STEADY, hostile_customer
from local.soak.hostile.comparison import Run, compare
from local.soak.hostile.floods import Floods
from local.soak.hostile.scene import Scene
from local.soak.monitor import Monitor
from local.soak.plan import make_customers, plan_jobs, with_doors, with_duplicates
from local.soak.stack import SoakStack, open_stack
from local.stack.customers import Customer, onboard, vault_client


async def run(
    arguments: argparse.Namespace, print_line: Callable[[str], None]
) -> tuple[dict[str, Any], dict[str, list[str]]]:
    """Run both. Returns the figures and the violations. Raises NotInstalled, ProcessFailed."""
    print_line("the honest customers alone")
    alone = await measure(arguments, print_line, is_hostile=False)
    print_line("the same jobs beside hostile customers")
    beside = await measure(arguments, print_line, is_hostile=True)
    return compare(alone, beside)


async def measure(arguments: argparse.Namespace, print_line: Callable[[str], None], *, is_hostile: bool) -> Run:
    """Run the honest jobs, alone or beside the hostile customers."""
    honest = make_customers(arguments.customers)
    attacks = (*LARGE, *STEADY) if is_hostile else ()
    hostile = [hostile_customer(attack) for attack in attacks]
    bodies.warm_up(attack.filler for attack in attacks)
    floods.warm_up()
    async with contextlib.AsyncExitStack() as parts:
        stack = await parts.enter_async_context(open_stack(arguments.seed, honest, arguments.workers))
        endpoint = await parts.enter_async_context(hostile_endpoint.start(stack.endpoint.journal))
        receiver = await parts.enter_async_context(open_receiver())
        for customer, attack in zip(hostile, attacks, strict=True):
            endpoint.accept_key(customer, attack)
        await onboard(stack.vault, endpoint.url, *hostile)
        secrets = await _give_signing_secrets(stack, [*honest, *hostile])
        jobs = with_doors(arguments.seed, plan_jobs(arguments.seed, arguments.jobs, honest), receiver.url)
        messages, planned = with_duplicates(arguments.seed, jobs), list(jobs)
        doors = Doors(stack.storage, stack.http, stack.workers.url, secrets)
        flooding = Floods(stack.storage, stack.http, stack.workers.url, [each.id for each in honest], planned)
        watch = Monitor(stack.workers)
        scene = Scene(stack, doors, flooding, f"{endpoint.url}/receiver", planned, watch, print_line)
        watching = [asyncio.create_task(watch.run()), asyncio.create_task(scene.print_progress())]
        try:
            async with asyncio.timeout(arguments.seconds):
                if is_hostile:
                    await scene.play(messages, arguments.backlog)
                    await scene.play_storm(arguments.storm)
                else:
                    await scene.play_honestly(messages)
                    await scene.finish()
        except TimeoutError:
            print_line("time ran out")
        finally:
            for task in watching:
                task.cancel()
            await asyncio.gather(*watching, return_exceptions=True)
        evidence = await stack.evidence(planned)
    sent = scene.sent | {"callbacks left to hang": endpoint.callbacks}
    statuses = flooding.statuses + doors.statuses
    return Run(evidence, jobs, stack.storage.sent_at, receiver.received_at, watch, statuses, stack.log.events, sent)


async def _give_signing_secrets(stack: SoakStack, customers: Sequence[Customer]) -> dict[str, str]:
    secrets = {customer.id: new_signing_secret() for customer in customers}
    async with vault_client(stack.vault) as client:
        for customer, secret in secrets.items():
            await client.set_secret(f"webhook--{customer}", secret)
    return secrets
