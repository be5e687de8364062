"""`prices` imports, sets, lists and exports what calls cost."""

from __future__ import annotations

import argparse
from codecs import BOM_UTF8
from pathlib import Path

import msgspec

from aijobs.confirmation import is_confirmed
from aijobs.console import plural, show
from aijobs.diagnostics import CommandError, Exists, InvalidArguments, NotFound
from aijobs.person import person
from aijobs.price_edition import Edition
from aijobs.price_listing import list_prices
from aijobs.price_sources.base import CURRENCY
from aijobs.price_sources.sources import URLS, read_source
from aijobs.price_timeline import with_price, with_source
from aijobs.program import command
from aijobs.report import Report, Verbatim
from aijobs.scope import check_optional_customer
from aijobs.settings import open_services
from shared.billing.price_books import BookReplaced, PriceBooks, PublishedBook
from shared.clock import now
from shared.contract.price_book import MAX_BOOK_BYTES, RATES, Price, PriceBook, decode_price_book
from shared.errors import InvalidJob

_ONLY = "prices[0]"
"""How an error calls the price that is set."""
_NOT_PUBLISHED = "Nothing was published."
_WORD = "the number of changes"


async def import_prices(args: argparse.Namespace) -> Report:
    """Run `prices import SOURCE`. The exit code is 1 if it was not confirmed, or needs `--force`."""
    if args.source not in URLS and (args.effective_from or args.region or args.default_scope):
        raise InvalidArguments(f"--effective-from, --region and --default-scope are for {', '.join(URLS)}.")
    if args.region and args.source != "azure":
        raise InvalidArguments("--region is for azure.")
    async with open_services(args.settings) as services:
        books = services.price_books
        edition = await _imported(args, await books.current())
        if report := edition.refusal(only_check=args.check, may_be_large=args.force):
            return report
        if not args.yes:
            show(edition.text)
        if not is_confirmed(args, services.settings, edition.consequence, str(len(edition.changes)), _WORD):
            return edition.report(_NOT_PUBLISHED, exit_code=1)
        return await _publish(books, edition, has_shown=not args.yes)


async def store(args: argparse.Namespace) -> Report:
    """Run `prices set MODEL`. The exit code is 1 if it was not confirmed, or needs `--force`."""
    price = _price(args)
    async with open_services(args.settings) as services:
        books = services.price_books
        current = await books.current()
        book = current.book if current is not None else PriceBook(currency=CURRENCY)
        edition = Edition(current, with_price(book, price))
        if report := edition.refusal(only_check=args.check, may_be_large=args.force):
            return report
        if not args.yes:
            show(edition.text)
        if not is_confirmed(args, services.settings, edition.consequence, str(len(edition.changes)), _WORD):
            return edition.report(_NOT_PUBLISHED, exit_code=1)
        return await _publish(books, edition, has_shown=not args.yes)


async def list_all(args: argparse.Namespace) -> Report:
    """Run `prices list`."""
    customer = check_optional_customer(args.customer)
    async with open_services(args.settings) as services:
        current = await services.price_books.current()
    if current is None:
        raise no_book()
    return list_prices(current, args.day or now().date(), args.model, args.provider, customer)


async def export(args: argparse.Namespace) -> Report:
    """Run `prices export`: the book as `prices import FILE` takes it."""
    async with open_services(args.settings) as services:
        current = await services.price_books.current()
    if current is None:
        raise no_book()
    data = msgspec.json.format(msgspec.json.encode(current.book), indent=2) + b"\n"
    if args.to is None:
        return Report(current.book, [Verbatim(data.decode())])
    try:
        with args.to.open("xb") as file:
            file.write(data)
    except FileExistsError:
        raise Exists(f"{args.to} exists already. Name another file.") from None
    document = {"file": str(args.to), "sha256": current.sha256, "prices": len(current.book.prices)}
    return Report(document, [f"{plural(len(current.book.prices), 'price')} in {args.to}."])


async def _imported(args: argparse.Namespace, current: PublishedBook | None) -> Edition:
    """Return the book that an import makes of the one in use."""
    if args.source not in URLS:
        return Edition(current, _read_file(Path(args.source)))
    book = current.book if current is not None else PriceBook(currency=CURRENCY)
    if book.currency != CURRENCY:
        raise CommandError(
            f"The prices of {args.source} are in {CURRENCY}, and the price book's are in {book.currency}. Import a "
            f"price book in {CURRENCY} from a file first, with the rate to {book.currency} in `rates`."
        )
    since = args.effective_from or now().date()
    source = await read_source(args.source, since, args.region or "")
    if args.default_scope:
        source.add_unscoped(args.default_scope)
    if not source.prices:
        raise CommandError(f"{args.source} has no price that a price book can have. Nothing was imported.")
    merged, held = with_source(book, source, since)
    return Edition(current, merged, [*source.left_out, *held])


def _read_file(file: Path) -> PriceBook:
    try:
        with file.open("rb") as opened:
            data = opened.read(MAX_BOOK_BYTES + 1)
    except FileNotFoundError as exc:
        raise NotFound(f"{file}: {exc.strerror}. SOURCE is a file, or {', '.join(URLS)}.") from None
    if len(data) > MAX_BOOK_BYTES:
        raise CommandError(f"{file} is larger than {MAX_BOOK_BYTES:,} bytes.")
    try:
        return decode_price_book(data.removeprefix(BOM_UTF8))
    except InvalidJob as exc:
        raise CommandError(f"{file}: {exc}") from None


def _price(args: argparse.Namespace) -> Price:
    """Return the price that the options of `prices set` describe."""
    price = Price(
        provider=args.provider,
        model=args.model,
        deployment_scope=args.scope,
        processing=args.processing,
        service_tier=args.tier,
        min_input_tokens=args.min_input_tokens,
        customer=check_optional_customer(args.customer),
        effective_from=args.effective_from or now().date(),
        effective_to=args.effective_to,
        **{rate: getattr(args, rate) for rate in RATES},
    )
    try:
        decode_price_book(msgspec.json.encode(PriceBook(currency=CURRENCY, prices=[price])))
    except InvalidJob as exc:
        raise InvalidArguments(str(exc).replace(f"`{_ONLY}`", "The price").replace(f"{_ONLY}.", "")) from None
    return price


async def _publish(books: PriceBooks, edition: Edition, *, has_shown: bool) -> Report:
    try:
        published = await books.publish(edition.book, replaces=edition.current, by=person())
    except BookReplaced:
        raise Exists("Somebody else has just published a price book. Run the command again.") from None
    report = edition.report("Published. Workers use it within a minute.", published=published)
    # Who was asked has seen the changes.
    return Report(report.document, report.text[-1:]) if has_shown else report


def no_book() -> NotFound:
    """Return the error of a command that needs a price book."""
    remedy = f"Import one with {command('prices import')}, or set a price with {command('prices set')}."
    return NotFound(f"There is no price book yet. {remedy}")
