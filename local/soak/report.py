"""What a soak came to: figures for people and for machines. Pure."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from local.soak.evidence import Evidence, outcome
from local.soak.reconciliation import wasted

SHOWN = 5
"""Sentences of one check that are printed."""


def measure(
    seen: Evidence, sent_at: Mapping[tuple[str, str], float], first: Sequence[tuple[str, str]]
) -> dict[str, Any]:
    """
    The figures, times in seconds. The jobs in `first` are those of the phase with faults and kills: latency and
    rate are theirs.
    """
    results = [told.result for told in seen.results.values()]
    codes = Counter(result["error"]["code"] for result in results if result.get("error"))
    waits = sorted(seen.results[key].at - sent_at[key] for key in first if key in seen.results)
    began = min((sent_at[key] for key in first), default=0.0)
    ended = max((seen.results[key].at for key in first if key in seen.results), default=began)
    attempts = [result["attempts"] for result in results]
    return {
        "jobs": len(seen.planned),
        "pieces of work": sum(job.prompts for job in seen.planned),
        "results": len(seen.results),
        "told more than once": len(seen.told) - len(seen.results),
        **{f"jobs {status}": count for status, count in sorted(Counter(one["status"] for one in results).items())},
        "failure codes": dict(sorted(codes.items())),
        "calls": len(seen.journal),
        "calls by what became of them": dict(sorted(Counter(entry.did or "?" for entry in seen.journal).items())),
        "usage records": dict(sorted(Counter(map(outcome, seen.usage)).items())),
        "wasted calls, recorded": len(wasted(seen)[0]),
        "workers killed": len(seen.kills),
        "runs lost to a dead worker": sum(row.get("failed_attempts") or 0 for row in seen.jobs),
        "attempts, mean": round(sum(attempts) / len(attempts), 3) if attempts else 0,
        "attempts, most": max(attempts, default=0),
        "seconds": round(ended - began, 1),
        "jobs a second": round(len(waits) / (ended - began), 1) if ended > began else 0,
        "wait p50": round(percentile(waits, 0.50), 2),
        "wait p99": round(percentile(waits, 0.99), 2),
        "wait max": round(percentile(waits, 1.0), 2),
    }


def percentile(ordered: Sequence[float], share: float) -> float:
    """The value that so large a share of the values does not exceed; 0 of none."""
    return ordered[max(0, -(-int(share * len(ordered) * 1000) // 1000) - 1)] if ordered else 0.0


def lines(figures: Mapping[str, Any], complaints: Mapping[str, Sequence[str]]) -> list[str]:
    """The table: figures, then every check with what it counts, and its first sentences where it complains."""
    width = max(map(len, [*figures, *complaints]))
    shown = [f"  {name:<{width}}  {_plain(value)}" for name, value in figures.items()]
    shown += ["", "must be 0:"]
    for name, said in complaints.items():
        shown.append(f"  {name:<{width}}  {len(said):,}{'' if not said else '   <-- FAULT'}")
        shown += [f"      {sentence}" for sentence in said[:SHOWN]]
        shown += [f"      … and {len(said) - SHOWN} more"] * (len(said) > SHOWN)
    return shown


def _plain(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {count:,}" for name, count in value.items()) or "none"
    return f"{value:,}"
