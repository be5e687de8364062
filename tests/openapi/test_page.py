"""The page that is made of the OpenAPI document."""

from __future__ import annotations

import functools
import json
from typing import Any

from openapi.page import write_page
from shared.contract.documents import API_PREFIX
from tests.support.doc_samples import ROOT
from tests.support.html_reader import HtmlReader, read_html

DOCUMENT = json.loads((ROOT / "shared/http/static/openapi.json").read_bytes())
SCHEMAS = DOCUMENT["components"]["schemas"]


def operations() -> list[tuple[str, str, dict[str, Any]]]:
    """Each operation with its method and path."""
    return [
        (method, path, operation)
        for path, methods in DOCUMENT["paths"].items()
        for method, operation in methods.items()
    ]


@functools.cache
def usual_page() -> HtmlReader:
    """The page that the app serves."""
    return read_html(write_page(DOCUMENT))


def test_page_shows_the_whole_document():
    """It has each operation with its parameters, statuses and examples, each type with its members; links resolve."""
    page = usual_page()
    ids = {attributes["id"] for _, attributes in page.tags if "id" in attributes}

    for method, path, operation in operations():
        assert operation["operationId"] in ids
        assert f"curl -X {method.upper()} 'https://" in page.text
        assert f"{API_PREFIX}{path}" in page.text
        for parameter in operation["parameters"]:
            assert parameter["description"].replace("`", "") in page.text
        for status, answer in operation["responses"].items():
            assert answer["description"].replace("`", "") in page.text
            assert f"{status} " in page.text
    for name, schema in SCHEMAS.items():
        assert f"type-{name}" in ids
        for member in schema.get("properties", {}):
            assert member in page.text
    links = {attributes["href"] for tag, attributes in page.tags if tag == "a"}
    assert {f"{API_PREFIX}/openapi.json"} == {link for link in links if not (link or "").startswith("#")}
    assert {link.removeprefix("#") for link in links if link and link.startswith("#")} <= ids
    assert len(ids) == sum("id" in attributes for _, attributes in page.tags)


def test_texts_of_the_document_are_escaped():
    """Whatever a text of the document holds is shown as text; it makes no element and no attribute."""
    hostile = """<script>alert('x')</script>" onclick="x()">&amp;`<b>"""
    changed = json.loads(json.dumps(DOCUMENT))
    changed["info"]["title"] = changed["info"]["description"] = hostile
    operation = changed["paths"]["/jobs"]["post"]
    for name in ("summary", "description", "operationId"):
        operation[name] = hostile
    operation["parameters"][0].update(name=hostile, description=hostile, schema={"enum": [hostile]})
    operation["responses"]["202"]["description"] = hostile
    operation["requestBody"]["content"]["application/json"]["example"] = {hostile: hostile}
    changed["components"]["schemas"]["Output"].update(description=hostile, properties={hostile: {"const": hostile}})
    changed["components"]["schemas"][hostile] = {"properties": {"a": {"$ref": f"#/components/schemas/{hostile}"}}}

    page, usual = read_html(write_page(changed)), usual_page()

    assert {tag for tag, _ in page.tags} == {tag for tag, _ in usual.tags}
    assert {name for _, attributes in page.tags for name in attributes} == {
        name for _, attributes in usual.tags for name in attributes
    }
    assert page.text.count("<script>alert('x')</script>") > 10
