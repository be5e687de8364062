"""
`python -m local start` runs the local stack in the foreground, `demo` runs jobs on it, `soak` tests it under faults.

The local stack replaces Azure on one machine: Storage (Azurite), AI endpoints (aimock), Key Vault and the
managed-identity endpoint (`vault`), and the Functions host (`host`, with Microsoft's own Python worker). It is for
developing and testing: the app never imports it, and nothing here is deployed.

An error is printed as one sentence, with exit code 1.
"""

import argparse
import asyncio
import contextlib
import shutil
import signal
import sys
import textwrap
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

from local.paths import PROJECT

LAST_PORT = 65535
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP) if sys.platform != "win32" else ()


def main() -> int:
    """Run the command line. Returns the exit code."""
    arguments = make_parser().parse_args()
    if sys.platform == "win32":
        print("The local stack runs on Linux and macOS. On Windows, use it inside WSL.", file=sys.stderr)
        return 1
    try:
        return asyncio.run(_until_signalled(arguments.run(arguments)))
    except ModuleNotFoundError as exc:
        print(f"{exc.name} is not installed. `python3 dev.py {arguments.command}` installs it.", file=sys.stderr)
        return 1


async def start(arguments: argparse.Namespace) -> int:
    """Run a stack until a signal arrives or a part of it ends. Returns the exit code."""
    # Imported here, so that --help is quick and needs no installed package.
    from local.stack import settings_file, stack  # noqa: PLC0415
    from local.stack.hosts import free_port  # noqa: PLC0415
    from local.stack.node import NotInstalled  # noqa: PLC0415
    from local.stack.processes import ProcessFailed  # noqa: PLC0415

    path: Path = arguments.settings
    port: int = arguments.port or free_port()
    workers = 0 if arguments.no_host else arguments.workers or 1
    if arguments.no_host and arguments.workers:
        print(
            "--workers sets the number of Functions hosts and --no-host starts none. Use only one of them.",
            file=sys.stderr,
        )
        return 1
    try:
        settings_file.check(path)
        print(f"Starting Storage, the AI endpoint, Key Vault{' and the Functions hosts' if workers else ''} …")
        async with stack.start(workers=workers, port=port) as running:
            with settings_file.written(path, running.settings(), port):
                print(_summary(running, path), flush=True)
                print(await running.broken(), file=sys.stderr)
                return 1
    except (NotInstalled, ProcessFailed, settings_file.SettingsFileInUse) as exc:
        print(fitted(str(exc)), file=sys.stderr)
        return 1
    except asyncio.CancelledError:
        print("Stopped. No process is left running.")
        raise


async def demo(arguments: argparse.Namespace) -> int:
    """Run the demo. Returns the exit code."""
    from local.demo import run as demo_run  # noqa: PLC0415

    code: int = await demo_run.run(arguments)
    return code


async def soak(arguments: argparse.Namespace) -> int:
    """Run a soak: many jobs, faults, killed workers, and a reconciliation. Returns the exit code."""
    from local.soak import run as soak_run  # noqa: PLC0415

    code: int = await soak_run.run(arguments)
    return code


async def _until_signalled(work: Coroutine[Any, Any, int]) -> int:
    """Run `work`. The first signal cancels it; further signals don't interrupt its cleanup."""
    task = asyncio.ensure_future(work)
    loop = asyncio.get_running_loop()
    received: list[signal.Signals] = []

    def cancel(number: signal.Signals) -> None:
        if not received:
            task.cancel()
        received.append(number)

    for number in SIGNALS:
        loop.add_signal_handler(number, cancel, number)
    try:
        return await task
    except asyncio.CancelledError:
        with contextlib.suppress(IndexError):
            return 0 if received[0] is not signal.SIGHUP else 1
        raise


def fitted(message: str) -> str:
    """A message with line breaks between words, so that the terminal breaks none. It is unchanged in a pipe."""
    if not sys.stderr.isatty():
        return message
    width = shutil.get_terminal_size().columns
    lines = message.splitlines()
    return "\n".join(textwrap.fill(line, width, break_long_words=False, break_on_hyphens=False) for line in lines)


