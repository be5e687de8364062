"""The names in the docs are those of the code: files, functions, tests, and the words of the glossary."""

from __future__ import annotations

import inspect
import os
import re
from collections.abc import Iterator
from pathlib import Path

from shared import errors
from shared.actions import base
from shared.actions.base import Action, Context
from shared.contract.job import ACTIONS
from shared.jobs.ledger import Ledger
from tests.support.doc_samples import PAGES, ROOT, prose, section
from tests.support.rows import every_row

GLOSSARY = ROOT / "docs/glossary.md"
ROWS = re.findall(r"^\| ([\w, -]+) \| (.+) \|(?: ([\w, -]+))? \|$", GLOSSARY.read_text(encoding="utf-8"), re.MULTILINE)
TERMS = [row for row in ROWS if row[0] not in {"term", "---"}]
"""Each row of the glossary: the term, its meaning, and the words that it is used instead of."""
CODE = "\n".join(
    path.read_text(encoding="utf-8").casefold()
    for path in [ROOT / "function_app.py", ROOT / "host.json", *(ROOT / "shared").rglob("*.py")]
)
WORDS = set(re.findall(r"\w+", CODE))


def ours() -> Iterator[Path]:
    """The project's files and folders, without what is installed."""
    for top in ROOT.iterdir():
        if top.name in {".git", ".venv"}:
            continue
        yield top
        for folder, folders, names in os.walk(top):
            folders[:] = [name for name in folders if name not in {"node_modules", "__pycache__"}]
            yield from (Path(folder) / name for name in (*folders, *names))


def test_files_and_tests_that_pages_name_exist():
    """A path in backticks that looks like one of the project's leads to a file, or a folder if it ends in `/`."""
    tops = {path.name for path in ROOT.iterdir()} - {".venv"}
    modules = {path.stem for path in (ROOT / "tests").rglob("test_*.py")}
    paths, tests = set[str](), set[str]()
    for page in PAGES:
        paths |= {path for path in re.findall(r"`([\w./-]+/[\w./-]*)`", prose(page)) if path.split("/")[0] in tops}
        paths |= set(re.findall(r"`([\w-]+\.(?:py|toml|bicep|yml))`", prose(page)))
        tests |= set(re.findall(r"[`\[](test_\w+)[`\]]", page.read_text(encoding="utf-8")))

    paths -= {"local/node_modules", "container/name", "receiver.py"}  # made by setup; a blob; saved by the reader
    assert len(paths) > 80
    assert {"shared/jobs/worker.py", "tests/integration/actions/", "job.py"} <= paths
    files = [f"/{path.relative_to(ROOT).as_posix()}" for path in ours()]
    assert [] == sorted(
        path for path in paths if not (ROOT / path).exists() and not any(file.endswith(f"/{path}") for file in files)
    )
    assert [] == sorted(path for path in paths if path.endswith("/") and not (ROOT / path).is_dir())
    assert len(tests) > 5
    assert set() == tests - modules


def test_places_to_look_in_are_there():
    """Each function or constant that the README says to look for is defined in the file that it links to."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| [^|]*\| \[[\w.]+\]\(([\w/]+\.py)\), (`[^|;]*`)", readme, re.MULTILINE)

    assert len(rows) >= 5
    for file, names in rows:
        for name in re.findall(r"`(\w+)`", names):
            text = (ROOT / file).read_text(encoding="utf-8")
            assert re.search(rf"def {name}\(|^{name} = ", text, re.MULTILINE), f"{name} in {file}"


def test_readme_names_all_that_writes_usage_records():
    """The README names each method of the ledger that takes usage records, and every other module that makes them."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| where [^|]*usage records [^|]*\| \[[\w.]+\]\(([\w/]+\.py)\)(.*) \|$", readme, re.MULTILINE)
    named = {name for file, names in rows if file == "shared/jobs/ledger.py" for name in re.findall(r"`(\w+)`", names)}
    methods = inspect.getmembers(Ledger, inspect.isfunction)
    writing = {name for name, method in methods if "usage" in inspect.signature(method).parameters}
    makers = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "shared").rglob("*.py")
        if " usage_rows(" in path.read_text(encoding="utf-8").replace("def usage_rows(", "")
    }

    assert writing | {"append_usage"} == named
    others = {"shared/connections/probe.py", "shared/retention/abandoned_jobs.py", "shared/batches/late_answers.py"}
    assert {"shared/jobs/attempt_usage.py", *others} == makers
    assert others <= {file for file, _ in rows}


