"""The same small service on Fairway, qh3, aioquic and TLS over TCP: what the QUIC benchmarks measure.

A client opens a stream and asks: `D` and a length, and the server sends so many bytes; `U` and a length, followed by
so many bytes, and the server answers with how many were right. Both sides know the bytes: whoever receives verifies.
"""

from __future__ import annotations

import asyncio
import hashlib
import importlib
import multiprocessing
import resource
import ssl
import struct
import tempfile
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from multiprocessing.connection import Connection as Pipe
from pathlib import Path
from typing import Any

from bench.certificates import Certificate, make_certificate
from fairway.aio import QuicConfiguration, QuicConnection, Stream, connect, serve

REQUEST = struct.Struct("!cQ")
BLOCK = hashlib.shake_128(b"fairway").digest(1 << 20)
_DOUBLE = BLOCK + BLOCK
ALPN = "bench"

PEERS = ("fairway", "qh3", "aioquic", "tls over tcp")


class Verifier:
    """Counts bytes and checks that they are the right ones."""

    def __init__(self) -> None:
        self.count = 0

    def take(self, data: bytes) -> None:
        """Check the next bytes."""
        for start in range(0, len(data), len(BLOCK)):
            part = data[start : start + len(BLOCK)] if len(data) > len(BLOCK) else data
            at = self.count % len(BLOCK)
            if _DOUBLE[at : at + len(part)] != part:
                raise ValueError(f"wrong bytes after {self.count}")
            self.count += len(part)


def blocks(length: int) -> list[bytes]:
    """The first `length` bytes of the endless repetition of BLOCK."""
    whole, rest = divmod(length, len(BLOCK))
    return [BLOCK] * whole + ([BLOCK[:rest]] if rest else [])


@dataclass(frozen=True)
class Case:
    """One measurement: who, which direction, how much, over how many streams, in which datagrams."""

    who: str
    download: bool
    length: int
    streams: int = 1
    payload: int = 1452


# Fairway


def fairway_configuration(payload: int) -> QuicConfiguration:
    """Datagrams of this size, all else as it comes."""
    return QuicConfiguration(udp_payload=payload)


async def fairway_handler(connection: QuicConnection) -> None:
    """Serve one client."""
    async with asyncio.TaskGroup() as tasks:
        async for stream in connection.incoming_streams():
            tasks.create_task(_fairway_answer(stream))


async def _fairway_answer(stream: Stream) -> None:
    request = b""
    while len(request) < REQUEST.size:
        request += await stream.receive(REQUEST.size - len(request))
    kind, length = REQUEST.unpack(request)
    if kind == b"D":
        for block in blocks(length):
            await stream.send(block)
        stream.finish()
        return
    verifier = Verifier()
    while data := await stream.receive():
        verifier.take(data)
    await stream.send(verifier.count.to_bytes(8, "big"), end=True)


async def fairway_server(certificate: Certificate, payload: int, ready: Callable[[int], None]) -> None:
    """Serve until cancelled."""
    async with serve(
        fairway_handler,
        "127.0.0.1",
        0,
        alpn=ALPN,
        identities=[certificate.identity],
        configuration=fairway_configuration(payload),
    ) as server:
        ready(server.port)
        await asyncio.Event().wait()


async def fairway_client(case: Case, port: int, certificate: Certificate) -> float:
    """Seconds that the transfer took, without the handshake."""
    share = case.length // case.streams

    async def one(connection: QuicConnection) -> None:
        stream = await connection.open_stream()
        verifier = Verifier()
        if case.download:
            await stream.send(REQUEST.pack(b"D", share), end=True)
            while data := await stream.receive():
                verifier.take(data)
            assert verifier.count == share
            return
        await stream.send(REQUEST.pack(b"U", share))
        for block in blocks(share):
            await stream.send(block)
        stream.finish()
        assert int.from_bytes(await stream.receive_all(), "big") == share

    async with connect(
        "127.0.0.1",
        port,
        alpn=ALPN,
        server_name="localhost",
        ca=[certificate.root],
        configuration=fairway_configuration(case.payload),
    ) as connection:
        begun = time.perf_counter()
        await asyncio.gather(*(one(connection) for _ in range(case.streams)))
        return time.perf_counter() - begun


# aioquic and qh3, which share an interface


def peer_configuration(peer: str, payload: int, **arguments: Any) -> Any:
    """A configuration like Fairway's."""
    module = importlib.import_module(f"{peer}.quic.configuration")
    configuration = module.QuicConfiguration(alpn_protocols=[ALPN], **arguments)
    configuration.max_datagram_size = payload
    configuration.max_data = 24 << 20
    configuration.max_stream_data = 16 << 20
    return configuration


async def peer_server(peer: str, certificate: Certificate, payload: int, ready: Callable[[int], None]) -> None:
    """Serve until cancelled."""
    server = importlib.import_module(f"{peer}.asyncio.server")
    configuration = peer_configuration(peer, payload, is_client=False)
    configuration.load_cert_chain(str(certificate.chain), str(certificate.key))
    running: set[asyncio.Future[None]] = set()

    async def one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        kind, length = REQUEST.unpack(await reader.readexactly(REQUEST.size))
        if kind == b"D":
            await _peer_send(writer, length)
            return
        verifier = Verifier()
        while data := await reader.read(1 << 20):
            verifier.take(data)
        writer.write(verifier.count.to_bytes(8, "big"))
        writer.write_eof()

    def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.ensure_future(one(reader, writer))
        running.add(task)
        task.add_done_callback(running.discard)

    started = await server.serve("127.0.0.1", 0, configuration=configuration, stream_handler=handle)
    ready(started._transport.get_extra_info("sockname")[1])
    await asyncio.Event().wait()


