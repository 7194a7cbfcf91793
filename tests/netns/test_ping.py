"""Echoes out of many namespaces at once."""

from __future__ import annotations

import itertools
import os
import resource
import select
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import ip_address
from types import SimpleNamespace

import pytest

from fairway.net.host import ping as module
from fairway.net.host.ping import Answer, Probe, ping
from fairway.net.kernel import namespaces

pytestmark = [pytest.mark.root, pytest.mark.skipif(os.geteuid() != 0, reason="needs root: it makes namespaces")]

NOBODY = ip_address("10.99.0.250")
_numbers = itertools.count()


@dataclass(frozen=True)
class Star:
    """A hub with a cable to each of `spokes`; a spoke has 10.99.0.n and fd99::n and reaches all through the hub."""

    hub: str
    spokes: tuple[str, ...]

    def address(self, number: int, version: int = 4) -> object:
        return ip_address(f"10.99.0.{number + 1}" if version == 4 else f"fd99::{number + 1:x}")


def ip(command: str, batch: str) -> None:
    subprocess.run(["ip", *command.split(), "-batch", "-"], input=batch, text=True, check=True)


@pytest.fixture(scope="module")
def star() -> Iterator[Star]:
    hub = f"fwt-ping-{os.getpid()}-{next(_numbers)}"
    spokes = tuple(f"{hub}-{number}" for number in range(6))
    for name in (hub, *spokes):
        namespaces.make(name, lambda: None)
    try:
        for number, spoke in enumerate(spokes):
            ip(f"-n {hub}", f"link add s{number} type veth peer name eth0 netns {spoke}\nlink set s{number} up\n")
        ip(f"-n {hub}", "link add hub0 type bridge\nlink set hub0 up\nlink set lo up\n")
        ip(f"-n {hub}", "".join(f"link set s{number} master hub0\n" for number in range(len(spokes))))
        for number, spoke in enumerate(spokes):
            addresses = f"addr add 10.99.0.{number + 1}/24 dev eth0\naddr add fd99::{number + 1:x}/64 dev eth0 nodad\n"
            ip(f"-n {spoke}", f"link set lo up\nlink set eth0 up\n{addresses}")
        yield Star(hub, spokes)
    finally:
        for name in (hub, *spokes):
            namespaces.remove(name)


class Clock:
    """Stands for `time` in `ping`: time passes where an answer is waited for in vain, and nowhere else."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now_s = 0.0
        self.read_after_s = 0.0
        """So much later than it is seems the time of day to who has begun to read."""
        self._ahead_s = 0.0
        monkeypatch.setattr(module, "time", self)
        monkeypatch.setattr(module, "select", SimpleNamespace(epoll=lambda: Poll(self), EPOLLIN=select.EPOLLIN))

    def monotonic(self) -> float:
        return self.now_s

    def time(self) -> float:
        return time.time() + self._ahead_s

    def waited(self, seconds: float, *, in_vain: bool) -> None:
        self._ahead_s = self.read_after_s
        if in_vain:
            self.now_s += seconds


class Poll:
    """An epoll that tells the clock what came of its waits."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._epoll = select.epoll()
        self.register, self.close = self._epoll.register, self._epoll.close

    def poll(self, wait_s: float) -> list[tuple[int, int]]:
        found = self._epoll.poll(wait_s)
        self._clock.waited(wait_s, in_vain=not found)
        return found


def all_pairs(star: Star, version: int) -> list[Probe]:
    return [
        Probe(spoke, star.address(number, version))  # type: ignore[arg-type]
        for spoke in star.spokes
        for number, other in enumerate(star.spokes)
        if other != spoke
    ]


def reached(answers: list[Answer]) -> int:
    return sum(answer.rtt_ms is not None for answer in answers)


@pytest.mark.parametrize("version", [4, 6])
def test_everyone_reaches_everyone(star: Star, version: int):
    probes = all_pairs(star, version)
    answers = ping(probes)
    assert [answer.probe for answer in answers] == probes
    assert all(answer.rtt_ms is not None and answer.rtt_ms >= 0 for answer in answers)


