from __future__ import annotations

import sys
from pathlib import Path

import pytest
from fuzzing import EXAMPLES, RUNS

for room in ("quic", "attack", "http3"):
    sys.path.insert(0, str(Path(__file__).parent.parent / room))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """What was tried, where more was tried than in `make test`."""
    if EXAMPLES is None or not RUNS:
        return
    terminalreporter.section("fuzzing")
    for name, run in RUNS.items():
        ended = "failed" if run.failed else "time was up" if run.ended_early else "done"
        terminalreporter.line(f"{run.examples:>8,} examples, at most {run.most_steps:>9,} steps  {ended:<12} {name}")
    terminalreporter.line(f"{sum(run.examples for run in RUNS.values()):>8,} examples in all")
