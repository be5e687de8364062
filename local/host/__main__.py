"""
A Functions host for one machine: runs a function app on Microsoft's own Python worker engine.

    python -m local.host --app DIR [--port P] [--instance K] [--visibility-timeout SECONDS]

App settings are environment variables. Each process is one instance; several may listen to the same queues. In Azure
an instance is two processes, host and worker, which communicate over gRPC. Here both share one process and one event
loop, so a function that blocks the loop also blocks polling and the renewal of messages, and a worker that dies ends
its host; a supervisor restarts it. At SIGTERM, which reaches both, the host fetches no more messages and waits ten
seconds for what runs; without a handler of the app's own, the worker ends at once. Timers do not run by themselves,
except those of each minute: `POST /admin/functions/NAME`, with `Content-Type: application/json`, runs one.
"""

import argparse
import asyncio
import contextlib
import os
import signal
import sys
from pathlib import Path

from local.host.errors import AppNotLoaded, HostError
from local.host.host_json import load_host_json
from local.host.log import start_logging
from local.host.watchdog import leave
from local.host.worker import Worker

VISIBILITY_TIMEOUT_S = 600  # how long a message is invisible while its job runs; fixed in Azure
LAST_PORT = 65535


def _parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m local.host", description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--app", type=Path, required=True, help="the directory of function_app.py and host.json")
    parser.add_argument("--port", default="0", help="the HTTP port; 0: no HTTP, auto: a free port")
    parser.add_argument("--instance", default="0", help="the number of this instance, for WEBSITE_INSTANCE_ID")
    parser.add_argument(
        "--visibility-timeout",
        type=int,
        default=VISIBILITY_TIMEOUT_S,
        help="seconds for which a message is invisible while its job runs (Azure: 600)",
    )
    return parser.parse_args()


async def _serve(arguments: argparse.Namespace) -> None:
    app_dir = arguments.app.resolve()
    if arguments.port != "auto" and not (arguments.port.isdecimal() and int(arguments.port) <= LAST_PORT):
        raise HostError(f"--port must be a number up to {LAST_PORT} or auto. It is {arguments.port!r}.")
    port = 0 if arguments.port == "auto" else int(arguments.port) or None
    os.environ.setdefault("WEBSITE_INSTANCE_ID", f"local-{arguments.instance}")
    os.chdir(os.sep)  # in Azure, too, the current directory is not the app's
    settings = load_host_json(app_dir / "host.json", os.environ)
    start_logging(Worker.running)
    stopping = _stop_at_sigterm()
    worker = await Worker.load(app_dir)
    # Half a second of SDKs, which an app that can't be loaded does not need.
    from local.host.instance import Host  # noqa: PLC0415

    await Host(worker, settings, arguments.visibility_timeout).run(port, stopping)


def _stop_at_sigterm() -> asyncio.Event:
    """Return what is set at SIGTERM if the app handles that; else it ends Azure's worker at once, and here both."""
    stopping, loop = asyncio.Event(), asyncio.get_running_loop()

    def stop() -> None:
        if not stopping.is_set() and signal.getsignal(signal.SIGTERM) is without_app:
            leave(0)
        stopping.set()

    with contextlib.suppress(NotImplementedError):  # on Windows, SIGTERM ends the process at once
        loop.add_signal_handler(signal.SIGTERM, stop)
    without_app = signal.getsignal(signal.SIGTERM)
    return stopping


def main() -> None:
    """Run the host until it is stopped. If it can't start, print the reason and exit with 1."""
    arguments = _parse_arguments()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: leave(0))
    try:
        asyncio.run(_serve(arguments))
    except AppNotLoaded as exc:
        print(exc, exc.traceback, sep="\n", file=sys.stderr, flush=True)
    except HostError as exc:
        print(exc, file=sys.stderr, flush=True)
    leave(1)


if __name__ == "__main__":
    main()
