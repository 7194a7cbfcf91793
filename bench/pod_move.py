"""A pod that moves to another host and back while 1,000 packets a second go to it: how long none of them arrives.

The pod answers every datagram; the gap is the time from the last that was answered before some were not to the next
that was, as who sends them sees it. Where none is lost there is no gap. The sender is a pod of a third host: nobody
but the agents tells its host where the packets are to go.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.isolation import isolated
from bench.result import Result
from fairway import lab
from fairway.lab.moving import move
from fairway.net.kernel import namespaces

ROUNDS = 10
PORT = 7008
PACE_S = 0.001
ADDRESS = "10.0.1.2"
TOPOLOGY = """
agents = true
[nodes.n1]
pools = ["10.0.1.0/24"]
[nodes.n2]
pools = ["10.0.2.0/24"]
[nodes.n3]
pools = ["10.0.3.0/24"]
[links.lan]
members = { n1 = "192.0.2.1/24", n2 = "192.0.2.2/24", n3 = "192.0.2.3/24" }
[pods]
moving = { node = "n1", address = "10.0.1.2" }
asking = { node = "n3", address = "10.0.3.2" }
"""


class Flow:
    """Datagrams from the pod `asking`, one each millisecond, until the `with` block ends."""

    def __init__(self) -> None:
        self._socket = namespaces.inside("move.n3.asking", lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        self._socket.setblocking(False)
        self._sent: list[float] = []
        self._answered: set[int] = set()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Flow:
        self._thread.start()
        time.sleep(0.2)
        return self

    def __exit__(self, *_: object) -> None:
        time.sleep(0.2)
        self._ended.set()
        self._thread.join()
        time.sleep(0.2)
        self._take()
        self._socket.close()

    @property
    def lost(self) -> int:
        """How many were not answered."""
        return len(self._sent) - len(self._answered)

    def gap_ms(self) -> float:
        """The longest time without an answer; 0: every datagram has one."""
        gap, last = 0.0, 0
        for number in [*sorted(self._answered), len(self._sent) - 1]:
            if number > last + 1:
                gap = max(gap, self._sent[number] - self._sent[last])
            last = number
        return gap * 1e3

    def _run(self) -> None:
        due = time.monotonic()
        while not self._ended.is_set():
            self._sent.append(time.monotonic())
            self._socket.sendto(b"%d" % (len(self._sent) - 1), (ADDRESS, PORT))
            self._take()
            due = max(due + PACE_S, time.monotonic() - PACE_S)
            time.sleep(max(0.0, due - time.monotonic()))

    def _take(self) -> None:
        while True:
            try:
                self._answered.add(int(self._socket.recv(64)))
            except BlockingIOError:
                return


@contextmanager
def _answering() -> Iterator[None]:
    """A process in the moving pod that sends every datagram back."""
    child = os.fork()
    if child == 0:
        namespaces.enter("move.n1.moving")
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as answering:
            answering.bind((ADDRESS, PORT))
            while True:
                select.select([answering], [], [])
                data, sender = answering.recvfrom(64)
                answering.sendto(data, sender)
    try:
        time.sleep(0.2)
        yield
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def run() -> Result:
    """Milliseconds without an answer, and how long a move takes."""
    return isolated(_measure)


def _measure() -> Result:
    result = Result("pod_move")
    gaps: list[float] = []
    lost: list[float] = []
    whole: list[float] = []
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory) / "move.toml"
        file.write_text(TOPOLOGY)
        lab.up(file)
    try:
        with _answering():
            for number in range(2 * ROUNDS):
                with Flow() as flow:
                    whole.append(move("moving", "n1" if number % 2 else "n2", lab="move").whole_ms)
                gaps.append(flow.gap_ms())
                lost.append(flow.lost)
    finally:
        lab.down("move")
    result.add("fairway", "gap of a move", gaps, "ms")
    result.add_percentile("fairway", "gap of a move", gaps, "ms", 100)
    result.add("fairway", "datagrams lost in a move", lost, "")
    result.add_percentile("fairway", "datagrams lost in a move", lost, "", 100)
    result.add("fairway", "the whole move", whole, "ms")
    result.notes.append(f"{2 * ROUNDS} moves, there and back; a gap is 0 where no datagram was lost")
    return result