def test_drawing_of_the_readme_names_the_parts_of_azure():
    """The README's drawing has each part of Azure that the app uses, and the customers' endpoints."""
    (drawing,) = re.findall(r"^```mermaid\n(.*?)^```", (ROOT / "README.md").read_text(), re.MULTILINE | re.DOTALL)

    for part in ("Azure Functions<br/>Flex Consumption", "Storage queue", "Storage table", "Storage blobs"):
        assert part in drawing
    for part in ("Key Vault", "Application Insights", "Azure OpenAI", "Foundry", "OpenAI"):
        assert part in drawing


def test_readme_links_to_every_page():
    """Every page in docs/ is linked from the README, or from the page on submitting, which has the actions."""
    texts = [(ROOT / "README.md").read_text(), (ROOT / "docs/submit.md").read_text().replace("](", "](docs/")]
    linked = set(re.findall(r"\]\((docs/[\w/.-]+\.md)", "\n".join(texts)))

    assert {str(page.relative_to(ROOT)) for page in (ROOT / "docs").rglob("*.md")} <= linked


def test_members_of_an_action_and_its_context_exist():
    """The page on extending names members that an action has, and that its context offers."""
    page = section("docs/extend.md", "Another action")
    members = set(re.findall(r"^\| `(?:async )?(\w+)[`(]", page, re.MULTILINE))
    used = set(re.findall(r"\bctx\.(\w+)", page))

    assert members - {"ctx"} == {name for name in {*vars(Action), *Action.__annotations__} if name[0] != "_"}
    assert used <= set(vars(Context))
    assert len(used) >= 6
    for reference in ("`Action` in [job.py]", "`_ACTIONS` in [base.py]", "`INPUTS` in [inputs.py]"):
        assert reference in page
    assert "`.venv/bin/python -m openapi`" in page
    assert set(base._ACTIONS) == set(ACTIONS)


def test_functions_of_azure_have_their_names():
    """A page names no function of the app that function_app.py doesn't define."""
    defined = set(re.findall(r"^async def (\w+)\(", (ROOT / "function_app.py").read_text(), re.MULTILINE))
    text = "\n".join(prose(page) for page in PAGES)
    named = set(re.findall(r"`(run_job|\w*bury\w*|dead_letter_\w+|deliver_\w+|\w*sweep)`", text))

    assert named - {"sweep"} <= defined
    assert "sweep" not in named


@every_row(("term", "meaning"), [row[:2] for row in TERMS], ids=[row[0] for row in TERMS])
def test_identifiers_of_the_glossary_are_in_the_code(term: str, meaning: str):
    """What the glossary writes as code is a name or a value in the code."""
    for name in re.findall(r"`([\w-]+)`", meaning):
        folded = name.casefold()
        assert folded in WORDS or re.search(rf"\b{re.escape(folded)}\b", CODE), f"{term}: {name}"


def test_glossary_has_each_term_once_and_all_values():
    """No term is explained twice; the actions, and one example of an error code, are those of the contract."""
    names = [name for term, _, _ in TERMS for name in term.split(", ")]
    meanings = {term: set(re.findall(r"`(\w+)`", meaning)) for term, meaning, _ in TERMS}
    codes = {getattr(each, "code", None) for each in vars(errors).values()}

    assert len(names) == len(set(names)) > 40
    assert set(ACTIONS) == meanings["action"]
    assert meanings["error code"] <= codes


@every_row("page", [page for page in PAGES if page != GLOSSARY], ids=lambda page: page.name)
def test_pages_use_the_words_of_the_glossary(page: Path):
    """No page uses a word that the glossary has another one for."""
    instead_of = [word for _, _, words in TERMS for word in words.split(", ") if word]
    text = prose(page).casefold()

    assert len(instead_of) > 5
    used = [word for word in instead_of if word.casefold() in text]
    assert [] == [word for word in used if re.search(rf"\b{re.escape(word)}\b", text, re.IGNORECASE)]
