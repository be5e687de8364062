"""
What container/Dockerfile puts into the image, and a pod of it as container/kubernetes/worker.yaml has it, without a
container engine: namespaces with a root of their own. The base image is this machine's system and Python, with the
packages of the tests' environment; its Functions host is `local.host`.

Needs root or a sudo that asks for no password: the pod's user is real, and not mapped to the one who runs the tests.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import yaml

from tests.support.doc_samples import ROOT

HOST = PurePosixPath("/azure-functions-host")
SYSTEM = ("usr", "bin", "sbin", "lib", "lib32", "lib64", "etc")
DEVICES = ("null", "zero", "random", "urandom")
PATH = f"{sys.prefix}/bin:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"


def as_root(*command: str) -> list[str]:
    """The command, as root."""
    return [*([] if os.geteuid() == 0 else ["sudo", "-n"]), *command]


def refusal() -> str:
    """Why this machine has no such namespaces; empty if it has."""
    try:
        done = subprocess.run(
            as_root("unshare", "--mount", "--pid", "--fork", "mount", "-t", "proc", "proc", "/proc"),
            capture_output=True,
            text=True,
            check=False,
        )
    except OSError as exc:
        return str(exc)
    return done.stderr or f"unshare exited with {done.returncode}" if done.returncode else ""


@dataclass
class Image:
    """The files of the image in `folder`, by their paths within, and what the Dockerfile sets."""

    folder: Path
    environment: dict[str, str] = field(default_factory=dict)
    user: str = ""
    runs: list[str] = field(default_factory=list)

    def app(self) -> PurePosixPath:
        """The folder of the app, as the host gets it."""
        return PurePosixPath(self.environment["AzureWebJobsScriptRoot"])

    def outside(self, path: PurePosixPath) -> Path:
        """Where a path of the image is on this machine."""
        return self.folder / path.relative_to("/")


def build(folder: Path) -> Image:
    """
    Follow the Dockerfile: copy what it copies of the build context, and run what it runs on that, as the user who
    builds. Packages are not installed.
    """
    image = Image(folder)
    lines = [line for line in (ROOT / "container/Dockerfile").read_text().splitlines() if not line.startswith("#")]
    for line in "\n".join(lines).replace("\\\n", " ").splitlines():
        instruction, _, rest = line.partition(" ")
        match instruction:
            case "ENV":
                image.environment |= dict(each.split("=", 1) for each in shlex.split(rest))
            case "COPY":
                *sources, target = rest.split()
                for source in sources:
                    _copy(image, source, target)
            case "RUN" if not rest.startswith("pip install "):
                image.runs.append(rest)
                command = namespace(image, [*shlex.split(rest)], user=f"{os.getuid()}:{os.getgid()}", is_built=False)
                subprocess.run(command, check=True, timeout=100)
            case "USER":
                image.user = rest
            case "" | "ARG" | "FROM" | "RUN" | "EXPOSE" | "CMD":
                pass
            case _:
                raise AssertionError(f"This does not know {instruction}.")
    return image


def _copy(image: Image, source: str, target: str) -> None:
    """Copy a file into a folder, or a folder's contents to a folder, without what the build context leaves out."""
    start = ROOT / source
    assert target.endswith("/")
    for path in sorted(start.rglob("*")) if start.is_dir() else [start]:
        if path.is_file() and not _is_ignored(path.relative_to(ROOT)):
            within = path.relative_to(start if start.is_dir() else start.parent)
            copy = image.outside(PurePosixPath(target)) / within
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(path, copy)


def _is_ignored(path: Path) -> bool:
    """Tell if the build context lacks the file: the last line that matches it or a folder above decides."""
    ignored = False
    for line in (ROOT / "container/Dockerfile.dockerignore").read_text().splitlines():
        pattern = re.escape(line.removeprefix("!")).replace(r"\*\*/", "(.*/)?").replace(r"\*", "[^/]*")
        if any(re.fullmatch(pattern, each.as_posix()) for each in (path, *path.parents)):
            ignored = not line.startswith("!")
    return ignored


def worker() -> dict[str, Any]:
    """The pods' template in worker.yaml."""
    manifests = yaml.safe_load_all((ROOT / "container/kubernetes/worker.yaml").read_text())
    (deployment,) = [each for each in manifests if each["kind"] == "Deployment"]
    spec: dict[str, Any] = deployment["spec"]["template"]["spec"]
    return spec


def writable_folders() -> list[str]:
    """The folders of a pod that are an emptyDir."""
    spec = worker()
    (container,) = spec["containers"]
    empty = {volume["name"] for volume in spec["volumes"] if "emptyDir" in volume}
    return [mount["mountPath"] for mount in container["volumeMounts"] if mount["name"] in empty]


