"""The workers' log: how often it tells of which event that is not a job's good end, and what it calls an error."""

import re
from collections import Counter
from dataclasses import dataclass, field

# [host 0] WARNING run_job 1a2b3c4d: job_requeued customer=… job_id=… delay_s=7.3 UpstreamRetryLater: …
_LINE = re.compile(r"^\[host \d+\] (?P<level>INFO|WARNING|ERROR|CRITICAL) (?P<place>.*?): (?P<said>.*)")
_EVENT = re.compile(r"(?P<event>[a-z]+(?:_[a-z]+)+)\b(?:.*?delay_s=\S+ (?P<kind>\w+))?")
_USUAL = {"job_finished"}


@dataclass(slots=True)
class Log:
    """`events` by name, those that put a job back with the reason's kind; `errors` are whole lines."""

    events: Counter[str] = field(default_factory=Counter)
    errors: list[str] = field(default_factory=list)

    def read(self, line: str) -> None:
        """Takes one line of a host's output. Those that begin no record, as in a traceback, are nothing new."""
        record = _LINE.match(line)
        if record is None:
            return
        event = _EVENT.match(record["said"])
        if event is None:
            name = f"{record['level'].lower()} of {record['place'].partition(' ')[0]}"
        else:
            name = " ".join(filter(None, event.groups()))
        if record["level"] in ("ERROR", "CRITICAL"):
            self.errors.append(line)
        if name not in _USUAL and (event or record["level"] != "INFO"):
            self.events[name] += 1
