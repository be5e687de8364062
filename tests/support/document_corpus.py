"""Documents of every kind, made by programs and by hand, with the text that is read of each, or why there is none."""

from __future__ import annotations

import gzip
import io
import struct
import warnings
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from shared.documents.kinds import Problem
from tests.support.doc_samples import ROOT
from tests.support.document_files import (
    NAMESPACES,
    PICTURE,
    docx,
    lines,
    package,
    paragraph,
    pdf,
    placed,
    pptx,
    shape,
    table,
    zipped,
)

_FILES = ROOT / "tests/data/documents"
_HEADING = '<w:pStyle w:val="{}"/>'
_STYLES = (
    '<w:style w:type="paragraph" w:styleId="H2"><w:name w:val="Heading 2"/></w:style>'
    '<w:style w:type="paragraph" w:styleId="Own"><w:name w:val="Own"/><w:basedOn w:val="H2"/></w:style>'
    '<w:style w:type="paragraph" w:styleId="Loop"><w:name w:val="x"/><w:basedOn w:val="Loop"/></w:style>'
    '<w:style w:type="character" w:styleId="Bold"><w:name w:val="heading 1"/></w:style>'
)
_NUMBERING = (
    '<w:abstractNum w:abstractNumId="7">'
    '<w:lvl w:ilvl="0"><w:start w:val="3"/><w:numFmt w:val="decimal"/><w:lvlText w:val="%1."/></w:lvl>'
    '<w:lvl w:ilvl="1"><w:start w:val="1"/><w:numFmt w:val="lowerLetter"/><w:lvlText w:val="(%2)"/></w:lvl>'
    '<w:lvl w:ilvl="2"><w:start w:val="1"/><w:numFmt w:val="lowerRoman"/><w:lvlText w:val="%1.%3"/></w:lvl>'
    "</w:abstractNum>"
    '<w:num w:numId="1"><w:abstractNumId w:val="7"/></w:num>'
)
_TEXT_BOX = (
    "<w:p><w:r><mc:AlternateContent><mc:Choice><w:txbxContent>{0}</w:txbxContent></mc:Choice>"
    "<mc:Fallback><w:pict>{0}</w:pict></mc:Fallback></mc:AlternateContent><w:t>Beside the box.</w:t></w:r></w:p>"
)
_LAUGHS = '<!DOCTYPE w:document [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">]>'
_OUTSIDE = '<!DOCTYPE w:document SYSTEM "http://127.0.0.1:9/x.dtd">'
_WORKBOOK = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet.main+xml"
_PNG = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + b"IHDR" + bytes(30)
_TABLE = (
    "<p:graphicFrame><a:tbl><a:tr><a:tc><a:p><a:r><a:t>Item</a:t></a:r></a:p></a:tc>"
    "<a:tc><a:p><a:r><a:t>Euro</a:t></a:r></a:p></a:tc></a:tr></a:tbl></p:graphicFrame>"
)


@dataclass(frozen=True)
class Sample:
    """A document. `name` is its blob's; `makes` returns its bytes."""

    name: str
    makes: Callable[[], bytes]
    contains: tuple[str, ...] = ()
    """Parts of its text, in their order."""
    lacks: tuple[str, ...] = ()
    problem: Problem | None = None
    pages: int | None = None
    pages_without_text: str | None = None


def _in_list(num: int, depth: int) -> str:
    return f'<w:numPr><w:ilvl w:val="{depth}"/><w:numId w:val="{num}"/></w:numPr>'


def _file(name: str) -> Callable[[], bytes]:
    return (_FILES / name).read_bytes


def _html(body: str, head: str = "") -> Callable[[], bytes]:
    return f"<!DOCTYPE html><html><head>{head}</head><body>{body}</body></html>".encode


def _nested_lists(depth: int) -> bytes:
    return ("<html><body>" + "<ul><li>x" * depth + "end").encode()


def _nested_tables(depth: int) -> bytes:
    return docx("<w:tbl><w:tr><w:tc>" * depth + paragraph("Deep.") + "</w:tc></w:tr></w:tbl>" * depth)


