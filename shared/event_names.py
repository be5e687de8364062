"""
The names of what the app reports: log events, metrics, and attributes of metrics and spans.

A log event is the first word of a log line, so that a query can find it (`Message startswith "job_finished "`).
Queries, alerts, the workbook and docs/telemetry.md use these names, and tests compare them with this module. Names
that the semantic conventions for generative AI define (opentelemetry.io/docs/specs/semconv/gen-ai) are theirs.
Imports nothing.
"""

from __future__ import annotations

from typing import Final

NAMESPACE: Final = "customer_ai_jobs"
"""The name of the logger, and the prefix of our own metrics and attributes."""

# Log events: jobs.
JOB_FINISHED: Final = "job_finished"
"""A job has its result: its action, status, code, attempt, calls, tokens and run time."""
JOB_REQUEUED: Final = "job_requeued"
"""A job goes back into the queue for `delay_s` seconds, with the reason; a throttled job is not among these."""
JOBS_WOKEN: Final = "jobs_woken"
"""Messages were sent of jobs that waited in the schedule: `due`, or `overdue` if the sweep had to find them."""
JOB_REJECTED: Final = "job_rejected"
"""A message got a failed result and no attempt: it can't be read, or its job was given up."""
JOB_ERROR: Final = "job_error"
"""A job met a fault of ours. The line has the kind of the exception and the place in the code."""
CUSTOMER_THROTTLED: Final = "customer_throttled"
"""
A customer uses its share of a worker, so its jobs are requeued; at most one line a minute and connection (its callbacks
are `(callbacks)`).
"""
BUDGET_EXHAUSTED: Final = "budget_exhausted"
"""A budget has too little left for a job, which fails or waits; at most one line a minute and budget."""
LEASE_LOST: Final = "lease_lost"
"""Another worker has taken over the job; this attempt stops."""
LEASE_NOT_RENEWED: Final = "lease_not_renewed"
"""Storage did not answer when a lease was to be renewed; the attempt goes on."""
USAGE_NOT_RECORDED: Final = "usage_not_recorded"
"""Storage did not take the usage records of an attempt that had lost its lease."""
USAGE_RECORD_EXISTS: Final = "usage_record_exists"
"""A usage record with that key existed; the new one got a key of its own."""

# Log events: circuit breakers.
BREAKER_OPEN: Final = "breaker_open"
"""A connection's endpoint is not called for `for_s` seconds, after failures or refused credentials."""
BREAKER_HALF_OPEN: Final = "breaker_half_open"
"""One call probes the endpoint."""
BREAKER_CLOSED: Final = "breaker_closed"
"""The endpoint answers again."""

# Log events: callbacks and webhooks.
CALLBACK_DELIVERED: Final = "callback_delivered"
"""The receiver took the callback."""
CALLBACK_WAITING: Final = "callback_waiting"
"""A try to deliver the callback failed; another one follows."""
CALLBACK_FAILED: Final = "callback_failed"
"""The callback was given up."""
CALLBACK_DROPPED: Final = "callback_dropped"
"""A try was not needed: the callback was delivered already, or the job no longer exists."""
CALLBACK_NOT_RECORDED: Final = "callback_not_recorded"
"""Storage did not take the outcome of a try; the next try records its own."""
CALLBACK_UNREADABLE: Final = "callback_unreadable"
"""A message of the callbacks queue is not a callback."""
SIGNING_SECRET_INVALID: Final = "signing_secret_invalid"  # noqa: S105
"""A customer's signing secret is malformed."""
SIGNING_SECRETS_UNREAD: Final = "signing_secrets_unread"
"""During a flood of webhooks with made-up names, customers' signing secrets could not be read in advance."""

# Log events: exports and budgets' events.
EXPORT_SENT: Final = "export_sent"
"""A receiver took `events` of an export in one run of the timer."""
EXPORT_REFUSED: Final = "export_refused"
"""A receiver refused `events` of an export; `aijobs exports list` shows them with its reasons."""
EXPORT_IN_DOUBT: Final = "export_in_doubt"
"""Whether a receiver has `events` is not certain, and it would not recognize them: a person has to decide."""
EXPORT_FAILING: Final = "export_failing"
"""Nothing can be sent to an export's receiver: it does not answer, refuses the key, or there is no key."""
EXPORT_LAG: Final = "export_lag"
"""The oldest record that an export has not sent yet is `lag_s` seconds old; one line a minute while there is one."""
EXPORTS_SKIPPED: Final = "exports_skipped"
"""Customers whose outbox a run did not come to, or could not read: the next run continues."""
BUDGET_EVENT_DELIVERED: Final = "budget_event_delivered"
"""The receiver took a budget's event."""
BUDGET_EVENT_WAITING: Final = "budget_event_waiting"
"""A try to deliver a budget's event failed; another one follows."""
BUDGET_EVENT_FAILED: Final = "budget_event_failed"
"""A budget's event was given up."""

