"""The process that reads one document: from its standard input, a file, to its standard output, another one."""

from __future__ import annotations

import codecs
import os
from typing import BinaryIO

from shared.documents import sandbox
from shared.documents.extract import Read, reader_for
from shared.documents.extracted import MAX_OUTPUT_BYTES, TOO_MUCH, Extracted, encode
from shared.documents.kinds import Problem, Unreadable

_CODECS = ("utf-8-sig", "utf-16", "utf-16-le", "cp437", "cp1252", "unicode_escape", "raw_unicode_escape")
"""Of the names in ZIP files, and of texts; each is imported when it is first used, which `lock` would prevent."""


DRAWS = "draws"
"""What the name begins with if pages without text are to be pictures."""


def main(name: str) -> None:
    """Read the document, whose blob's name ends like this, and end the process."""
    sandbox.limit(MAX_OUTPUT_BYTES)
    try:
        with os.fdopen(0, "rb") as file, os.fdopen(1, "wb") as output:
            for codec in _CODECS:
                codecs.lookup(codec)
            read = reader_for(file, name, name.startswith(DRAWS))
            sandbox.lock()
            output.write(encode(extract(read, file)))
            output.flush()
            os._exit(0)  # what a library does at its end may need more than is left
    except MemoryError:
        os._exit(TOO_MUCH)
    except BaseException:  # noqa: BLE001  # its text may quote the document
        os._exit(1)


def extract(read: Read, file: BinaryIO) -> Extracted | Problem:
    """Return what is read of the document, or why it can't be. Raises MemoryError."""
    try:
        return read(file)
    except Unreadable as exc:
        return exc.problem
    except MemoryError:
        raise
    except Exception:  # noqa: BLE001  # whatever a parser raises, the document is not what it should be
        return "damaged"
