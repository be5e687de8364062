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
import signal
import sys
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

from local.paths import PROJECT

LAST_PORT = 65535
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP) if sys.platform != "win32" else ()


def main() -> int:
    """Runs the command line, and gives the exit code."""
    arguments = _parser().parse_args()
    if sys.platform == "win32":
        print("The local stack runs on Linux and macOS. On Windows, use it inside WSL.", file=sys.stderr)
        return 1
    try:
        return asyncio.run(_until_signalled(arguments.run(arguments)))
    except ModuleNotFoundError as exc:
        print(f"{exc.name} is not installed. `python dev.py {arguments.command}` installs it.", file=sys.stderr)
        return 1


async def start(arguments: argparse.Namespace) -> int:
    """Runs a stack until a signal comes or a part of it breaks."""
    # Imported here: the help should come at once, and name what is not installed.
    from local.stack import settings_file, stack  # noqa: PLC0415
    from local.stack.hosts import free_port  # noqa: PLC0415
    from local.stack.node import Missing  # noqa: PLC0415
    from local.stack.processes import ProcessFailed  # noqa: PLC0415

    path: Path = arguments.settings
    port: int = arguments.port or free_port()
    workers = 0 if arguments.no_host else arguments.workers or 1
    if arguments.no_host and arguments.workers:
        print(
            "--workers is the number of Functions hosts, and --no-host leaves them out: use one of both.",
            file=sys.stderr,
        )
        return 1
    try:
        settings_file.check(path)
        print("Starting Storage, the AI endpoint, Key Vault" + (" and the Functions hosts …" if workers else " …"))
        async with stack.start(workers=workers, port=port) as running:
            with settings_file.written(path, running.settings(), port):
                print(_summary(running, path), flush=True)
                print(await running.broken(), file=sys.stderr)
                return 1
    except (Missing, ProcessFailed, settings_file.Taken) as exc:
        print(exc, file=sys.stderr)
        return 1
    except asyncio.CancelledError:
        print("Stopped; nothing is left running.")
        raise


async def demo(arguments: argparse.Namespace) -> int:
    """Shows the project at work."""
    from local.demo import run as show  # noqa: PLC0415

    code: int = await show.run(arguments)
    return code


async def soak(arguments: argparse.Namespace) -> int:
    """Puts the app to the test: many jobs, faults, kills, and a reconciliation."""
    from local.soak import run as soaks  # noqa: PLC0415

    code: int = await soaks.run(arguments)
    return code


async def _until_signalled(work: Coroutine[Any, Any, int]) -> int:
    """Runs `work`; the first signal cancels it, and further ones do not disturb its cleaning up."""
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


def _summary(running: Any, path: Path) -> str:
    hosts = running.hosts
    lines = [
        "",
        "The local stack is ready.",
        "",
        f"  Storage         {running.storage.queue_url} and its blobs and tables (Azurite)",
        f"  AI endpoint     {running.ai.url} (aimock)",
        f"  Key Vault       {running.vault.url}",
        f"  Functions app   {hosts.url + '/api' if hosts else 'not started: `func start` is for you'}",
        f"  App settings    {path}",
        "",
        "Customers, each with a connection of its own in Key Vault:",
        *(f"  {customer.id:<14}  {customer.kind}" for customer in running.customers),
        "",
        "Put jobs into the queue `jobs`, as base64; results appear in `results`. The README has a script.",
        "",
        "Ctrl-C stops everything.",
    ]
    return "\n".join(lines)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m local", description="Azure, for this project, on one machine.")
    commands = parser.add_subparsers(dest="command", required=True)

    command = commands.add_parser("start", help="run the stack in the foreground until Ctrl-C")
    command.add_argument("--no-host", action="store_true", help="without Functions hosts, as for `func start`")
    command.add_argument("--workers", type=_positive, help="Functions hosts; 1 if left out")
    command.add_argument("--port", type=_port, help="the app's HTTP port; a free one if left out")
    command.add_argument(
        "--settings",
        type=Path,
        default=PROJECT / "local.settings.json",
        help="where the app settings are written; local.settings.json at the project's top if left out",
    )
    command.set_defaults(run=start)

    command = commands.add_parser("demo", help="jobs for three customers, and what became of them")
    command.add_argument("--endpoint", help="a real endpoint in place of the AI stand-in")
    command.add_argument("--model", help="its model or deployment")
    command.add_argument(
        "--provider",
        choices=("azure_openai", "foundry", "openai"),
        help="whose API answers there, where the host does not tell: a gateway, or a server on this machine",
    )
    command.set_defaults(run=demo)

    command = commands.add_parser("soak", help="many jobs, faults and kills, and whether every call is accounted for")
    command.add_argument("--jobs", type=_positive, default=2000, help="jobs of the crowd; 2000 if left out")
    command.add_argument("--customers", type=_positive, default=20, help="customers of the crowd; 20 if left out")
    command.add_argument("--workers", type=_positive, default=2, help="Functions hosts; 2 if left out")
    command.add_argument("--kills", type=_count, default=6, help="workers killed while the crowd runs; 6 if left out")
    command.add_argument("--backlog", type=_count, default=1000, help="jobs of the heavy customer; 1000 if left out")
    command.add_argument("--seconds", type=_positive, default=300, help="when to give up; 300 if left out")
    command.add_argument("--seed", type=_count, help="a number that stands for all chances; by chance if left out")
    command.add_argument("--json", type=Path, help="a file to write the figures to")
    command.set_defaults(run=soak)
    return parser


def _count(text: str) -> int:
    if not text.isascii() or not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text} is not a number from 0 up.")
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
