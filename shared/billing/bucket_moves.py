"""All buckets of a budget in one period: what each may get of the others' (see `buckets`). Pure."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from decimal import ROUND_FLOOR, Decimal

from msgspec import Struct
from msgspec.structs import replace

from shared.billing.buckets import ZERO, Bucket, Change, Head, Terms, percent_of
from shared.billing.money import EXACT, exact_sum

_RESTS = {"share": "free", "alert": "slack"}
"""What a bucket has left of each."""


class LimitReached(Exception):
    """
    The budget has too little left for a job. `is_reserved`: it has enough but for what other jobs have reserved.

    `left` is what it has left but for that.
    """

    def __init__(self, left: Decimal, *, is_reserved: bool) -> None:
        super().__init__()
        self.left = left
        self.is_reserved = is_reserved


class Pool(Struct, frozen=True):
    """All buckets, as they were read and then changed. Each method that changes some returns another pool."""

    buckets: Sequence[Bucket]
    quantum: Decimal
    touched: frozenset[int] = frozenset()
    """The buckets that were changed."""

    @property
    def head(self) -> Head:
        """What the first bucket knows."""
        head = self.buckets[0].head
        assert head is not None  # noqa: S101  # bucket 0 has one
        return head

    @property
    def spent(self) -> Decimal:
        """What is spent. It never falls, so it is at least this, whatever has happened since it was read."""
        return exact_sum(bucket.spent for bucket in self.buckets)

    @property
    def reserved(self) -> Decimal:
        """What is reserved."""
        return exact_sum(bucket.reserved for bucket in self.buckets)

    @property
    def changed(self) -> list[Bucket]:
        """The buckets that were changed."""
        return [self.buckets[number] for number in sorted(self.touched)]

    def largest(self, kind: str) -> Decimal | None:
        """Return the most that a job of a kind has settled without an estimate; None if no job has."""
        return max((bucket.largest[kind] for bucket in self.buckets if kind in bucket.largest), default=None)

    def due(self, spent: Decimal = ZERO) -> tuple[int, ...]:
        """Return the thresholds that are reached once so much more is spent, and whose events don't exist."""
        head, total = self.head, EXACT.add(self.spent, spent)
        return tuple(
            threshold
            for threshold in head.terms.thresholds
            if threshold not in head.passed and total >= percent_of(head.terms.limit, threshold) > ZERO
        )

    def check_limit(self, change: Change) -> None:
        """Raise LimitReached if what the change wants to reserve is not left."""
        terms, wanted = self.head.terms, change.wanted
        if not (terms.is_hard and wanted):
            return
        left = EXACT.subtract(terms.limit, EXACT.add(self.spent, change.spent))
        if wanted > left:
            raise LimitReached(left, is_reserved=False)
        others = EXACT.subtract(EXACT.add(self.reserved, change.reserved), wanted)
        if wanted > EXACT.subtract(left, others):
            raise LimitReached(left, is_reserved=True)

    def with_changes(self, changes: Mapping[int, Change]) -> Pool | None:
        """As `with_change`, of several buckets."""
        pool: Pool | None = self
        for number, change in sorted(changes.items(), key=lambda item: item[1].needs):  # what frees something first
            pool = pool and pool.with_change(number, change)
        return pool

    def with_change(self, number: int, change: Change) -> Pool | None:
        """
        Return the pool after a change of one bucket, which gets what it needs for that from others.

        The events that are `due` are taken as inserted. None: what was read is no state that there ever was, since
        others were changing buckets.
        """
        pool: Pool | None = self
        head, needs = self.head, change.needs
        if head.terms.is_hard and needs > ZERO and self.buckets[number].free < needs:
            # What is spent beyond the reservation is spent, even if there is not so much left.
            pool = self.with_free(number, needs) if change.wanted else self.with_all_free(number, needs)
        if pool is None:
            return None
        if change.spent and head.line is not None and self.buckets[number].slack <= change.spent:
            if due := self.due(change.spent):
                pool = pool.with_passed(number, due)
            if pool.head.line is not None:
                pool = pool.with_slack(number, change.spent)
        pool = pool and pool.with_bucket(pool.buckets[number].changed(change))
        if pool and head.terms.is_hard and pool.buckets[number].free < ZERO:
            return pool.marked(is_balanced=False)
        return pool

    def with_terms(self, terms: Terms) -> Pool:
        """
        Return the pool with other terms: the first bucket gets what the limit has more, or gives what it has less.

        All buckets are written, so that no worker relies on one that it remembers under the old terms, even if these
        return. Thresholds that are reached by then are `due`.
        """
        head = self.head
        first = _with_more(self.buckets[0], "share", EXACT.subtract(terms.limit, head.terms.limit))
        pool = self.with_bucket(_armed(replace(first, head=head._replace(terms=terms, is_balanced=False))))
        return replace(pool, touched=frozenset(range(len(self.buckets))))

    def with_passed(self, number: int, passed: Iterable[int]) -> Pool:
        """
        Return the pool once the events of these thresholds exist.

        One bucket gets the slack that there is until the next threshold.
        """
        first, head = self.buckets[0], self.head
        armed = _armed(replace(first, head=head._replace(passed=tuple(sorted({*head.passed, *passed})))))
        more = EXACT.subtract(armed.alert, first.alert)
        pool = self.with_bucket(replace(armed, alert=first.alert))
        return pool.with_bucket(_with_more(pool.buckets[number], "alert", more))

    def gathered(self, changes: Mapping[int, Change]) -> Pool:
        """Return the pool whose buckets have what they need of others for changes, as far as these have it."""
        pool = self
        for number, change in changes.items():
            if self.head.terms.is_hard and change.needs > ZERO:
                pool = pool.with_all_free(number, change.needs)
            if self.head.line is not None and change.spent:
                pool = pool.with_slack(number, change.spent) or pool.with_all_slack(number)
        return pool

    def with_free(self, number: int, needs: Decimal) -> Pool | None:
        """Return the pool so changed that one bucket has so much free; None if all together have less."""
        return self._moved("share", number, needs, operator.ge)

    def with_slack(self, number: int, needs: Decimal) -> Pool | None:
        """Return the pool so changed that one bucket has more slack than that; None if all together have not."""
        return self._moved("alert", number, needs, operator.gt)

    def with_any_slack(self, number: int) -> Pool | None:
        """Return the pool so changed that one bucket has not spent more than its alert; None if all together have."""
        return self._moved("alert", number, ZERO, operator.ge)

    def with_all_free(self, number: int, needs: Decimal) -> Pool:
        """As `with_free`; if all together have less, the bucket gets all that the others have free."""
        pool = self.with_free(number, needs)
        if pool is None:
            total = exact_sum(max(bucket.free, ZERO) for bucket in self.buckets if bucket.number != number)
            pool = self.with_free(number, EXACT.add(self.buckets[number].free, total))
        return pool or self

    def with_all_slack(self, number: int) -> Pool:
        """Return the pool so changed that one bucket has all the slack that the others have."""
        total = exact_sum(max(bucket.slack, ZERO) for bucket in self.buckets if bucket.number != number)
        return self._moved("alert", number, EXACT.add(self.buckets[number].slack, total), operator.ge) or self

    def balanced(self) -> Pool:
        """
        Return the pool so changed that no bucket lacks what another one has.

        After a limit was lowered, the first bucket has less than nothing left; so has one in which more was spent than
        reserved. If all together have too little, these buckets get all that the others have free.
        """
        pool = self
        for number in range(len(self.buckets)):
            if pool.buckets[number].free < ZERO and self.head.terms.is_hard:
                pool = pool.with_all_free(number, ZERO)
            if pool.buckets[number].slack < ZERO and self.head.line is not None:
                pool = pool.with_any_slack(number) or pool
        lacking = self.head.terms.is_hard and any(bucket.free < ZERO for bucket in pool.buckets)
        return pool if lacking else pool.marked(is_balanced=True)

    def _moved(
        self, column: str, number: int, needs: Decimal, is_enough: Callable[[Decimal, Decimal], bool]
    ) -> Pool | None:
        """
        Move parts of `column` to one bucket from those that have most left, so that what it has is enough.

        If one of them has enough, both have about the same left afterwards.
        """
        rests = [getattr(bucket, _RESTS[column]) for bucket in self.buckets]
        missing, moved, pool = EXACT.subtract(needs, rests[number]), ZERO, self
        for bucket in sorted(self.buckets, key=lambda bucket: rests[bucket.number], reverse=True):
            rest = rests[bucket.number]
            if bucket.number == number:
                continue
            if rest <= ZERO or is_enough(moved, missing):
                break
            left = EXACT.subtract(missing, moved)
            half = EXACT.divide(EXACT.add(rest, left), Decimal(2)).quantize(self.quantum, ROUND_FLOOR, context=EXACT)
            part = half if half <= rest and is_enough(half, left) else rest
            moved = EXACT.add(moved, part)
            pool = pool.with_bucket(_with_more(bucket, column, EXACT.minus(part)))
        if not is_enough(moved, missing):
            return None
        return pool.with_bucket(_with_more(self.buckets[number], column, moved)) if moved else self

    def marked(self, *, is_balanced: bool) -> Pool:
        """Return the pool whose first bucket says whether none has more than its share."""
        if self.head.is_balanced == is_balanced:
            return self
        return self.with_bucket(replace(self.buckets[0], head=self.head._replace(is_balanced=is_balanced)))

    def with_bucket(self, bucket: Bucket) -> Pool:
        """Return the pool with a bucket that was changed."""
        buckets = [*self.buckets[: bucket.number], bucket, *self.buckets[bucket.number + 1 :]]
        return replace(self, buckets=buckets, touched=self.touched | {bucket.number})


def _armed(first: Bucket) -> Bucket:
    """Return the first bucket, whose alert has changed by as much as the amount at which the next event is due."""
    head = first.head
    assert head is not None  # noqa: S101  # bucket 0 has one
    line = head.line
    if line is None:
        return first
    alert = EXACT.add(first.alert, EXACT.subtract(line, head.armed))
    return replace(first, alert=alert, head=head._replace(armed=line))


def _with_more(bucket: Bucket, column: str, more: Decimal) -> Bucket:
    if column == "share":
        return replace(bucket, share=EXACT.add(bucket.share, more))
    return replace(bucket, alert=EXACT.add(bucket.alert, more))
