"""Where a command's settings come from: the environment, or a file in the format of Core Tools."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

from shared.services import Services, build
from shared.settings import read_settings


class SettingsUnread(Exception):
    """The settings file can't be read."""


def add_settings(parser: argparse.ArgumentParser) -> None:
    """Adds `--settings`."""
    parser.add_argument(
        "--settings",
        type=Path,
        metavar="FILE",
        help="the app's settings, as in local.settings.json; without it, environment variables",
    )


@asynccontextmanager
async def opened(file: Path | None) -> AsyncIterator[Services]:
    """
    The app's services on the settings in a file, or in the environment where there is none.

    Raises SettingsUnread, SettingInvalid.
    """
    settings = read_settings(os.environ if file is None else _read(file))
    services = build(replace(settings, key_vault_url="", key_vault_ca_file=""))  # no command here needs a key
    try:
        yield services
    finally:
        await services.close()


def _read(file: Path) -> dict[str, str]:
    try:
        content = json.loads(file.read_text(encoding="utf-8-sig"))
    except OSError as exc:
        raise SettingsUnread(f"{file} can't be read: {exc.strerror}.") from exc
    except ValueError as exc:
        raise SettingsUnread(f"{file} is not JSON.") from exc
    values = content.get("Values") if isinstance(content, dict) else None
    if not isinstance(values, dict):
        raise SettingsUnread(f"{file} has no object `Values`.")
    if content.get("IsEncrypted"):
        raise SettingsUnread(f"{file} is encrypted: `func settings decrypt` makes it readable.")
    return {name: value for name, value in values.items() if isinstance(value, str)}
