"""docs/webtransport.md: its example runs, its limits are those of the code."""

from __future__ import annotations

import re
from pathlib import Path

from fairway.http3 import limits

DOCUMENT = (Path(__file__).parents[2] / "docs" / "webtransport.md").read_text()


def test_the_example_of_the_documentation_runs() -> None:
    (example,) = re.findall(r"```python\n(.*?)```", DOCUMENT, re.DOTALL)
    names: dict[str, object] = {}
    exec(example, names)
    assert names["answer"] == b"hello"


def test_the_limits_are_those_of_the_code() -> None:
    rows = re.findall(r"^\| `([A-Z_]+)` \| (\d+) \|", DOCUMENT, re.MULTILINE)
    assert len(rows) == 5
    for name, value in rows:
        assert getattr(limits, name) == int(value), name
