from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from isolation import isolate

ISOLATED = isolate()  # at import: before any test, and in each of several test processes


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if not ISOLATED:
        skip = pytest.mark.skip(reason="needs root and network namespaces")
        for item in items:
            if not {"netns", "runtimes"}.isdisjoint(item.path.parts):
                item.add_marker(skip)


@pytest.fixture(autouse=True)
def own_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The state of the host that tests play is the test's own."""
    monkeypatch.setenv("FAIRWAY_STATE", str(tmp_path / "state"))
    yield tmp_path / "state"
    assert os.environ["FAIRWAY_STATE"]
