"""What becomes of workers that die, and what strangers can do to one of them that all share a port with."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import signal
import socket
import time
from collections.abc import Callable
from datetime import UTC, datetime

import pytest
from udp_relay import Relay
from worker_processes import ALPN, ask, client, gone, one_of_each, parent, pid, run, workers

from fairway.aio import ClosedBy, ConnectionClosed
from fairway.quic import Connection
from fairway.tls import ClientConfig


class TestDeath:
    def test_a_worker_that_is_killed_is_followed_by_another_and_the_others_notice_nothing(self) -> None:
        async def scenario() -> None:
            async with contextlib.AsyncExitStack() as stack:
                running = await stack.enter_async_context(workers(2))
                found = await one_of_each(stack, running.port, 2)
                (killed, orphan), (survivor, kept) = found.items()
                download = asyncio.create_task(ask(kept, "bytes 1000000 100000"))
                await asyncio.sleep(0.2)
                os.kill(killed, signal.SIGKILL)
                with pytest.raises(ConnectionClosed):
                    await pid(orphan)
                assert orphan.closing is not None
                # By the other worker, or by who follows; nobody's silence, which takes longer than `run` waits.
                assert orphan.closing.by is ClosedBy.RESET
                seen = set[int]()
                while len(seen) < 2:
                    async with client(running.port) as connection:
                        seen.add(await pid(connection))
                assert survivor in seen
                assert killed not in seen
                assert len(await download) == 1_000_000
                assert kept.closing is None

        run(scenario)

    def test_when_the_master_is_killed_the_workers_end_what_was_begun_and_stop(self) -> None:
        async def scenario() -> None:
            async with contextlib.AsyncExitStack() as stack:
                running = await stack.enter_async_context(workers(2))
                found = await one_of_each(stack, running.port, 2)
                downloads = [asyncio.create_task(ask(c, "bytes 300000 100000")) for c in found.values()]
                await asyncio.sleep(0.1)
                os.kill(parent(next(iter(found))), signal.SIGKILL)
                assert [len(data) for data in await asyncio.gather(*downloads)] == [300_000] * 2
                await running.wait_closed()
                await gone(set(found))

        run(scenario)

    def test_connections_of_former_workers_are_told_after_a_restart(self) -> None:
        """Also those of numbers that no worker has any more."""
        key = bytes(range(32))

        async def scenario() -> None:
            async with contextlib.AsyncExitStack() as stack:
                running = await stack.enter_async_context(workers(2, reset_key=key))
                found = await one_of_each(stack, running.port, 2)
                running.reload()
                while len(found) < 4:
                    found |= await one_of_each(stack, running.port, 2)
                for process in (parent(next(iter(found))), *found):
                    os.kill(process, signal.SIGKILL)
                await gone(set(found))
                await stack.enter_async_context(workers(2, reset_key=key, port=running.port))
                for connection in found.values():
                    with pytest.raises(ConnectionClosed):
                        await pid(connection)
                    assert connection.closing is not None
                    assert connection.closing.by is ClosedBy.RESET

        run(scenario)


class TestForgery:
    def test_a_flood_of_made_up_ids_of_every_worker_is_answered_little_and_ends_nothing(self) -> None:
        def flood(port: int) -> int:
            answers = 0
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as attacker:
                attacker.setblocking(False)
                for index in range(6000):
                    made_up = bytes((10,)) + (index % 3).to_bytes(2, "big") + os.urandom(8)  # 2: of no worker
                    form = b"\x40" + made_up if index % 2 else b"\xe0\0\0\0\1\x0b" + made_up + b"\0"
                    attacker.sendto(form + bytes(60), ("127.0.0.1", port))
                    with contextlib.suppress(BlockingIOError):
                        answers += bool(attacker.recv(2048))
            return answers

        async def scenario() -> None:
            async with contextlib.AsyncExitStack() as stack:
                running = await stack.enter_async_context(workers(2))
                found = await one_of_each(stack, running.port, 2)
                begun = time.monotonic()
                flooding = asyncio.create_task(asyncio.to_thread(flood, running.port))
                while not flooding.done():
                    assert [await pid(connection) for connection in found.values()] == list(found)
                seconds = time.monotonic() - begun + 1
                assert 0 < await flooding <= 2 * 100 * seconds
                assert [await pid(connection) for connection in found.values()] == list(found)

        run(scenario)

    def test_ids_of_a_connection_do_not_let_anybody_ask_another_worker_for_its_reset(self) -> None:
        """All know the key of the reset tokens: none may tell what another's connection could be ended by."""

        async def scenario() -> None:
            async with contextlib.AsyncExitStack() as stack:
                running = await stack.enter_async_context(workers(2))
                relay = Relay(("127.0.0.1", running.port))
                stack.callback(relay.close)
                relay.record = []
                connection = await stack.enter_async_context(client(relay.port))
                await pid(connection)
                await pid(connection)  # by now in short headers
                target = next(data[1:12] for data in relay.record if not data[0] & 0x80)
                with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as attacker:
                    attacker.settimeout(0.3)
                    for number in range(2):
                        # One buffer for both: the first datagram decides which worker gets it.
                        lead = target[:1] + number.to_bytes(2, "big") + os.urandom(8)
                        pair = b"\x40" + lead + bytes(50) + b"\x40" + target + bytes(50)
                        control = [(17, 103, (62).to_bytes(2, "little"))]
                        attacker.sendmsg([pair], control, 0, ("127.0.0.1", running.port))
                    tokens = []
                    with contextlib.suppress(TimeoutError):
                        while True:
                            tokens.append(attacker.recv(2048)[-16:])
                remote = connection.core._state.remote_ids
                known = {token for _, token in remote._known.values()}
                assert tokens  # for the made-up IDs
                assert not known & set(tokens)

        run(scenario)


