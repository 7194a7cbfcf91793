"""Names on the command line: qualified where several bear them, and near misses shown."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import ip_address

import pytest

from fairway import lab
from fairway.cli import names, places
from fairway.lab import rootless
from fairway.lab.labs import NodeView, PodView
from fairway.net.model.errors import UsageError


@dataclass
class Lab:
    name: str
    members: tuple[str, ...]

    def nodes(self) -> list[NodeView]:
        return [NodeView("node01", f"{self.name}.node01", False, (ip_address("192.0.2.1"),))]

    def pods(self) -> list[PodView]:
        addresses = (ip_address("10.0.0.2"),)
        return [PodView(name, "node01", f"{self.name}.node01.{name}", addresses, 1500) for name in self.members]


@pytest.fixture(autouse=True)
def two_labs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lab, "running", lambda: [Lab("one", ("web", "db")), Lab("two", ("web",))], raising=False)
    monkeypatch.setattr(rootless, "privileged", lambda: True)


def test_a_name_that_one_has_needs_no_more():
    assert places.find_place("db").namespace == "one.node01.db"


def test_a_name_that_several_have_must_be_qualified():
    with pytest.raises(UsageError, match="web is the name of several: one/web, two/web"):
        places.find_place("web")
    assert places.find_place("two/web").namespace == "two.node01.web"


def test_a_near_miss_is_shown():
    with pytest.raises(UsageError) as caught:
        places.find_place("wen")
    assert "web" in caught.value.mend


def test_a_lab_that_does_not_run_has_nobody():
    with pytest.raises(UsageError, match="there is no pod or node 'three/web'"):
        places.find_place("three/web")


def test_this_host_is_a_place_itself():
    assert places.find_place("host").namespace == ""


def test_without_root_a_hosts_pods_are_nobodys(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(rootless, "privileged", lambda: False)
    monkeypatch.setattr(rootless, "enter", lambda create: False)
    with pytest.raises(UsageError) as caught:
        places.find_place("nobody")
    assert "root" in caught.value.mend


def test_names_are_completed_qualified_where_they_must_be():
    items = names.complete_places(None, None, "")  # type: ignore[arg-type]
    assert [item.value for item in items] == ["one/node01", "one/web", "db", "two/node01", "two/web"]


def test_a_completion_that_fails_says_nothing(monkeypatch: pytest.MonkeyPatch):
    def fail() -> None:
        raise OSError("no /run")

    monkeypatch.setattr(lab, "running", fail, raising=False)
    assert names.complete_places(None, None, "") == []  # type: ignore[arg-type]
