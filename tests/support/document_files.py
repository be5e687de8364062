"""Makes documents: PDF, DOCX and PPTX files of what a test says is in them."""

from __future__ import annotations

import io
import zipfile
import zlib
from collections.abc import Mapping, Sequence

Line = tuple[float, float, float, str]
"""The place of a line, the size of its type, and its text."""
_TYPES = "http://schemas.openxmlformats.org/package/2006/content-types"
_PACKAGE = "http://schemas.openxmlformats.org/package/2006/relationships"
_OFFICE = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
_WORD = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"
_SLIDES = "http://schemas.openxmlformats.org/presentationml/2006/main"
_DRAWING = "http://schemas.openxmlformats.org/drawingml/2006/main"
NAMESPACES = (
    f'xmlns:w="{_WORD}" xmlns:r="{_OFFICE}" xmlns:p="{_SLIDES}" xmlns:a="{_DRAWING}" '
    'xmlns:mc="http://schemas.openxmlformats.org/markup-compatibility/2006"'
)
_DOCX = "application/vnd.openxmlformats-officedocument.wordprocessingml.document.main+xml"
_PPTX = "application/vnd.openxmlformats-officedocument.presentationml.presentation.main+xml"
PIXEL = b"\x00"
NARROW = b"0 0 50 842"


def pdf(
    pages: Sequence[bytes],
    *,
    box: bytes = b"0 0 595 842",
    resources: bytes = b"",
    annotations: bytes = b"",
    objects: Sequence[bytes] = (),
) -> bytes:
    """
    Return a PDF of pages with these streams of operators. `objects` have the numbers from 5 on.

    `box`: a page's corners, which is quickly drawn if it is NARROW.
    """
    parts = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"",
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica /Encoding /WinAnsiEncoding >>",
        b"<< /Type /XObject /Subtype /Image /Width 1 /Height 1 /ColorSpace /DeviceGray /BitsPerComponent 8 /Length 1 >>"
        b"\nstream\n%s\nendstream" % PIXEL,
        *objects,
    ]
    kids = []
    for stream in pages:
        packed = zlib.compress(stream)
        parts.append(b"<< /Length %d /Filter /FlateDecode >>\nstream\n%s\nendstream" % (len(packed), packed))
        parts.append(
            b"<< /Type /Page /Parent 2 0 R /MediaBox [%s] /Contents %d 0 R "
            b"/Annots [%s] /Resources << /Font << /F1 3 0 R >> /XObject << /Im1 4 0 R %s >> >> >>"
            % (box, len(parts), annotations, resources)
        )
        kids.append(b"%d 0 R" % len(parts))
    parts[1] = b"<< /Type /Pages /Kids [%s] /Count %d >>" % (b" ".join(kids), len(kids))
    out, offsets = io.BytesIO(b"%PDF-1.7\n"), []
    out.seek(0, 2)
    for number, part in enumerate(parts, 1):
        offsets.append(out.tell())
        out.write(b"%d 0 obj\n%s\nendobj\n" % (number, part))
    xref = out.tell()
    out.write(b"xref\n0 %d\n0000000000 65535 f \n" % (len(parts) + 1))
    out.write(b"".join(b"%010d 00000 n \n" % offset for offset in offsets))
    out.write(b"trailer\n<< /Size %d /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF\n" % (len(parts) + 1, xref))
    return out.getvalue()


def lines(*texts: str, size: float = 11, top: float = 780) -> bytes:
    """Return the operators that write lines below one another."""
    return placed(*((50, top - 20 * number, size, text) for number, text in enumerate(texts)))


def placed(*texts: Line) -> bytes:
    """Return the operators that write lines at their places."""
    shown = []
    for x, y, size, text in texts:
        escaped = text.replace("\\", "\\\\").replace("(", "\\(").replace(")", "\\)")
        shown.append(f"BT /F1 {size} Tf 1 0 0 1 {x} {y} Tm ({escaped}) Tj ET".encode("cp1252"))
    return b"\n".join(shown)


PICTURE = b"q 500 0 0 700 40 60 cm /Im1 Do Q"
"""A page's operators that show a picture."""


def package(parts: Mapping[str, str | bytes], *, main: str, kind: str, method: int = zipfile.ZIP_DEFLATED) -> bytes:
    """Return an Office file with these parts, of which one is the main one."""
    types = (
        f'<Types xmlns="{_TYPES}"><Default Extension="rels" ContentType="application/xml"/>'
        f'<Override PartName="/{main}" ContentType="{kind}"/></Types>'
    )
    root = relations({"rId1": ("officeDocument", main)})
    return zipped({"[Content_Types].xml": types, "_rels/.rels": root, **parts}, method=method)


