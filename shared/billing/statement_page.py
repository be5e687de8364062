"""
A statement as a page that reads and prints well: of a closed month, or of one that is still open. Pure.

The page needs nothing but itself: no script, no font, no image. All that others named is escaped, and each text of
theirs is isolated, so that no mark of writing direction reaches its neighbours.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from msgspec import UNSET

from shared.billing.usage_entries import FIXED_DIMENSIONS
from shared.contract.closed_month import ClosedMonth, DocumentLine
from shared.contract.statement import Statement, StatementLine, UnpricedCalls

_STYLE = """\
@page { size: A4; margin: 18mm 16mm; }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 2rem 1rem; max-width: 62rem; color: #1a1a1a; background: #fff; overflow-wrap: anywhere;
  font: 15px/1.45 system-ui, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; }
h1 { margin: 0 0 1.5rem; font-size: 1.6rem; line-height: 1.2; }
.head { display: flex; flex-wrap: wrap; gap: 1rem 3rem; justify-content: space-between; margin-bottom: 2rem; }
.head > * { min-width: 0; max-width: 100%; }
.party { white-space: pre-line; }
.party strong { display: block; }
dl { display: grid; grid-template-columns: max-content minmax(0, auto); gap: .1rem 1.25rem; margin: 0;
  align-content: start; }
