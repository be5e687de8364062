"""
Office Open XML: the parts of a ZIP file, read by expat as a stream, with no entities and in bounded size.

Nothing outside the file is read: relations to what is elsewhere are left out.
"""

from __future__ import annotations

import posixpath
import zipfile
from typing import BinaryIO, Protocol
from xml.parsers import expat

from shared.documents.kinds import Unreadable

MAX_XML_BYTES = 256 * 1024 * 1024
"""Of a document's XML, unpacked."""
_CHUNK_BYTES = 64 * 1024
_MAIN = "/officeDocument"
_ENCRYPTED = 1
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)

Attributes = dict[str, str]


class Handler(Protocol):
    """Gets the elements of a part by their local names, and their attributes likewise."""

    def start(self, name: str, attributes: Attributes) -> None:
        """An element begins."""

    def end(self, name: str) -> None:
        """An element ends."""

    def data(self, text: str) -> None:
        """Text within an element."""


class Relations:
    """What a part refers to within the file: the type and the name of a part, by id."""

    def __init__(self, part: str) -> None:
        self._folder = posixpath.dirname(part)
        self.by_id: dict[str, tuple[str, str]] = {}

    def start(self, name: str, attributes: Attributes) -> None:
        """See Handler."""
        if name == "Relationship" and attributes.get("TargetMode") != "External":
            target = posixpath.normpath(posixpath.join("/", self._folder, attributes.get("Target", "")))
            self.by_id[attributes.get("Id", "")] = attributes.get("Type", ""), target.lstrip("/")

    def end(self, name: str) -> None:
        """See Handler."""

    def data(self, text: str) -> None:
        """See Handler."""

    def of_type(self, suffix: str) -> list[str]:
        """Return the parts of a type, by how its address ends."""
        return [target for kind, target in self.by_id.values() if kind.endswith(suffix)]


class _ContentTypes:
    """The types of parts, by their names or else by their extensions, in small letters."""

    def __init__(self) -> None:
        self.types: dict[str, str] = {}

    def start(self, name: str, attributes: Attributes) -> None:
        """See Handler."""
        if name in {"Override", "Default"}:
            part = attributes.get("PartName", "").lstrip("/") or f".{attributes.get('Extension', '')}"
            self.types[part.casefold()] = attributes.get("ContentType", "")

    def end(self, name: str) -> None:
        """See Handler."""

    def data(self, text: str) -> None:
        """See Handler."""


class Package:
    """A ZIP file of parts."""

    def __init__(self, file: BinaryIO) -> None:
        try:
            self._zip = zipfile.ZipFile(file)
        except (zipfile.BadZipFile, NotImplementedError):
            raise Unreadable("damaged") from None
        self._parts = {info.filename.casefold(): info for info in self._zip.infolist()}
        self._left = MAX_XML_BYTES

    def has(self, part: str) -> bool:
        """Return whether there is such a part."""
        return part.casefold() in self._parts

    def main_part(self) -> str:
        """Return the part that the file is about. Raises Unreadable if it is no Office file."""
        targets = self.relations("").of_type(_MAIN)
        if not targets:
            raise Unreadable("other_zip")
        return targets[0]

    def content_type(self, part: str) -> str:
        """Return the media type that the file declares for a part; nothing if it declares none."""
        content_types = _ContentTypes()
        self.read("[Content_Types].xml", content_types)
        by_extension = content_types.types.get(f".{part.rpartition('.')[2]}".casefold(), "")
        return content_types.types.get(part.casefold(), by_extension)

    def relations(self, part: str) -> Relations:
        """Return what a part refers to; the empty name is the package itself."""
        folder, _, name = part.rpartition("/")
        relations = Relations(part)
        self.read(posixpath.join(folder, "_rels", f"{name}.rels"), relations)
        return relations

    def read(self, part: str, handler: Handler) -> None:
        """Give the elements of a part to a handler; nothing if there is no such part. Raises Unreadable."""
        info = self._parts.get(part.casefold())
        if info is None:
            return
        if info.flag_bits & _ENCRYPTED:
            raise Unreadable("encrypted")
        if info.compress_type not in _METHODS:
            raise Unreadable("damaged")
        parser = _parser(handler)
        with self._zip.open(info) as stream:
            while chunk := stream.read(_CHUNK_BYTES):
                self._left -= len(chunk)
                if self._left < 0:
                    raise Unreadable("unpacks")
                parser.Parse(chunk, False)
        parser.Parse(b"", True)


def _parser(handler: Handler) -> expat.XMLParserType:
    parser = expat.ParserCreate(namespace_separator=" ")
    parser.buffer_text = True

    def start(name: str, attributes: Attributes) -> None:
        handler.start(_local(name), {_local_attribute(key): value for key, value in attributes.items()})

    def refuse(*_: object) -> None:
        raise Unreadable("entities")

    parser.StartElementHandler = start
    parser.EndElementHandler = lambda name: handler.end(_local(name))
    parser.CharacterDataHandler = handler.data
    parser.StartDoctypeDeclHandler = refuse
    parser.EntityDeclHandler = refuse
    return parser


def _local(name: str) -> str:
    return name.rpartition(" ")[2]


def _local_attribute(name: str) -> str:
    """Return the local name of an attribute; of the id of a relation `r:id`, since a plain `id` may stand beside it."""
    namespace, _, local = name.rpartition(" ")
    return f"r:{local}" if namespace.endswith("/relationships") else local
