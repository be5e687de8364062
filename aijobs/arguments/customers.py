"""The arguments of `customers`."""

from __future__ import annotations

from pathlib import Path

from aijobs.arguments.base import Commands, Parser, amount, whole


def add_customers(commands: Commands) -> None:
    """Add the group of commands about customers' connections."""
    group = commands.group(
        "customers",
        "manage customers' connections in Key Vault, and suspend customers",
        "customers list",
        "customers test --all",
        "customers rotate contoso < new-key.txt",
    )
    add = group.add(
        "add",
        "test a connection and store it",
        "customers.add",
        "customers add contoso --endpoint https://contoso-ai.openai.azure.com/openai/v1 "
        "--default-model gpt-5.5 < key.txt",
    )
    listing = group.add(
        "list",
        "list customers and their connections",
        "vault_listing.list_all",
        "customers list",
        "customers list contoso",
    )
    test = group.add(
        "test",
        "test connections, each with a small call",
        "connection_tests.test",
        "customers test contoso",
        "customers test --all",
    )
    rotate = group.add(
        "rotate", "replace the key of a connection", "customers.rotate", "customers rotate contoso < new-key.txt"
    )
    bind = group.add(
        "bind",
        "let a connection that has no key use the app's identity",
        "customers.bind",
        "customers bind contoso --connection keyless",
        destructive=True,
    )
    remove = group.add(
        "remove",
        "remove a customer's connections",
        "customers.remove",
        "customers remove contoso",
        destructive=True,
    )
    suspend = group.add(
        "suspend",
        "end a customer's jobs without running them",
        "suspension.put_state",
        "customers suspend contoso",
        destructive=True,
    )
    activate = group.add(
        "activate",
        "run a suspended customer's jobs again",
        "suspension.put_state",
        "customers activate contoso",
        destructive=True,
    )
    suspend.set_defaults(state="suspended")
    activate.set_defaults(state="active")
    for each in (add, bind, rotate, remove, suspend, activate):
        each.add_argument("customer", metavar="CUSTOMER", help="customer id")
    test.add_argument("customer", metavar="CUSTOMER", nargs="?", help="customer id (optional with --all)")
    listing.add_argument("customer", metavar="CUSTOMER", nargs="?", help="show this customer's connections in detail")
    test.add_argument("--all", action="store_true", help="test all connections, of the customer if there is one")
    test.add_argument("--connection", metavar="NAME", help="connection name (default: default, or all with --all)")
    for each in (add, bind, rotate):
        each.add_argument("--connection", default="default", metavar="NAME", help="connection name (default: default)")
    remove.add_argument("--connection", metavar="NAME", help="remove only this connection (default: all)")
    _add_connection_members(add)
    add.add_argument("--replace", action="store_true", help="replace the whole connection if it exists")
    for each in (add, rotate):
        each.add_argument("--key-file", type=Path, metavar="FILE", help="file that holds the key and nothing else")
        each.add_argument("--no-test", action="store_true", help="store the connection without testing it")
    for each in (add, rotate, test):
        each.add_argument("--model", metavar="NAME", help="model to test with (default: the connection's own)")


def _add_connection_members(parser: Parser) -> None:
    parser.add_argument(
        "--endpoint", metavar="URL", help="endpoint as the portal shows it (optional for OpenAI and Anthropic)"
    )
    parser.add_argument(
        "--provider",
        choices=("azure_openai", "foundry", "openai", "anthropic"),
        metavar="NAME",
        help="azure_openai, foundry, openai or anthropic (Claude): needed only if the endpoint doesn't identify it",
    )
    parser.add_argument(
        "--auth",
        choices=("api_key", "entra"),
        default="api_key",
        metavar="KIND",
        help="api_key, or entra for the app's identity (default: api_key)",
    )
    parser.add_argument("--scope", metavar="SCOPE", help="scope of the Entra token")
    parser.add_argument("--tenant-id", metavar="ID", help="tenant of the Entra token")
    parser.add_argument("--api-version", metavar="VERSION", help="API version to send to the endpoint")
    parser.add_argument("--organization", metavar="ID", help="organization at OpenAI")
    parser.add_argument("--project", metavar="ID", help="project at OpenAI")
    parser.add_argument("--default-model", metavar="NAME", help="model of jobs without one")
    parser.add_argument("--batch-model", metavar="NAME", help="deployment that runs batches, if it is not the job's")
    parser.add_argument(
        "--deployment-scope",
        choices=("global", "data_zone", "regional"),
        metavar="SCOPE",
        help="global, data_zone or regional: where the deployment processes data, on which its price depends",
    )
    parser.add_argument("--max-concurrency", type=whole, metavar="N", help="concurrent calls per worker")
    parser.add_argument("--monthly-budget", type=amount, metavar="AMOUNT", help="budget of the connection per month")
