"""
What this app costs, measured beside a named peer in one run: `python -m benchmarks` (docs/benchmarks.md).

`cold_start` and `warm_job` order the runs; what they time runs in processes of its own (`first_job`,
`warm_ours`, `warm_client`), on real stand-ins (`stage`).
"""

from pathlib import Path

PROJECT = Path(__file__).parent.parent