def pod(image: Image, settings: Mapping[str, str], files: Mapping[str, Path]) -> list[str]:
    """The command that runs the app as a pod does, with settings and with read-only files by their paths."""
    spec = worker()
    (container,) = spec["containers"]
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    user = f"{spec['securityContext']['runAsUser']}:{spec['securityContext']['runAsGroup']}"
    assert user == image.user
    host = ["python", "-u", "-m", "local.host", "--app", str(image.app())]
    return namespace(image, host, user=user, settings=settings, files=files)


def namespace(
    image: Image,
    command: Sequence[str],
    *,
    user: str,
    is_built: bool = True,
    settings: Mapping[str, str] | None = None,
    files: Mapping[str, Path] | None = None,
) -> list[str]:
    """
    The command that runs `command` as process 1 of its own namespaces, as a user without any capability, in a root
    with the image's files, the system, Python and `files`, all of it read-only. Of the image's environment and
    `settings` alone. Writable are the pod's folders; while the image is built, the image's files.
    """
    number, group = user.split(":")
    privileges = ["--reuid", number, "--regid", group, "--groups", group, "--bounding-set=-all", "--no-new-privs"]
    script = [
        *_root(image, files or {}),
        *([f"mount -o remount,bind,ro ./{top}" for top in _tops(image)] if is_built else []),
        "mount -o remount,ro .",
        "pivot_root . .",
        "umount -l .",
        f"cd {HOST}",
        f"exec {shlex.join(['setpriv', *privileges, *command])}",
    ]
    environment = {"PATH": PATH, **image.environment, **(settings or {})}
    return as_root(
        *("env", "-i", *(f"{name}={value}" for name, value in environment.items())),
        *("unshare", "--mount", "--pid", "--fork", "--kill-child", "bash", "-euc", "\n".join(script)),
    )


def _tops(image: Image) -> list[str]:
    """The folders and files at the top of the image."""
    return sorted(path.name for path in image.folder.iterdir())


def _root(image: Image, files: Mapping[str, Path]) -> list[str]:
    """The lines that mount the root and enter it. Only the image's files and the pod's folders are writable yet."""
    root = image.folder.with_name("root")
    root.mkdir(exist_ok=True)
    lines = [f"mount -t tmpfs -o mode=755 root {shlex.quote(str(root))}", f"cd {shlex.quote(str(root))}"]
    lines += ["mkdir proc", "mount -t proc proc proc"]
    for folder in writable_folders():
        lines += [f"mkdir -p .{folder}", f"mount -t tmpfs -o mode=1777 emptyDir .{folder}"]
    for top in _tops(image):
        lines += _bind(image.folder / top, f"/{top}")
    binds: dict[str, Path] = {}
    for name in SYSTEM:
        path = Path("/", name)
        if path.is_symlink():
            lines.append(f"cp -P {path} .")
        elif path.exists():
            binds[str(path)] = path
    binds |= {str(path): path for path in map(Path, (sys.base_prefix, sys.prefix))}
    binds |= {f"/dev/{name}": Path("/dev", name) for name in DEVICES}
    binds |= {f"{HOST}/local/host": ROOT / "local/host", **files}
    for target, source in binds.items():
        lines += [*_bind(source, target), f"mount -o remount,bind,ro {shlex.quote(f'.{target}')}"]
    return lines


def _bind(source: Path, target: str) -> list[str]:
    """The lines that bind a folder or file to a path of the root."""
    origin, name = shlex.quote(str(source)), shlex.quote(f".{target}")
    make = f"mkdir -p {name}" if source.is_dir() else f'mkdir -p "$(dirname {name})" && touch {name}'
    return [make, f"mount --bind {origin} {name}"]


def process_1(above: int) -> int:
    """The id, here, of process 1 of the namespace that is under a process; 0 if there is none yet."""
    for children in Path(f"/proc/{above}/task").glob("*/children"):
        for child in map(int, children.read_text().split()):
            if status(child)["NSpid"].split()[-1] == "1":
                return child
            if inner := process_1(child):
                return inner
    return 0


def status(process: int) -> dict[str, str]:
    """What the kernel says of a process."""
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


def inside(process: int, image: Image, command: Sequence[str]) -> list[str]:
    """The command that runs `command` beside a pod's process, as its user, as `kubectl exec` does."""
    number, group = image.user.split(":")
    enter = ["nsenter", "--target", str(process), "--mount", "--pid", "--setuid", number, "--setgid", group]
    return as_root("env", "-i", f"PATH={PATH}", *enter, *command)
