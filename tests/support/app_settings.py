"""The settings that the code reads."""

from __future__ import annotations

from shared.settings import binding_queues, read_settings


def settings_in_code() -> set[str]:
    """The names that the code reads, found by seeing which ones it asks for."""
    asked = set()

    class Asked(dict[str, str]):
        def get(self, name: str, default: str | None = None) -> str | None:  # type: ignore[override]
            asked.add(name)
            return "x" if name == "JobStorage" else default

    read_settings(Asked())
    binding_queues(Asked())
    return asked
