"""
The gate of the templates: `.venv/bin/python infra/gate.py`, which is a part of `dev.py check`.

Bicep's compiler checks types and the rules of bicepconfig.json in every file, and how it is formatted. It then
evaluates each deployment without Azure, and what it would create, in which order, is compared with snapshots/: test
and production there in whole, each switch beside its .bicepparam by what it changes. `--write` formats and writes them.
"""

from __future__ import annotations

import contextlib
import difflib
import itertools
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any, cast

INFRA = Path(__file__).resolve().parent
COMMAND = ".venv/bin/python infra/gate.py"
VERSION = "0.49.2"
"""The compiler that CI uses. Another one may format differently, and know other versions of Azure's APIs."""
SUBSCRIPTION = "00000000-0000-0000-0000-000000000001"

Call = Callable[..., Any]
"""Calls a method of the compiler. Raises CompilerError."""
Resource = dict[str, Any]


class CompilerError(Exception):
    """The compiler could not do what it was called for."""


@contextlib.contextmanager
def compiler(command: str) -> Iterator[Call]:
    """Start the compiler once, for all calls: JSON-RPC over its standard streams."""
    numbers = itertools.count(1)
    environment = {**os.environ, "DOTNET_TieredPGO": "0"}  # measures code to compile it better: too long for us
    line = [command, "jsonrpc", "--stdio"]
    with subprocess.Popen(line, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment) as process:
        stdin, stdout = cast("IO[bytes]", process.stdin), cast("IO[bytes]", process.stdout)

        def call(method: str, **params: Any) -> Any:
            request = {"jsonrpc": "2.0", "id": next(numbers), "method": f"bicep/{method}", "params": params}
            body = json.dumps(request).encode()
            stdin.write(b"Content-Length: %d\r\n\r\n%b" % (len(body), body))
            stdin.flush()
            headers = dict(line.split(b":") for line in iter(lambda: stdout.readline().strip(), b""))
            response = json.loads(stdout.read(int(headers[b"Content-Length"])))
            if "error" in response:
                raise CompilerError(f"{method} {params.get('path', '')}: {response['error']['message']}")
            return response["result"]

        yield call
        stdin.close()


def find_faults(call: Call, infra: Path = INFRA, *, write: bool = False) -> list[str]:
    """What is wrong with the templates, a fault each. With `write`, what can be made is made and is no fault."""
    sources = sorted(infra.rglob("*.bicep*"))
    faults = []
    for path in (each for each in sources if each.suffix in {".bicep", ".bicepparam"}):
        faults += _compare(path, call("format", path=str(path))["contents"], infra, write=write)
    environments = {path.stem: path for path in sources if path.suffix == ".bicepparam"}
    diagnostics, templates = [], {}
    for path in (each for each in sources if each.suffix == ".bicep"):  # also one that nothing uses
        diagnostics += call("compile", path=str(path))["diagnostics"]
    for name, path in environments.items():
        compiled = call("compileParams", path=str(path), parameterOverrides={})
        diagnostics += compiled["diagnostics"]
        templates[name] = compiled.get("template")  # none if there are errors
    faults += sorted({_fault(each, infra) for each in diagnostics})
    strays = [path.name for path in (infra / "snapshots").glob("*.json") if path.stem not in environments]
    faults += [f"snapshots/{name} has no parameters." for name in sorted(strays)]
    if faults:
        return faults  # a deployment of templates with errors can't be evaluated
    snapshots = {
        name: {**_snapshot(call, path), "order": order(json.loads(templates[name]))}
        for name, path in environments.items()
    }
    for name, resources in snapshots.items():
        is_switch = environments[name].parent.name == "snapshots"
        content = changes(snapshots["test"], resources) if is_switch else resources
        text = json.dumps(content, indent=2, ensure_ascii=False) + "\n"
        faults += _compare(infra / "snapshots" / f"{name}.json", text, infra, write=write)
    return faults


def changes(base: Mapping[str, Resource], resources: Mapping[str, Resource]) -> dict[str, Resource | None]:
    """The resources that a deployment has otherwise than `base`, by id; None for one that it does not have."""
    differing = {name: each for name, each in resources.items() if base.get(name) != each}
    return differing | {name: None for name in base if name not in resources}


