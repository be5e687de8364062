"""The shape of the code itself: who imports whom, what a cold start loads, what is explained."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from shared.jobs.executor import MAX_FAILED_ATTEMPTS
from tests.support.source import imports, parse, python_files

ROOT = Path(__file__).parents[2]
PATHS = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted((ROOT / "shared").rglob("*.py"))
}
# Each outside package, by its longest name here, and the only packages or modules of ours that may import it.
OUTSIDE = {
    "aiohappyeyeballs": {"upstream"},
    "aiohttp": {"network"},
    "azure.monitor.opentelemetry": {"telemetry"},
    "azure.core": {"connections", "network", "storage"},
    "azure.data.tables": {"storage"},
    "azure.identity": {"connections"},
    "azure.keyvault": {"connections"},
    "azure.storage": {"storage"},
    "httptools": {"network"},
    "httpx": {"upstream"},
    "imagesize": {"actions"},
    "msgspec": {
        "actions",
        "batches",
        "billing",
        "connections",
        "contract",
        "exports",
        "http",
        "jobs",
        "network",
        "storage",
        "telemetry",
        "webhooks",
    },
    "opentelemetry": {"telemetry"},
    "pypdfium2_raw": {"documents"},
    "standardwebhooks": {"webhooks"},
    "werkzeug": {"http"},
    "yarl": {"storage"},
}

REVEALING = {
    "shared.connections.identity": "vouches for the app",
    "shared.connections.resolver": "decodes",
    "shared.connections.vault_reads": "signs in to the vault",
    "shared.connections.vault_sdk": "stores",
    "shared.exports.keys": "cleans",
    "shared.network.credential": "hands tokens to the SDKs",
    "shared.network.identity_endpoint": "signs in to the identity's endpoint",
    "shared.secret": "compares and redacts",
    "shared.storage.sdk_blobs": "connects",
    "shared.storage.direct.authorization": "signs",
    "shared.storage.direct.endpoint": "reads",
    "shared.storage.queues": "connects",
    "shared.storage.table_requests": "connects",
    "shared.storage_settings": "checks",
    "shared.telemetry.azure_monitor": "connects",
    "shared.upstream.client": "authenticates",
    "shared.upstream.side_process": "hands over to redact",
    "shared.webhooks.signing": "signs",
}
"""The modules that reveal secrets, and what each one does with them."""

ONLY_SOME_JOBS_NEED = {
    *(
        "azure.core",
        "azure.identity",
        "azure.keyvault",
        "azure.storage",
        "azure.data",
        "msal",
        "aiohttp",
        "httpx",
        "yarl",
    ),
    *("cryptography", "openai", "pydantic", "requests", "hypothesis", "pytest"),
    *("shared.connections.key_vault", "shared.connections.vault_sdk", "shared.storage.sdk_blobs"),
    *("shared.actions.chat", "shared.contract.chat"),
    *("shared.contract.refusals", "shared.contract.placement", "shared.contract.inputs"),
    *("pypdfium2_raw", "shared.documents.process", "shared.jobs.document_inputs", "html.parser", "zipfile"),
    *("imagesize", "shared.actions.image", "shared.actions.embed", "shared.contract.image", "shared.contract.embed"),
    *("shared.http.auth", "shared.http.conditional", "shared.http.documentation", "shared.http.problems"),
    *("shared.http.app", "shared.http.jobs", "shared.http.wiring", "shared.jobs.submission", "shared.jobs.queries"),
    *(
        "shared.http.webhooks",
        "shared.webhooks.signing",
        "shared.webhooks.delivery",
        "shared.webhooks.signed_post",
        "shared.webhooks.templates",
        "standardwebhooks",
    ),
    *("opentelemetry", "azure.monitor", "shared.telemetry.opentelemetry", "shared.telemetry.azure_monitor"),
    *("shared.telemetry.call_span", "shared.telemetry.metrics"),
    *("shared.retention.expiry", "shared.retention.sweep", "shared.retention.customer_data"),
    *("shared.http.connections", "shared.http.usage", "shared.billing.statements", "shared.connections.probe"),
    *(
        "shared.actions.completion",
        "shared.actions.map_reduce",
        "shared.actions.summarize",
        "shared.actions.text_splitter",
    ),
}


def imports_of(name: str) -> set[str]:
    """The modules that a module of ours imports, within functions and for types included."""
    imported = set()
    for module, names in imports(PATHS[name].read_text(encoding="utf-8")):
        assert not module.startswith("."), f"{name} imports relatively"
        imported |= ({f"{module}.{each}" for each in names} & set(PATHS)) or {module}
    return imported


def room(name: str) -> str:
    """The module or package right under `shared` that a module belongs to."""
    return name.split(".")[1] if "." in name else ""


def test_modules_are_short():
    """A module of the code and its tools has 250 lines at most, and an `__init__.py` none: it costs every start."""
    folders = ("shared", "aijobs", "local", "benchmarks", "openapi")
    paths = [path for each in folders for path in python_files(ROOT / each)]
    lines = {
        str(path.relative_to(ROOT)): path.read_bytes().count(b"\n")
        for path in [*paths, ROOT / "function_app.py", ROOT / "dev.py"]
    }

    assert {} == {path: count for path, count in lines.items() if count > (0 if "__init__" in path else 250)}


def test_tests_import_no_other_tests():
    """What tests share is in `tests/support`; no test module imports another, or changes `sys.path`."""
    texts = {path: path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("*.py")}
    other = re.compile(
        r"^(?:from|import) tests(?!\.support\b)|^from tests\.support.* import test_|^\s*sys\.path\.", re.MULTILINE
    )

    assert [] == [str(path.relative_to(ROOT)) for path, text in texts.items() if other.search(text)]


def test_outside_packages_are_known_to_few():
    """Each package from outside is imported in its own rooms; nothing else but the standard library is imported."""
    users: dict[str, set[str]] = {}
    for name, imported in {name: imports_of(name) for name in PATHS}.items():
        for module in imported:
            if module.split(".")[0] not in {"shared", *sys.stdlib_module_names}:
                package = next((each for each in OUTSIDE if f"{module}.".startswith(f"{each}.")), module)
                users.setdefault(package, set()).add(room(name))

    assert OUTSIDE == users


def test_few_modules_reveal_secrets():
    """A secret is revealed only in the modules listed here; a key for an AI endpoint only by the HTTP client."""
    revealing = {
        name
        for name, path in PATHS.items()
        if "reveal" in path.read_text(encoding="utf-8")
        and any(isinstance(node, ast.Attribute) and node.attr == "reveal" for node in ast.walk(parse(path)))
    }

    assert set(REVEALING) == revealing
    assert ["shared.upstream.client"] == [name for name, use in REVEALING.items() if use == "authenticates"]


def test_triggers_know_few_rooms():
    """The triggers take what they need to hand bytes in and out, and nothing that does the work."""
    tree = parse(ROOT / "function_app.py")
    froms = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}

    messages = {"shared.http.messages", "shared.http.routes", "shared.jobs.message", "shared.storage.message_text"}
    assert {"shared.clock", "shared.services", "shared.settings"} | messages == froms - {"uuid"}


def test_the_host_looks_into_no_message():
    """As text, plain JSON would replace what the host says of its message: `id`, `dequeueCount`, `insertionTime`."""
    tree = parse(ROOT / "function_app.py")
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)]
    triggers = [call for call in calls if ast.unparse(call.func) == "app.queue_trigger"]

    assert 6 == len(triggers)
    for trigger in triggers:
        assert {"data_type": "BINARY"}.items() <= {
            each.arg: ast.unparse(each.value) for each in trigger.keywords
        }.items()


def test_the_ledger_gives_up_long_before_the_host():
    """A job ends under its own id; the poison queue is a backstop for messages that never got a lease."""
    queues = json.loads((ROOT / "host.json").read_text(encoding="utf-8"))["extensions"]["queues"]

    assert queues["maxDequeueCount"] >= 2 * MAX_FAILED_ATTEMPTS


def test_cold_start_loads_only_what_every_job_needs():
    """
    Importing the app in a fresh process loads nothing that only some jobs need. Nor is a parser of documents loaded by
    what a job with documents needs then: another process has it.
    """
    later = "import shared.jobs.document_inputs; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", f"import sys, function_app; print(*sys.modules); {later}"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ("", 0) == (done.stderr, done.returncode)
    loaded, with_documents = (set(line.split()) for line in done.stdout.splitlines())
    assert "shared.jobs.worker" in loaded
    assert set() == loaded & ONLY_SOME_JOBS_NEED
    assert "shared.documents.process" in with_documents
    assert set() == (with_documents - loaded) & {"pypdfium2_raw", "zipfile", "html.parser", "pyexpat", "ctypes"}


def public(node: ast.AST, path: str) -> list[tuple[str, ast.AST]]:
    """A module with its public functions and classes, and the methods of those classes."""
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    inside = node.body if isinstance(node, ast.Module | ast.ClassDef) else []
    inner = [each for each in inside if isinstance(each, kinds) and each.name[0] != "_"]
    return [(path, node), *(pair for each in inner for pair in public(each, f"{path}.{each.name}"))]


@pytest.mark.long  # parses all of the app; that there is a docstring, `dev.py check` finds, too
def test_what_is_public_is_explained():
    """Each module, and each public class, function and method in it, has a docstring with a sentence."""
    trees = {name: parse(path) for name, path in PATHS.items() if path.stat().st_size}
    documented = [pair for name, tree in trees.items() for pair in public(tree, name)]

    assert [] == [where for where, node in documented if "." not in (ast.get_docstring(node) or "")]
