"""Interfaces that end: when nobody finds them any more, and when the kernel is done with them."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Iterator

import pytest

from fairway.net.kernel import Kernel


@pytest.fixture
def kernel() -> Iterator[Kernel]:
    kernel = Kernel()
    yield kernel
    kernel.close()
    subprocess.run("for n in 0 1 2 3 4 5 6 7; do ip link delete end$n; done", shell=True, capture_output=True)


def made(kernel: Kernel, count: int) -> list[int]:
    for number in range(count):
        link = f"end{number}"
        for command in (
            f"link add {link} type veth peer name {link}p",
            f"addr add 10.99.{number}.1/32 dev {link}",
            f"link set {link}p up",
            f"link set {link} up",
            f"route add 10.99.{number}.2/32 dev {link}",
            f"neighbour add 10.99.{number}.2 lladdr 02:00:00:00:00:02 dev {link}",
        ):
            subprocess.run(["ip", *command.split()], check=True)
    return [kernel.link_index(f"end{number}") for number in range(count)]


def found(what: str) -> list[str]:
    listed = subprocess.run(["ip", *what.split()], check=True, capture_output=True, text=True).stdout
    return [line for line in listed.splitlines() if "end" in line]


@pytest.mark.parametrize("count", [1, 2, 8])
def test_nothing_of_them_is_found_when_they_have_ended(kernel: Kernel, count: int) -> None:
    for _ in range(3):  # at once again: the names are free
        indices = made(kernel, count)
        assert len(found("-o link show")) == 2 * count
        kernel.end_links(indices)
        assert not any(kernel.link_index(f"end{number}") for number in range(count))
        assert not any(found(what) for what in ("-o link show", "route show", "neighbour show", "-o addr show"))


def test_what_is_gone_already_ends_nothing_else(kernel: Kernel) -> None:
    first, second = made(kernel, 2)
    kernel.end_links([first])
    kernel.end_links([first, second])
    assert not found("-o link show")
    kernel.end_links([])


def test_closing_waits_until_the_kernel_is_done(kernel: Kernel) -> None:
    for _ in range(8):  # more than it is asked for at once
        kernel.end_links(made(kernel, 1))
    assert enders()
    kernel.close()
    assert not enders()


def enders() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("fairway-end")]
