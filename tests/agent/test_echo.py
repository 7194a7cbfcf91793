"""Echoes to other hosts: who answers is believed for itself only, and a flood leaves the loop to others."""

from __future__ import annotations

import asyncio
import os
import socket
import struct
from collections.abc import Iterator
from ipaddress import ip_address

import pytest

from fairway.net.agent.peers.echo import Echo

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root: it opens raw sockets"),
]

HOST, LIAR = "127.0.9.1", "127.0.9.2"
REQUEST, REPLY, TIME_EXCEEDED = 8, 0, 11
IP_HEADER = 20
READ_IN_A_TURN = 64


@pytest.fixture
def wire() -> Iterator[socket.socket]:
    """Sees the host's ICMP, and sends any."""
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP) as raw:
        raw.settimeout(10)
        yield raw


def request_to(wire: socket.socket, address: str) -> bytes:
    """The next echo request to that address, from its ICMP header on."""
    while True:
        packet = wire.recv(1024)
        if packet[16:20] == socket.inet_aton(address) and packet[IP_HEADER] == REQUEST:
            return packet[IP_HEADER:]


def send_from(source: str, message: bytes) -> None:
    """Send an ICMP message to this host."""
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP) as raw:
        raw.bind((source, 0))
        raw.sendto(message[:2] + checksum(message) + message[4:], ("127.0.0.1", 0))


def checksum(message: bytes) -> bytes:
    """RFC 1071, of a message whose checksum field counts as zero."""
    message = message[:2] + b"\0\0" + message[4:]
    total = sum(word for (word,) in struct.iter_unpack("!H", message + b"\0" * (len(message) % 2)))
    total = (total & 0xFFFF) + (total >> 16)
    return struct.pack("!H", ~(total + (total >> 16)) & 0xFFFF)


async def until_read(echo: Echo, answered: list[str]) -> None:
    """Wait until all that arrived before now has been read: an honest answer that was asked for last is there."""
    before = answered.count(HOST)
    echo.send(ip_address(HOST))
    async with asyncio.timeout(20):
        while answered.count(HOST) == before:  # noqa: ASYNC110 - told by a list only
            await asyncio.sleep(0.01)


class TestAnAnswer:
    def test_is_of_the_host_that_was_asked(self, wire: socket.socket) -> None:
        answered: list[str] = []

        async def play() -> None:
            echo = Echo(lambda address: answered.append(str(address)))
            await until_read(echo, answered)
            asked = request_to(wire, HOST)
            send_from(LIAR, bytes([REPLY]) + asked[1:])
            send_from(LIAR, bytes([REPLY]) + asked[1:-16] + bytes(16))
            send_from(LIAR, bytes([REPLY]) + asked[1:8])
            send_from(LIAR, bytes([REPLY, 0, 0, 0]))
            await until_read(echo, answered)
            echo.close()

        asyncio.run(play())
        assert set(answered) == {HOST}

    def test_that_an_echo_came_by_needs_the_echo(self, wire: socket.socket) -> None:
        target, host = ip_address("127.0.9.3"), ip_address(LIAR)
        answered: list[str] = []

        def error(about: bytes) -> bytes:
            return bytes([TIME_EXCEEDED, 0, 0, 0, 0, 0, 0, 0]) + bytes(16) + target.packed + about

        async def play() -> None:
            echo = Echo(lambda address: answered.append(str(address)))
            echo.trace(target, host)
            asked = request_to(wire, str(target))
            for forged in (asked[:-16] + bytes(16), asked[:10], b""):
                send_from(LIAR, error(forged))
            await until_read(echo, answered)
            assert not echo.came_by(target, host)
            send_from(LIAR, error(asked))
            await until_read(echo, answered)
            assert echo.came_by(target, host)
            echo.close()

        asyncio.run(play())


def test_a_flood_of_answers_leaves_every_turn_to_others(wire: socket.socket) -> None:
    answered: list[str] = []
    turns: list[int] = []

    async def play() -> None:
        echo = Echo(lambda address: answered.append(str(address)))
        await until_read(echo, answered)
        asked = request_to(wire, HOST)
        for _ in range(5 * READ_IN_A_TURN):
            send_from(HOST, bytes([REPLY]) + asked[1:])
        async with asyncio.timeout(20):
            while len(answered) <= 4 * READ_IN_A_TURN:
                before = len(answered)
                await asyncio.sleep(0)
                turns.append(len(answered) - before)
        echo.close()

    asyncio.run(play())
    assert max(turns) <= READ_IN_A_TURN


@pytest.mark.parametrize(("there", "request_type"), [("127.0.9.1", 8), ("::1", 128)])
def test_what_others_ask_of_the_host_does_not_wake_it(there: str, request_type: int) -> None:
    read: list[int] = []

    async def play() -> None:
        answered: list[str] = []
        echo, other = (Echo(lambda address: answered.append(str(address))) for _ in range(2))
        version = ip_address(there).version
        received = echo._received

        def noting(message: bytes, version: int, host: str) -> None:
            read.append(message[0])
            received(message, version, host)

        echo._received = noting  # type: ignore[method-assign]
        for sender in (echo, other, echo):
            before = len(answered)
            sender.send(ip_address(there))
            async with asyncio.timeout(20):
                while len(answered) == before:  # noqa: ASYNC110 - told by a list only
                    await asyncio.sleep(0.01)
        assert version in echo._sockets
        echo.close()
        other.close()

    asyncio.run(play())
    assert read
    assert request_type not in read
