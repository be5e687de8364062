"""How a destructive command asks: it says what it will do and where, and the person types a word that names it."""

from __future__ import annotations

import argparse
import sys
from contextlib import suppress

from aijobs.console import interruptible, warn
from aijobs.submission_log import deployment_name
from shared.settings import Settings


def is_confirmed(
    args: argparse.Namespace, settings: Settings, consequence: str, word: str, what: str = "the customer's id"
) -> bool:
    """Return whether `--yes` is set or, after the consequence on stderr, the person types the word."""
    if args.yes:
        return True
    warn(consequence)
    warn(f"Deployment: {deployment_name(settings)}")
    sys.stderr.write(f"Type {what} to continue: ")
    sys.stderr.flush()
    if sys.stdin is None:  # the caller has closed it
        return False
    with interruptible(), suppress(UnicodeDecodeError):
        return sys.stdin.readline().strip() == word.strip()
    return False
