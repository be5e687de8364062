"""The arguments of the commands that look after a deployment: doctor, usage, batches, poison, export and others."""

from __future__ import annotations

from pathlib import Path

from aijobs.arguments.base import Commands, positive, seconds


def add_doctor(commands: Commands) -> None:
    """Add `doctor`."""
    commands.add("doctor", "check a deployment from this machine", "doctor.doctor", "doctor")


def add_verify(commands: Commands) -> None:
    """Add `verify`."""
    parser = commands.add(
        "verify",
        "run a tiny job each way into the app, after a deploy",
        "verify.verify",
        "verify < function-key.txt",
        "verify --part queue",
    )
    parser.add_argument("--url", metavar="URL", help="address of the app (default: SERVICE_APP_URI in the settings)")
    parser.add_argument(
        "--part",
        dest="parts",
        action="append",
        default=[],
        choices=("queue", "http", "webhook"),
        metavar="PART",
        help="try only this part: queue, http or webhook; repeatable",
    )
    parser.add_argument(
        "--key-file",
        type=Path,
        metavar="FILE",
        help="file with a function key, or an Entra token (default: stdin; the local stack needs none)",
    )
    parser.add_argument(
        "--customer", default="verify", metavar="ID", help="customer of the test connection (default: verify)"
    )
    parser.add_argument("--connection", default="default", metavar="NAME", help="its connection (default: default)")
    parser.add_argument("--model", metavar="NAME", help="model (default: the connection's own)")
    parser.add_argument(
        "--timeout", type=seconds, default=300.0, metavar="S", help="seconds that a part may take (default: 300)"
    )


def add_usage(commands: Commands) -> None:
    """Add `usage`."""
    parser = commands.add(
        "usage",
        "show what a customer, or each of them, used and what it costs",
        "usage.usage",
        "usage contoso",
        "usage contoso --month 2026-11 --by day,model --csv",
        "usage --from 2026-11-01 --to 2026-11-15",
        "usage --verify",
    )
    parser.add_argument(
        "customer", metavar="CUSTOMER", nargs="?", help="customer id (default: all customers, a line for each)"
    )
    parser.add_argument("--month", metavar="YYYY-MM", help="month of the statement (default: the current month)")
    parser.add_argument(
        "--from", dest="first", metavar="DAY", help="first day of the statement, such as 2026-11-01, in UTC"
    )
    parser.add_argument("--to", dest="last", metavar="DAY", help="its last day, which is included")
    parser.add_argument(
        "--by",
        metavar="NAMES",
        help="group a customer's usage by these, separated by commas: month, day, model, action, connection "
        "(default: model, or all but month with --csv)",
    )
    parser.add_argument("--csv", action="store_true", help="print CSV, the same as the HTTP route returns")
    rollups = parser.add_mutually_exclusive_group()
    rollups.add_argument(
        "--verify",
        action="store_true",
        help="compare the rollups of these days with their records, and name each difference",
    )
    rollups.add_argument("--rebuild", action="store_true", help="rebuild the rollups of these days from their records")


def add_batches(commands: Commands) -> None:
    """Add the group of commands about batches."""
    group = commands.group(
        "batches",
        "show what waits in batches at customers' providers",
        "batches list",
        "batches show contoso 01795180320000-9f3c1b2a",
    )
    listing = group.add(
        "list",
        "list the batches that are under way",
        "batches.list_all",
        "batches list",
        "batches list contoso --all --days 30",
    )
    listing.add_argument("customer", metavar="CUSTOMER", nargs="?", help="customer id (default: all customers)")
    listing.add_argument("--all", action="store_true", help="list those that are done as well")
    listing.add_argument(
        "--days", type=positive, default=7, metavar="N", help="only those opened in the last N days (default: 7)"
    )
    show = group.add(
        "show",
        "show a batch, its jobs and what became of its lines",
        "batches.show",
        "batches show contoso 01795180320000-9f3c1b2a",
    )
    show.add_argument("customer", metavar="CUSTOMER", help="customer id")
    show.add_argument("batch", metavar="BATCH", help=f"id of the batch; `{group.program} batches list` shows the ids")


def add_poison(commands: Commands) -> None:
    """Add the group of commands about the poison queue."""
    group = commands.group(
        "poison", "list, retry or remove the messages that the host gave up", "poison list", "poison retry --all"
    )
    group.add(
        "list", "list the messages in the poison queues, and why they are there", "poison.list_all", "poison list"
    )
    show = group.add("show", "print a message of a poison queue", "poison.show", "poison show")
    show.add_argument(
        "message",
        metavar="MESSAGE",
        nargs="?",
        help=f"id of the message (default: the first); `{group.program} poison list` shows the ids",
    )
    retry = group.add(
        "retry",
        "move messages from the poison queues back to their queues",
        "poison.retry",
        "poison retry --all",
        "poison retry --customer contoso",
    )
    which = retry.add_mutually_exclusive_group(required=True)
    which.add_argument(
        "--message", metavar="ID", help=f"retry this message; `{group.program} poison list` shows the ids"
    )
    which.add_argument("--customer", metavar="ID", help="retry this customer's messages")
    which.add_argument("--all", action="store_true", help="retry all messages that the app can read")
    # argparse would not break this line, which does not fit 80 columns after a longer name of the program.
    retry.usage = "%(prog)s [-h] [--settings FILE] [--json]\n  (--message ID | --customer ID | --all)"
    remove = group.add(
        "remove",
        "remove messages that the app can't read",
        "poison.remove",
        "poison remove --unreadable",
        destructive=True,
    )
    which = remove.add_mutually_exclusive_group(required=True)
    which.add_argument("--message", metavar="ID", help="remove this message")
    which.add_argument("--unreadable", action="store_true", help="remove all messages that the app can't read")


def add_export(commands: Commands) -> None:
    """Add `export`."""
    parser = commands.add(
        "export",
        "write all data of a customer to a directory",
        "export.export",
        "export contoso --to contoso-data",
        "export --all --to backup",
    )
    parser.add_argument("customer", metavar="CUSTOMER", nargs="?", help="customer id")
    parser.add_argument("--all", action="store_true", help="export every customer, each into a directory in DIR")
    parser.add_argument("--to", type=Path, required=True, metavar="DIR", help="new or empty directory (required)")


def add_import(commands: Commands) -> None:
    """Add `import`."""
    parser = commands.add(
        "import",
        "bring exported customers into this deployment",
        "export.import_customers",
        "import contoso-data",
        "import backup/contoso",
    )
    parser.add_argument("directory", type=Path, metavar="DIR", nargs="+", help="the directory of an exported customer")


def add_erase(commands: Commands) -> None:
    """Add `erase`."""
    parser = commands.add(
        "erase",
        "permanently delete all data of a customer, including usage",
        "export.erase",
        "erase contoso",
        destructive=True,
    )
    parser.add_argument("customer", metavar="CUSTOMER", help="customer id")
