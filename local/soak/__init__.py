"""
The soak: a crowd of jobs of many customers on several workers, while the endpoint fails, workers are killed and
keys are rotated; then every call that the endpoint remembers is held against what was told and what was billed.

`plan` says what is sent, `endpoint` answers it and keeps the `journal`, `trouble` kills and rotates, `queues`
sends and gathers, `reconcile` compares (pure), `report` prints. `run` is the only one that knows them all.
"""
