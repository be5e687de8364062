"""A key that cannot be shown by accident. It knows nothing of where keys come from or go to."""

from __future__ import annotations

import hmac
from typing import Never


class Secret:
    """
    A credential whose text is given only to who asks for it by name: `reveal()`.

    `repr`, `str`, formatting and logging show `***`; it can't be pickled, copied into JSON or used
    as a dictionary's key. Two secrets compare equal in constant time.
    """

    __slots__ = ("__value",)

    def __init__(self, value: str) -> None:
        self.__value = value

    def reveal(self) -> str:
        """The text itself, for an authentication header and nothing else."""
        return self.__value

    def __repr__(self) -> str:
        return "***"

    def __bool__(self) -> bool:
        return bool(self.__value)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Secret):
            return NotImplemented
        return hmac.compare_digest(self.__value.encode(), other.reveal().encode())

    __hash__ = None  # type: ignore[assignment]  # a dictionary of secrets would have to hash the key itself

    def __reduce__(self) -> Never:
        raise TypeError("A secret is not pickled.")
