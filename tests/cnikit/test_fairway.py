"""Fairway's own plugin passes everything that the kit asks for."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from cnikit.case import Status
from cnikit.profile import Profile, shipped_profiles
from cnikit.runner import score

from fairway.net.cni.install import Place, install_plugin
from fairway.net.cni.shim import best

ROOT = Path(__file__).parents[2]

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root"),
    pytest.mark.timeout(400),
]


@pytest.fixture
def fairway(monkeypatch: pytest.MonkeyPatch) -> Profile:
    """As `make cni-kit` has it: the shipped profile's paths begin at the project's folder."""
    monkeypatch.chdir(ROOT)
    install_plugin(Place(ROOT / ".venv/cni"), best())
    return next(profile for profile in shipped_profiles() if profile.name == "fairway")


def failures(profile: Profile, version: str, only: str = "") -> list[str]:
    result = score(profile, [version], only)
    assert result.versions == ("0.3.1", "0.4.0", "1.0.0", "1.1.0")
    return [f"{case.name}: {o.seen}" for (case, _), o in result.outcomes.items() if o.status is Status.FAIL]


def test_in_1_1_0_it_passes_every_case(fairway: Profile) -> None:
    assert failures(fairway, "1.1.0") == []


@pytest.mark.parametrize("version", ["0.3.1", "0.4.0", "1.0.0"])
def test_in_older_versions_its_results_and_errors_are_those_of_the_version(fairway: Profile, version: str) -> None:
    assert failures(fairway, version, "Result") == []
    assert failures(fairway, version, "configuration") == []


def test_in_1_0_0_the_standard_plugins_work_behind_it(fairway: Profile) -> None:
    assert failures(fairway, "1.0.0", "chains") == []
