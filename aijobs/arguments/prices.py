"""The arguments of the commands about prices."""

from __future__ import annotations

import argparse
import re
from decimal import Decimal, InvalidOperation
from pathlib import Path

from aijobs.arguments.base import Commands, Parser, day

SCOPES = ("global", "data_zone", "regional")
PROCESSING = ("standard", "batch", "background_2h", "background_8h")
RATES = {
    "input": "a million input tokens",
    "cached": "a million input tokens that were read from a cache",
    "cache-write": "a million input tokens that were written to a cache",
    "cache-write-long": "a million input tokens that were written to a cache for longer",
    "output": "a million output tokens",
    "audio-input": "a million audio tokens of the input",
    "audio-output": "a million audio tokens of the output",
    "image-input": "a million image tokens of the input",
    "image-output": "a million image tokens of the output",
    "characters": "a million characters",
    "image": "an image in the answer",
    "second": "a second of audio",
    "call": "a call",
}


def add_prices(commands: Commands) -> None:
    """Add the group of commands about prices."""
    group = commands.group(
        "prices",
        "import, set, list and check what calls cost",
        "prices import azure --region swedencentral",
        "prices list --customer contoso",
        "prices check",
    )
    _add_import(group)
    _add_set(group)
    _add_list(group)
    export = group.add(
        "export",
        "print the price book, in the form that can be imported",
        "prices.export",
        "prices export --to prices.json",
    )
    export.add_argument("--to", type=Path, metavar="FILE", help="new file to write it to (default: stdout)")
    check = group.add(
        "check",
        "show what the month's calls are priced by, and which have no price",
        "price_check.check",
        "prices check",
    )
    check.add_argument("--month", metavar="YYYY-MM", help="month of the calls (default: the current month)")


def _add_import(group: Commands) -> None:
    parser = group.add(
        "import",
        "import prices from a source, or a whole price book from a file",
        "prices.import_prices",
        "prices import azure --region swedencentral",
        "prices import genai-prices --check",
        "prices import prices.json",
        destructive=True,
    )
    parser.add_argument(
        "source",
        metavar="SOURCE",
        help="azure (Azure's retail prices), genai-prices or litellm (their published files), or a file that replaces "
        "the whole price book",
    )
    parser.add_argument(
        "--effective-from",
        type=day,
        metavar="DAY",
        help="day from which the source's prices hold (default: today); earlier days keep theirs",
    )
    parser.add_argument(
        "--region",
        type=_region,
        metavar="NAME",
        help="region whose prices to take, such as swedencentral (default: prices that are the same in all regions)",
    )
    parser.add_argument(
        "--default-scope",
        choices=SCOPES,
        metavar="SCOPE",
        help="let the prices of this deployment scope (global, data_zone or regional) hold for connections that name "
        "none, too",
    )
    _add_publishing(parser)


def _add_set(group: Commands) -> None:
    parser = group.add(
        "set",
        "set the price of a model, for all customers or one",
        "prices.store",
        "prices set 'gpt-4o*' --provider azure_openai --input 2.50 --output 10",
        "prices set 'gpt-4o*' --provider azure_openai --customer contoso --input 2 --output 8",
        destructive=True,
    )
    parser.add_argument("model", metavar="MODEL", help="model that answers, or a prefix of its name that ends in *")
    parser.add_argument(
        "--provider", required=True, metavar="NAME", help="provider, as usage records name it (required)"
    )
    rates = parser.add_argument_group("prices, at least one")
    for name, what in RATES.items():
        rates.add_argument(f"--{name}", type=_amount, metavar="AMOUNT", help=f"price of {what}")
    parser.add_argument("--customer", metavar="ID", help="customer that the price is for (default: all)")
    parser.add_argument(
        "--scope",
        choices=SCOPES,
        metavar="SCOPE",
        help="deployment scope: global, data_zone or regional (default: all without a price of their own)",
    )
    parser.add_argument(
        "--processing",
        choices=PROCESSING,
        default="standard",
        metavar="NAME",
        help="standard, batch, background_2h or background_8h (default: standard)",
    )
    parser.add_argument("--tier", metavar="NAME", help="service tier, such as flex (default: the provider's own)")
    parser.add_argument(
        "--min-input-tokens",
        type=_tokens,
        default=0,
        metavar="N",
        help="the price holds for calls with at least so much input (default: 0)",
    )
    parser.add_argument("--effective-from", type=day, metavar="DAY", help="first day of the price (default: today)")
    parser.add_argument(
        "--effective-to", type=day, metavar="DAY", help="first day on which it no longer holds (default: none)"
    )
    _add_publishing(parser)


def _add_list(group: Commands) -> None:
    parser = group.add(
        "list",
        "list the prices that hold on a day",
        "prices.list_all",
        "prices list gpt-4o-2024-11-20",
        "prices list --customer contoso",
    )
    parser.add_argument("model", metavar="MODEL", nargs="?", help="model that answers (default: all)")
    parser.add_argument("--provider", metavar="NAME", help="list this provider's prices only")
    parser.add_argument("--customer", metavar="ID", help="list what holds for this customer")
    parser.add_argument("--day", type=day, metavar="DAY", help="day on which the prices hold (default: today)")


def _add_publishing(parser: Parser) -> None:
    parser.add_argument("--check", action="store_true", help="show the changes without publishing them")
    parser.add_argument("--force", action="store_true", help="allow prices to change by more than half")


def _amount(text: str) -> Decimal:
    try:
        amount = Decimal(text)
    except InvalidOperation:
        amount = Decimal(-1)
    if not re.fullmatch(r"[0-9.]{1,30}", text) or not amount.is_finite() or amount < 0:
        raise argparse.ArgumentTypeError("must be an amount, such as 2.50")
    return amount


def _tokens(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,9}", text):
        raise argparse.ArgumentTypeError("must be a whole number of tokens, such as 272001")
    return int(text)


def _region(text: str) -> str:
    if not re.fullmatch(r"[a-z0-9]{1,40}", text):
        raise argparse.ArgumentTypeError("must be the name of a region, such as swedencentral")
    return text