def _summary(running: Any, path: Path) -> str:
    hosts = running.hosts
    lines = [
        "",
        "The local stack is ready.",
        "",
        f"  Storage         {running.storage.queue_url} (queues)",
        f"                  {running.storage.blob_url} (blobs)",
        f"                  {running.storage.table_url} (tables)",
        f"  AI endpoint     {running.ai.url} (aimock)",
        f"                  {running.provider.url} (with batches; connection `patient`)",
        f"  Key Vault       {running.vault.url}",
        f"  Functions app   {hosts.url + '/api' if hosts else 'not started; run `func start`'}",
        *([f"  Console         {hosts.url}/api/console (any text is a key)"] if hosts else []),
        f"  App settings    {path}",
        "",
        "Customers, each with its own connections in Key Vault:",
        *(f"  {customer.id:<14}  {customer.kind}" for customer in running.customers),
        "",
        "Send jobs, as JSON, to the queue `jobs`; their results arrive in `results`.",
        "The README has a script.",
        "",
        "Ctrl-C stops everything.",
    ]
    return "\n".join(lines)


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of all commands. Each command sets `run` to a coroutine function."""
    parser = argparse.ArgumentParser(prog="python3 dev.py", description="A stack on this machine in place of Azure.")
    commands = parser.add_subparsers(dest="command", required=True)

    command = commands.add_parser(
        "start",
        help="run the stack in the foreground until Ctrl-C",
        description="Run the local stack in the foreground until Ctrl-C, and write its app settings to a file.",
    )
    command.add_argument(
        "--no-host", action="store_true", help="start no Functions host, so that `func start` can run the app"
    )
    command.add_argument("--workers", type=_positive, help="number of Functions hosts (default: 1)")
    command.add_argument("--port", type=_port, help="HTTP port of the app (default: a free port)")
    command.add_argument(
        "--settings",
        type=Path,
        default=PROJECT / "local.settings.json",
        help="file to write the app settings to (default: local.settings.json in the project's folder)",
    )
    command.set_defaults(run=start)

    command = commands.add_parser(
        "demo",
        help="run jobs for three customers, and show their results",
        description="Start the local stack with two workers, run twelve jobs of three customers and of one without a "
        "connection, one of them twice, and show each result and what each customer used. With --endpoint, the jobs "
        "that a chat model can run use that endpoint, at its owner's cost.",
    )
    command.add_argument("--endpoint", help="URL of a real endpoint to use; its key is in AI_API_KEY")
    command.add_argument("--model", help="model or deployment of that endpoint")
    command.add_argument(
        "--provider",
        choices=("azure_openai", "foundry", "openai", "anthropic"),
        help="provider of that endpoint, if its host doesn't show it (a gateway, a server on this machine)",
    )
    command.add_argument(
        "--keep", action="store_true", help="keep the stack running until Ctrl-C, and print the console's address"
    )
    command.set_defaults(run=demo)

    command = commands.add_parser(
        "soak",
        help="run many jobs with faults and killed workers, and reconcile every call",
        description="Run many jobs while calls fail, workers are killed and keys are rotated. Then compare the AI "
        "endpoint's journal with every result and usage record. The exit code is 1 if anything is lost, billed twice "
        "or unexplained.",
    )
    command.add_argument("--jobs", type=_positive, default=2000, help="jobs with faults (default: 2000)")
    command.add_argument("--customers", type=_positive, default=20, help="customers of these jobs (default: 20)")
    command.add_argument("--workers", type=_positive, default=2, help="number of Functions hosts (default: 2)")
    command.add_argument("--kills", type=_count, default=6, help="workers to kill meanwhile (default: 6)")
    command.add_argument("--backlog", type=_count, default=1000, help="jobs in the fairness phase (default: 1000)")
    command.add_argument(
        "--hostile",
        action="store_true",
        help="instead, run the jobs alone and then beside hostile customers, with a backlog of one of them and without "
        "kills; compare latencies, and measure memory",
    )
    command.add_argument(
        "--storm", type=_positive, default=2, help="bursts of each large attack that end the hostile run (default: 2)"
    )
    command.add_argument("--seconds", type=_positive, default=300, help="time limit, of each run (default: 300)")
    command.add_argument("--seed", type=_count, help="seed of all random choices (default: random)")
    command.add_argument("--json", type=Path, help="file to write the figures to")
    command.set_defaults(run=soak)
    return parser


def _count(text: str) -> int:
    if not text.isascii() or not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text} is not a number of at least 0.")
    return int(text)


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text} is not a positive number.")
    return int(text)


def _port(text: str) -> int:
    if not text.isdecimal() or not 0 < int(text) <= LAST_PORT:
        raise argparse.ArgumentTypeError(f"{text} is not a port: a number from 1 to {LAST_PORT}.")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())
