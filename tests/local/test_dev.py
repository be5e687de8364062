"""dev.py: what it says, when it installs, and how it hands over. Nothing is installed here."""

import ast
import fcntl
import importlib.util
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

DEV = Path(__file__).parents[2] / "dev.py"
FAKE_PYTHON = """#!/bin/sh
echo "arguments: $@"
echo "PYTHONPATH: ${PYTHONPATH-unset} VIRTUAL_ENV: ${VIRTUAL_ENV-unset} KEPT: ${KEPT-unset}"
pwd
[ "$4" = wait ] && { trap 'echo cleaned up; exit 5' TERM INT; echo waiting; while :; do :; done; }
exit 7
"""


@pytest.fixture
def project(tmp_path):
    """A project that looks installed, with a Python that only tells how it was called."""
    tmp_path = tmp_path.resolve()
    shutil.copy(DEV, tmp_path / "dev.py")
    (tmp_path / "local" / "node_modules").mkdir(parents=True)
    dev = load(tmp_path / "dev.py")
    for path in dev.INGREDIENTS:
        path.write_text(path.name)
    dev.PYTHON.parent.mkdir(parents=True)
    dev.PYTHON.write_text(FAKE_PYTHON)
    dev.PYTHON.chmod(0o755)
    dev.STAMP.write_text(dev._fingerprint())
    return tmp_path


def load(path):
    spec = importlib.util.spec_from_file_location("dev_under_test", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def run(*arguments, path=DEV, **options):
    return subprocess.run(
        [sys.executable, path, *arguments], capture_output=True, text=True, check=False, timeout=90, **options
    )


def test_only_the_standard_library_is_imported():
    """A fresh machine has nothing else."""
    imported = {
        name.partition(".")[0]
        for node in ast.walk(ast.parse(DEV.read_text()))
        for name in (
            [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else [node.module]
            if isinstance(node, ast.ImportFrom)
            else []
        )
    }

    assert imported <= sys.stdlib_module_names


@pytest.mark.parametrize("arguments", [(), ("--help",)])
def test_help_names_the_commands(arguments):
    """Without a command, or asked for help, it lists what it can do, and that is no error."""
    done = run(*arguments)

    assert done.returncode == 0
    assert all(f"\n  {name}" in done.stdout for name in ("demo", "start", "soak", "test"))


@pytest.mark.parametrize(("name", "told"), [("start", "--no-host"), ("demo", "--endpoint"), ("test", "pytest")])
def test_help_of_a_command_comes_before_anything_is_installed(project, name, told):
    """In a fresh checkout, `COMMAND --help` says what there is to give, and installs nothing."""
    for source in (DEV.parent / "local").glob("*.py"):
        shutil.copy(source, project / "local")
    (project / ".venv" / "installed.txt").unlink()

    done = run(name, "--help", path=project / "dev.py", cwd="/")

    assert (done.returncode, done.stderr) == (0, "")
    assert told in done.stdout
    assert "setup" not in done.stdout


def test_an_unknown_command_is_told_plainly():
    """A typing error gets a sentence and exit code 2."""
    done = run("tset")

    assert done.returncode == 2
    assert done.stderr.startswith("dev.py knows no command tset.")


def test_an_old_python_is_told_plainly():
    """Python 3.9 gets a sentence and no traceback: the file parses there, and the check comes first."""
    code = f"import runpy, sys; sys.version_info = (3, 9, 2); runpy.run_path({str(DEV)!r}, run_name='__main__')"

    ast.parse(DEV.read_text(), feature_version=(3, 7))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)

    assert done.returncode == 1
    assert done.stderr.startswith("This project needs Python 3.11 or newer; this is ")
    assert "Traceback" not in done.stderr


def test_an_installed_project_is_not_installed_again(project):
    """The stamp fits: the command runs at once, in the project, with the exit code of its own."""
    done = run("test", "-k", "x y", path=project / "dev.py", cwd="/")

    assert done.returncode == 7
    assert done.stdout.splitlines()[0] == "arguments: -m pytest -k x y"
    assert done.stdout.splitlines()[-1] == str(project)
    assert "setup" not in done.stdout


def test_a_surprising_environment_is_left_behind(project):
    """What would bring other code in does not reach the command; the rest does."""
    surprise = {**os.environ, "PYTHONPATH": "/elsewhere", "VIRTUAL_ENV": "/other", "KEPT": "yes"}

    done = run("start", path=project / "dev.py", env=surprise)

    assert "PYTHONPATH: unset VIRTUAL_ENV: unset KEPT: yes" in done.stdout


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_reaches_the_command_which_may_clean_up(project, number):
    """The command gets the signal itself, and its exit code is dev.py's."""
    command = [sys.executable, project / "dev.py", "start", "wait"]
    # A test run that itself was started in the background ignores SIGINT, and would hand that on.
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


def test_what_was_installed_must_still_fit(project):
    """Changed pins, a missing stamp, missing Node packages or another place: each is installed anew."""
    dev = load(project / "dev.py")
    assert dev._installed()

    pins = dev.INGREDIENTS[0].read_text()
    dev.INGREDIENTS[0].write_text("other==1")
    assert not dev._installed()
    dev.INGREDIENTS[0].write_text(pins)
    assert dev._installed()

    dev.PYTHON.rename(project / "moved")
    assert not dev._installed()
    (project / "moved").rename(dev.PYTHON)

    (project / "local" / "node_modules").rmdir()
    assert not dev._installed()
    (project / "local" / "node_modules").mkdir()

    dev.STAMP.unlink()
    assert not dev._installed()


def test_the_stamp_names_the_python(project, monkeypatch):
    """An environment made by another Python does not fit."""
    dev = load(project / "dev.py")
    monkeypatch.setattr(sys, "version", "3.99.1 (main)")

    assert not dev._installed()


def test_two_setups_do_not_meet(project):
    """A second run waits for the first one's setup, and then has nothing to do."""
    dev = load(project / "dev.py")
    stamp = dev.STAMP.read_text()
    dev.STAMP.unlink()
    first = os.open(project, os.O_RDONLY)
    fcntl.flock(first, fcntl.LOCK_EX)
    command = [sys.executable, project / "dev.py", "test"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as second:
        assert second.stdout.readline() == "setup  waiting for another run's setup …\n"
        dev.STAMP.write_text(stamp)
        os.close(first)

        assert second.stdout.readline() == "arguments: -m pytest\n"
        assert second.wait(60) == 7


def test_a_failed_setup_says_what_failed(project):
    """The output of what failed, then a sentence, and no traceback; the next run starts over."""
    dev = load(project / "dev.py")
    dev.STAMP.unlink()
    dev.INGREDIENTS[1].write_text("no such requirement\n")

    done = run("test", path=project / "dev.py")

    assert done.returncode == 1
    assert "Setup failed: `" in done.stderr
    assert "Traceback" not in done.stderr
    assert not dev.STAMP.exists()
