"""What a check of `doctor` finds, and how a check is run."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Literal

from aijobs.diagnostics import CommandError, with_remedy
from shared.connections.store import VaultForbids
from shared.errors import JobError, RetryLater

Verdict = Literal["ok", "warning", "error"]
_ERRORS = (JobError, RetryLater, CommandError)


@dataclass(frozen=True, slots=True)
class Finding:
    """The outcome of one check."""

    check: str
    verdict: Verdict
    message: str


async def run_check(
    check: str, work: Callable[[], Awaitable[str]], *, setting: str = "", optional: str = ""
) -> Finding:
    """
    Run a check, which returns the message of its success.

    `setting` names what the check has tried, which the message of an error then says. `optional` says which commands
    need the role that is missing, if everything else works without it.
    """
    try:
        return Finding(check, "ok", await work())
    except VaultForbids as exc:
        message = f"{error_text(exc)} {optional}".strip()
        return Finding(check, "warning" if optional else "error", message)
    except Exception as exc:  # noqa: BLE001  # an SDK raises anything if the answer is not its service's
        message = error_text(exc)
        named = not setting or setting in message
        return Finding(check, "error", message if named else f"{message} The setting is {setting}.")


def error_text(error: Exception) -> str:
    """Return what an error means to an operator, with its remedy. What is not an error of ours is not repeated."""
    if isinstance(error, VaultForbids):
        return "Key Vault rejects the operation (403)."
    return (
        with_remedy(str(error)) if isinstance(error, _ERRORS) else f"The answer can't be read ({type(error).__name__})."
    )