def test_both_versions_at_once(star: Star):
    probes = [probe for pair in zip(all_pairs(star, 4), all_pairs(star, 6), strict=True) for probe in pair]
    assert reached(ping(probes)) == len(probes)


def test_the_namespace_that_fairway_runs_in_has_no_name():
    assert reached(ping([Probe("", ip_address("127.0.0.1")), Probe("", ip_address("::1"))])) == 2


def test_one_who_is_not_there_does_not_answer_and_holds_up_no_other(star: Star, monkeypatch: pytest.MonkeyPatch):
    clock = Clock(monkeypatch)
    lost, found = ping([Probe(star.spokes[0], NOBODY), Probe(star.spokes[0], star.address(1))], tries=2, timeout_s=0.2)  # type: ignore[arg-type]
    assert (lost.rtt_ms, lost.error) == (None, "")
    assert found.rtt_ms is not None
    assert 0.4 <= clock.now_s < 0.5


def test_all_answered_is_not_waited_for(star: Star, monkeypatch: pytest.MonkeyPatch):
    clock = Clock(monkeypatch)
    ping(all_pairs(star, 4), timeout_s=30)
    assert clock.now_s < 1


def test_no_route_is_told_at_once(star: Star, monkeypatch: pytest.MonkeyPatch):
    clock = Clock(monkeypatch)
    (answer,) = ping([Probe(star.spokes[0], ip_address("203.0.113.1"))], timeout_s=30)
    assert (answer.rtt_ms, answer.error) == (None, "Network is unreachable")
    assert clock.now_s == 0


def test_a_namespace_that_is_not_there_is_told(star: Star):
    (answer,) = ping([Probe("fwt-ping-nowhere", NOBODY)])
    assert "fwt-ping-nowhere" in answer.error


def test_an_answer_that_is_lost_is_asked_for_again(star: Star):
    rules = "table ip t { chain c { type filter hook input priority 0; icmp type echo-reply icmp sequence 1 drop; }; }"
    subprocess.run(
        ["nsenter", f"--net=/run/netns/{star.spokes[0]}", "nft", "-f", "-"], input=rules, text=True, check=True
    )
    try:
        probe = Probe(star.spokes[0], star.address(1))  # type: ignore[arg-type]
        assert ping([probe], tries=1, timeout_s=0.2)[0].rtt_ms is None
        assert ping([probe], tries=2, timeout_s=0.2)[0].rtt_ms is not None
    finally:
        subprocess.run(["nsenter", f"--net=/run/netns/{star.spokes[0]}", "nft", "flush", "ruleset"], check=True)


def test_the_time_is_that_of_the_way(star: Star, monkeypatch: pytest.MonkeyPatch):
    """The answers wait in the sockets while many are sent; that is no part of their time, be it an hour."""
    Clock(monkeypatch).read_after_s = 3600.0
    answers = ping(all_pairs(star, 4) * 100)
    times = [answer.rtt_ms for answer in answers if answer.rtt_ms is not None]
    assert len(times) == 3000
    assert max(times) < 1800_000


def test_few_descriptors_suffice(star: Star, monkeypatch: pytest.MonkeyPatch):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    used = len(os.listdir("/proc/self/fd"))
    monkeypatch.setattr(module, "_SPARE_DESCRIPTORS", 8)
    resource.setrlimit(resource.RLIMIT_NOFILE, (used + 14, hard))
    try:
        probes = [*all_pairs(star, 4), *all_pairs(star, 6)]
        assert reached(ping(probes)) == len(probes)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert len(os.listdir("/proc/self/fd")) == used


def test_progress_ends_with_everything(star: Star, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "_BATCH_PROBES", 7)
    told: list[tuple[int, int]] = []
    assert reached(ping(all_pairs(star, 4), progress=lambda done, total: told.append((done, total)))) == 30
    assert told == sorted(told)
    assert told[-1] == (30, 30)
    assert len(told) >= 30 // 7