def zipped(parts: Mapping[str, str | bytes], *, method: int = zipfile.ZIP_DEFLATED) -> bytes:
    """Return a ZIP file."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method, compresslevel=1) as file:
        for name, data in parts.items():
            file.writestr(name, data)
    return out.getvalue()


def relations(targets: Mapping[str, tuple[str, str]], *, mode: str = "") -> str:
    """Return a part of relations: the type and the target of each id."""
    rows = "".join(
        f'<Relationship Id="{id_}" Type="{_OFFICE}/{kind}" Target="{target}" {mode}/>'
        for id_, (kind, target) in targets.items()
    )
    return f'<Relationships xmlns="{_PACKAGE}">{rows}</Relationships>'


def docx(
    body: str,
    *,
    main: str = "word/document.xml",
    prolog: str = "",
    method: int = zipfile.ZIP_DEFLATED,
    **others: str,
) -> bytes:
    """Return a DOCX file of this body; `others` are its styles, numbering, footnotes and endnotes."""
    parts = {f"word/{name}.xml": f"<w:{name} {NAMESPACES}>{text}</w:{name}>" for name, text in others.items()}
    folder, _, name = main.rpartition("/")
    parts[f"{folder}/_rels/{name}.rels"] = relations({f"rId{name}": (name, f"{name}.xml") for name in others})
    parts[main] = f"{prolog}<w:document {NAMESPACES}><w:body>{body}</w:body></w:document>"
    return package(parts, main=main, kind=_DOCX, method=method)


def paragraph(text: str, properties: str = "") -> str:
    """Return a paragraph of Word's."""
    return f'<w:p><w:pPr>{properties}</w:pPr><w:r><w:t xml:space="preserve">{text}</w:t></w:r></w:p>'


def table(*rows: Sequence[str]) -> str:
    """Return a table of Word's, of cells with XML."""
    shown = ["".join(f"<w:tc>{cell}</w:tc>" for cell in row) for row in rows]
    return f"<w:tbl>{''.join(f'<w:tr>{row}</w:tr>' for row in shown)}</w:tbl>"


def pptx(slides: Sequence[str], *, order: Sequence[int] | None = None, **others: str) -> bytes:
    """
    Return a PPTX file of slides with these shapes, in this `order` of their numbers.

    `others`: the shapes of `notes1`, of the first slide, or the XML of `data1`, a diagram of it.
    """
    order = range(1, len(slides) + 1) if order is None else order
    ids = "".join(f'<p:sldId r:id="rId{number}" id="{255 + number}"/>' for number in order)
    parts = {
        "ppt/presentation.xml": f"<p:presentation {NAMESPACES}><p:sldIdLst>{ids}</p:sldIdLst></p:presentation>",
        "ppt/_rels/presentation.xml.rels": relations(
            {f"rId{number}": ("slide", f"slides/slide{number}.xml") for number in range(1, len(slides) + 1)}
        ),
    }
    for number, shapes in enumerate(slides, 1):
        parts[f"ppt/slides/slide{number}.xml"] = _slide("sld", shapes)
    targets = {}
    if "notes" in others:
        targets["rId1"] = ("notesSlide", "../notesSlides/notesSlide1.xml")
        parts["ppt/notesSlides/notesSlide1.xml"] = _slide("notes", others["notes"])
    if "diagram" in others:
        targets["rId2"] = ("diagramData", "/ppt/diagrams/data1.xml")
        parts["ppt/diagrams/data1.xml"] = f"<a:data {NAMESPACES}>{others['diagram']}</a:data>"
    parts["ppt/slides/_rels/slide1.xml.rels"] = relations(targets)
    return package(parts, main="ppt/presentation.xml", kind=_PPTX)


def _slide(root: str, shapes: str) -> str:
    return f"<p:{root} {NAMESPACES}><p:cSld><p:spTree>{shapes}</p:spTree></p:cSld></p:{root}>"


def shape(*texts: str, kind: str = "", properties: str = "") -> str:
    """Return a shape of PowerPoint's with paragraphs, in a placeholder if `kind` is one."""
    paragraphs = "".join(f"<a:p>{properties}<a:r><a:t>{text}</a:t></a:r></a:p>" for text in texts)
    placeholder = {"": "", "obj": "<p:ph/>"}.get(kind, f'<p:ph type="{kind}"/>')
    return f"<p:sp><p:nvSpPr><p:nvPr>{placeholder}</p:nvPr></p:nvSpPr><p:txBody>{paragraphs}</p:txBody></p:sp>"
