"""The example of docs/quic-sans-io.md runs."""

from __future__ import annotations

import re
from pathlib import Path

DOCUMENT = Path(__file__).parents[2] / "docs" / "quic-sans-io.md"


def test_the_example_of_the_documentation_runs() -> None:
    (example,) = re.findall(r"```python\n(.*?)```", DOCUMENT.read_text(), re.DOTALL)
    names: dict[str, object] = {}
    exec(example, names)
    assert names["answer"] == b"hello"