async def _peer_send(writer: asyncio.StreamWriter, length: int) -> None:
    for block in blocks(length):
        writer.write(block)
        await asyncio.sleep(0)  # neither has a drain() that waits
    writer.write_eof()


async def peer_client(case: Case, port: int, certificate: Certificate) -> float:
    """Seconds that the transfer took, without the handshake."""
    client = importlib.import_module(f"{case.who}.asyncio.client")
    configuration = peer_configuration(case.who, case.payload, is_client=True, server_name="localhost")
    configuration.load_verify_locations(str(certificate.authority))
    share = case.length // case.streams

    async def one(protocol: Any) -> None:
        reader, writer = await protocol.create_stream()
        if case.download:
            writer.write(REQUEST.pack(b"D", share))
            writer.write_eof()
            verifier = Verifier()
            while data := await reader.read(1 << 20):
                verifier.take(data)
            assert verifier.count == share
            return
        writer.write(REQUEST.pack(b"U", share))
        await _peer_send(writer, share)
        assert int.from_bytes(await reader.read(), "big") == share

    async with client.connect("127.0.0.1", port, configuration=configuration) as protocol:
        begun = time.perf_counter()
        await asyncio.gather(*(one(protocol) for _ in range(case.streams)))
        return time.perf_counter() - begun


# TLS over TCP, through the ssl module's blocking sockets


def tls_server(certificate: Certificate, ready: Callable[[int], None]) -> None:
    """Serve until killed."""
    import socket

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate.chain, certificate.key)
    listener = socket.create_server(("127.0.0.1", 0))
    ready(listener.getsockname()[1])
    while True:
        plain, _ = listener.accept()
        with context.wrap_socket(plain, server_side=True) as sock:
            kind, length = REQUEST.unpack(_exactly(sock, REQUEST.size))
            if kind == b"D":
                for block in blocks(length):
                    sock.sendall(block)
                continue
            verifier = Verifier()
            while verifier.count < length:
                verifier.take(sock.recv(1 << 18))
            sock.sendall(verifier.count.to_bytes(8, "big"))


def _exactly(sock: ssl.SSLSocket, length: int) -> bytes:
    data = b""
    while len(data) < length:
        data += sock.recv(length - len(data))
    return data


def tls_client(case: Case, port: int, certificate: Certificate) -> float:
    """Seconds that the transfer took, without the handshake."""
    import socket

    context = ssl.create_default_context(cafile=str(certificate.authority))
    with context.wrap_socket(socket.create_connection(("127.0.0.1", port)), server_hostname="localhost") as sock:
        begun = time.perf_counter()
        if case.download:
            sock.sendall(REQUEST.pack(b"D", case.length))
            verifier = Verifier()
            while verifier.count < case.length:
                verifier.take(sock.recv(1 << 18))
        else:
            sock.sendall(REQUEST.pack(b"U", case.length))
            for block in blocks(case.length):
                sock.sendall(block)
            assert int.from_bytes(_exactly(sock, 8), "big") == case.length
        return time.perf_counter() - begun


# Two processes


def _server_process(who: str, certificate: Certificate, payload: int, pipe: Pipe) -> None:
    begun = 0.0

    def ready(port: int) -> None:
        nonlocal begun
        begun = cpu_s()  # importing and preparing is not serving
        pipe.send(port)

    if who == "tls over tcp":
        tls_server(certificate, ready)
        return
    serving: Coroutine[Any, Any, None]
    if who == "fairway":
        serving = fairway_server(certificate, payload, ready)
    else:
        serving = peer_server(who, certificate, payload, ready)

    async def until_told() -> None:
        task = asyncio.ensure_future(serving)
        await asyncio.to_thread(pipe.recv)
        pipe.send(cpu_s() - begun)
        task.cancel()

    asyncio.run(until_told())


def cpu_s() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


class ServerProcess:
    """A peer's server in a process of its own."""

    def __init__(self, who: str, directory: Path, payload: int = 1452) -> None:
        self.certificate = make_certificate(directory)
        self._pipe, theirs = multiprocessing.Pipe()
        context = multiprocessing.get_context("fork")
        self._process = context.Process(
            target=_server_process, args=(who, self.certificate, payload, theirs), daemon=True
        )
        self._process.start()
        self.port: int = self._pipe.recv()

    def stop(self) -> float:
        """End it; give the CPU seconds that it used since it was ready."""
        used = 0.0
        if self._process.is_alive():
            self._pipe.send("stop")
            if self._pipe.poll(2):
                used = float(self._pipe.recv())
        self._process.terminate()
        self._process.join(5)
        return used


def measure(case: Case) -> float:
    """Gbit/s of one case, in two fresh processes."""
    with tempfile.TemporaryDirectory() as directory:
        server = ServerProcess(case.who, Path(directory), case.payload)
        receiving, sending = multiprocessing.Pipe(duplex=False)

        def client() -> None:
            if case.who == "tls over tcp":
                sending.send(tls_client(case, server.port, server.certificate))
            elif case.who == "fairway":
                sending.send(asyncio.run(fairway_client(case, server.port, server.certificate)))
            else:
                sending.send(asyncio.run(peer_client(case, server.port, server.certificate)))

        process = multiprocessing.get_context("fork").Process(target=client, daemon=True)
        process.start()
        sending.close()
        try:
            if not receiving.poll(60):
                raise TimeoutError(f"{case} did not end")
            seconds: float = receiving.recv()
            return case.length * 8 / seconds / 1e9
        finally:
            process.terminate()
            process.join(5)
            server.stop()
