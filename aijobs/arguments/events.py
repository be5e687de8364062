"""The arguments of the commands about webhooks: signing secrets and templates."""

from __future__ import annotations

from pathlib import Path

from aijobs.arguments.base import Commands


def add_webhooks(commands: Commands) -> None:
    """Add the group of commands about signing secrets."""
    group = commands.group(
        "webhooks",
        "manage the secrets that sign webhooks and callbacks",
        "webhooks create contoso",
        "webhooks rotate contoso",
    )
    create = group.add(
        "create", "make a customer's signing secret and show it once", "webhooks.create", "webhooks create contoso"
    )
    group.add("list", "list the customers with signing secrets", "webhooks.list_all", "webhooks list")
    rotate = group.add(
        "rotate",
        "make a new signing secret beside the old one, or drop the old one",
        "webhooks.rotate",
        "webhooks rotate contoso",
        "webhooks rotate contoso --finish",
        destructive=True,
    )
    rotate.add_argument("--finish", action="store_true", help="end the rotation: only the new secret is valid then")
    remove = group.add(
        "remove", "remove a customer's signing secret", "webhooks.remove", "webhooks remove contoso", destructive=True
    )
    for each in (create, rotate, remove):
        each.add_argument("customer", metavar="CUSTOMER", help="customer id")


def add_provider_events(commands: Commands) -> None:
    """Add the group of commands about the secrets of providers' events."""
    group = commands.group(
        "provider-events",
        "manage the secrets that providers sign their events with",
        "provider-events set contoso --key-file secret.txt",
        "provider-events list",
    )
    store = group.add(
        "set",
        "store the secret that the provider has shown",
        "provider_events.store",
        "provider-events set contoso --key-file secret.txt",
        "provider-events set contoso --beside --key-file secret.txt",
    )
    store.add_argument("--key-file", type=Path, metavar="FILE", help="file that holds the secret and nothing else")
    kept = store.add_mutually_exclusive_group()
    kept.add_argument("--beside", action="store_true", help="keep the old secret valid beside the new one")
    kept.add_argument("--replace", action="store_true", help="replace the old secret")
    group.add("list", "list the connections with such secrets", "provider_events.list_all", "provider-events list")
    remove = group.add(
        "remove",
        "remove the secret of a connection's events",
        "provider_events.remove",
        "provider-events remove contoso",
        destructive=True,
    )
    for each in (store, remove):
        each.add_argument("customer", metavar="CUSTOMER", help="customer id")
        each.add_argument("--connection", default="default", metavar="NAME", help="connection name (default: default)")


def add_templates(commands: Commands) -> None:
    """Add the group of commands about webhook templates."""
    group = commands.group(
        "templates",
        "manage the templates that make jobs of customers' events",
        "templates set contoso template.json",
        "templates show contoso",
    )
    group.add("list", "list the customers with templates", "templates.list_all", "templates list")
    show = group.add("show", "print a customer's template", "templates.show", "templates show contoso")
    store = group.add(
        "set",
        "check a template and store it",
        "templates.store",
        "templates set contoso template.json",
        "templates set contoso template.json --event event.json --check",
    )
    remove = group.add(
        "remove", "remove a customer's template", "templates.remove", "templates remove contoso", destructive=True
    )
    for each in (show, store, remove):
        each.add_argument("customer", metavar="CUSTOMER", help="customer id")
    store.add_argument("file", type=Path, metavar="FILE", help="file that holds the template")
    store.add_argument("--event", type=Path, metavar="FILE", help="print the job that this event becomes")
    store.add_argument("--check", action="store_true", help="check the template without storing it")
    store.add_argument("--replace", action="store_true", help="replace the template if the customer has one")
