"""The figures of a soak, for people and for programs. Pure."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from local.soak.evidence import Evidence, outcome_of
from local.soak.reconciliation import unused_calls

MAX_SENTENCES = 5
"""The most violations of one check that are printed."""
_FAILED_ATTEMPTS = "failed_attempts"
"""The column of a job's row that counts the attempts that a worker's death, or Storage, ended."""


def measure(
    evidence: Evidence, sent_at: Mapping[tuple[str, str], float], with_faults: Sequence[tuple[str, str]]
) -> dict[str, Any]:
    """
    The figures; times are in seconds. Latency and rate are those of the jobs `with_faults`, which ran while the
    endpoint failed and workers were killed.
    """
    results = [message.result for message in evidence.results.values()]
    codes = Counter(result["error"]["code"] for result in results if result.get("error"))
    latencies = sorted(evidence.results[key].at - sent_at[key] for key in with_faults if key in evidence.results)
    start = min((sent_at[key] for key in with_faults), default=0.0)
    end = max((evidence.results[key].at for key in with_faults if key in evidence.results), default=start)
    attempts = [result["attempts"] for result in results]
    return {
        "jobs": len(evidence.planned),
        "calls needed": sum(job.calls for job in evidence.planned),
        "results": len(evidence.results),
        "results published again": len(evidence.messages) - len(evidence.results),
        **{f"jobs {status}": count for status, count in sorted(Counter(each["status"] for each in results).items())},
        "error codes": dict(sorted(codes.items())),
        "requests": len(evidence.journal),
        "requests by outcome": dict(sorted(Counter(entry.outcome or "?" for entry in evidence.journal).items())),
        "usage records": dict(sorted(Counter(map(outcome_of, evidence.usage)).items())),
        "unused calls on record": len(unused_calls(evidence)[0]),
        "workers killed": len(evidence.kills),
        "failed attempts": sum(row.get(_FAILED_ATTEMPTS) or 0 for row in evidence.jobs),
        "attempts per job, mean": round(sum(attempts) / len(attempts), 3) if attempts else 0,
        "attempts per job, max": max(attempts, default=0),
        "seconds": round(end - start, 1),
        "jobs per second": round(len(latencies) / (end - start), 1) if end > start else 0,
        "latency p50": round(percentile(latencies, 0.50), 2),
        "latency p99": round(percentile(latencies, 0.99), 2),
        "latency max": round(percentile(latencies, 1.0), 2),
    }


def percentile(ordered: Sequence[float], share: float) -> float:
    """The smallest of the ordered values that at least this share of them doesn't exceed; 0 without values."""
    return ordered[max(0, -(-int(share * len(ordered) * 1000) // 1000) - 1)] if ordered else 0.0


def lines(figures: Mapping[str, Any], violations: Mapping[str, Sequence[str]]) -> list[str]:
    """The table: the figures, then the number of violations of each check, with the first sentences."""
    width = max(map(len, [*figures, *violations]))
    table = [f"  {name:<{width}}  {_format(value)}" for name, value in figures.items()]
    table += ["", "must be 0:"]
    for name, sentences in violations.items():
        table.append(f"  {name:<{width}}  {len(sentences):,}{'   <-- FAULT' if sentences else ''}")
        table += [f"      {sentence}" for sentence in sentences[:MAX_SENTENCES]]
        table += [f"      … and {len(sentences) - MAX_SENTENCES} more"] * (len(sentences) > MAX_SENTENCES)
    return table


def _format(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {count:,}" for name, count in value.items()) or "none"
    return f"{value:,}"