def read_snapshot(name: str, folder: Path = INFRA / "snapshots") -> dict[str, Resource]:
    """The resources of a deployment, by id: a switch's are those of `test` with its changes."""
    content = json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))
    if (folder / f"{name}.bicepparam").exists():
        content = {**read_snapshot("test", folder), **content}
    return {key: each for key, each in content.items() if each is not None}


def order(template: Mapping[str, Any]) -> dict[str, str]:
    """What waits for what: a module for other modules, and under `MODULE/RESOURCE` a resource for those beside it."""
    waits = {}
    for module in (each for each in template["resources"] if each["type"] == "Microsoft.Resources/deployments"):
        waits[module["name"]] = re.findall(r"'Microsoft.Resources/deployments', '([\w-]+)'\)", str(module["dependsOn"]))
        for name, each in module["properties"]["template"]["resources"].items():
            others = [re.sub(r"\W*format\('(\w+)\[.*", r"\1", other) for other in each.get("dependsOn", [])]
            waits[f"{module['name']}/{name}"] = others
    return {name: ", ".join(sorted(others)) for name, others in waits.items() if others}


def _snapshot(call: Call, path: Path) -> dict[str, Resource]:
    """What a deployment would create, and under `outputs` what it would put out, so that a change is one line."""
    answer = call("getSnapshot", path=str(path), metadata={"subscriptionId": SUBSCRIPTION}, externalInputs=[])
    snapshot = json.loads(answer["snapshot"])
    resources = {each["id"]: _readable(each) for each in snapshot["predictedResources"]}
    return {**resources, "outputs": dict(sorted(snapshot["outputs"].items()))}


def _readable(item: Any, name: str = "") -> Any:
    """The same with a line for each app setting, each line of a query, and each member of JSON within a string."""
    match item:
        case dict():
            return {key: _readable(each, key) for key, each in item.items() if key != "id" or name}
        case list() if name == "appSettings":
            return {each["name"]: each["value"] for each in item}
        case list():
            return [_readable(each, name) for each in item]
        case str() if name == "serializedData":
            return _readable(json.loads(item), "JSON")
        case str() if "\n" in item:
            return item.splitlines()
    return item


def _compare(path: Path, text: str, infra: Path, *, write: bool) -> list[str]:
    """A fault if the file has another text; none if it has been written."""
    old = path.read_text(encoding="utf-8") if path.exists() else ""
    if old == text:
        return []
    if write:
        path.write_text(text, encoding="utf-8")
        return []
    name = str(path.relative_to(infra.parent))
    lines = difflib.unified_diff(old.splitlines(), text.splitlines(), name, "as it should be", lineterm="", n=2)
    return [f"{name} is out of date:\n" + "\n".join(itertools.islice(lines, 40))]


def _fault(diagnostic: Mapping[str, Any], infra: Path) -> str:
    """One line about a diagnostic, a warning or an error: both are faults."""
    path = Path(diagnostic["source"])
    place = path.relative_to(infra.parent) if path.is_relative_to(infra.parent) else path
    line = diagnostic["range"]["start"]["line"] + 1
    return f"{place}:{line}: {diagnostic['code']}: {diagnostic['message']}"


def main(arguments: list[str]) -> int:
    """Check, or with `--write` write. Returns 1 if there is a fault, or in CI if there is no compiler."""
    command = shutil.which(os.environ.get("BICEP") or "bicep")
    if not command:
        in_ci = bool(os.environ.get("CI"))
        verdict = "FAILED" if in_ci else "skipped"
        print(f"gate   {verdict}: there is no Bicep compiler, neither in the variable BICEP nor on PATH.")
        return int(in_ci)
    with compiler(command) as call:
        version = call("version")["version"]
        try:
            faults = find_faults(call, write="--write" in arguments)
        except CompilerError as exc:
            faults = [str(exc)]
    for fault in faults:
        print(fault)
    if faults and version != VERSION:
        print(f"gate   This compiler is {version}, CI's is {VERSION}.")
    if faults:
        print(f"gate   `{COMMAND} --write` formats, and writes snapshots; read the difference before you commit it.")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
