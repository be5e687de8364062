"""The workers' log: counts of all events except for the usual ones, and the lines of errors."""

import re
from collections import Counter
from dataclasses import dataclass, field

# [host 0] WARNING run_job 1a2b3c4d: job_requeued customer=… job_id=… delay_s=7.3 UpstreamRetryLater: …
_LINE = re.compile(r"^\[host \d+\] (?P<level>INFO|WARNING|ERROR|CRITICAL) (?P<source>.*?): (?P<message>.*)")
_EVENT = re.compile(r"(?P<event>[a-z]+(?:_[a-z]+)+)\b(?:.*?delay_s=\S+ (?P<kind>\w+))?")
_NOT_COUNTED = {"job_finished"}


@dataclass(slots=True)
class Log:
    """`events` by name, those that requeue a job with the kind of the reason. `errors` are whole lines."""

    events: Counter[str] = field(default_factory=Counter)
    errors: list[str] = field(default_factory=list)

    def read(self, line: str) -> None:
        """Read one line of a host's output. Lines that begin no record, such as a traceback's, are ignored."""
        record = _LINE.match(line)
        if record is None:
            return
        event = _EVENT.match(record["message"])
        if event is None:
            name = f"{record['level'].lower()} of {record['source'].partition(' ')[0]}"
        else:
            name = " ".join(filter(None, event.groups()))
        if record["level"] in ("ERROR", "CRITICAL"):
            self.errors.append(line)
        if name not in _NOT_COUNTED and (event or record["level"] != "INFO"):
            self.events[name] += 1
