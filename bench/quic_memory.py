"""Memory of a server with many idle connections, and with many open streams: what each one costs."""

from __future__ import annotations

import gc
import importlib
import itertools
import multiprocessing
import os
import tempfile
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench.certificates import make_certificate
from bench.quic_peers import peer_configuration
from bench.result import Result
from fairway.quic import Connection, Endpoint, Phase, QuicConfiguration
from fairway.tls import ClientConfig, ServerConfig, self_signed_identity

CONNECTIONS = 1000
STREAMS = 10_000
WARM_UP = 50
PEERS = ("qh3", "aioquic")
IDLE = "idle connection, server's end"


def _resident_bytes() -> int:
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def _now() -> datetime:
    return datetime.now(UTC)


def _exchange(client: Connection, endpoint: Endpoint, address: tuple[object, ...], now: float) -> Connection | None:
    """Let both talk until neither has anything to say; the server's end, if it was met."""
    server: Connection | None = None
    while True:
        quiet = True
        while (out := client.transmit(now)) is not None:
            quiet = False
            for connection in endpoint.receive(out.data, out.segment, address, now):
                server = connection
        if server is not None:
            while (out := server.transmit(now)) is not None:
                quiet = False
                client.receive(out.data, out.segment, now)
            server.events()
        client.events()
        if quiet:
            return server


def _growth(connect: Callable[[], object]) -> float:
    """Bytes that each further connection that `connect` makes and gives costs, while they are kept."""
    kept = [connect() for _ in range(WARM_UP)]  # code and caches are loaded before it counts
    before = _resident_bytes()
    kept += [connect() for _ in range(CONNECTIONS)]
    return (_resident_bytes() - before) / CONNECTIONS


def _peer_growth(who: str) -> float:
    """The same of a peer's core, in a process of its own: its server's ends, without event loop and sockets."""
    receiving, sending = multiprocessing.Pipe(duplex=False)
    process = multiprocessing.get_context("fork").Process(
        target=lambda: sending.send(_peer_connections(who)), daemon=True
    )
    process.start()
    sending.close()
    try:
        if not receiving.poll(300):
            raise TimeoutError(f"{who} did not end")
        return float(receiving.recv())
    finally:
        process.terminate()
        process.join(5)


def _peer_connections(who: str) -> float:
    module: Any = importlib.import_module(f"{who}.quic.connection")
    address, now = ("192.0.2.1", 1), 1.0
    with tempfile.TemporaryDirectory() as directory:
        certificate = make_certificate(Path(directory))
        client_configuration = peer_configuration(who, 1200, is_client=True, server_name="localhost")
        client_configuration.load_verify_locations(str(certificate.authority))
        server_configuration = peer_configuration(who, 1200, is_client=False)
        server_configuration.load_cert_chain(str(certificate.chain), str(certificate.key))

        def connect() -> object:
            client = module.QuicConnection(configuration=client_configuration)
            client.connect(address, now=now)
            out = client.datagrams_to_send(now=now)
            hello = out[0][0]
            server = module.QuicConnection(
                configuration=server_configuration,
                original_destination_connection_id=hello[6 : 6 + hello[5]],  # RFC 8999 section 5.1
            )
            completed = False
            while out:
                for data, _ in out:
                    server.receive_datagram(data, address, now=now)
                for data, _ in server.datagrams_to_send(now=now):
                    client.receive_datagram(data, address, now=now)
                out = client.datagrams_to_send(now=now)
                while (event := server.next_event()) is not None:
                    completed |= type(event).__name__ == "HandshakeCompleted"
                while client.next_event() is not None:
                    pass
            assert completed
            return server

        return _growth(connect)


def run() -> Result:
    """Growth of the resident set of one process that holds only the server's ends."""
    result = Result("quic_memory")
    configuration = QuicConfiguration(max_streams_bidi=STREAMS, idle_timeout_s=600)
    tls = ServerConfig((self_signed_identity(["localhost"]),), ("memory",))
    endpoint = Endpoint(tls, configuration, random=os.urandom, clock=_now)
    client_tls = ClientConfig("localhost", ("memory",), verify=False)
    now = 1.0

    def connect(number: int) -> tuple[Connection, Connection]:
        client = Connection.client(client_tls, configuration, now=now, random=os.urandom, clock=_now)
        server = _exchange(client, endpoint, ("192.0.2.1", number), now)
        assert server is not None
        assert server.phase is Phase.CONFIRMED
        return client, server

    numbers = itertools.count()
    result.add("fairway", IDLE, [_growth(lambda: connect(next(numbers))[1])], "bytes")
    for who in PEERS:
        result.add(who, IDLE, [_peer_growth(who)], "bytes")
        result.compare(IDLE, "fairway", who)

    client, server = connect(100_000)
    stream_ids = [client.open_stream() for _ in range(STREAMS)]
    before = _resident_bytes()
    for start in range(0, STREAMS, 100):
        for stream_id in stream_ids[start : start + 100]:
            assert stream_id is not None
            client.write(stream_id, b"x")
        now += 0.01
        _exchange(client, endpoint, ("192.0.2.1", 100_000), now)
    for stream_id in stream_ids:
        assert stream_id is not None
        server.read(stream_id)
    grown = _resident_bytes() - before
    result.add("fairway", "open stream, both ends", [grown / STREAMS], "bytes")
    result.notes.append(f"{CONNECTIONS} connections, {STREAMS} streams; growth of the resident set, one process")
    result.notes.append(
        "without sockets and event loop; fairway's endpoint that finds connections by their ID included"
    )
    return result


if __name__ == "__main__":
    print(run().as_table())
