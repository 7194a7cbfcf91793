"""Bringing labs up: the reference network, and a hundred nodes with a thousand pods."""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path

from bench.isolation import isolated
from bench.result import Result
from fairway import lab

EXAMPLES = Path(__file__).parents[1] / "examples"
ROUNDS = 5


def run() -> Result:
    """Seconds from nothing to every pod ready, and down again."""
    return isolated(_measure)


def _measure() -> Result:
    result = Result("lab_up")
    for agents, what in ((False, "two-hosts up"), (True, "two-hosts up, with agents that know each other")):
        up, again = [], []
        for _ in range(ROUNDS):
            up.append(lab.up(EXAMPLES / "two-hosts.toml", agents=agents).seconds)
            again.append(lab.up(EXAMPLES / "two-hosts.toml", agents=agents).seconds)
            lab.down("two-hosts")
        result.add("fairway", what, up, "s")
        result.add("fairway", f"{what}, nothing to change", again, "s")
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory) / "hundred-nodes.toml"
        text = subprocess.run(["sh", EXAMPLES / "hundred-nodes.sh"], check=True, capture_output=True).stdout
        file.write_bytes(text)
        summary = lab.up(file)
        result.add("fairway", f"{summary.nodes} nodes, {summary.pods} pods up", [summary.seconds], "s")
        lab.down(summary.name)
    return result
