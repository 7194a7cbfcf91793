"""docs/http3-sans-io.md: its example runs, its tables are those of the code."""

from __future__ import annotations

import re
from enum import Enum
from pathlib import Path

import pytest

from fairway.http3 import limits
from fairway.http3.message import ARRIVING_TRANSITIONS, LEAVING_TRANSITIONS

DOCUMENT = (Path(__file__).parents[2] / "docs" / "http3-sans-io.md").read_text()


def test_the_example_of_the_documentation_runs() -> None:
    (example,) = re.findall(r"```python\n(.*?)```", DOCUMENT, re.DOTALL)
    names: dict[str, object] = {}
    exec(example, names)
    assert names["body"] == b"you asked for /hi"


@pytest.mark.parametrize(
    ("title", "table"), [("What arrives:", ARRIVING_TRANSITIONS), ("What leaves:", LEAVING_TRANSITIONS)]
)
def test_the_states_are_those_of_the_tables(title: str, table: dict[Enum, frozenset[Enum]]) -> None:
    drawn = DOCUMENT.split(title)[1].split("\n\n")[1].splitlines()[2:]
    documented = {}
    for row in drawn:
        state, following = (cell.strip() for cell in row.strip("|").split("|"))
        documented[state] = set(following.split(", ")) - {""}
    assert documented == {state.value: {other.value for other in others} for state, others in table.items()}


def test_the_limits_are_those_of_the_code() -> None:
    rows = re.findall(r"^\| `([A-Z_]+)` \| (\d+) \|", DOCUMENT, re.MULTILINE)
    assert len(rows) >= 12
    for name, value in rows:
        assert getattr(limits, name) == int(value), name