# Log events: HTTP, connections, retention, telemetry.
REQUEST_FAILED: Final = "request_failed"
"""An HTTP request met a fault of ours, or a setting that the operator has to correct."""
CONNECTION_SAVED: Final = "connection_saved"
"""A connection was created or replaced over HTTP."""
CONNECTION_DELETED: Final = "connection_deleted"
"""A connection was deleted over HTTP."""
STATEMENTS_QUEUED: Final = "statements_queued"
"""The timer has put jobs that close a month into the queue: `complete` or `incomplete`, and how many."""
SWEEP_FINISHED: Final = "sweep_finished"
"""A retention sweep ended: how, and how much it removed."""
TELEMETRY_NOT_EXPORTED: Final = "telemetry_not_exported"
"""Application Insights did not take spans or metrics; one line when that begins."""

# Metrics.
METRIC_CALL_DURATION: Final = "gen_ai.client.operation.duration"
"""Seconds of a call, with its retries."""
METRIC_TOKENS: Final = "gen_ai.client.token.usage"
"""
Tokens of a call, as the provider counted them. Those of answers that are read in a process of their own (see *Limits*
in operate.md) are in the usage records alone.
"""
METRIC_JOBS: Final = "customer_ai_jobs.jobs"
"""Jobs that ended."""
METRIC_QUEUE_AGE: Final = "customer_ai_jobs.queue_age"
"""Seconds from a job's submission to its first attempt."""
METRIC_REQUEUES: Final = "customer_ai_jobs.requeues"
"""Times that a job was requeued."""
METRIC_WAIT_TIME: Final = "customer_ai_jobs.wait_time"
"""Seconds that jobs waited, in the queue or within a call."""
METRIC_BREAKER_CHANGES: Final = "customer_ai_jobs.breaker_changes"
"""State changes of a connection's circuit breaker on one worker."""
METRIC_EXPORT_EVENTS: Final = "customer_ai_jobs.export_events"
"""Events of an export by what became of them: `sent`, `refused`, `in_doubt`."""
METRIC_EXPORT_LAG: Final = "customer_ai_jobs.export_lag"
"""Seconds since the oldest record that an export has not sent yet."""
METRIC_COLD_START: Final = "customer_ai_jobs.cold_start"
"""Seconds from the app's loading to the end of its first job, once a worker."""

# Attributes of metrics and spans.
ATTR_CUSTOMER: Final = "customer_ai_jobs.customer"
"""The customer's id."""
ATTR_CONNECTION: Final = "customer_ai_jobs.connection"
"""The connection's name."""
ATTR_JOB_ID: Final = "customer_ai_jobs.job_id"
"""The job's id; on spans only."""
ATTR_ACTION: Final = "customer_ai_jobs.action"
"""The job's action."""
ATTR_ATTEMPT: Final = "customer_ai_jobs.attempt"
"""Which attempt of the job this is, from 1; on spans only."""
ATTR_STATUS: Final = "customer_ai_jobs.status"
"""The status of the job's result."""
ATTR_CODE: Final = "customer_ai_jobs.code"
"""The contract's error code. Also sent as `error.type`, which Application Insights does not show."""
ATTR_REQUEUE_REASON: Final = "customer_ai_jobs.requeue_reason"
"""Why a job was requeued."""
ATTR_WAITED_IN: Final = "customer_ai_jobs.waited_in"
"""Where a job waited: `queue`, which costs nothing, or `call`, between two tries."""
ATTR_STATE: Final = "customer_ai_jobs.state"
"""The breaker's new state: `open`, `half_open` or `closed`. Of an export's events: what became of them."""
ATTR_EXPORT: Final = "customer_ai_jobs.export"
"""The export's name."""
ATTR_TRIES: Final = "customer_ai_jobs.tries"
"""HTTP requests of one call; on spans only, if there was more than one."""
