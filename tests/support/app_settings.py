"""The settings that the code reads."""

from __future__ import annotations

from shared.settings import binding_queues, read_settings


def settings_in_code() -> set[str]:
    """The names of the settings that the code reads, recorded while it reads them."""
    names = set()

    class Recorder(dict[str, str]):
        def get(self, name: str, default: str | None = None) -> str | None:  # type: ignore[override]
            names.add(name)
            return "UseDevelopmentStorage=true" if name == "JobStorage" else default

    read_settings(Recorder())
    binding_queues(Recorder())
    return names
