"""
The types of the providers' SDKs, loaded without the rest of them: a package imports all its types and clients, which
takes seconds, and a type only those that it names. Its validator takes as long to make as thousands of validations.
"""

from __future__ import annotations

import functools
import gc
import re
import sys
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType
from typing import Any, get_type_hints

from pydantic import TypeAdapter

_WORD_STARTS = re.compile("(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")


@functools.cache
def sdk_type(package: str, name: str) -> Any:
    """
    Return a type by its name below the package's `types`, as in `chat.ChatCompletion`.

    Its module has the type's name, or stands before it, as in `chat.chat_completion:Choice`.
    """
    path, _, own = name.rpartition(":")
    if not path:
        parents, _, own = name.rpartition(".")
        path = f"{parents}.{_WORD_STARTS.sub('_', own).lower()}".lstrip(".")
    *folders, module = path.split(".")
    folder = functools.reduce(_folder, ("types", *folders), _folder("", package))
    gc.disable()  # it would look for garbage among hundreds of classes
    try:
        return getattr(import_module(f"{folder}.{module}"), own)
    finally:
        gc.enable()


@functools.cache
def _folder(parent: str, name: str) -> str:
    """Return the name of a package that stands for one of an SDK, and imports nothing before it has to."""
    if parent:
        path, full_name = f"{sys.modules[parent].__path__[0]}/{name}", f"{parent}.{name}"
    else:
        spec = find_spec(name)
        assert spec is not None
        assert spec.submodule_search_locations
        path, full_name = spec.submodule_search_locations[0], f"types_of_{name}"
    package = ModuleType(full_name)
    package.__path__ = [path]
    sys.modules[full_name] = package
    return full_name


@functools.cache
def adapter(kind: Any) -> TypeAdapter[Any]:
    """Return the validator of a type."""
    return TypeAdapter(kind)


@functools.cache
def members(kind: Any) -> frozenset[str]:
    """Return the names of a type's members."""
    return frozenset(get_type_hints(kind))
