"""The labels of metrics: as few as a worker can pay for, whatever callers make up."""

from __future__ import annotations

from shared.telemetry.metrics import MAX_CUSTOMERS, MAX_TEXTS, OTHER, Labels


def test_customers_are_bounded():
    """The first customers have labels of their own, also later on; further ones share one."""
    labels = Labels()
    first = [labels.customer(f"c-{number}") for number in range(MAX_CUSTOMERS)]
    further = {labels.customer(f"x-{number}") for number in range(1000)}

    assert MAX_CUSTOMERS == len(set(first))
    assert {OTHER} == further
    assert first == [labels.customer(name) for name in first]
    assert OTHER == labels.text("x-1", "model", "gpt-4o")


def test_no_customer_uses_up_anothers_labels():
    """Texts are bounded for each customer and kind."""
    labels = Labels()
    for kind in ("model", "server"):
        texts = {labels.text("contoso", kind, f"m-{number}") for number in range(1000)}
        assert {*(f"m-{number}" for number in range(MAX_TEXTS)), OTHER} == texts

    assert "gpt-4o" == labels.text("fabrikam", "model", "gpt-4o")
    assert ("m-0", OTHER) == tuple(labels.text("contoso", "model", text) for text in ("m-0", "gpt-4o"))
