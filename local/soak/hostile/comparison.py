"""The two runs of a soak with hostile customers, compared: figures, and what must be 0. Pure."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from local.soak.evidence import Evidence, outcome_of
from local.soak.monitor import Monitor
from local.soak.plan import PlannedJob
from local.soak.reconciliation import reconcile
from local.soak.report import percentile

MAX_RATIO = 1.5
"""Of the honest jobs' p99 beside hostile customers to that without them."""
MAX_MIB = 1200
"""Of a worker's memory."""
LATE = f"honest p99 beyond {MAX_RATIO:g} times"
LARGE = f"memory beyond {MAX_MIB} MiB"
_SERVER_ERROR = 500
_UNAVAILABLE = 503

Key = tuple[str, str]


@dataclass(frozen=True)
class Run:
    """What is known after one of the two runs. Times are of one clock."""

    evidence: Evidence
    honest: Sequence[PlannedJob]
    sent_at: Mapping[Key, float]
    called_back_at: Mapping[Key, float]
    watch: Monitor
    statuses: Mapping[int, int] = field(default_factory=Counter)
    """How the app responded over HTTP."""
    events: Mapping[str, int] = field(default_factory=Counter)
    """Of the workers' log."""
    sent: Mapping[str, int] = field(default_factory=Counter)
    """What each attack and each flood sent."""

    def latencies(self, keys: set[Key] | None = None) -> list[float]:
        """Seconds from the sending of each honest job, or of those of `keys`, to its result, in order."""
        results, wanted = self.evidence.results, [job.key for job in self.honest if keys is None or job.key in keys]
        return sorted(results[key].at - self.sent_at[key] for key in wanted if key in results)

    def callback_delays(self) -> list[float]:
        """Seconds from the result of each honest job to its callback, in order."""
        results = self.evidence.results
        return sorted(max(0.0, at - results[key].at) for key, at in self.called_back_at.items() if key in results)

    def undisturbed(self) -> set[Key]:
        """The honest jobs of which every request was answered, and none late."""
        outcomes: dict[Key, set[str]] = {job.key: set() for job in self.honest}
        for entry in self.evidence.journal:
            if entry.call and entry.call[:2] in outcomes:
                outcomes[entry.call[:2]].add(entry.outcome)
        return {key for key, seen in outcomes.items() if seen == {"answered"}}


def compare(alone: Run, beside: Run) -> tuple[dict[str, Any], dict[str, list[str]]]:
    """The figures of the two runs, and sentences for all that must not be. Times are in seconds."""
    calm = alone.undisturbed() & beside.undisturbed()
    rows = {
        "honest, p50": [percentile(run.latencies(), 0.50) for run in (alone, beside)],
        "honest, p99": [percentile(run.latencies(), 0.99) for run in (alone, beside)],
        "honest, max": [percentile(run.latencies(), 1.0) for run in (alone, beside)],
        "honest without a fault, p50": [percentile(run.latencies(calm), 0.50) for run in (alone, beside)],
        "honest without a fault, p99": [percentile(run.latencies(calm), 0.99) for run in (alone, beside)],
        "callbacks after the result, p99": [percentile(run.callback_delays(), 0.99) for run in (alone, beside)],
    }
    ratios = {name: round(after / before, 2) if before else 0.0 for name, (before, after) in rows.items()}
    peaks = [max(run.watch.worker_mib.values(), default=0.0) for run in (alone, beside)]
    together = [max(run.watch.together_mib.values(), default=0.0) for run in (alone, beside)]
    results = [message.result for message in beside.evidence.results.values()]
    outcomes = Counter(entry.outcome or "?" for entry in beside.evidence.journal)
    figures = {
        "honest jobs": len(beside.honest),
        "of these without a fault": len(calm),
        "hostile jobs": len(beside.evidence.planned) - len(beside.honest),
        "sent by attack": dict(sorted(beside.sent.items())),
        "results": len(results),
        "error codes": dict(sorted(Counter(each["error"]["code"] for each in results if each.get("error")).items())),
        "requests by outcome": dict(sorted(outcomes.items())),
        "usage records": dict(sorted(Counter(map(outcome_of, beside.evidence.usage)).items())),
        "HTTP responses": {str(status): number for status, number in sorted(beside.statuses.items())},
        "log events": dict(sorted(beside.events.items())),
        **{
            f"{name}, s": {"alone": round(before, 2), "beside": round(after, 2), "ratio": ratios[name]}
            for name, (before, after) in rows.items()
        },
        "memory of a worker, MiB": {"alone": round(peaks[0]), "beside": round(peaks[1])},
        "with the processes beside it": {"alone": round(together[0]), "beside": round(together[1])},
        "the soak itself late, s": {"alone": round(alone.watch.late_s, 2), "beside": round(beside.watch.late_s, 2)},
    }
    violations = reconcile(alone.evidence)
    for name, sentences in reconcile(beside.evidence).items():
        violations[name] += sentences
    violations["callbacks lost"] = [
        f"{'/'.join(job.key)} had no callback"
        for run in (alone, beside)
        for job in run.honest
        if b'"callback"' in job.body and job.key not in run.called_back_at
    ]
    violations["server errors over HTTP"] = [
        f"{number} responses had status {status}"
        for status, number in beside.statuses.items()
        if status >= _SERVER_ERROR and status != _UNAVAILABLE
    ]
    # Of all honest jobs: the figures have those without a fault, too, which show what the shared cores and Azurite add.
    ratio = ratios["honest, p99"]
    violations[LATE] = [f"{ratio} times"] if ratio > MAX_RATIO else []
    peak = max(*peaks, *together)
    violations[LARGE] = [f"{peak:.0f} MiB"] if peak > MAX_MIB else []
    return figures, violations
