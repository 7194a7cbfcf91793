"""Memory of a server with many idle connections, and with many open streams: what each one costs."""

from __future__ import annotations

import gc
import os
from datetime import UTC, datetime
from pathlib import Path

from bench.result import Result
from fairway.quic import Connection, Endpoint, Phase, QuicConfiguration
from fairway.tls import ClientConfig, ServerConfig, self_signed_identity

CONNECTIONS = 1000
STREAMS = 10_000


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

    for number in range(50):  # code and caches are loaded before it counts
        connect(number)
    before = _resident_bytes()
    for number in range(CONNECTIONS):
        connect(50 + number)
    per_connection = (_resident_bytes() - before) / CONNECTIONS
    result.add("fairway", "idle connection, server's end", [per_connection], "bytes")

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
    return result


if __name__ == "__main__":
    print(run().as_table())
