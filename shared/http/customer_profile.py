"""A customer's profile, and whether its jobs are run. The operator alone writes them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from shared.billing.customer_records import CustomerRecord, CustomerRecords
from shared.contract.customer import CustomerState, decode_profile, for_customer
from shared.contract.decoding import decode
from shared.errors import ConnectionInvalid, InvalidJob
from shared.http.auth import Caller
from shared.http.conditional import meets_preconditions, with_etag
from shared.http.messages import Request, Response, json_response
from shared.http.problems import Problem, invalid_request
from shared.http.request_parsing import check_body, customer_to_change, customer_to_read
from shared.settings import Settings
from shared.upstream.egress_policy import check_public


@dataclass(frozen=True, slots=True)
class CustomerProfileResource:
    """The routes of profiles and states."""

    settings: Settings
    records: CustomerRecords

    async def read_profile(self, request: Request, caller: Caller) -> Response:
        """`GET /customers/{customer}/profile`: without what is the operator's alone, for a tied caller."""
        record = await self.records.read(customer_to_read(request, caller))
        profile = record.profile if caller.customer is None else for_customer(record.profile)
        return with_etag(request, json_response(profile))

    async def put_profile(self, request: Request, caller: Caller) -> Response:
        """`PUT /customers/{customer}/profile`: replace the whole profile; 412 for a precondition."""
        customer = customer_to_change(request)
        check_body(request)
        try:
            profile = decode_profile(request.body)
            if profile.notify is not None:
                check_public(profile.notify, allow_local=self.settings.allow_local_endpoints, member="notify")
        except (InvalidJob, ConnectionInvalid) as exc:
            raise invalid_request(str(exc)) from None
        await self._change(request, caller, customer, "profile", lambda record: record.with_profile(profile))
        return with_etag(request, json_response(profile))

    async def read_state(self, request: Request, caller: Caller) -> Response:
        """`GET /customers/{customer}/state`."""
        record = await self.records.read(customer_to_read(request, caller))
        return with_etag(request, json_response(CustomerState(state=record.state)))

    async def put_state(self, request: Request, caller: Caller) -> Response:
        """`PUT /customers/{customer}/state`: suspend the customer, or end its suspension; 412 for a precondition."""
        customer = customer_to_change(request)
        check_body(request)
        try:
            state = decode(request.body, CustomerState, root="The body")
        except InvalidJob as exc:
            raise invalid_request(str(exc)) from None
        await self._change(request, caller, customer, "state", lambda record: record.with_state(state.state))
        return with_etag(request, json_response(state))

    async def _change(
        self,
        request: Request,
        caller: Caller,
        customer: str,
        subject: str,
        change: Callable[[CustomerRecord], CustomerRecord],
    ) -> None:
        checked = partial(_change_checked, request, subject, change)
        await self.records.change(customer, checked, by=caller.name, subject=subject)


def _change_checked(
    request: Request, subject: str, change: Callable[[CustomerRecord], CustomerRecord], record: CustomerRecord
) -> CustomerRecord:
    current = CustomerState(state=record.state) if subject == "state" else record.profile
    if not meets_preconditions(request, json_response(current)):
        message = f"The {subject} does not meet `If-Match` or `If-None-Match`: read it again, and use its new `ETag`."
        raise Problem(412, "precondition_failed", message)
    return change(record)