def first_packets(destination: bytes) -> list[bytes]:
    """A client's first flight, with that connection ID."""
    given = itertools.chain([os.urandom(8), destination])
    random: Callable[[int], bytes] = lambda length: next(given, None) or os.urandom(length)  # noqa: E731
    tls = ClientConfig("localhost", (ALPN,), verify=False)
    core = Connection.client(tls, now=0.0, random=random, clock=lambda: datetime.now(UTC))
    packets = []
    while (out := core.transmit(0.0)) is not None:
        packets += [out.data[start : start + out.segment] for start in range(0, len(out.data), out.segment)]
    return packets


class TestFlood:
    def test_11_a_flood_aimed_at_one_worker_makes_only_that_one_ask_for_proof(self) -> None:
        """Who knows the hash can choose connection IDs that all lead to one worker."""

        def aimed() -> bytes:
            while True:
                chosen = os.urandom(8)
                mixed = int.from_bytes(chosen[:4], "big") ^ int.from_bytes(chosen[4:], "big")
                if (mixed * 0x9E3779B1 & 0xFFFFFFFF) >> 16 & 1 == 0:
                    return chosen

        def flood(port: int) -> None:
            for index in range(400):
                with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as spoofed:
                    spoofed.bind((f"127.9.{index // 200}.{1 + index % 200}", 0))
                    for packet in first_packets(aimed()):
                        spoofed.sendto(packet, ("127.0.0.1", port))

        async def scenario() -> None:
            async with workers(2) as running:
                await asyncio.to_thread(flood, running.port)
                retried: dict[int, set[bool]] = {}
                for _ in range(24):
                    async with client(running.port, timeout=5.0) as connection:
                        asked = connection.core.peer_parameters.retry_source_connection_id is not None
                        retried.setdefault(await pid(connection), set()).add(asked)
                unasked = [process for process, asked in retried.items() if False in asked]
                assert len(retried) == 2
                assert len(unasked) == 1
                assert any(True in asked for asked in retried.values())  # and with proof either may serve them

        run(scenario)
