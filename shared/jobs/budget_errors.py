"""How a budget delays a job. Imported for customers with budgets alone."""

from __future__ import annotations

from shared.errors import RetryLater


class BudgetReserved(RetryLater):
    """Other jobs have reserved what a budget has left. They may use less."""


class BudgetWait(RetryLater):
    """A budget has too little left, and the job waits for its next period, as it asked for."""

    def __init__(self, message: str, delay_s: float, *, stops_clock: bool) -> None:
        super().__init__(message, delay_s)
        self.stops_clock_s = delay_s if stops_clock else 0
