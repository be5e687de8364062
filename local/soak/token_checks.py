"""The checks that add up tokens: of the endpoint's journal, the usage records, the results and the statements. Pure."""

from collections import Counter, defaultdict

from local.soak.evidence import Evidence, Key, job_key_of, name_of, outcome_of

TOKENS = ("input_tokens", "output_tokens", "cached_tokens", "cache_write_tokens", "reasoning_tokens")


def differing_tokens(evidence: Evidence) -> list[str]:
    """Customers whose recorded tokens, by the tier that served, are not those of the endpoint's answers."""
    sent: defaultdict[Key, Counter[str]] = defaultdict(Counter)
    recorded: defaultdict[Key, Counter[str]] = defaultdict(Counter)
    for row in evidence.billed:
        tier = row["PartitionKey"], row.get("service_tier", "")
        recorded[tier].update({name: row.get(name, 0) for name in TOKENS})
        if entry := evidence.billable.get(str(row.get("request_id"))):
            sent[entry.customer, entry.service_tier].update({name: getattr(entry, name) for name in TOKENS})
    return [
        f"{name_of(tier)}: the records have {recorded[tier][name]} {name}, the endpoint has {sent[tier][name]}"
        for tier in sorted({*sent, *recorded})
        for name in TOKENS
        if recorded[tier][name] != sent[tier][name]
    ]


def differing_statements(evidence: Evidence) -> list[str]:
    """
    Customers whose statements are not the endpoint's journal: other calls or tokens of a tier than those of the answers
    that arrived, or fewer unanswered calls than there were. There can be more of these (docs/promises.md).
    """
    answered = {row.get("request_id") for row in evidence.billed}
    sent: defaultdict[Key, Counter[str]] = defaultdict(Counter)
    unanswered: Counter[str] = Counter()
    for entry in evidence.journal:
        if entry.request_id in answered and entry.billable:
            tokens = {name: getattr(entry, name) for name in TOKENS}
            sent[entry.customer, entry.service_tier].update({"calls": 1, **tokens})
        elif entry.billable or entry.outcome == "reset before":
            unanswered[entry.customer] += 1
    stated: defaultdict[Key, Counter[str]] = defaultdict(Counter)
    for statement in evidence.statements:
        customer = statement["customer"]
        unanswered[customer] -= statement["totals"]["unanswered"]["records"]
        for line in statement["lines"]:
            if line["outcome"] != "unanswered":
                sums = stated[customer, line.get("service_tier") or ""]
                sums.update({name: line.get(name) or 0 for name in ("calls", *TOKENS)})
    return [
        *(
            f"{name_of(tier)}: the statement has {stated[tier][name]} {name}, the endpoint's journal {sent[tier][name]}"
            for tier in sorted({*sent, *stated})
            for name in ("calls", *TOKENS)
            if stated[tier][name] != sent[tier][name]
        ),
        *(
            f"{customer}: the statement lacks {count} unanswered calls"
            for customer, count in sorted(unanswered.items())
            if count > 0 and not evidence.kills  # one record can stand for all calls of an attempt whose worker died
        ),
    ]


def differing_usage(evidence: Evidence) -> list[str]:
    """
    Results whose `usage` is not the sum of the job's records. What an attempt recorded as `lost` may be missing: it
    lost its lease, and another attempt may have closed the job by then.
    """
    sums: defaultdict[Key, Counter[str]] = defaultdict(Counter)
    lost: defaultdict[Key, Counter[str]] = defaultdict(Counter)
    for row in evidence.usage:
        counts = {name: row.get(name, 0) for name in ("calls", *TOKENS)}
        sums[job_key_of(row)].update(counts)
        if outcome_of(row) == "lost":
            lost[job_key_of(row)].update(counts)
    return [
        f"{name_of(key)}: its result has {message.result['usage'].get(name) or 0} {name}, its records {sums[key][name]}"
        for key, message in evidence.results.items()
        for name in ("calls", *TOKENS)
        if not 0 <= sums[key][name] - (message.result["usage"].get(name) or 0) <= lost[key][name]
    ]
