"""Workers that share a port: bytes and handshakes a second with none, one and two, and a storm of clients that move."""

from __future__ import annotations

import asyncio
import itertools
import multiprocessing
import os
import resource
import socket
import statistics
import tempfile
import time
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime
from multiprocessing.connection import Connection as Pipe
from pathlib import Path
from typing import Any

from bench.certificates import Certificate, make_certificate
from bench.quic_peers import ALPN, REQUEST, Case, cpu_s, fairway_client, fairway_configuration, fairway_handler
from bench.result import Result
from fairway.aio import QuicConnection, connect, serve
from fairway.quic import Connection
from fairway.quic.endpoint.admission import AdmissionLimits
from fairway.tls import ClientConfig

SETUPS = {"no workers": 0, "1 worker": 1, "2 workers": 2}
ROUNDS = 3
MIB = 1 << 20
DOWNLOAD = 256 * MIB
CLIENTS = 2
HANDSHAKES = 400
CONCURRENT = 8
FLIGHTS = 1200
STORM_CLIENTS = 100
STORM_S = 10.0
MOVE_S = 1.0
ASK_S = 0.2

_UNLIMITED = AdmissionLimits(
    pending=1 << 30, pending_per_address=1 << 30, retry_from=1 << 30, retry_from_of_address=1 << 30
)


class Serving:
    """A server with so many workers (0: in one process), and the CPU seconds that it used."""

    def __init__(self, workers: int, certificate: Certificate) -> None:
        self._pipe, theirs = multiprocessing.Pipe()
        self._process = multiprocessing.get_context("fork").Process(
            target=lambda: asyncio.run(_serve(workers, certificate, theirs))
        )
        self._process.start()
        self.port: int = self._pipe.recv()

    def stop(self) -> float:
        """End it."""
        self._pipe.send("stop")
        used: float = self._pipe.recv()
        self._process.join(10)
        return used


async def _serve(workers: int, certificate: Certificate, pipe: Pipe) -> None:
    listener = serve(
        fairway_handler,
        "127.0.0.1",
        0,
        alpn=ALPN,
        identities=[certificate.identity],
        configuration=fairway_configuration(1452),
        limits=_UNLIMITED,
        grace_s=0.0,
    )
    if workers:
        async with listener.with_workers(workers) as processes:
            pipe.send(processes.port)
            await asyncio.to_thread(pipe.recv)
    else:
        async with listener as server:
            pipe.send(server.port)
            await asyncio.to_thread(pipe.recv)
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    pipe.send(cpu_s() + children.ru_utime + children.ru_stime)


def _in_processes(count: int, work: Callable[[], Coroutine[Any, Any, Any]]) -> list[Any]:
    """What `work` gives in so many processes at once."""
    context = multiprocessing.get_context("fork")
    pipes, processes = [], []
    for _ in range(count):
        receiving, sending = context.Pipe(duplex=False)
        process = context.Process(target=lambda pipe=sending: pipe.send(asyncio.run(work())), daemon=True)
        process.start()
        sending.close()
        pipes.append(receiving)
        processes.append(process)
    try:
        results = []
        for pipe in pipes:
            if not pipe.poll(90):
                raise TimeoutError("a client did not end")
            results.append(pipe.recv())
        return results
    finally:
        for process in processes:
            process.terminate()
            process.join(5)


# Bytes


def _downloads(port: int, certificate: Certificate) -> float:
    """Gbit/s of clients that download at once, each in a process of its own."""
    case = Case("fairway", True, DOWNLOAD // CLIENTS)
    begun = time.perf_counter()
    _in_processes(CLIENTS, lambda: fairway_client(case, port, certificate))
    return DOWNLOAD * 8 / (time.perf_counter() - begun) / 1e9


# Handshakes


def _dial(port: int, tls: ClientConfig) -> connect:
    return connect("127.0.0.1", port, alpn=ALPN, tls=tls, configuration=fairway_configuration(1452))


def _handshakes(port: int, certificate: Certificate) -> float:
    """Handshakes a second that real clients complete, in two processes."""
    tls = ClientConfig("localhost", (ALPN,), ca=[certificate.root])
    share = HANDSHAKES // CLIENTS

    async def clients() -> None:
        left = itertools.count()

        async def one() -> None:
            while next(left) < share:
                async with _dial(port, tls):
                    pass

        await asyncio.gather(*(one() for _ in range(CONCURRENT)))

    begun = time.perf_counter()
    _in_processes(CLIENTS, clients)
    return HANDSHAKES / (time.perf_counter() - begun)


def _first_flights() -> dict[bytes, list[bytes]]:
    """What clients send first, made beforehand, by the connection ID that the answer is for."""
    flights: dict[bytes, list[bytes]] = {}
    tls = ClientConfig("localhost", (ALPN,), verify=False)
    for _ in range(FLIGHTS):
        own = os.urandom(8)
        given = iter([own])
        core = Connection.client(
            tls,
            now=0.0,
            random=lambda length, given=given: next(given, None) or os.urandom(length),  # type: ignore[misc]
            clock=lambda: datetime.now(UTC),
        )
        flights[own] = []
        while (out := core.transmit(0.0)) is not None:
            flights[own] += [out.data[start : start + out.segment] for start in range(0, len(out.data), out.segment)]
    return flights


def _answered(port: int, flights: dict[bytes, list[bytes]]) -> float:
    """First flights a second that the server answers: its half of a handshake, for clients that cost nothing."""
    waiting = set(flights)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 << 20)
        sock.settimeout(5.0)
        sock.connect(("127.0.0.1", port))
        begun = time.perf_counter()
        unsent = iter(flights.values())
        for flight in itertools.islice(unsent, 64):
            for datagram in flight:
                sock.send(datagram)
        while waiting:
            data = sock.recv(65535)
            known = data[6 : 6 + data[5]]
            if known in waiting:
                waiting.discard(known)
                for datagram in next(unsent, ()):
                    sock.send(datagram)
        return len(flights) / (time.perf_counter() - begun)


