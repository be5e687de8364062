"""Errors in the stored outcomes of jobs and their parts."""

from __future__ import annotations

import msgspec

from shared.contract.error_codec import error_body, error_from_body
from shared.errors import ConnectionFault, JobError, ProviderUnavailable, UpstreamError, UpstreamFacts
from tests.support.rows import every_row

KINDS = {*JobError.__subclasses__(), *ConnectionFault.__subclasses__(), *UpstreamError.__subclasses__()}


@every_row("kind", sorted(KINDS - {ConnectionFault, UpstreamError}, key=str))
def test_an_error_that_was_stored_is_the_same_error(kind: type[JobError]):
    """Also one that is no endpoint's: a job may end with the error of a part, or of an earlier attempt."""
    facts = UpstreamFacts(status=429, request_id="req-1", detail={"param": "n"})
    error = kind("Why.", facts) if issubclass(kind, UpstreamError) else kind("Why.")

    read = error_from_body(msgspec.to_builtins(error_body(error)))

    assert (error.code, "Why.") == (read.code, str(read))
    assert error_body(error) == error_body(read)
    assert isinstance(read, kind) or error.code == "timeout"


def test_a_code_of_a_later_version_is_still_an_error():
    """A worker of an older version reads it."""
    assert isinstance(error_from_body({"code": "quite_new", "message": "Why."}), ProviderUnavailable)
