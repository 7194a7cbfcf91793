"""`serve(...).with_workers(N)`: real processes on one port, clients that move, reloads, a worker that is killed."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from udp_relay import Relay
from worker_processes import (
    ALPN,
    IDENTITY,
    Answers,
    alive,
    ask,
    children,
    client,
    descriptors,
    gone,
    one_of_each,
    parent,
    pid,
    run,
    workers,
)

from fairway.aio import ClosedBy, QuicConnection, UsageError, serve
from fairway.quic import MemorySessionStore
from fairway.quic.endpoint.ids import ServerId
from fairway.tls import ServerConfig, Tickets


class TestServing:
    def test_newcomers_are_spread_and_none_is_left_when_it_ends(self) -> None:
        async def scenario() -> None:
            async with contextlib.AsyncExitStack() as stack:
                running = await stack.enter_async_context(workers(3))
                processes = set(await one_of_each(stack, running.port, 3))
                assert os.getpid() not in processes
                assert all(map(alive, processes))
            await gone(processes)

        run(scenario)

    def test_workers_end_with_who_started_them(self) -> None:
        async def started_elsewhere(reported: int) -> None:
            running = await serve(Answers(), "127.0.0.1", 0, alpn=ALPN, identities=[IDENTITY], grace_s=0).with_workers(
                2
            )
            os.write(reported, running.port.to_bytes(2, "big"))
            await asyncio.sleep(60)

        async def scenario(port: int, starter: int) -> None:
            async with contextlib.AsyncExitStack() as stack:
                found = await one_of_each(stack, port, 2)
                os.kill(starter, signal.SIGKILL)
                await gone(set(found))
                for connection in found.values():
                    await connection.wait_closed()
                    assert connection.closing is not None
                    assert connection.closing.by is ClosedBy.PEER

        reader, writer = os.pipe()
        if not (starter := os.fork()):
            with contextlib.suppress(BaseException):
                asyncio.run(started_elsewhere(writer))
            os._exit(0)
        port = int.from_bytes(os.read(reader, 2), "big")
        run(lambda: scenario(port, starter))
        os.waitpid(starter, 0)
        os.close(reader)
        os.close(writer)

    def test_what_cannot_be_is_said(self) -> None:
        async def scenario() -> None:
            listener = serve(Answers(), "127.0.0.1", 0, alpn=ALPN, identities=[IDENTITY])
            with pytest.raises(UsageError, match="at least one"):
                listener.with_workers(0)
            with pytest.raises(UsageError, match="preferred address"):
                serve(
                    Answers(), "127.0.0.1", 0, alpn=ALPN, identities=[IDENTITY], preferred_address=("127.0.0.1", 0)
                ).with_workers(2)

        run(scenario)


class TestMoving:
    def test_a_storm_of_clients_that_move_loses_nothing(self) -> None:
        """Thirty clients, seen from another port after every third answer, each always answered by its own worker."""

        async def one(port: int, until: float, seen: Counter[int]) -> None:
            relay = Relay(("127.0.0.1", port))
            async with client(relay.port) as connection:
                process = await pid(connection)
                moves = 0
                while time.monotonic() < until:
                    relay.rebind()
                    moves += 1
                    for _ in range(3):
                        assert await pid(connection) == process
                        await asyncio.sleep(0.08)
                assert connection.closing is None
                seen[process] += moves
            relay.close()

        async def scenario() -> None:
            async with workers(2) as running:
                seen: Counter[int] = Counter()
                until = time.monotonic() + 5.0
                await asyncio.gather(*(one(running.port, until, seen) for _ in range(30)))
                assert len(seen) == 2
                assert sum(seen.values()) > 60  # a busy machine is slow

        run(scenario)

    @pytest.mark.parametrize("server_id", [None, ServerId(b"\x0a\x0b", 3)])
    def test_a_client_that_moves_on_purpose_stays_with_its_worker(self, server_id: ServerId | None) -> None:
        async def scenario() -> None:
            async with contextlib.AsyncExitStack() as stack:
                running = await stack.enter_async_context(workers(2, server_id=server_id))
                for process, connection in (await one_of_each(stack, running.port, 2)).items():
                    for _ in range(3):
                        await connection.migrate()
                        assert await pid(connection) == process

        run(scenario)

    def test_two_connections_in_one_buffer_of_the_kernel_reach_their_workers(self) -> None:
        """What a proxy sends for two connections from one port may arrive as one buffer, which goes to one worker."""

        async def scenario() -> None:
            async with contextlib.AsyncExitStack() as stack:
                running = await stack.enter_async_context(workers(2))
                relay = _Coalescing(("127.0.0.1", running.port))
                stack.callback(relay.close)
                found: dict[int, QuicConnection] = {}
                while len(found) < 2:
                    connection = await stack.enter_async_context(client(relay.add()))
                    found.setdefault(await pid(connection), connection)
                relay.together = True
                while relay.joined < 20:
                    answers = await asyncio.gather(*(pid(connection) for connection in found.values()))
                    assert answers == list(found)
                probes = [connection.statistics()["probe_timeouts"] for connection in found.values()]
                assert sum(probes) < 5  # else what was for the other worker was lost, and sent again

        run(scenario)


class _Coalescing:
    """A proxy: all its clients share one port to the server, and their equal datagrams go out in one GSO buffer."""

    def __init__(self, server: tuple[str, int]) -> None:
        self._loop = asyncio.get_running_loop()
        self._server = server
        self._outside = self._bound()
        self._inside: list[tuple[socket.socket, Any]] = []
        self._homes: dict[bytes, int] = {}
        self._waiting: list[bytes] = []
        self.together = False
        self.joined = 0
        self._loop.add_reader(self._outside, self._back)

    @staticmethod
    def _bound() -> socket.socket:
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.setblocking(False)
        sock.bind(("127.0.0.1", 0))
        return sock

    def add(self) -> int:
        sock, index = self._bound(), len(self._inside)
        self._inside.append((sock, None))
        self._loop.add_reader(sock, self._there, index)
        return int(sock.getsockname()[1])

    def _there(self, index: int) -> None:
        sock, _ = self._inside[index]
        with contextlib.suppress(BlockingIOError):
            while True:
                data, address = sock.recvfrom(65535)
                self._inside[index] = (sock, address)
                if data[0] & 0x80:
                    self._homes[data[7 + data[5] :][: data[6 + data[5]]]] = index
                if not self.together:
                    self._outside.sendto(data, self._server)
                    continue
                self._waiting.append(data)
                self._loop.call_later(0.002, self._flush)

    def _flush(self) -> None:
        waiting, self._waiting = sorted(self._waiting, key=len), []
        while waiting:
            same = [data for data in waiting if len(data) == len(waiting[0])]
            waiting = waiting[len(same) :]
            self.joined += len(same) > 1
            control = [(17, 103, len(same[0]).to_bytes(2, "little"))]
            self._outside.sendmsg([b"".join(same)], control if len(same) > 1 else [], 0, self._server)

    def _back(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while True:
                data = self._outside.recv(65535)
                at = 6 if data[0] & 0x80 else 1
                for known, index in self._homes.items():
                    if data[at : at + len(known)] == known:
                        sock, address = self._inside[index]
                        sock.sendto(data, address)

    def close(self) -> None:
        for sock in (self._outside, *(sock for sock, _ in self._inside)):
            self._loop.remove_reader(sock)
            sock.close()


class TestReload:
    def test_what_was_begun_goes_on_and_nobody_is_refused(self) -> None:
        async def newcomers(port: int, stop: asyncio.Event, seen: list[int]) -> None:
            while not stop.is_set():
                async with client(port, timeout=5.0) as connection:
                    seen.append(await pid(connection))

        async def scenario() -> None:
            async with contextlib.AsyncExitStack() as stack:
                running = await stack.enter_async_context(workers(2))
                old = await one_of_each(stack, running.port, 2)
                size = 3_000_000
                downloads = [asyncio.create_task(ask(c, f"bytes {size} 100000")) for c in old.values()]
                stop, seen = asyncio.Event(), list[int]()
                arriving = [asyncio.create_task(newcomers(running.port, stop, seen)) for _ in range(4)]
                for _ in range(2):  # the second while workers of the first generation still drain
                    before = set(seen) | set(old)
                    running.reload()
                    while not set(seen[-8:]) - before:  # noqa: ASYNC110
                        await asyncio.sleep(0.01)
                    while set(seen[-8:]) & before:  # noqa: ASYNC110
                        await asyncio.sleep(0.01)
                assert not any(download.done() for download in downloads)
                assert [len(data) for data in await asyncio.gather(*downloads)] == [size] * 2
                stop.set()
                await asyncio.gather(*arriving)
                for connection in old.values():
                    connection.close()
                await gone(set(old))
                assert len(set(seen) - set(old)) >= 2  # both later generations have served somebody

        run(scenario)

    def test_many_reloads_need_no_more_sockets_than_one(self) -> None:
        async def scenario() -> None:
            async with workers(2) as running:
                async with client(running.port) as connection:
                    master = parent(await pid(connection))
                counts = []
                for _ in range(6):
                    before = children(master)
                    running.reload()
                    while children(master) & before:  # noqa: ASYNC110
                        await asyncio.sleep(0.02)
                    counts.append(descriptors(master))
                assert max(counts) - min(counts) <= 2  # a process that has ended may be one descriptor for a moment

        run(scenario)

    def test_with_retry_nobody_is_refused_either(self) -> None:
        async def scenario() -> None:
            async with workers(2, retry=True) as running:
                seen = []
                for turn in range(40):
                    if turn == 10:
                        running.reload()
                    async with client(running.port, timeout=5.0) as connection:
                        seen.append(await pid(connection))
                assert len(set(seen)) > 2

        run(scenario)

    def test_a_session_of_one_worker_is_resumed_by_any_other_also_of_a_later_generation(self) -> None:
        async def scenario() -> None:
            async with workers(2) as running:
                store, seen = MemorySessionStore(), set[int]()
                while len(seen) < 4:
                    async with client(running.port, session_store=store) as connection:
                        assert connection.handshake is not None
                        assert connection.handshake.resumed is bool(seen)
                        seen.add(await pid(connection))
                        await asyncio.sleep(0.3)  # for the next ticket, from a process that shares its processor
                    if len(seen) == 2:
                        running.reload()

        run(scenario)


class TestEarlyData:
    def test_23_a_replay_is_refused_by_every_other_worker_too(self, tmp_path: Path) -> None:
        """The same datagrams go to other processes after a reload: their registers must be one."""
        noted = tmp_path / "early"
        tls = ServerConfig((IDENTITY,), (ALPN,), tickets=Tickets(early_data=True))

        async def scenario() -> None:
            async with workers(2, Answers(noted), tls=tls, identities=()) as running:
                store, relay = MemorySessionStore(), Relay(("127.0.0.1", running.port))
                async with client(relay.port, session_store=store) as connection:
                    master = parent(await pid(connection))
                    await asyncio.sleep(0.05)
                relay.rebind()
                relay.record = []
                async with client(relay.port, session_store=store, early_data=True) as connection:
                    assert connection.handshake is None
                    await pid(connection)
                    assert connection.early is True
                recorded = relay.record
                relay.close()
                assert len(noted.read_text().split()) == 1
                for _ in range(2):
                    before = children(master)
                    running.reload()
                    process = next(iter(before))
                    while process in before:
                        async with client(running.port) as connection:
                            process = await pid(connection)
                    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as attacker:
                        attacker.settimeout(2.0)
                        for datagram in recorded[:4]:
                            attacker.sendto(datagram, ("127.0.0.1", running.port))
                        attacker.recv(2048)  # it is answered: by a handshake that goes on without early data
                    await asyncio.sleep(0.3)
                    assert len(noted.read_text().split()) == 1

        run(scenario)