def _encrypted_zip() -> bytes:
    data = bytearray(docx(paragraph("x")))
    entry = data.find(b"PK\x01\x02")
    while entry >= 0:
        data[entry + 8] |= 1
        entry = data.find(b"PK\x01\x02", entry + 4)
    return bytes(data)


def _loop_of_pages() -> bytes:
    return pdf([lines("Once.")]).replace(b"/Kids [6 0 R] /Count 1", b"/Kids [6 0 R 2 0 R] /Count 2")


def _form_of_itself() -> bytes:
    form = (
        b"<< /Type /XObject /Subtype /Form /BBox [0 0 9 9] /Resources << /XObject << /Fm1 5 0 R >> >> /Length 7 >>\n"
        b"stream\n/Fm1 Do\nendstream"
    )
    return pdf([lines("Around.") + b"\n/Fm1 Do"], resources=b"/Fm1 5 0 R", objects=[form])


def _filled_in() -> bytes:
    field = (
        b"<< /Type /Annot /Subtype /Widget /FT /Tx /T (name) /V (Jane Doe) /F 4 /Rect [99 700 299 720] "
        b"/AP << /N 6 0 R >> >>"
    )
    shown = b"BT /F1 11 Tf 2 4 Td (Jane Doe) Tj ET"
    form = (
        b"<< /Type /XObject /Subtype /Form /BBox [0 0 200 20] /Resources << /Font << /F1 3 0 R >> >> /Length %d >>\n"
        b"stream\n%s\nendstream" % (len(shown), shown)
    )
    return pdf([lines("Name of the tenant:")], annotations=b"5 0 R", objects=[field, form])


def _undrawn() -> bytes:
    field = b"<< /Type /Annot /Subtype /Widget /FT /Tx /T (name) /V (Jane Doe) /F %d /Rect [99 700 299 720] >>"
    note = b"<< /Type /Annot /Subtype /FreeText /Contents (Signed.) /F 4 /Rect [99 600 299 620] >>"
    objects = [field % 4, note, field.replace(b"Jane Doe", b"Secret") % 2]
    return pdf([lines("Name of the tenant:")], annotations=b"5 0 R 6 0 R 7 0 R", objects=objects)


def _illegible() -> bytes:
    """A page whose font says of its letters that they are characters of its own."""
    map_ = (
        b"/CIDInit /ProcSet findresource begin 12 dict begin begincmap /CMapName /x def 1 begincodespacerange "
        b"<00> <FF> endcodespacerange 1 beginbfrange <00> <FF> <E000> endbfrange endcmap end end"
    )
    font = b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica /ToUnicode 5 0 R >>"
    data = pdf([lines("Nobody can tell.")], objects=[b"<< /Length %d >>\nstream\n%s\nendstream" % (len(map_), map_)])
    usual = b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica /Encoding /WinAnsiEncoding >>"
    return data.replace(usual, font)


def _moved() -> bytes:
    return docx(
        "<w:p><w:ins><w:r><w:t>New. </w:t></w:r></w:ins><w:del><w:r><w:delText>Gone. </w:delText></w:r></w:del>"
        "<w:moveFrom><w:r><w:t>Elsewhere. </w:t></w:r></w:moveFrom><w:r><w:rPr><w:vanish/></w:rPr><w:t>Hidden. </w:t>"
        '</w:r><w:r><w:rPr><w:vanish w:val="0"/></w:rPr><w:t>Seen.</w:t></w:r><w:r><w:instrText>PAGE</w:instrText>'
        "</w:r></w:p>"
    )


def _notes() -> bytes:
    return docx(
        '<w:p><w:r><w:t>Rent</w:t></w:r><w:r><w:footnoteReference w:id="2"/></w:r></w:p>'
        '<w:p><w:r><w:t>Term</w:t></w:r><w:r><w:endnoteReference w:id="2"/></w:r></w:p>',
        footnotes=f'<w:footnote w:id="0">{paragraph("unused")}</w:footnote>'
        f'<w:footnote w:id="2">{paragraph("Without tax.")}{paragraph("Or fees.")}</w:footnote>',
        endnotes=f'<w:endnote w:id="2">{paragraph("In years.")}</w:endnote>',
    )


