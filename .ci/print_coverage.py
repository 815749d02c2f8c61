"""Print the line and branch coverage that the last `pytest --cov` measured."""

import json
import subprocess
import sys

COVERAGE_COMMAND = [sys.executable, "-m", "coverage", "json", "--quiet", "-o", "-"]
totals = json.loads(subprocess.run(COVERAGE_COMMAND, check=True, stdout=subprocess.PIPE).stdout)[
    "totals"
]
for name, covered_key, total_key in (
    ("lines", "covered_lines", "num_statements"),
    ("branches", "covered_branches", "num_branches"),
):
    share = totals[covered_key] / totals[total_key]
    print(f"coverage of {name}: {share:.1%} ({totals[covered_key]} of {totals[total_key]})")  # noqa: T201
