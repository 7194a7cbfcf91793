"""The load generator for small requests: ngtcp2's `gtlsclient` (in C), one process a connection.

It keeps as many requests in flight as the server allows streams, and writes the body of each response to a file of
its own, so that every body is compared afterwards, and the time of a file tells when its response came. Tried against
Caddy with two cores: gtlsclient takes 7 us of CPU a request, 21 with the files; curl's library in Python 33. So it is
the only one that surely outruns a server in Go from one core. What it cannot do is to hold fewer requests in flight.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import threading
import time
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.h3_app import SMALL
from bench.h3_servers import NotHereError, Server, busy_s, cpu_s

SETTLE_S = 0.3
START_S = 0.012
"""For the start and the handshake of one process."""
TIMEOUT_S = 90.0
SAMPLE_S = 0.1
EDGE = 0.1
"""The share of the responses, at the beginning and at the end, that is not counted: not all connections are at work."""


@dataclass(frozen=True)
class Load:
    """What the middle 80 % of the responses show."""

    requests_per_s: float
    server_share: float
    """CPU seconds a second of all processes of the server."""
    generator_share: float
    others_share: float
    """Of all else on the machine, interrupts included: a busy machine makes everybody slower."""

    @property
    def server_us(self) -> float:
        """CPU of the server for one request."""
        return self.server_share / self.requests_per_s * 1e6

    @property
    def generator_us(self) -> float:
        """CPU of the generator for one request."""
        return self.generator_share / self.requests_per_s * 1e6


def load(server: Server, connections: int, requests: int, core: int, paths: str = "r/") -> Load:
    """Load a server with so many connections, each of so many requests, from one core."""
    if shutil.which("gtlsclient") is None:
        raise NotHereError("gtlsclient is not installed (Debian: ngtcp2-client)")
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as directory, _on(core):
        places = [Path(directory) / str(number) for number in range(connections)]
        with _Sampler(server) as sampler:
            began = time.monotonic()
            settled = SETTLE_S + START_S * connections
            clients = []
            for place in places:
                place.mkdir()
                # Requests begin when all have shaken hands.
                delay = max(settled - (time.monotonic() - began), 0.0)
                clients.append(_client(server, place, requests, delay, paths))
                sampler.clients.append(clients[-1].pid)
            try:
                _await(server, clients, began + TIMEOUT_S)
            finally:
                for client in clients:
                    client.kill()
                sampler.stop()
                for client in clients:
                    client.wait()
        times = sorted(time_ns for place in places for time_ns in _verified(server, place, requests))
    edge = int(len(times) * EDGE)
    first, last = times[edge] / 1e9, times[-1 - edge] / 1e9
    shares = sampler.shares(first, last)
    return Load((len(times) - 2 * edge - 1) / (last - first), *shares)


def _client(server: Server, place: Path, requests: int, delay_s: float, paths: str) -> subprocess.Popen[bytes]:
    quiet = ["-q", "--no-quic-dump", "--no-http-dump"]
    how = ["--exit-on-all-streams-close", f"--delay-stream={int(delay_s * 1000)}ms", f"--download={place}"]
    base = f"https://localhost:{server.port}/{paths}"
    uris = [f"{base}{number}" for number in range(requests)]
    command = ["gtlsclient", *quiet, *how, "--sni=localhost", server.host, str(server.port), *uris]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def _await(server: Server, clients: Sequence[subprocess.Popen[bytes]], deadline: float) -> None:
    """Until all have ended. They are not waited for: the kernel must remember what CPU they used."""
    for client in clients:
        while os.waitid(os.P_PID, client.pid, os.WEXITED | os.WNOWAIT | os.WNOHANG) is None:
            if time.monotonic() > deadline:
                raise TimeoutError(f"{server.who} did not answer all requests in {TIMEOUT_S:g} s")
            time.sleep(0.05)


def _verified(server: Server, place: Path, requests: int) -> Iterator[int]:
    """When each response came, in ns; `ValueError` if one is missing or wrong."""
    count = 0
    for entry in os.scandir(place):
        with open(entry.path, "rb") as file:
            if file.read() != SMALL:
                raise ValueError(f"{server.who} answered /r/{entry.name} wrongly")
        count += 1
        yield entry.stat().st_mtime_ns
    if count != requests:
        raise ValueError(f"{server.who} left {requests - count} of {requests} requests unanswered")


@contextmanager
def _on(core: int) -> Iterator[None]:
    """This process, and what it starts, on one core."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


class _Sampler:
    """Notes every SAMPLE_S how much CPU the server and the clients have used."""

    def __init__(self, server: Server) -> None:
        self.clients: list[int] = []
        self._server = server.processes()
        self._samples: list[tuple[float, float, float, float]] = []
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        while True:
            self._samples.append((time.time(), cpu_s(self._server), cpu_s(list(self.clients)), busy_s()))
            if self._over.is_set():
                return
            self._over.wait(SAMPLE_S)

    def stop(self) -> None:
        """Take the last sample."""
        self._over.set()
        self._thread.join()

    def shares(self, first: float, last: float) -> tuple[float, float, float]:
        """CPU seconds a second of the server, of the clients and of all else between two times."""
        server, clients, busy = (
            (self._at(last, column) - self._at(first, column)) / (last - first) for column in (1, 2, 3)
        )
        return server, clients, max(busy - server - clients, 0.0)

    def _at(self, when: float, column: int) -> float:
        after = min(max(bisect_left(self._samples, (when,)), 1), len(self._samples) - 1)
        low, high = self._samples[after - 1], self._samples[after]
        return low[column] + (high[column] - low[column]) * (when - low[0]) / (high[0] - low[0])

    def __enter__(self) -> _Sampler:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
