"""`python -m console` writes the page that the app serves as its console; `--check` compares it."""

from __future__ import annotations

import argparse
import sys

from console.build import COMMAND, UPLOT, stale_files, write_files


def main() -> int:
    """Writes the files, or with `--check` compares them. The exit code is 1 if one is out of date or can't be made."""
    parser = argparse.ArgumentParser(prog=COMMAND, description="Write the console's page, which the app serves.")
    parser.add_argument("--check", action="store_true", help="write nothing; fail if a file is out of date")
    if not UPLOT.is_dir():
        print("uPlot is not installed: `python3 dev.py check` installs it.", file=sys.stderr)
        return 1
    if not parser.parse_args().check:
        for path in write_files():
            print(path)
        return 0
    stale = stale_files()
    for path in stale:
        print(f"{path} is out of date: run `{COMMAND}`.", file=sys.stderr)
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())