dt { color: #555; }
dd { margin: 0; }
.lines { overflow-x: auto; }
table { width: 100%; border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .4rem .6rem; text-align: left; vertical-align: top; border-bottom: 1px solid #ddd; }
th { color: #555; font-weight: 600; border-bottom-color: #888; }
th:first-child, td:first-child { min-width: 11rem; }
.n { text-align: right; white-space: nowrap; overflow-wrap: normal; }
tr { break-inside: avoid; }
thead { display: table-header-group; }
tfoot { display: table-row-group; }
tfoot td { border: 0; border-top: 2px solid #1a1a1a; font-weight: 700; font-size: 1.1rem; }
small { display: block; color: #555; }
bdi { unicode-bidi: isolate; }
.open { padding: .5rem .75rem; border: 1px solid #b35c00; color: #7a3f00; background: #fff7ec; }
footer { margin-top: 2rem; color: #555; }
@media print {
  body { padding: 0; max-width: none; font-size: 9.5pt; }
  .lines { overflow: visible; }
  th, td { padding: .25rem .3rem; }
  th:first-child, td:first-child { min-width: 7rem; padding-left: 0; }
  th:last-child, td:last-child { padding-right: 0; }
}
"""
_HASH = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
PAGE_POLICY = f"default-src 'none'; style-src 'sha256-{_HASH}'; base-uri 'none'; form-action 'none'"
"""The page's Content-Security-Policy: nothing is loaded, nothing runs."""
_USUAL = frozenset({None, "default", "standard"})
"""Labels that say nothing about a price."""
_REPLACED = dict.fromkeys((*range(9), 11, 12, *range(14, 32), *range(127, 160)), "\ufffd")
"""Control characters that HTML does not have."""


@dataclass(frozen=True, slots=True)
class Page:
    """What a page shows."""

    title: str
    party: Sequence[str]
    """Who it is for: a name, and lines below it."""
    facts: Sequence[tuple[str, str]]
    lines: Sequence[DocumentLine]
    total: str | None
    currency: str | None
    """None: there is no price book, so there are no amounts."""
    unpriced: Sequence[UnpricedCalls] = ()
    notes: Sequence[str] = ()
    warning: str = ""
    """What to know before anything else, such as that the month is still open."""


def closed_page(document: ClosedMonth) -> bytes:
    """Return the page of a closed month."""
    kind = "Correction" if document.correction else "Statement"
    party = document.party
    lines = [party.legal_name or document.customer, *(party.address or "").split("\n")]
    facts = [
        ("Number", document.number),
        ("Corrects", document.corrects or ""),
        ("Month", f"{document.month} (UTC)"),
        ("Date", document.closed_at[:10]),
        ("Customer", document.customer),
        ("Tax id", party.tax_id or ""),
        ("Currency", document.currency),
    ]
    return render_page(
        Page(
            title=f"{kind} {document.number}",
            party=[line for line in lines if line],
            facts=[(name, value) for name, value in facts if value],
            lines=document.lines,
            total=document.total,
            currency=document.currency,
            unpriced=document.unpriced,
            notes=["Amounts contain no tax."],
        )
    )


def open_page(statement: Statement) -> bytes:
    """
    Return the page of a statement that can still change. Its lines are those of answered calls, which sum to its total.

    Who may not see list prices gets a statement without them; none are shown here.
    """
    total = statement.totals.answered
    answered = [line for line in statement.lines if line.outcome == "answered"]
    uncertain = statement.totals.lost.records + statement.totals.unanswered.records
    days = f"{statement.from_} to {statement.to}"
    return render_page(
        Page(
            title=f"Usage of {statement.customer}",
            party=[statement.customer],
            facts=[
                (name, value)
                for name, value in (("Days", f"{days} (UTC)"), ("Currency", total.currency or ""))
                if value
            ],
            lines=[_open_line(line) for line in answered],
            total=total.amount,
            currency=total.currency,
            unpriced=[each for each in statement.unpriced if each.outcome == "answered"],
            notes=[
                *([f"Not in the total, lost or unanswered: {uncertain:,} of the calls."] if uncertain else []),
                *(["Amounts contain no tax."] if total.currency else []),
            ],
            warning="Not closed: what this page shows can still change.",
        )
    )


def _open_line(line: StatementLine) -> DocumentLine:
    labels = ("model", "action", "connection", *FIXED_DIMENSIONS, "calls", "jobs", "input_tokens", "output_tokens")
    members: dict[str, Any] = {name: getattr(line, name) for name in (*labels, "amount")}
    members = {name: value for name, value in members.items() if value is not UNSET}
    description = line.day or line.month or None
    return DocumentLine(kind=line.kind or "usage", description=description, unpriced=line.unpriced or 0, **members)


def render_page(page: Page) -> bytes:
    """Return a page as UTF-8."""
    name, *rest = page.party
    party = f"<strong>{_text(name)}</strong>" + "\n".join(map(_text, rest))
    facts = "".join(f"<dt>{_text(term)}</dt><dd>{_text(value)}</dd>" for term, value in page.facts)
    warning = f'<p class="open">{_text(page.warning)}</p>' if page.warning else ""
    notes = [*(_unpriced(each) for each in page.unpriced), *page.notes]
    parts = [
        "<!doctype html>",
        '<html lang="en"><head><meta charset="utf-8">',
        f'<meta http-equiv="Content-Security-Policy" content="{escape(PAGE_POLICY)}">',
        '<meta name="viewport" content="width=device-width, initial-scale=1"><meta name="robots" content="noindex">',
        f"<title>{_plain(page.title)}</title><style>{_STYLE}</style></head><body>",
        f"<h1>{_text(page.title)}</h1>{warning}",
        f'<div class="head"><div class="party">{party}</div><dl>{facts}</dl></div>',
        f'<div class="lines">{_table(page)}</div>',
        f"<footer>{''.join(f'<p>{_text(note)}</p>' for note in notes)}</footer>",
        "</body></html>\n",
    ]
    return "\n".join(parts).encode()


def _table(page: Page) -> str:
    if not page.lines:
        return "<p>There is no usage.</p>"
    head = "".join(
        f'<th scope="col"{_number(name != "Description")}>{name}</th>'
        for name in ("Description", "Jobs", "Calls", "Input tokens", "Output tokens", _amount_title(page))
        if name
    )
    body = "".join(f"<tr>{_line(line, page)}</tr>" for line in page.lines)
    total = ""
    if page.total is not None and page.currency is not None:
        amount = f"{_plain(page.total)} {_plain(page.currency)}"
        total = f'<tfoot><tr><td colspan="5">Total</td><td class="n">{amount}</td></tr></tfoot>'
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody>{total}</table>"


def _line(line: DocumentLine, page: Page) -> str:
    is_usage = line.kind == "usage"
    counts = (line.jobs, line.calls, line.input_tokens, line.output_tokens)
    cells = [f"<td>{_description(line)}</td>"]
    cells += [f'<td class="n">{_count(count) if is_usage else ""}</td>' for count in counts]
    if page.currency is not None:
        cells.append(f'<td class="n">{_plain(line.amount or "no price")}</td>')
    return "".join(cells)


def _description(line: DocumentLine) -> str:
    if line.kind == "rounding":
        return "Rounding of the total"
    if line.kind != "usage":
        title = "Credit" if line.kind == "credit" else "Debit"
        return f"{_text(line.description or title)}<small>{title} {_text(line.adjustment or '')}</small>"
    priced_by = (line.service_tier, line.processing, line.deployment_scope)
    details = (line.description, line.action, line.connection, line.provider)
    words = [word for word in (*details, *(each for each in priced_by if each not in _USUAL)) if word]
    if line.outcome not in {None, "answered"}:
        words.append(line.outcome or "")
    if line.unpriced:
        words.append(f"{line.unpriced:,} without a price")
    return f"{_text(line.model or 'No model')}<small>{' · '.join(map(_text, words))}</small>"


def _amount_title(page: Page) -> str:
    return "" if page.currency is None else f"Amount ({_plain(page.currency)})"


def _number(is_number: bool) -> str:
    return ' class="n"' if is_number else ""


def _count(count: float | None) -> str:
    return "-" if count is None else f"{count:,}"


def _unpriced(calls: UnpricedCalls) -> str:
    records = "1 record" if calls.records == 1 else f"{calls.records:,} records"
    return f"Not in the total, without a price: {records} of {calls.model or 'no model'}."


def _text(text: str) -> str:
    """Return a text of anybody's, which affects nothing around it."""
    return f"<bdi>{_plain(text)}</bdi>"


def _plain(text: str) -> str:
    return escape(text.translate(_REPLACED))
