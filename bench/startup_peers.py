"""One end of the measurement of `quic_startup`, as a program.

python -m bench.startup_peers serve WHO ADDRESS DIRECTORY           prints "ready"; answers 1,000 bytes for each request
python -m bench.startup_peers ask WHO ADDRESS DIRECTORY ROUNDS      prints seconds to the first byte, by kind, as JSON

A request is 64 bytes on a new connection; the time counts from before the connection is begun, names known and
modules loaded. DIRECTORY has the certificate's files.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import socket
import ssl
import sys
import time
from pathlib import Path
from typing import Any

from fairway.aio import QuicConnection, Stream, connect, serve
from fairway.quic import MemorySessionStore
from fairway.tls import ClientConfig, Identity, ServerConfig, Tickets

PORT = 4433
ALPN = "startup"
REQUEST, ANSWER = bytes(64), bytes(1000)
FULL, EARLY, RESUMED = "new connection", "0-RTT", "resumed"
TCP = "TLS 1.3 over TCP"


# Fairway


async def serve_fairway(address: str, directory: Path) -> None:
    async def answer(stream: Stream) -> None:
        await stream.receive_all()
        await stream.send(ANSWER, end=True)

    async def handle(connection: QuicConnection) -> None:
        async with asyncio.TaskGroup() as tasks:
            async for stream in connection.incoming_streams():
                tasks.create_task(answer(stream))

    identity = Identity.from_files(directory / "chain.pem", directory / "key.pem")
    tls = ServerConfig((identity,), (ALPN,), tickets=Tickets(early_data=True))
    async with serve(handle, address, PORT, alpn=ALPN, identities=(), tls=tls):
        print("ready", flush=True)
        await asyncio.Event().wait()


async def ask_fairway(address: str, directory: Path, rounds: int) -> dict[str, list[float]]:
    tls = ClientConfig("localhost", (ALPN,), ca=str(directory / "ca.pem"))
    store = MemorySessionStore()

    async def once(store: MemorySessionStore | None) -> tuple[float, bool]:
        begun = time.perf_counter()
        async with connect(
            address, PORT, alpn=ALPN, tls=tls, session_store=store, early_data=store is not None
        ) as connection:
            stream = await connection.open_stream()
            await stream.send(REQUEST, end=True)
            await stream.receive()
            elapsed = time.perf_counter() - begun
            await stream.receive_all()
            await connection.wait_connected()
        return elapsed, connection.early is True

    await once(store)
    full = [(await once(None))[0] for _ in range(rounds)]
    early = [await once(store) for _ in range(rounds)]
    assert all(accepted for _, accepted in early), "early data was not accepted"
    return {FULL: full, EARLY: [elapsed for elapsed, _ in early]}


# aioquic and qh3


async def serve_peer(who: str, address: str, directory: Path) -> None:
    configuration = importlib.import_module(f"{who}.quic.configuration").QuicConfiguration(
        alpn_protocols=[ALPN], is_client=False
    )
    configuration.load_cert_chain(str(directory / "chain.pem"), str(directory / "key.pem"))
    tickets: dict[bytes, Any] = {}
    running = set()

    async def answer(reader: Any, writer: Any) -> None:
        await reader.read()
        writer.write(ANSWER)
        writer.write_eof()

    def handle(reader: Any, writer: Any) -> None:
        running.add(asyncio.ensure_future(answer(reader, writer)))

    await importlib.import_module(f"{who}.asyncio.server").serve(
        address,
        PORT,
        configuration=configuration,
        stream_handler=handle,
        session_ticket_fetcher=lambda label: tickets.pop(label, None),
        session_ticket_handler=lambda ticket: tickets.__setitem__(ticket.ticket, ticket),
    )
    print("ready", flush=True)
    await asyncio.Event().wait()


async def ask_peer(who: str, address: str, directory: Path, rounds: int) -> dict[str, list[float]]:
    client = importlib.import_module(f"{who}.asyncio.client")
    make = importlib.import_module(f"{who}.quic.configuration").QuicConfiguration
    tickets: list[Any] = []

    async def once(ticket: Any) -> tuple[float, bool]:
        configuration = make(alpn_protocols=[ALPN], is_client=True, server_name="localhost", session_ticket=ticket)
        configuration.load_verify_locations(str(directory / "ca.pem"))
        begun = time.perf_counter()
        async with client.connect(
            address,
            PORT,
            configuration=configuration,
            session_ticket_handler=tickets.append,
            wait_connected=ticket is None,
        ) as protocol:
            reader, writer = await protocol.create_stream()
            writer.write(REQUEST)
            writer.write_eof()
            await reader.read(1)
            elapsed = time.perf_counter() - begun
            await reader.read()
            await protocol.ping()  # the ticket for the next visit has come by then
            return elapsed, bool(protocol._quic.tls.early_data_accepted)

    full = [(await once(None))[0] for _ in range(rounds)]
    early = [await once(tickets.pop()) for _ in range(rounds)]
    assert all(accepted for _, accepted in early), "early data was not accepted"
    return {FULL: full, EARLY: [elapsed for elapsed, _ in early]}


# TLS 1.3 over TCP, by the ssl module, which has no early data


def serve_tcp(address: str, directory: Path) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(directory / "chain.pem", directory / "key.pem")
    with socket.create_server((address, PORT)) as listener:
        print("ready", flush=True)
        while True:
            plain, _ = listener.accept()
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with context.wrap_socket(plain, server_side=True) as sock:
                sock.recv(len(REQUEST))
                sock.sendall(ANSWER)
                sock.recv(1)


def ask_tcp(address: str, directory: Path, rounds: int) -> dict[str, list[float]]:
    context = ssl.create_default_context(cafile=str(directory / "ca.pem"))
    context.minimum_version = ssl.TLSVersion.TLSv1_3

    def once(session: ssl.SSLSession | None) -> tuple[float, ssl.SSLSession | None]:
        begun = time.perf_counter()
        with socket.create_connection((address, PORT)) as plain:
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with context.wrap_socket(plain, server_hostname="localhost", session=session) as sock:
                assert sock.session_reused is (session is not None)
                sock.sendall(REQUEST)
                sock.recv(len(ANSWER))
                return time.perf_counter() - begun, sock.session

    full = [once(None) for _ in range(rounds)]
    session = full[-1][1]
    resumed = []
    for _ in range(rounds):
        elapsed, session = once(session)
        resumed.append(elapsed)
    return {FULL: [elapsed for elapsed, _ in full], RESUMED: resumed}


def main(role: str, who: str, address: str, directory: str, rounds: str = "0") -> None:
    place = Path(directory)
    if role == "serve":
        if who == TCP:
            serve_tcp(address, place)
        else:
            asyncio.run(serve_fairway(address, place) if who == "fairway" else serve_peer(who, address, place))
        return
    if who == TCP:
        found = ask_tcp(address, place, int(rounds))
    elif who == "fairway":
        found = asyncio.run(ask_fairway(address, place, int(rounds)))
    else:
        found = asyncio.run(ask_peer(who, address, place, int(rounds)))
    print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
