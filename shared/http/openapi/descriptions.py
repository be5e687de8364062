"""What the members of requests are for, in the words of the OpenAPI document and its page. Knows no code."""

from __future__ import annotations

_PARAMETERS = "Any other parameter of the model, passed on untouched."

MEMBERS: dict[str, dict[str, str]] = {
    "Job": {
        "customer": "Whose subscription it runs on, and who is billed for it.",
        "action": "What is to be done; `input` is after it.",
        "job_id": "The idempotency key within the customer. Left out: a new one.",
        "connection": "One of the customer's connections.",
        "model": "The deployment or model. Needed unless the connection names one.",
        "input": "What the action needs, or the name of a blob that holds it.",
        "input_blob": "`container/name` of a blob that holds the input; the name begins with `{customer}/`.",
        "output": "Where the result goes, besides HTTP.",
        "options": "How patiently the endpoint is called.",
        "metadata": "Strings, echoed in the result; 4096 bytes at most.",
    },
    "Output": {
        "queue": "Whether the result goes into the results queue; or the name of another, allowed one.",
        "blob": "Whether the result is written to a blob even where it fits a message.",
        "callback": "A https URL that the result is posted to, signed.",
    },
    "Options": {
        "timeout_s": "Seconds that one call may take, to the last byte of its answer.",
        "max_retries": "How often a failed call is tried again.",
        "retry_delay_ms": "Milliseconds before the first retry, where the endpoint names no time of its own.",
        "exponential_backoff": "Doubles that wait each time, with jitter, up to a minute.",
        "retry_on_all_errors": "Retries every refusal, not only those that are worth it.",
        "strict": "Sends parameters just as given: one that the model refuses fails the job.",
        "deadline_s": "Seconds after submission at which the job ends as failed.",
    },
    "ChatInput": {
        "messages": "The conversation, in place of `prompt` and what belongs to it.",
        "prompt": "What the user says.",
        "system": "The system's message, which comes first.",
        "history": "Messages between the system's and the prompt.",
        "context": "A text that the prompt is about.",
        "template": "How context and prompt are joined: `@@context` and `@@userPrompt` are replaced.",
        "parameters": _PARAMETERS,
    },
    "MultiChatInput": {
        "prompts": "Prompts, each a text or the messages of one conversation.",
        "parameters": _PARAMETERS,
    },
    "ImageInput": {
        "prompt": "What to draw.",
        "n": "How many pictures.",
        "size": "Such as `1024x1024`; which there are is the model's to say.",
        "quality": "Such as `high`; which there are is the model's to say.",
        "output_format": "Such as `png`; which there are is the model's to say.",
        "parameters": _PARAMETERS,
    },
    "SummarizeInput": {
        "text": "The text to summarise, of any length.",
        "blob": "`container/name` of a blob that holds it, in place of `text`.",
        "style": "What the summary looks like.",
        "max_words": "About how long it may be.",
        "language": "In which language it is; left out: the text's.",
        "instructions": "What it should attend to.",
        "parameters": _PARAMETERS,
    },
    "EmbedInput": {
        "texts": "Texts, each of which becomes a vector.",
        "dimensions": "Numbers in a vector; left out: the model's own.",
        "format": "How the vectors come: in the result, or as a NumPy file.",
        "parameters": _PARAMETERS,
    },
    "RawInput": {
        "path": "Relative to the connection's endpoint; no full URL, no `?`, no `..`.",
        "method": "Left out: POST where there is a body, else GET.",
        "query": "Parameters of the URL; a list gives a name more than once.",
        "headers": "Headers that say neither who asks nor where.",
        "json": "A body of JSON, sent as it is written. A request has one body.",
        "data": "A body of text.",
        "form": "Fields of a form.",
        "files": "Files of a form, each base64, or an object with its name and type.",
        "response_type": "How the answer is read; left out: as its media type says.",
    },
    "FileInput": {
        "content": "The file's bytes as base64.",
        "filename": "The name it is sent under; left out: the member's.",
        "content_type": "Its media type.",
    },
    "ConnectionRecord": {
        "endpoint": "The resource's or API's address, in any of the forms that portals show.",
        "api_key": "Goes in, and never comes out.",
        "provider": "Needed only where the host does not tell, as with a gateway's own domain.",
        "auth": "`entra`: with the app's own identity, without a key.",
        "scope": "Of the token, where it is not the usual one.",
        "tenant_id": "The customer's tenant, where it is another.",
        "api_version": "Of addresses that take one.",
        "organization": "OpenAI's, sent as a header.",
        "project": "OpenAI's, sent as a header.",
        "default_model": "For jobs that name no model.",
        "max_concurrency": "Calls in flight on one worker.",
        "monthly_budget": "Kept with the connection.",
    },
    "TrialRequest": {"model": "What is asked for one token; left out: the deployment of the endpoint, or the default."},
}
"""By type and member."""