def _outside_relations() -> bytes:
    rels = (
        '<Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships">'
        '<Relationship Id="r1" Type="x/styles" Target="http://127.0.0.1:9/s.xml" TargetMode="External"/>'
        '<Relationship Id="r2" Type="x/footnotes" Target="../../../../etc/passwd"/></Relationships>'
    )
    data = docx(paragraph("Alone."))
    with zipfile.ZipFile(io.BytesIO(data)) as file:
        parts = {name: file.read(name) for name in file.namelist()}
    return zipped(parts | {"word/_rels/document.xml.rels": rels.encode()})


def _equal_names() -> bytes:
    """A ZIP file with its main part twice, and a third time in capitals, as no program writes it."""
    whole = io.BytesIO(docx(paragraph("First.")))
    with warnings.catch_warnings(), zipfile.ZipFile(whole, "a") as file:
        warnings.simplefilter("ignore")
        for name, text in (("word/document.xml", "Second."), ("WORD/DOCUMENT.XML", "Third.")):
            file.writestr(name, f"<w:document {NAMESPACES}><w:body>{paragraph(text)}</w:body></w:document>")
    return whole.getvalue()


def _with_part(data: bytes, name: str, text: str | bytes) -> bytes:
    with zipfile.ZipFile(io.BytesIO(data)) as file:
        parts: dict[str, str | bytes] = {name: file.read(name) for name in file.namelist()}
    return zipped(parts | {name: text})


def _without_part(data: bytes, lost: str) -> bytes:
    with zipfile.ZipFile(io.BytesIO(data)) as file:
        return zipped({name: file.read(name) for name in file.namelist() if name != lost})


def _absurd_numbers() -> bytes:
    """Numbers beyond every bound, where Word has small ones."""
    huge = "9" * 5_000
    properties = f'<w:outlineLvl w:val="-3"/><w:numPr><w:ilvl w:val="{huge}"/><w:numId w:val="1"/></w:numPr>'
    cell = f'<w:tc><w:tcPr><w:gridSpan w:val="{huge}"/><w:vMerge/></w:tcPr>{{}}</w:tc>'
    rows = "".join(f"<w:tr>{cell.format(paragraph(text))}{cell.format('')}</w:tr>" for text in "ab")
    return docx(
        f'<w:tbl><w:tblGrid><w:gridCol w:w="{huge}"/></w:tblGrid>{rows}</w:tbl>' + paragraph("Item", properties),
        numbering=f'<w:abstractNum w:abstractNumId="7"><w:lvl w:ilvl="{huge}"><w:start w:val="{huge}"/>'
        '<w:numFmt w:val="upperRoman"/><w:lvlText w:val="%9%1."/></w:lvl></w:abstractNum>'
        '<w:num w:numId="1"><w:abstractNumId w:val="7"/></w:num>',
    )


def _deep_pages(depth: int) -> bytes:
    """A page that lies under so many nodes of its tree, and one beside them."""
    data = pdf([lines("Beside."), lines("Below.")])
    first, last = 1_000, 1_000 + depth
    nodes = b"".join(
        b"%d 0 obj\n<< /Type /Pages /Kids [%d 0 R] /Count 1 >>\nendobj\n"
        % (number, 8 if number == last else number + 1)
        for number in range(first, last + 1)
    )
    # Without its table, the file is read from its start to its end.
    return data.replace(b"8 0 R] /Count", b"1000 0 R] /Count").replace(b"xref\n0", nodes + b"xref\n9", 1)


def _missing_pages() -> bytes:
    return pdf([lines("Kept.")]).replace(b"/Kids [6 0 R] /Count 1", b"/Kids [6 0 R 99 0 R 7 0 R] /Count 3")


