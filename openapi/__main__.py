"""`python -m openapi` writes the OpenAPI document and its page, which the app serves; `--check` compares them."""

from __future__ import annotations

import argparse
import sys

from openapi.schemas import InputMissing
from openapi.static_files import COMMAND, stale_files, write_files


def main() -> int:
    """Writes the files, or with `--check` compares them. The exit code is 1 if one is out of date or can't be made."""
    parser = argparse.ArgumentParser(prog=COMMAND, description="Write the OpenAPI document and its page.")
    parser.add_argument("--check", action="store_true", help="write nothing; fail if a file is out of date")
    check = parser.parse_args().check
    try:
        if not check:
            for path in write_files():
                print(path)
            return 0
        stale = stale_files()
    except InputMissing as exc:
        print(exc, file=sys.stderr)
        return 1
    for path in stale:
        print(f"{path} is out of date: run `{COMMAND}`.", file=sys.stderr)
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())