# The storm


class _Nat:
    """Passes datagrams between a client and the server, which sees another port after each `rebind`."""

    def __init__(self, port: int) -> None:
        self._loop = asyncio.get_running_loop()
        self._server = ("127.0.0.1", port)
        self._client: Any = None
        self._inside, self._outside = self._bound(), self._bound()
        self._loop.add_reader(self._inside, self._there)
        self._loop.add_reader(self._outside, self._back)

    @staticmethod
    def _bound() -> socket.socket:
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.setblocking(False)
        sock.bind(("127.0.0.1", 0))
        return sock

    @property
    def port(self) -> int:
        return int(self._inside.getsockname()[1])

    def rebind(self) -> None:
        self._loop.remove_reader(self._outside)
        self._outside.close()
        self._outside = self._bound()
        self._loop.add_reader(self._outside, self._back)

    def _there(self) -> None:
        data, self._client = self._inside.recvfrom(65535)
        self._outside.sendto(data, self._server)

    def _back(self) -> None:
        self._inside.sendto(self._outside.recv(65535), self._client)

    def close(self) -> None:
        for sock in (self._inside, self._outside):
            self._loop.remove_reader(sock)
            sock.close()


async def _ask(connection: QuicConnection) -> None:
    stream = await connection.open_stream()
    await stream.send(REQUEST.pack(b"D", 1000), end=True)
    if len(await stream.receive_all()) != 1000:
        raise ValueError("not what was asked for")


async def _storm(port: int, certificate: Certificate) -> tuple[list[float], int, int]:
    """Waiting times of the answers, how often clients moved, and questions that were not answered."""
    tls = ClientConfig("localhost", (ALPN,), ca=[certificate.root])
    times: list[float] = []
    moves = lost = 0

    async def one(index: int) -> None:
        nonlocal moves, lost
        nat = _Nat(port)
        async with _dial(nat.port, tls) as connection:
            await asyncio.sleep(index / STORM_CLIENTS * MOVE_S)
            begun = time.perf_counter()
            moved = begun
            while (now := time.perf_counter()) < begun + STORM_S:
                if now >= moved + MOVE_S:
                    moved = now
                    moves += 1
                    nat.rebind()
                try:
                    await asyncio.wait_for(_ask(connection), 5.0)
                except (OSError, TimeoutError, ValueError):
                    lost += 1
                times.append(time.perf_counter() - now)
                await asyncio.sleep(ASK_S)
        nat.close()

    await asyncio.gather(*(one(index) for index in range(STORM_CLIENTS)))
    return times, moves, lost


def run() -> Result:
    """Medians of rounds that take the setups in turn; the storm once each."""
    result = Result("quic_workers")
    samples: dict[tuple[str, str, str], list[float]] = {}
    flights = _first_flights()

    def note(who: str, what: str, unit: str, value: float) -> None:
        samples.setdefault((what, unit, who), []).append(value)

    with tempfile.TemporaryDirectory() as directory:
        certificate = make_certificate(Path(directory))
        for who, count in [setup for _ in range(ROUNDS) for setup in SETUPS.items()]:
            server = Serving(count, certificate)
            note(who, "bytes, two clients", "Gbit/s", _downloads(server.port, certificate))
            server.stop()
            server = Serving(count, certificate)
            note(who, "handshakes, two client processes", "1/s", _handshakes(server.port, certificate))
            note(who, "server CPU per handshake", "ms", server.stop() / HANDSHAKES * 1e3)
            server = Serving(count, certificate)
            note(who, "first flights answered", "1/s", _answered(server.port, flights))
            server.stop()
        for who in ("no workers", "2 workers"):
            server = Serving(SETUPS[who], certificate)
            ((times, moves, lost),) = _in_processes(1, lambda port=server.port: _storm(port, certificate))  # type: ignore[misc]
            server.stop()
            note(who, "storm: questions", "", len(times))
            note(who, "storm: questions not answered", "", lost)
            note(who, "storm: moves", "", moves)
            note(who, "storm: answer, median", "ms", statistics.median(times) * 1e3)
            note(who, "storm: answer, p99", "ms", sorted(times)[len(times) * 99 // 100] * 1e3)
    for (what, unit, who), values in sorted(samples.items(), key=lambda item: item[0][0]):
        result.add(who, what, values, unit)
    for what in ("bytes, two clients", "handshakes, two client processes", "first flights answered"):
        result.compare(what, "2 workers", "1 worker")
    result.notes += [
        f"{os.cpu_count()} cores, which the clients share; one in Python costs about what the server does, so bytes"
        " and handshakes can hardly grow; 'first flights' (made beforehand, sent from one socket; the server agrees on"
        " keys, signs and answers) cost the client next to nothing, and show what a second worker adds",
        f"{DOWNLOAD // MIB} MiB; {HANDSHAKES} handshakes with verified certificates; {FLIGHTS} first flights",
        f"storm: {STORM_CLIENTS} clients, each seen from another port every {MOVE_S:g} s for {STORM_S:g} s by way of a"
        f" NAT in the client's process, a question of 1,000 bytes every {ASK_S:g} s; one handshake each",
        "no peer beside them: aioquic and qh3 have no workers, and Caddy (quic-go) is one process with one socket",
    ]
    return result


if __name__ == "__main__":
    print(run().as_table())