def _unmapped() -> bytes:
    """A page whose font has codes of its own, and does not say for what."""
    font = b"<< /Type /Font /Subtype /Type1 /BaseFont /ABCDEF+Own /FirstChar 1 /LastChar 3 /Widths [500 500 500] >>"
    usual = b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica /Encoding /WinAnsiEncoding >>"
    return pdf([b"BT /F1 11 Tf 50 700 Td <01020103010103> Tj ET"]).replace(usual, font)


CORPUS = [
    # Made by programs.
    Sample(
        "chromium.pdf",
        _file("chromium.pdf"),
        (
            *("[Page 1]", "# Quarterly report", "## Markets", "Ghent most of all", "Q1 4.2", "[Page 2]"),
            *("Zürich opens in May", "مرحبا بالعالم", "שלום עולם"),
        ),
        pages=2,
    ),
    Sample(
        "libreoffice.pdf",
        _file("libreoffice.pdf"),
        ("## Markets", "- Belgium grew", "価格は", "مرحبا بالعالم"),
        pages=1,
    ),
    Sample(
        "libreoffice-slides.pdf",
        _file("libreoffice-slides.pdf"),
        ("# Plan for 2027", "- Open in Zürich", "[Page 2]", "Rent 1,200"),
        pages=3,
        pages_without_text="3",
    ),
    Sample("owner-password.pdf", _file("owner-password.pdf"), ("A plan that anyone may read.",), pages=1),
    Sample("encrypted.pdf", _file("encrypted.pdf"), problem="encrypted"),
    Sample(
        "libreoffice.docx",
        _file("libreoffice.docx"),
        (
            *("# Quarterly report\n", "- Belgium grew\n  - Ghent most of all\n", "| Q1 | 4.2 |\n| Q2 | 3.9 |"),
            *("1. First we measure.\n2. Then we cut.", "שלום עולם"),
        ),
    ),
    Sample(
        "python-docx.docx",
        _file("python-docx.docx"),
        (
            "# Lease",
            "## Of the tenant",
            "- Pay on the first\n- Keep it clean",
            "1. Measure\n2. Sign",
            "| 2027 | 1,200 |",
        ),
    ),
    Sample("old.doc", _file("python-docx.doc"), problem="old_office"),
    Sample(
        "libreoffice.pptx",
        _file("libreoffice.pptx"),
        (
            *("[Slide 1]\n\n## Plan for 2027\n\n- Open in Zürich\n  - Hire four people", "Notes: Mention the lease."),
            *("[Slide 2]", "| Rent | 1,200 |", "All prices without tax."),
        ),
        pages=3,
    ),
    Sample("python-pptx.pptx", _file("python-pptx.pptx"), ("## Costs", "| Item | Euro |"), pages=3),
    Sample("slides.odp", _file("python-pptx.odp"), problem="other_zip"),
    # Neither text nor document.
    Sample("picture.txt", lambda: _PNG, problem="binary"),
    Sample("packed.pdf", lambda: gzip.compress(bytes(500)), problem="binary"),
    Sample("old.docx", lambda: rb"{\rtf1 Hello}", problem="rtf"),
    Sample("files.docx", lambda: zipped({"a.txt": "x"}), problem="other_zip"),
    Sample(
        "book.xlsx",
        lambda: package({"xl/workbook.xml": "<workbook/>"}, main="xl/workbook.xml", kind=_WORKBOOK),
        problem="other_office",
    ),
    Sample("empty.zip", lambda: zipped({}), problem="other_zip"),
    Sample("many.zip", lambda: zipped({f"{number}": b"" for number in range(3_000)}), problem="other_zip"),
    # Pages.
    Sample(
        "page.html",
        _html("<h1>Lease</h1><p>Rent &amp; <b>fees</b>: 5&#8364;<br>a month.</p>", "<title>Lease</title>"),
        ("# Lease\n\nRent & fees: 5€\na month.",),
        ("# Lease\n\n# Lease",),
    ),
    Sample("lists.htm", _html("<ol><li>a<ul><li>b</li></ul><li>c</ol>"), ("1. a\n  - b\n2. c",)),
    Sample("table.html", _html("<table><tr><th>a<th>b|c<tr><td>d<td><p>e<p>f"), ("| a | b\\|c |\n| d | e f |",)),
    Sample(
        "layout.html",
        _html(f"<table><tr><td>{'word ' * 100}<td>end</table>"),
        ("word word", "\n\nend"),
        ("|",),
    ),
    Sample("within.html", _html("<table><tr><td>a<td><table><tr><td>b<td>c</table></table>"), ("| a | b \\| c |",)),
    Sample(
        "unseen.html",
        _html(
            "<script>x()</script><style>p{}</style><div hidden>no<div>no</div>no</div><svg><text>no</text></svg>"
            "<span style='display: none'>no</span><p>Yes.<template><p>no</template>",
        ),
        ("Yes.",),
        ("no", "x()", "p{}"),
    ),
    Sample(
        "left-open.html",
        _html(
            "<p hidden>no<p>One<ul><li hidden>no<ul><li>no</ul>no<li>Two</ul><ol><li hidden>no</ol>Three"
            "<dl><dt hidden>no<dd>Four</dl><p style='Visibility: hidden'>no<div>Five</div>"
            "<table><tr><td hidden>no<table><tr><td>no</table>no<td>Six<tr style='display:none'><td>no<td>no"
            "<tr><td>Seven<td hidden>no</table>Eight"
        ),
        ("One", "Two", "Three", "Four", "Five", "Six", "Seven", "Eight"),
        ("no",),
    ),
    Sample(
        "outside.html",
        _html('<img src="http://127.0.0.1:9/x.png" alt="A hall"><iframe src="file:///etc/passwd"></iframe>'),
        ("A hall",),
        ("root:",),
    ),
    Sample("preformatted.html", _html("<pre>a\n  b</pre>"), ("a\n  b",)),
    Sample("empty.html", _html("<script>x</script>"), problem="no_text"),
    Sample("latin.html", lambda: b'<html><meta charset="iso-8859-1"><p>5 \x80 f\xfcr Gr\xfc\xdfe', ("5 € für Grüße",)),
    Sample("japanese.html", lambda: '<html><meta charset="shift_jis">価格'.encode("shift_jis"), ("価格",)),
    Sample("shift.html", lambda: '<html><meta charset="x-sjis">①'.encode("cp932"), ("①",)),
    Sample("euro.html", lambda: '<html><meta charset="gb2312">价格 €'.encode("gb18030"), ("价格 €",)),
    Sample("seven.html", lambda: b'<html><meta charset="utf-7">+ADw-b+AD4-', ("+ADw-b+AD4-",)),
    Sample("undefined.html", lambda: b'<html><meta charset="undefined">Defined.', ("Defined.",)),
    Sample("unknown.html", lambda: b'<html><meta charset="no-such">Gr\xc3\xbc\xc3\x9fe', ("Grüße",)),
    Sample("wide.html", lambda: "<html><p>Grüße".encode("utf-16"), ("Grüße",)),
    Sample("commented.txt", lambda: b"\n<!-- a --><?xml version='1.0'?><!doctype html><p>Late.", ("Late.",), ("<",)),
    Sample("part.html", lambda: b"<p>Only a part.</p>", ("Only a part.",), ("<p>",)),
    Sample("page.pdf", _html("<p>Named wrongly."), ("Named wrongly.",)),
    Sample("arabic.html", _html('<p dir="rtl">مرحبا بالعالم'), ("مرحبا بالعالم",)),
    Sample("cut.html", lambda: b"<html><body><p>Kept.<table><tr><td>a<td>b<p", ("Kept.", "| a | b")),
    Sample("unclosed.html", lambda: b"<html><p>Kept." + b"<div><b><span>" * 2_000, ("Kept.",)),
    Sample("unclosed-tables.html", lambda: b"<html><p>Kept." + b"<table><tr><td>" * 1_000 + b"end", ("Kept.", "end")),
    Sample("unclosed-comments.html", lambda: b"<html><p>Kept." + b"<!--" * 500, ("Kept.",)),
    Sample("bare.html", lambda: b"<html><p>Kept." + b"<" * 5_000, ("Kept.",)),
    Sample("nested.html", partial(_nested_lists, 10_000), ("- x\n", "- xend")),
    # PDFs.
    Sample(
        "headings.pdf",
        lambda: pdf([lines("Lease", size=24) + b"\n" + lines("The rent is due.", "On the first.", top=700)]),
        ("[Page 1]\n\n# Lease\n\nThe rent is due.\nOn the first.",),
        pages=1,
    ),
    Sample("bullets.pdf", lambda: pdf([lines("• Pay", "• Clean")]), ("- Pay\n- Clean",), pages=1),
    Sample(
        "pages.pdf", lambda: pdf([lines("One."), lines("Two.")]), ("[Page 1]\n\nOne.\n\n[Page 2]\n\nTwo.",), pages=2
    ),
    Sample(
        "two-sides.pdf",
        lambda: pdf([placed((50, 780, 11, "Contoso"), (480, 780, 11, "3 March"), (50, 740, 11, "Dear all"))]),
        ("Contoso", "3 March", "Dear all"),
        pages=1,
    ),
    Sample("scan.pdf", lambda: pdf([PICTURE, PICTURE]), problem="scanned"),
    Sample(
        "partly.pdf",
        lambda: pdf([lines("Read me."), PICTURE, PICTURE, b"", PICTURE]),
        ("Read me.",),
        ("[Page 2]",),
        pages=5,
        pages_without_text="2-3, 5",
    ),
    Sample("blank.pdf", lambda: pdf([b""]), problem="no_text"),
    Sample("no-pages.pdf", lambda: pdf([]), problem="damaged"),
    Sample("cut.pdf", lambda: pdf([lines("Kept.")] * 5)[:600], problem="damaged"),
    Sample("head.pdf", lambda: b"%PDF-1.7\n", problem="damaged"),
    Sample("late.pdf", lambda: b"From: us\n\n" + pdf([lines("After a header.")]), ("After a header.",), pages=1),
    Sample("lease.docx", lambda: pdf([lines("Named wrongly.")]), ("Named wrongly.",), pages=1),
    Sample(
        "hyphens.pdf",
        lambda: pdf([lines("The ten-", "ant pays the land-", "lord.")]),
        ("The tenant pays the landlord.",),
        pages=1,
    ),
    Sample(
        "columns.pdf",
        lambda: pdf([placed((50, 780, 11, "a one"), (50, 760, 11, "a two"), (320, 780, 11, "b one"))]),
        ("a one\na two\nb one",),
        pages=1,
    ),
    Sample(
        "rows.pdf",
        lambda: pdf([placed((50, 780, 11, "Item"), (200, 780, 11, "Euro"), (50, 760, 11, "Fee"), (200, 760, 11, "3"))]),
        ("Item Euro\nFee 3",),
        pages=1,
    ),
    Sample(
        "rotated.pdf",
        lambda: pdf([b"q 0 1 -1 0 500 50 cm " + lines("Line one", "Line two") + b" Q"]),
        ("Line one\nLine two",),
        pages=1,
    ),
    Sample("filled-in.pdf", _filled_in, ("Name of the tenant:", "Jane Doe"), pages=1),
    Sample(
        "undrawn.pdf",
        _undrawn,
        ("[Page 1]\n\nName of the tenant:\nname: Jane Doe\nSigned.",),
        ("Secret",),
        pages=1,
    ),
    Sample("illegible.pdf", _illegible, problem="scanned"),
    Sample("loop.pdf", _loop_of_pages, ("Once.",), pages=2, pages_without_text="2"),
    Sample("form.pdf", _form_of_itself, ("Around.",), pages=1),
    Sample(
        "no-table.pdf", lambda: pdf([lines("Repaired.")]).replace(b"startxref", b"startxxxx"), ("Repaired.",), pages=1
    ),
    Sample("lost.pdf", _missing_pages, ("Kept.",), pages=3, pages_without_text="2-3"),
    Sample("unmapped.pdf", _unmapped, problem="scanned"),
    Sample("deep.pdf", partial(_deep_pages, 3_000), ("Beside.",), pages=2, pages_without_text="2"),
    Sample(
        "mention.md",
        lambda: b"<html><p>A PDF begins with %PDF-1.7.",
        ("A PDF begins with %PDF-1.7.",),
    ),
    # Word documents.
    Sample(
        "styles.docx",
        lambda: docx(
            paragraph("Two", _HEADING.format("H2"))
            + paragraph("Based", _HEADING.format("Own"))
            + paragraph("Three", '<w:outlineLvl w:val="2"/>')
            + paragraph("Not", '<w:pStyle w:val="H2"/><w:outlineLvl w:val="9"/>')
            + paragraph("Circle", _HEADING.format("Loop"))
            + paragraph("Bold", _HEADING.format("Bold")),
            styles=_STYLES,
        ),
        ("## Two\n\n## Based\n\n### Three\n\nNot\n\nCircle\n\nBold",),
    ),
    Sample(
        "numbers.docx",
        lambda: docx(
            paragraph("a", _in_list(1, 0))
            + paragraph("b", _in_list(1, 1))
            + paragraph("c", _in_list(1, 1))
            + paragraph("d", _in_list(1, 2))
            + paragraph("e", _in_list(1, 0))
            + paragraph("f", _in_list(1, 1))
            + paragraph("g", _in_list(9, 0))
            + paragraph("h", _in_list(0, 0)),
            numbering=_NUMBERING,
        ),
        ("3. a\n  (a) b\n  (b) c\n    3.i d\n4. e\n  (a) f\n- g\n\nh",),
    ),
    Sample(
        "tables.docx",
        lambda: docx(
            table([paragraph("a"), paragraph("b") + table([paragraph("c"), paragraph("d")])])
            + table([paragraph("Alone")])
        ),
        ("| a | b c \\| d |", "\n\nAlone"),
    ),
    Sample(
        "deeper-tables.docx",
        lambda: docx(
            table([paragraph("a"), table([paragraph("b"), table([paragraph("c"), paragraph("d|e")]) + paragraph("")])])
        ),
        ("| a | b \\| c \\| d\\|e |",),
    ),
    Sample("chunks.docx", lambda: docx(paragraph("Before.") + '<w:altChunk r:id="r9"/>'), problem="chunks"),
    Sample("changes.docx", _moved, ("New. Seen.",), ("Gone", "Elsewhere", "Hidden", "PAGE")),
    Sample(
        "notes.docx",
        _notes,
        ("Rent[^2]\n\nTerm[^e2]\n\n[^2]: Without tax. Or fees.\n\n[^e2]: In years.",),
        ("unused",),
    ),
    Sample(
        "box.docx",
        lambda: docx(_TEXT_BOX.format(paragraph("In it."))),
        ("In it.\n\nBeside the box.",),
        ("In it.\n\nIn",),
    ),
    Sample(
        "breaks.docx",
        lambda: docx(
            '<w:p><w:pPr><w:tabs><w:tab w:val="left" w:pos="9"/></w:tabs></w:pPr><w:r><w:t>a</w:t><w:tab/><w:t>b</w:t>'
            "<w:br/><w:t>c</w:t><w:noBreakHyphen/><w:t>d</w:t></w:r></w:p>"
        ),
        ("a\tb\nc-d",),
    ),
    Sample("renamed.docx", lambda: docx(paragraph("Second."), main="word/document2.xml"), ("Second.",)),
    Sample("stored.docx", lambda: docx(paragraph("Stored."), method=zipfile.ZIP_STORED), ("Stored.",)),
    Sample("lzma.docx", lambda: docx(paragraph("x"), method=zipfile.ZIP_LZMA), problem="damaged"),
    Sample("hebrew.docx", lambda: docx(paragraph("שלום עולם", "<w:bidi/>")), ("שלום עולם",)),
    Sample("report.pdf", lambda: docx(paragraph("Named wrongly.")), ("Named wrongly.",)),
    Sample("laughs.docx", lambda: docx(paragraph("&b;"), prolog=_LAUGHS), problem="entities"),
    Sample("outside-entity.docx", lambda: docx(paragraph("x"), prolog=_OUTSIDE), problem="entities"),
    Sample("outside.docx", _outside_relations, ("Alone.",), ("root:",)),
    Sample("deep.docx", partial(_nested_tables, 5_000), ("Deep.",)),
    Sample("cut.docx", lambda: docx(paragraph("x" * 999))[:-30], problem="damaged"),
    Sample("equal-names.docx", _equal_names, (".",), ("First.",)),
    Sample(
        "relations-with-type.docx",
        lambda: _with_part(docx(paragraph("x")), "word/_rels/document.xml.rels", f"{_LAUGHS}<Relationships/>"),
        problem="entities",
    ),
    Sample(
        "types-with-type.docx",
        lambda: _with_part(docx(paragraph("x")), "[Content_Types].xml", f"{_OUTSIDE}<Types/>"),
        problem="entities",
    ),
    Sample("absurd.docx", _absurd_numbers, ("a\n\nb\n\n", "Item")),
    Sample(
        "utf-16.docx",
        lambda: _with_part(
            docx(""),
            "word/document.xml",
            f"<w:document {NAMESPACES}><w:body>{paragraph('Grüße ١٢٣ שלום')}</w:body></w:document>".encode("utf-16"),
        ),
        ("Grüße ١٢٣ שלום",),
    ),
    Sample("torn.docx", lambda: docx("<w:p><w:r>"), problem="damaged"),
    Sample("locked.docx", _encrypted_zip, problem="encrypted"),
    Sample("blank.docx", lambda: docx(paragraph(" ")), problem="no_text"),
    Sample(
        "headless.docx", lambda: package({}, main="word/document.xml", kind="wordprocessingml.x"), problem="damaged"
    ),
    # Presentations.
    Sample(
        "slides.pptx",
        lambda: pptx(
            [
                shape("Text first.") + shape("Title", kind="title") + shape("a", "b", kind="body"),
                _TABLE + shape("7", kind="sldNum"),
            ],
            notes=shape("Say this.", kind="body") + shape("9", kind="sldNum"),
            diagram="<a:pt><a:t><a:p><a:r><a:t>Step one</a:t></a:r></a:p></a:t></a:pt>",
        ),
        (
            "[Slide 1]\n\n## Title\n\nText first.\n\n- a\n- b\n\nStep one\n\nNotes: Say this.",
            "[Slide 2]\n\n| Item | Euro |",
        ),
        ("7", "9"),
        pages=2,
    ),
    Sample(
        "order.pptx",
        lambda: pptx([shape("Second."), shape("First.")], order=[2, 1]),
        ("[Slide 1]\n\nFirst.\n\n[Slide 2]\n\nSecond.",),
        pages=2,
    ),
    Sample(
        "bullets.pptx",
        lambda: pptx(
            [
                shape("x", properties='<a:pPr lvl="1"><a:buChar char="-"/></a:pPr>')
                + shape("y", kind="obj", properties="<a:pPr><a:buNone/></a:pPr>")
            ]
        ),
        ("  - x\n\ny",),
        pages=1,
    ),
    Sample("pictures.pptx", lambda: pptx(["<p:pic/>", shape("x")]), ("x",), pages=2, pages_without_text="1"),
    Sample("scans.pptx", lambda: pptx(["<p:pic/>"]), problem="scanned"),
    Sample("group.pptx", lambda: pptx([f"<p:grpSp>{shape('Grouped.')}</p:grpSp>"]), ("Grouped.",), pages=1),
    Sample("missing.pptx", lambda: pptx([shape("x")], order=[1, 5]), ("x",), pages=2, pages_without_text="2"),
    Sample(
        "lost.pptx",
        lambda: _without_part(pptx([shape("x"), shape("y")]), "ppt/slides/slide2.xml"),
        ("x",),
        pages=2,
        pages_without_text="2",
    ),
    Sample("headless.pptx", lambda: _without_part(pptx([shape("x")]), "ppt/slides/slide1.xml"), problem="damaged"),
    Sample("empty.pptx", lambda: pptx([]), problem="no_text"),
]
